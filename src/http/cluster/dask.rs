//! Routes that Dask's tools know: plots by name, JSON, metrics, the event stream, the small API of launchers.
//!
//! Source: `distributed/http/scheduler/{json,info,api}.py`, `distributed/http/{health,prometheus}.py`,
//! `distributed/dashboard/scheduler.py`.

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value as Json, json};

use super::live;
use super::site::Site;
use crate::base::Value;
use crate::control::SchedulerQuestion;
use crate::feed::Subscription;
use crate::http::answer::{json as answer, problem, silence, typed};

/// Every bare plot: its name in addresses and its title, as Dask has them.
pub(in crate::http) const INDIVIDUAL: [(&str, &str); 32] = [
    ("task-stream", "Individual Task Stream"),
    ("progress", "Individual Progress"),
    ("graph", "Individual Graph"),
    ("groups", "Individual Groups"),
    ("group-progress", "Individual Group Progress"),
    ("workers-memory", "Individual Workers Memory"),
    ("cluster-memory", "Individual Cluster Memory"),
    ("workers-transfer-bytes", "Individual Workers Transfer Bytes"),
    ("cpu", "Individual Cpu"),
    ("nprocessing", "Individual Nprocessing"),
    ("occupancy", "Individual Occupancy"),
    ("workers", "Individual Workers"),
    ("exceptions", "Individual Exceptions"),
    ("bandwidth-types", "Individual Bandwidth Types"),
    ("bandwidth-workers", "Individual Bandwidth Workers"),
    ("workers-network", "Individual Workers Network"),
    ("workers-disk", "Individual Workers Disk"),
    ("workers-network-timeseries", "Individual Workers Network Timeseries"),
    ("workers-cpu-timeseries", "Individual Workers Cpu Timeseries"),
    ("workers-memory-timeseries", "Individual Workers Memory Timeseries"),
    ("workers-disk-timeseries", "Individual Workers Disk Timeseries"),
    ("memory-by-key", "Individual Memory By Key"),
    ("compute-time-per-key", "Individual Compute Time Per Key"),
    ("aggregate-time-per-action", "Individual Aggregate Time Per Action"),
    ("scheduler-system", "Individual Scheduler System"),
    ("contention", "Individual Contention"),
    ("fine-performance-metrics", "Individual Fine Performance Metrics"),
    ("profile", "Individual Profile"),
    ("profile-server", "Individual Profile Server"),
    ("gpu-memory", "Individual Gpu Memory"),
    ("gpu-utilization", "Individual Gpu Utilization"),
    ("rmm-memory", "Individual Rmm Memory"),
];

/// What `sitemap.json` lists besides the plots.
const SITEMAP: [&str; 14] = [
    "/health",
    "/metrics",
    "/json/counts.json",
    "/json/identity.json",
    "/json/index.html",
    "/individual-plots.json",
    "/sitemap.json",
    "/eventstream",
    "/info/main/workers.html",
    "/info/main/exceptions.html",
    "/info/main/logs.html",
    "/feed",
    "/api/state",
    "/api/v1/get_workers",
];

/// Pages by Dask's names, besides those that begin with `individual-`.
pub(in crate::http) const PAGES: [&str; 15] = [
    "status",
    "workers",
    "tasks",
    "system",
    "profile",
    "profile-server",
    "graph",
    "groups",
    "stealing",
    "exceptions",
    "events",
    "counters",
    "hardware",
    "shuffle",
    "gpu",
];

const JSON_INDEX: &str =
    "<ul><li><a href=\"counts.json\">counts.json</a></li><li><a href=\"identity.json\">identity.json</a></li></ul>\n";

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .route("/json/counts.json", get(counts))
        .route("/json/identity.json", get(identity))
        .route("/json/index.html", get(|| async { Html(JSON_INDEX) }))
        .route("/individual-plots.json", get(plots))
        .route("/sitemap.json", get(sitemap))
        .route("/eventstream", get(event_stream))
        .route("/proxy/{port}/{host}/{*rest}", get(proxy_hint))
        .route("/api/v1", get(|| async { "API V1" }))
        .route("/api/v1/get_workers", get(get_workers))
        .route("/api/v1/adaptive_target", get(adaptive_target))
        .route("/api/v1/check_idle", get(check_idle))
        .route("/api/v1/retire_workers", post(retire_workers))
}

async fn metrics(State(site): State<Site>) -> Response {
    typed(site.feed.ask(SchedulerQuestion::Metrics).await, "text/plain; version=0.0.4; charset=utf-8")
}

async fn counts(State(site): State<Site>) -> Response {
    answer(site.feed.ask(SchedulerQuestion::Counts).await)
}

async fn identity(State(site): State<Site>) -> Response {
    answer(site.feed.ask(SchedulerQuestion::Identity).await)
}

/// Titles and addresses, absolute as Dask's are: JupyterLab joins them to the address of the cluster.
async fn plots() -> Response {
    let plots: Map<String, Json> =
        INDIVIDUAL.iter().map(|(name, title)| ((*title).to_owned(), format!("/individual-{name}").into())).collect();
    answer(Ok(Json::Object(plots).to_string()))
}

