//! Everything that one scheduler serves over HTTP: its page, the live feed, JSON, and the routes that Dask's tools know.
//!
//! One router, on a port of its own or on a Unix socket behind the appliance. All links in it are relative, so it works
//! below any prefix.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::assets::Assets;
use super::ticket::Tickets;
use super::{api, dask, live};
use crate::feed::{Feed, Silence};

/// What the pages of a cluster are made of.
#[derive(Clone)]
pub struct Site {
    /// The scheduler.
    pub feed: Feed,
    /// The page's files.
    pub assets: Assets,
    /// The cluster's name, under the appliance.
    pub name: Option<Arc<str>>,
    /// Whether requests may change anything.
    pub actions: bool,
    /// For panes without an origin.
    pub tickets: Tickets,
}

impl Site {
    /// Whether this request reads for one of our own panes in a frame without an origin.
    pub(super) fn is_pane(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        self.tickets.admits(method, uri, headers, self.feed.now_secs())
    }
}

/// Pages of ours, besides Dask's.
const OWN_PAGES: [&str; 11] = [
    "progress",
    "memory",
    "bandwidth",
    "fine",
    "coordination",
    "clients",
    "logs",
    "task",
    "worker",
    "computations",
    "compute",
];

/// All routes of a cluster.
pub fn cluster_router(site: Site) -> Router {
    let mut router = Router::new()
        .route("/", get(|| async { Redirect::temporary("status") }))
        .route("/info", get(|| async { Redirect::temporary("info/main/workers.html") }))
        .route("/info/{*rest}", get(page))
        .route("/assets/{*rest}", get(asset))
        .route("/favicon.ico", get(asset))
        .route("/favicon.svg", get(asset))
        .merge(live::routes())
        .merge(api::routes())
        .merge(dask::routes());
    for name in dask::PAGES.into_iter().chain(OWN_PAGES) {
        router = router.route(&format!("/{name}"), get(page));
    }
    for (name, _) in dask::INDIVIDUAL {
        router = router.route(&format!("/individual-{name}"), get(page));
    }
    let panes = axum::middleware::from_fn_with_state(site.clone(), let_panes_read);
    router.fallback(not_found).layer(panes).with_state(site)
}

async fn page(State(site): State<Site>, uri: Uri, headers: HeaderMap) -> Response {
    let ticket = site.tickets.issue(site.feed.now_secs());
    site.assets.index(uri.path(), Some(&ticket), &headers)
}

/// Answers to a pane that shows its ticket may be read by it, though it has no origin; nobody else's can.
async fn let_panes_read(State(site): State<Site>, request: Request, next: Next) -> Response {
    let is_pane = site.is_pane(request.method(), request.uri(), request.headers());
    let mut response = next.run(request).await;
    if is_pane {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

async fn asset(State(site): State<Site>, uri: Uri, headers: HeaderMap) -> Response {
    site.assets.serve(uri.path().trim_start_matches('/'), &headers)
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such page", "see sitemap.json for what there is")
}

/// An error as JSON: what and why, and what to do.
pub(super) fn problem(code: StatusCode, error: impl Into<String>, remedy: &str) -> Response {
    let body = serde_json::json!({"error": error.into(), "remedy": remedy}).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The scheduler did not answer.
pub(super) fn silence(why: &Silence) -> Response {
    match why {
        Silence::Failed(text) => problem(StatusCode::BAD_GATEWAY, text.clone(), "see the logs of the workers"),
        Silence::Gone | Silence::Late => {
            problem(StatusCode::SERVICE_UNAVAILABLE, why.to_string(), "try again in a moment")
        }
    }
}

/// JSON that may be asked for again at any time.
pub(super) fn json(body: Result<String, Silence>) -> Response {
    typed(body, "application/json")
}

/// A body with its type.
pub(super) fn typed(body: Result<String, Silence>, content_type: &'static str) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response(),
        Err(why) => silence(&why),
    }
}
