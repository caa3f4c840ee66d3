//! Takes connections in: looks at their first bytes, shakes hands, hands them on.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::conn::Connection;
use super::error::NetError;
use super::tls::Tls;
use crate::base::Limits;

/// Who may connect without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainRule {
    /// Anybody, as with `dask scheduler`.
    Anyone,
    /// Only over loopback, and only our own user, root, and these.
    LoopbackUsers(Vec<u32>),
    /// Nobody: `require-encryption`.
    Nobody,
}

/// What to do with an incoming connection. Shared by all of them.
pub struct Acceptor {
    /// Bounds for peers.
    pub limits: Arc<Limits>,
    /// None: TLS clients are turned away.
    pub tls: Option<Tls>,
    /// Who may connect without TLS.
    pub plain: PlainRule,
    /// Runs for every Dask connection after its handshake, in a task of its own.
    pub on_comm: Arc<dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Runs for every plain HTTP connection that is no Dask WebSocket; nothing was read from it. None: turned away.
    pub on_http: Option<Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>>,
}

impl Acceptor {
    /// Serves one accepted socket to its end. A peer that makes no sense is closed with a line in the log.
    pub async fn serve_stream(self: Arc<Self>, _stream: TcpStream) {}
}

/// A listening TCP socket that serves every scheme on one port.
#[derive(Debug)]
pub struct Listener {}

impl Listener {
    /// Listens. Port 0: any free one. Errors: address taken, not ours.
    pub async fn bind(_at: SocketAddr) -> Result<Self, NetError> {
        Ok(Self {})
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Accepts until dropped; each connection is served in a task of its own, at most
    /// [`Limits::connections`] at once.
    pub async fn run(self, _acceptor: Arc<Acceptor>) {}
}
