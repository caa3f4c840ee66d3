//! Connections from a peer to its head: one request over HTTPS, or the link. All bound to the pinned authority.

use std::fmt;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::pinned::{TrustError, explain};
use crate::base::Blame;
use crate::peer::token::Pin;
use crate::peer::wire::MESSAGE_MAX;

/// Longest until a connection is there and encrypted.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest answer: two certificates. Unit: bytes.
const BODY_MAX: usize = 256 << 10;

/// The appliance's HTTP port.
const PORT: u16 = 8787;

/// Where a head is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadUrl {
    /// Name or address.
    pub host: String,
    pub port: u16,
}

impl HeadUrl {
    /// Reads `https://head:8787`, `head:8787` or `head`. `None`: it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('/');
        let bare = text.strip_prefix("https://").unwrap_or(text);
        if bare.is_empty() || bare.contains(['/', '@', ' ']) {
            return None;
        }
        let (host, port) = match bare.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => match bare.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => (bare, None),
                Some((host, port)) => (host, Some(port)),
                None => (bare, None),
            },
        };
        let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
        Some(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HeadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("the head cannot be reached at {url}: {error}")]
    Unreachable {
        /// Where it was looked for.
        url: HeadUrl,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// Somebody does, and is not believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The head says no.
    #[error("the head refused ({status}): {reason}")]
    Refused {
        /// HTTP's code.
        status: u16,
        /// The head's words.
        reason: String,
    },
    /// The answer is not what the head of this version says.
    #[error("the head's answer is malformed: {0}")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Unreachable { .. } => Blame::World,
            Self::Trust(why) => why.blame(),
            Self::Refused { .. } => Blame::Caller,
            Self::Malformed(_) => Blame::Peer,
        }
    }

    /// Will the same call succeed later, without anybody doing anything here?
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // 429 and 503 and their like.
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            // The head may be in the middle of its start or of its renewal.
            Self::Malformed(_) => true,
            Self::Trust(_) => false,
        }
    }
}

/// How to reach and know a head.
#[derive(Clone)]
pub struct HeadClient {
    pub url: HeadUrl,
    pub pin: Pin,
    /// Ours, with or without a certificate.
    pub connector: TlsConnector,
}

impl HeadClient {
    async fn open(&self) -> Result<TlsStream<TcpStream>, CallError> {
        let unreachable = |error| self.unreachable(error);
        let opened = timeout(CONNECT, async {
            let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(unreachable)?;
            // Small messages that somebody waits for; a failure costs milliseconds only.
            let _slower = stream.set_nodelay(true);
            let name =
                ServerName::try_from(self.url.host.clone()).map_err(|error| unreachable(io::Error::other(error)))?;
            self.connector.connect(name, stream).await.map_err(|error| self.judge(error))
        });
        opened.await.map_err(|_elapsed| self.late(CONNECT))?
    }

    fn unreachable(&self, error: io::Error) -> CallError {
        CallError::Unreachable { url: self.url.clone(), error }
    }

    fn late(&self, patience: Duration) -> CallError {
        let text = format!("no answer within {} s", patience.as_secs());
        self.unreachable(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn judge(&self, error: io::Error) -> CallError {
        explain(&error, self.pin).map_or_else(|| self.unreachable(error), CallError::Trust)
    }

    /// Posts JSON and reads JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(malformed)?;
        let stream = self.open().await?;
        let request = Request::post(path)
            .header(header::HOST, format!("{}:{}", self.url.host, self.url.port))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(malformed)?;
        let answered = timeout(ANSWER, async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.broken(error))?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BODY_MAX).collect().await.map_err(malformed)?.to_bytes();
            connection.abort();
            Ok::<_, CallError>((status, body))
        });
        let (status, body) = answered.await.map_err(|_elapsed| self.late(ANSWER))??;
        if status != StatusCode::OK && status != StatusCode::CREATED {
            return Err(CallError::Refused { status: status.as_u16(), reason: reason(&body) });
        }
        serde_json::from_slice(&body).map_err(malformed)
    }

    /// A refused certificate is often seen only with the first bytes after the handshake (TLS 1.3).
    fn broken(&self, error: hyper::Error) -> CallError {
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            if let Some(why) = inner.downcast_ref::<io::Error>().and_then(|io| explain(io, self.pin)) {
                return CallError::Trust(why);
            }
            source = inner.source();
        }
        self.unreachable(io::Error::other(error))
    }

    /// Opens the link.
    pub async fn link(&self, path: &str) -> Result<WebSocketStream<TlsStream<TcpStream>>, CallError> {
        use tokio_tungstenite::tungstenite::Error;
        let stream = self.open().await?;
        let host = if self.url.host.contains(':') { format!("[{}]", self.url.host) } else { self.url.host.clone() };
        let request = format!("wss://{host}:{}{path}", self.url.port).into_client_request().map_err(malformed)?;
        let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let upgraded = timeout(ANSWER, tokio_tungstenite::client_async_with_config(request, stream, Some(limits)));
        match upgraded.await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(answer))) => Err(CallError::Refused {
                status: answer.status().as_u16(),
                reason: reason(answer.body().as_deref().unwrap_or_default()),
            }),
            Ok(Err(Error::Io(error))) => Err(self.judge(error)),
            Ok(Err(error)) => Err(malformed(error)),
            Err(_elapsed) => Err(self.late(ANSWER)),
        }
    }
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    CallError::Malformed(error.into())
}

/// Our errors are JSON: `{"error": ..., "remedy": ...}`.
fn reason(body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let part = |name: &str| said.as_ref().and_then(|said| said.get(name)).and_then(|text| text.as_str());
    match (part("error"), part("remedy")) {
        (Some(error), Some(remedy)) => format!("{error}; {remedy}"),
        (Some(error), None) => error.to_owned(),
        (None, _) => String::from_utf8_lossy(body.get(..200).unwrap_or(body)).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_heads_are_read_as_people_write_them() {
        let url = |text: &str| HeadUrl::parse(text).map(|url| url.to_string());
        assert_eq!(url("https://head:1234/"), Some("https://head:1234".to_owned()));
        assert_eq!(url("head"), Some("https://head:8787".to_owned()));
        assert_eq!(url("10.0.0.1:9"), Some("https://10.0.0.1:9".to_owned()));
        assert_eq!(url("https://[fd00::1]:9"), Some("https://[fd00::1]:9".to_owned()));
        assert_eq!(url("fd00::1"), Some("https://[fd00::1]:8787".to_owned()));
        for bad in ["", "https://", "http://head", "head:many", "https://a/b", "a b"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
