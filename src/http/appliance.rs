//! What the appliance serves besides its APIs: the shell of the dashboard, and the way to each cluster's own pages.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::assets::Assets;
use super::cluster::json as answer;
use super::proxy::{Backends, clusters_router};

/// The shell's pages; which one it shows is its own business.
const PAGES: [&str; 8] = ["/", "/clusters", "/host", "/logs", "/tokens", "/settings", "/history", "/peers"];

/// The shell, its files, and everything below `/clusters/NAME/`; Dask's own paths mean the cluster `local`.
pub fn appliance_router(assets: Assets, backends: Backends) -> Router {
    let mut router = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/api/where", get(place))
        .route("/assets/{*rest}", get(asset))
        .route("/favicon.ico", get(asset))
        .route("/favicon.svg", get(asset));
    for path in PAGES {
        router = router.route(path, get(page));
    }
    router.with_state(assets).merge(clusters_router(backends))
}

async fn place() -> Response {
    answer(Ok(json!({"kind": "appliance", "version": env!("CARGO_PKG_VERSION"), "prefix": ""}).to_string()))
}

async fn page(State(assets): State<Assets>, uri: Uri, headers: HeaderMap) -> Response {
    assets.index(uri.path(), None, &headers)
}

async fn asset(State(assets): State<Assets>, uri: Uri, headers: HeaderMap) -> Response {
    assets.serve(uri.path().trim_start_matches('/'), &headers)
}
