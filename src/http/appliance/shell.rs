//! The shell of the dashboard: the pages of the appliance itself.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::http::answer::json as answer;
use crate::http::assets::Assets;

/// The shell's pages; which one it shows is its own business.
const PAGES: [&str; 8] = ["/", "/clusters", "/host", "/logs", "/tokens", "/settings", "/history", "/peers"];

/// The shell and its files.
pub(super) fn routes(assets: Assets) -> Router {
    let mut router = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/api/where", get(place))
        .route("/assets/{*rest}", get(asset))
        .route("/favicon.ico", get(asset))
        .route("/favicon.svg", get(asset));
    for path in PAGES {
        router = router.route(path, get(page));
    }
    router.with_state(assets)
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
