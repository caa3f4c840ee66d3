//! Takes connections in: looks at their first bytes, shakes hands, hands them on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header};

use super::address::{Address, Scheme};
use super::conn::{Connection, Opened, PeerInfo, establish, ws_config};
use super::error::NetError;
use super::prefixed::starts_with_get;
use super::protocol_detect::{Protocol, detect_protocol};
use super::refusals::Refusals;
use super::socket::ByteStream;
use super::strangers::StrangersPlaces;
use super::tls::Tls;
use super::{owner, socket};
use crate::base::Limits;

/// Who may connect without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainRule {
    /// Anybody, as with `dask scheduler`.
    Anyone,
    /// Only over loopback, and only our own user, root, and these.
    LoopbackUsers(Vec<u32>),
    /// Other machines, as with `dask worker`; on this one only our own user, root, and these.
    OwnUsers(Vec<u32>),
    /// Nobody: `require-encryption`.
    Nobody,
}

/// Serves one connection of messages to its end.
pub type CommHandler = Arc<dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync>;
/// Serves one HTTP connection to its end.
pub type HttpHandler = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// What to do with an incoming connection. Shared by all of them.
pub struct Acceptor {
    /// Bounds for peers.
    pub limits: Arc<Limits>,
    /// None: TLS clients are turned away.
    pub tls: Option<Tls>,
    /// Who may connect without TLS.
    pub plain: PlainRule,
    /// What was turned away is logged once in a while.
    pub refusals: Refusals,
    /// Runs for every Dask connection after its handshake, in the task of that connection.
    pub on_comm: CommHandler,
    /// Runs for every plain HTTP connection that is no Dask WebSocket; nothing was read from it. None: turned away.
    pub on_http: Option<HttpHandler>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("plain", &self.plain).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Serves one accepted socket to its end. A peer that speaks no protocol of ours is closed with a line in the log.
    pub async fn serve_stream(self: Arc<Self>, stream: TcpStream) {
        let Ok(peer) = stream.peer_addr() else { return };
        socket::prepare(&stream);
        match self.open(stream, peer).await {
            Ok(Some(connection)) => (self.on_comm)(connection).await,
            Ok(None) => {}
            Err(error) => self.refuse(peer, &error),
        }
    }

    /// Strangers who are kept out may come again and again; what is wrong with others is said each time.
    fn refuse(&self, peer: SocketAddr, error: &NetError) {
        match error {
            NetError::OtherUser { .. } | NetError::TooManyStrangers | NetError::TooMany { .. } => {
                self.refusals.note(peer, error);
            }
            error => tracing::warn!(%peer, %error, "connection refused"),
        }
    }

    /// May it be looked at? A stranger who is to get nothing holds no place while he says nothing.
    fn admit(&self, stream: &TcpStream, peer: SocketAddr) -> Result<(), NetError> {
        match (&self.tls, &self.plain) {
            (None, PlainRule::LoopbackUsers(_) | PlainRule::OwnUsers(_)) => {
                self.check_plain(peer, stream.local_addr()?)
            }
            (None | Some(_), _) => Ok(()),
        }
    }

    /// A connection after its handshake. None: it was something else, and is served already.
    async fn open(&self, stream: TcpStream, peer: SocketAddr) -> Result<Option<Connection>, NetError> {
        let limit_ms = self.limits.handshake_ms;
        let local = stream.local_addr()?;
        let late = |_| NetError::Timeout { waited_ms: limit_ms };
        let limit = Duration::from_millis(limit_ms);
        let protocol = timeout(limit, detect_protocol(&stream, self.tls.is_some())).await.map_err(late)??;
        let (scheme, opened) = match protocol {
            // Port scans and health checks connect and leave.
            Protocol::Nothing => return Ok(None),
            Protocol::Tls(_) => timeout(limit, self.open_tls(stream)).await.map_err(late)??,
            Protocol::WebSocket => {
                self.check_plain(peer, local)?;
                let stream = self.open_ws(Box::new(socket::Prompt(stream)));
                (Scheme::Ws, timeout(limit, stream).await.map_err(late)??)
            }
            Protocol::Http => {
                let Some(on_http) = &self.on_http else { return Err(NetError::PlainHttp) };
                on_http(stream).await;
                return Ok(None);
            }
            // The decoder of frames says what is wrong with the unknown.
            Protocol::Dask | Protocol::Unknown => {
                self.check_plain(peer, local)?;
                (Scheme::Tcp, Opened::Tcp(stream))
            }
        };
        let peer = PeerInfo {
            address: Address::of_socket(scheme, peer).to_string().into(),
            local: Address::of_socket(scheme, local).to_string().into(),
            tls: scheme.is_tls(),
        };
        establish(opened, peer, &self.limits).await.map(Some)
    }

