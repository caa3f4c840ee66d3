//! Serves HTTP on accepted connections.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ends::ConnectionEnds;
use crate::gateway::Caller;

/// Longest a peer may take for the head of a request, and longest a connection may rest between two. Clients close
/// idle connections after 15 s (aiohttp) or reuse them within a second.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// Longest head of a request. Unit: bytes.
const HEAD_BYTES: usize = 64 << 10;

/// Serves one connection to its end, without telling handlers who is at its other end. Nothing may have been read from it.
pub(super) async fn serve_stream<S>(router: Router, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "HTTP connection ended early");
    }
}

/// Serves HTTP to its end, telling handlers who is at the other end. Nothing may have been read from the connection.
pub(super) async fn serve_known<S>(router: Router, stream: S, peer: Caller, ends: ConnectionEnds)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = Known { inner: TowerToHyperService::new(router), peer, ends };
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(HEAD_BYTES);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(peer = %peer.address, %error, "HTTP connection ended early");
    }
}

/// Puts the other end into every request.
#[derive(Clone)]
struct Known {
    inner: TowerToHyperService<Router>,
    peer: Caller,
    ends: ConnectionEnds,
}

impl Service<Request<Incoming>> for Known {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.ends.clone());
        self.inner.call(request)
    }
}
