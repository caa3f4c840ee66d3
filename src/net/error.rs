//! What can go wrong with a connection.

use std::fmt;
use std::io;

use crate::base::Blame;
use crate::wire::WireError;

/// Why a connection could not be made or used.
#[derive(Debug)]
pub enum NetError {
    /// The operating system said no.
    Io(io::Error),
    /// The peer's bytes are not the protocol.
    Wire(WireError),
    /// The peer's WebSocket is broken.
    WebSocket(String),
    /// The TLS handshake failed.
    Tls(String),
    /// Certificates or keys could not be read.
    BadPem(String),
    /// The peer closed the connection in the middle of something.
    Closed,
    /// Nothing came in time. Unit: milliseconds.
    Timeout { waited_ms: u64 },
    /// Not an address, or a scheme that rask does not speak.
    BadAddress(String),
    /// The address needs TLS and none was configured.
    NoTls,
    /// Only TLS is allowed for this peer.
    PlainForbidden,
    /// The peer runs as another user and plain TCP over loopback is for its own user only.
    OtherUser { uid: Option<u32> },
}

impl NetError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Wire(_) | Self::WebSocket(_) | Self::Tls(_) | Self::PlainForbidden | Self::OtherUser { .. } => {
                Blame::Peer
            }
            Self::BadAddress(_) | Self::NoTls | Self::BadPem(_) => Blame::Caller,
            Self::Io(_) | Self::Closed | Self::Timeout { .. } => Blame::World,
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Wire(error) => write!(f, "{error}"),
            Self::WebSocket(text) => write!(f, "websocket: {text}"),
            Self::Tls(text) => write!(f, "tls: {text}{}", remedy(text)),
            Self::BadPem(text) => write!(f, "certificates: {text}{}", remedy(text)),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Timeout { waited_ms } => write!(f, "nothing came for {waited_ms} ms"),
            Self::BadAddress(text) => write!(f, "{text:?} is no address"),
            Self::NoTls => f.write_str("the address needs TLS and none is configured"),
            Self::PlainForbidden => f.write_str("this peer may only use TLS"),
            Self::OtherUser { uid: Some(uid) } => write!(f, "the peer runs as user {uid}, which is not allowed"),
            Self::OtherUser { uid: None } => f.write_str("the peer's user could not be told"),
        }
    }
}

/// What to do about certificates without extensions: OpenSSL, and so Dask, takes them, webpki does not.
fn remedy(text: &str) -> &'static str {
    if text.contains("UnsupportedCertVersion") {
        "; it is an X.509 v1 certificate, which `openssl x509 -req` makes when it is given no extensions. Make it v3: \
         write `basicConstraints = critical, CA:FALSE` into a file v3.ext, sign again with \
         `openssl x509 -req ... -extfile v3.ext`, and restart whoever uses it"
    } else {
        ""
    }
}

impl std::error::Error for NetError {}

impl From<io::Error> for NetError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
impl From<WireError> for NetError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}