    async fn open_tls(&self, stream: TcpStream) -> Result<(Scheme, Opened), NetError> {
        let tls = self.tls.as_ref().ok_or(NetError::NoTls)?;
        let stream = tls.acceptor.accept(socket::Prompt(stream)).await.map_err(NetError::Tls)?;
        let (is_http, stream) = starts_with_get(stream).await?;
        if is_http {
            Ok((Scheme::Wss, self.open_ws(Box::new(stream)).await?))
        } else {
            Ok((Scheme::Tls, Opened::Bytes(Box::new(stream))))
        }
    }

    async fn open_ws(&self, stream: Box<dyn ByteStream>) -> Result<Opened, NetError> {
        let config = Some(ws_config(&self.limits));
        tokio_tungstenite::accept_hdr_async_with_config(stream, NoBrowser, config)
            .await
            .map(|stream| Opened::Ws(Box::new(stream)))
            .map_err(NetError::from)
    }

    fn check_plain(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), NetError> {
        self.plain.admit(peer, local)
    }
}

/// Turns browsers away: any page that a user visits may open a WebSocket to this machine, and a Dask connection runs
/// code. Browsers always send `Origin`, Dask never does.
struct NoBrowser;

impl Callback for NoBrowser {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        if request.headers().contains_key(header::ORIGIN) {
            let mut refusal = ErrorResponse::new(Some("not for browsers".into()));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            return Err(refusal);
        }
        Ok(response)
    }
}

impl PlainRule {
    /// May `peer` talk without TLS to our socket at `local`? The appliance's door asks too, before it looks.
    ///
    /// Errors: this peer must use TLS, or belongs to another user.
    pub fn admit(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), NetError> {
        let allowed = match self {
            Self::Anyone => return Ok(()),
            Self::Nobody => return Err(NetError::PlainForbidden),
            Self::OwnUsers(allowed) => {
                if !owner::is_of_this_machine(peer.ip()) {
                    return Ok(());
                }
                allowed
            }
            Self::LoopbackUsers(allowed) => {
                if !peer.ip().to_canonical().is_loopback() || !local.ip().to_canonical().is_loopback() {
                    return Err(NetError::PlainForbidden);
                }
                allowed
            }
        };
        match owner::uid_of_peer(peer, local)? {
            Some(uid) if owner::is_ours(uid, allowed) => Ok(()),
            uid => Err(NetError::OtherUser { uid }),
        }
    }
}

/// Connections that wait for `accept`. Source: `distributed.comm.socket-backlog`.
const BACKLOG: u32 = 2048;
/// Connections that are looked at and not admitted yet: a bound for their descriptors. One takes microseconds.
const ADMITTING_MAX: usize = 64;

/// A listening TCP socket that serves every scheme on one port.
#[derive(Debug)]
pub struct Listener {
    listener: tokio::net::TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Listens. Port 0: any free one. Errors: address taken, not ours.
    pub async fn bind(at: SocketAddr) -> Result<Self, NetError> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        Ok(Self { listener, local })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts until dropped; each connection is served in a task of its own, at most [`Limits::connections`] at once. Who
    /// is turned away at the door counts at no time: a crowd of other users must not fill the places of ours.
    pub async fn run(self, acceptor: Arc<Acceptor>) {
        let open = Arc::new(AtomicU32::new(0));
        let limit = acceptor.limits.connections;
        let strangers = match &acceptor.plain {
            // Here nobody is a stranger who was let in.
            PlainRule::Anyone | PlainRule::OwnUsers(_) => None,
            PlainRule::LoopbackUsers(allowed) => Some(StrangersPlaces::among(limit, allowed.clone())),
            PlainRule::Nobody => Some(StrangersPlaces::among(limit, Vec::new())),
        };
        let strangers = Arc::new(strangers);
        let admitting = Arc::new(Semaphore::new(ADMITTING_MAX));
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: others must close first.
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(turn) = admitting.clone().acquire_owned().await else { return };
            let (acceptor, strangers, open) = (acceptor.clone(), strangers.clone(), open.clone());
            tokio::spawn(async move {
                let place = acceptor.admit(&stream, peer).and_then(|()| match strangers.as_ref() {
                    Some(places) => places.take(&stream),
                    None => Ok(None),
                });
                let counted = place.and_then(|place| Ok((Counted::below(limit, &open)?, place)));
                drop(turn);
                match counted {
                    Ok(counted) => {
                        acceptor.serve_stream(stream).await;
                        drop(counted);
                    }
                    Err(error) => acceptor.refuse(peer, &error),
                }
            });
        }
    }
}

/// Counts one open connection for as long as it lives, panics included.
struct Counted(Arc<AtomicU32>);

impl Counted {
    /// Errors: there are this many already.
    fn below(limit: u32, open: &Arc<AtomicU32>) -> Result<Self, NetError> {
        let one_more = |count: u32| count.checked_add(1).filter(|count| *count <= limit);
        match open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self(open.clone())),
            Err(_) => Err(NetError::TooMany { limit }),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