async fn sitemap() -> Response {
    let pages = PAGES.iter().map(|name| format!("/{name}"));
    let bare = INDIVIDUAL.iter().map(|(name, _)| format!("/individual-{name}"));
    let paths: Vec<String> = SITEMAP.iter().map(|path| (*path).to_owned()).chain(pages).chain(bare).collect();
    answer(Ok(json!({"paths": paths}).to_string()))
}

/// Dashboards of workers are reached through jupyter-server-proxy in Dask. Ours shows the worker itself.
async fn proxy_hint(Path((port, host, _rest)): Path<(u16, String, String)>) -> Response {
    let text = format!(
        "This dashboard shows its workers itself, see the page \"workers\". The worker's own pages are at \
         http://{host}:{port}, for those who can reach that machine.\n"
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

// ---- the API that launchers ask for ---------------------------------------------------------------------------

async fn get_workers(State(site): State<Site>) -> Response {
    answer(site.feed.ask(SchedulerQuestion::Workers).await)
}

async fn adaptive_target(State(site): State<Site>) -> Response {
    answer(site.feed.ask(SchedulerQuestion::AdaptiveTarget).await)
}

async fn check_idle(State(site): State<Site>) -> Response {
    answer(site.feed.ask(SchedulerQuestion::IdleSince).await)
}

/// `{"workers": [address, ..]}` or `{"n": count}`. The type of the body has to be JSON: other sites can't send that.
async fn retire_workers(State(site): State<Site>, headers: HeaderMap, body: Body) -> Response {
    if !site.actions {
        let remedy = "retire them with client.retire_workers, or through the appliance";
        return problem(StatusCode::FORBIDDEN, "these pages only show", remedy);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is not JSON",
            "send Content-Type: application/json",
        );
    }
    let Ok(asked) = serde_json::from_slice::<Json>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not JSON", "send {\"workers\": [..]} or {\"n\": 1}");
    };
    let mut fields: Vec<(Value, Value)> =
        vec![("op".into(), "retire_workers".into()), ("close_workers".into(), true.into())];
    if let Some(workers) = asked.get("workers").and_then(Json::as_array) {
        let workers = workers.iter().filter_map(Json::as_str).map(Value::from).collect();
        fields.push(("workers".into(), Value::Array(workers)));
    } else if let Some(n) = asked.get("n").and_then(Json::as_i64) {
        fields.push(("n".into(), n.into()));
    } else {
        return problem(
            StatusCode::BAD_REQUEST,
            "it does not say which workers",
            "send {\"workers\": [..]} or {\"n\": 1}",
        );
    }
    match site.feed.request(Value::Map(fields)).await {
        Ok(retired) => answer(Ok(crate::cluster::json_of(&retired).to_string())),
        Err(why) => silence(&why),
    }
}

// ---- events ---------------------------------------------------------------------------------------------------

/// Dask's `/eventstream`: JSON texts `{"name": ..}` for workers that come and go. Answers `{"name": "ping"}`.
async fn event_stream(State(site): State<Site>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if !live::is_same_origin(&headers) {
        return problem(StatusCode::FORBIDDEN, "pages of other origins may not listen", "open the dashboard itself");
    }
    upgrade.on_upgrade(|socket| tell_events(site, socket)).into_response()
}

async fn tell_events(site: Site, mut socket: WebSocket) {
    let subscription = Subscription::parse(r#"{"want":["workers"]}"#).unwrap_or_default();
    let Some(mut view) = site.feed.view(subscription).await else { return };
    let mut known: std::collections::BTreeSet<String> = Default::default();
    loop {
        let messages: Vec<Json> = tokio::select! {
            news = view.next() => {
                let Some(bytes) = news else { return };
                let message: Json = serde_json::from_slice(bytes.get(1..).unwrap_or_default()).unwrap_or_default();
                worker_events(message.pointer("/topics/workers"), &mut known)
            }
            told = socket.recv() => match told {
                Some(Ok(Message::Text(text))) => {
                    let asked: Json = serde_json::from_str(&text).unwrap_or_default();
                    let is_ping = asked.get("name").and_then(Json::as_str) == Some("ping");
                    if is_ping { vec![json!({"name": "pong", "timestamp": asked.get("timestamp")})] } else { Vec::new() }
                }
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        for message in messages {
            if socket.send(Message::Text(message.to_string().into())).await.is_err() {
                return;
            }
        }
    }
}

fn worker_events(change: Option<&Json>, known: &mut std::collections::BTreeSet<String>) -> Vec<Json> {
    let Some(change) = change else { return Vec::new() };
    let rows = change.get("full").or_else(|| change.get("put")).and_then(Json::as_object);
    let came = rows.into_iter().flatten().filter(|(address, _)| known.insert((*address).clone()));
    let mut events: Vec<Json> = came.map(|(address, _)| json!({"name": "add_worker", "worker": address})).collect();
    for gone in change.get("del").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        if known.remove(gone) {
            events.push(json!({"name": "remove_worker", "worker": gone}));
        }
    }
    events
}
