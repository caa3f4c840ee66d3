//! What is served over HTTP: a cluster's pages, feed and JSON, the appliance's shell and the way from it to its
//! clusters. No business rules: it asks and shows.

mod api;
mod appliance;
mod assets;
mod cluster;
mod dask;
mod doctor;
mod live;
pub mod peers;
mod proxy;
mod serve;
mod ticket;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

pub use appliance::appliance_router;
pub use assets::Assets;
pub use cluster::{Site, cluster_router};
pub use doctor::{Examine, doctor_routes};
pub use proxy::{Backends, clusters_router};
pub use serve::serve_known;
pub use ticket::Tickets;

/// Serves one connection to its end. Nothing may have been read from it.
pub async fn serve_stream<S>(router: Router, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    if let Err(why) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%why, "HTTP connection ended early");
    }
}
