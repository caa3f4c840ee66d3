//! Which address of a cluster's pages leads to which handler.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::site::Site;
use super::{api, dask, live};
use crate::http::answer::problem;

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
pub(super) fn router(site: Site) -> Router {
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

/// A page with a slash at its end is the page without it, by a relative address: a prefix before ours stays.
async fn not_found(uri: Uri) -> Response {
    let bare = uri.path().trim_end_matches('/');
    if let Some(name) = bare.rsplit('/').next().filter(|name| !name.is_empty() && bare.len() < uri.path().len()) {
        let up = "../".repeat(uri.path().len() - bare.len());
        let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        return Redirect::temporary(&format!("{up}{name}{query}")).into_response();
    }
    problem(StatusCode::NOT_FOUND, "there is no such page", "see sitemap.json for what there is")
}
