//! What is served over HTTP: status page, health, metrics, JSON. No business rules: it asks and shows.

mod api;
mod appliance;
mod assets;
mod cluster;
mod dask;
mod live;
mod page;
pub mod peers;
mod proxy;
mod serve;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::{Answered, Ask};
pub use appliance::appliance_router;
pub use assets::Assets;
pub use cluster::{Site, cluster_router};
pub use proxy::{Backends, clusters_router};
pub use serve::serve_known;

/// How a page asks a scheduler, in this process or another.
pub type AskCluster = Arc<dyn Fn(Ask) -> BoxFuture<'static, Result<Answered, NoAnswer>> + Send + Sync>;

/// Why a scheduler did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer(pub String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// The scheduler. None: the appliance runs without a cluster.
    pub ask: Option<AskCluster>,
    /// Facts for the status page: name and value.
    pub facts: Arc<Vec<(String, String)>>,
}

/// All routes.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(status))
        .route("/status", get(status))
        .route("/health", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .route("/json/counts.json", get(counts))
        .route("/json/identity.json", get(identity))
        .route("/json/index.html", get(|| async { Html(page::JSON_INDEX) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: try / or /health, /metrics, /json/identity.json\n") })
        .with_state(pages)
}

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

async fn metrics(State(pages): State<Pages>) -> Response {
    // Without a cluster there is nothing to count, which is not an error for a scraper.
    let body = if pages.ask.is_some() { pages.ask(Ask::Metrics).await } else { Ok(String::new()) };
    typed(body, "text/plain; version=0.0.4; charset=utf-8")
}

async fn counts(State(pages): State<Pages>) -> Response {
    typed(pages.ask(Ask::Counts).await, "application/json")
}

async fn identity(State(pages): State<Pages>) -> Response {
    typed(pages.ask(Ask::Identity).await, "application/json")
}

async fn status(State(pages): State<Pages>) -> Response {
    let identity = match &pages.ask {
        None => None,
        Some(_) => Some(pages.ask(Ask::Identity).await),
    };
    Html(page::status(&pages.facts, identity.as_ref())).into_response()
}

impl Pages {
    async fn ask(&self, what: Ask) -> Result<Answered, NoAnswer> {
        match &self.ask {
            Some(ask) => ask(what).await,
            None => Err(NoAnswer("no cluster runs here".to_owned())),
        }
    }
}

fn typed(body: Result<Answered, NoAnswer>, content_type: &'static str) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the scheduler does not answer: {why}\n")).into_response()
        }
    }
}
