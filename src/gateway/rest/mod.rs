//! `/api/rask/v1`: what the dashboard, the command line and scripts use. Described by a document made from the code.

mod clusters;
mod events;
mod info;
mod logs;
mod shape;
#[cfg(test)]
mod tests;
mod tokens;

use axum::extract::State;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json as Answer, Router};
use utoipa::OpenApi;

use super::state::Gateway;

/// Where all of it is.
const BASE: &str = "/api/rask/v1";

/// The document of `GET /api/rask/v1/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "rask",
        description = "Clusters, logs, tokens and events of a rask appliance. Errors are {\"error\": what and why, \"remedy\": what to do}."
    ),
    paths(
        info::info,
        openapi,
        info::host,
        info::options,
        info::settings,
        clusters::list,
        clusters::create,
        clusters::show,
        clusters::stop,
        clusters::scale,
        clusters::adapt,
        clusters::workers,
        clusters::credentials,
        clusters::history,
        logs::logs,
        logs::index,
        tokens::list,
        tokens::create,
        tokens::revoke,
        events::events
    ),
    components(schemas(shape::ErrorBody))
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/api/rask/v1/openapi.json", tag = "appliance", responses((status = 200, body = Object)))]
async fn openapi(State(gateway): State<Gateway>) -> Answer<utoipa::openapi::OpenApi> {
    let mut document = Document::openapi();
    document.merge(gateway.more_paths.clone());
    Answer(document)
}

type Route = (&'static str, &'static [&'static str], MethodRouter<Gateway>);

/// Every route with the methods that it takes.
fn table() -> Vec<Route> {
    vec![
        ("/", &["get"], get(info::info)),
        ("/openapi.json", &["get"], get(openapi)),
        ("/host", &["get"], get(info::host)),
        ("/options", &["get"], get(info::options)),
        ("/settings", &["get"], get(info::settings)),
        ("/clusters", &["get", "post"], get(clusters::list).post(clusters::create)),
        ("/clusters/{name}", &["get", "delete"], get(clusters::show).delete(clusters::stop)),
        ("/clusters/{name}/scale", &["post"], post(clusters::scale)),
        ("/clusters/{name}/adapt", &["post"], post(clusters::adapt)),
        ("/clusters/{name}/workers", &["get"], get(clusters::workers)),
        ("/clusters/{name}/credentials", &["get"], get(clusters::credentials)),
        ("/clusters/{name}/logs", &["get"], get(logs::logs)),
        ("/clusters/{name}/logs/index", &["get"], get(logs::index)),
        ("/tokens", &["get", "post"], get(tokens::list).post(tokens::create)),
        ("/tokens/{id}", &["delete"], delete(tokens::revoke)),
        ("/history", &["get"], get(clusters::history)),
        ("/events", &["get"], get(events::events)),
    ]
}

/// All routes, for users.
pub(super) fn for_users() -> Router<Gateway> {
    table().into_iter().fold(Router::new(), |router, (path, _, methods)| {
        let whole = format!("{BASE}{path}");
        // With and without a slash at the end.
        let other = whole.strip_suffix('/').map_or_else(|| format!("{whole}/"), str::to_owned);
        router.route(&whole, methods.clone()).route(&other, methods)
    })
}
