//! JSON that the page asks for: one task, one worker, lists, search, profiles, call stacks, the task stream.
//!
//! Parse, ask the scheduler, answer. The shapes are a contract with the page.

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::site::Site;
use crate::base::Value;
use crate::cluster::ACTION_NAMES;
use crate::control::SchedulerQuestion;
use crate::feed::{ASKED_MAX, FRESH, Pick, Silence, Topic, block};
use crate::http::answer::{json as json_answer, problem, silence, typed};

/// Tasks in one list.
const LIST_MAX: usize = 1_000;

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/api/where", get(place))
        .route("/api/state", get(state))
        .route("/api/limits", get(limits))
        .route("/api/task", get(task))
        .route("/api/worker", get(worker))
        .route("/api/tasks", get(tasks))
        .route("/api/find", get(find))
        .route("/api/rect", get(rect))
        .route("/api/stream", get(stream))
        .route("/api/stream/bounds", get(bounds))
        .route("/api/trace.json", get(trace))
        .route("/api/profile", get(profile))
        .route("/api/callstack", get(call_stack))
        .route("/api/workers/logs", get(worker_logs))
        .route("/api/hardware", get(hardware))
        .route("/api/versions", get(versions))
        .route("/api/topics", get(topics))
}

async fn place(State(site): State<Site>) -> Response {
    let body = json!({
        "kind": "cluster",
        "version": env!("CARGO_PKG_VERSION"),
        "name": site.name.as_deref(),
        "prefix": "",
        "actions": site.actions,
    });
    json_answer(Ok(body.to_string()))
}

#[derive(Deserialize)]
struct Topics {
    topics: Option<String>,
}

/// Names of the event topics, which `events` of the feed can be asked for.
async fn topics(State(site): State<Site>) -> Response {
    json_answer(site.feed.ask(SchedulerQuestion::Topics).await)
}

/// Whole topics, for scripts: `api/state?topics=overview,workers`.
async fn state(State(site): State<Site>, Query(asked): Query<Topics>) -> Response {
    let names = asked.topics.as_deref().unwrap_or("overview,workers,prefixes");
    let topics: Vec<Topic> = names.split(',').filter_map(|name| Topic::from_name(name.trim())).collect();
    json_answer(site.feed.rows(topics).await)
}

async fn limits(State(site): State<Site>) -> Response {
    json_answer(site.feed.bottleneck().await)
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

async fn task(State(site): State<Site>, Query(asked): Query<Key>) -> Response {
    let body = site.feed.ask(SchedulerQuestion::Task(asked.key.as_str().into())).await;
    found(body, || format!("the scheduler knows no task {}", asked.key), "it may have been released and forgotten")
}

/// Nothing is how the scheduler says "unknown".
fn found(body: Result<String, Silence>, what: impl Fn() -> String, remedy: &str) -> Response {
    match body {
        Ok(body) if body.is_empty() => problem(StatusCode::NOT_FOUND, what(), remedy),
        body => json_answer(body),
    }
}

#[derive(Deserialize)]
struct Address {
    address: String,
    n: Option<u32>,
}

async fn worker(State(site): State<Site>, Query(asked): Query<Address>) -> Response {
    let body = site.feed.ask(SchedulerQuestion::Worker(asked.address.as_str().into())).await;
    found(body, || format!("no worker is connected from {}", asked.address), "it may have left; see the logs")
}

#[derive(Deserialize)]
struct List {
    state: Option<String>,
    prefix: Option<String>,
    worker: Option<String>,
    q: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
}

async fn tasks(State(site): State<Site>, Query(asked): Query<List>) -> Response {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Into::into);
    let question = SchedulerQuestion::Tasks {
        state: text(asked.state),
        prefix: text(asked.prefix),
        worker: text(asked.worker),
        contains: text(asked.q),
        offset: asked.offset.unwrap_or(0),
        max: asked.limit.unwrap_or(100).min(LIST_MAX),
    };
    json_answer(site.feed.ask(question).await)
}

#[derive(Deserialize)]
struct Search {
    q: String,
    limit: Option<usize>,
}

async fn find(State(site): State<Site>, Query(asked): Query<Search>) -> Response {
    if asked.q.is_empty() {
        return json_answer(Ok(r#"{"tasks":[],"tasks_total":0,"workers":[],"prefixes":[]}"#.to_owned()));
    }
    let max = asked.limit.unwrap_or(20).min(LIST_MAX);
    json_answer(site.feed.ask(SchedulerQuestion::Find { text: asked.q.into(), max }).await)
}

// ---- the task stream ------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Number {
    id: u64,
}

async fn rect(State(site): State<Site>, Query(asked): Query<Number>) -> Response {
    let body = site.feed.ask(SchedulerQuestion::Rect(asked.id)).await;
    found(body, || format!("rectangle {} is no longer kept", asked.id), "the last million are")
}

#[derive(Default, Deserialize)]
struct Window {
    from: Option<f64>,
    to: Option<f64>,
    px: Option<f64>,
    prefix: Option<String>,
    worker: Option<String>,
    action: Option<String>,
    state: Option<String>,
    server: Option<bool>,
}

impl Window {
    /// Unit: seconds since the epoch.
    fn span(&self, site: &Site) -> (f64, f64) {
        let to = self.to.filter(|secs| secs.is_finite()).unwrap_or_else(|| site.feed.now_secs() + 60.0);
        (self.from.filter(|secs| secs.is_finite()).unwrap_or(0.0), to)
    }
}

async fn stream(State(site): State<Site>, Query(asked): Query<Window>) -> Response {
    let (from, to) = asked.span(&site);
    let stream = match site.feed.rects(from, to).await {
        Ok(stream) => stream,
        Err(why) => return silence(&why),
    };
    let lanes = asked
        .worker
        .as_ref()
        .map(|worker| stream.lanes.iter().map(|lane| *lane.worker == **worker || *lane.name == **worker).collect());
    let prefix = asked.prefix.as_ref().map(|wanted| {
        let at = stream.prefixes.iter().position(|name| **name == **wanted);
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX)
    });
    let wanted_action = match asked.state.as_deref() {
        Some("erred" | "failed" | "error") => Some("compute-failed"),
        _ => asked.action.as_deref(),
    };
    let action = wanted_action.and_then(|wanted| {
        let at = ACTION_NAMES.iter().position(|name| *name == wanted)?;
        u8::try_from(at).ok()
    });
    let pick = Pick {
        after: 0,
        window_ms: Some((from * 1e3, to * 1e3)),
        px: asked.px.unwrap_or(0.0),
        lanes,
        prefix,
        action,
        max: ASKED_MAX,
    };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, block(&stream, &pick, FRESH)).into_response()
}

async fn bounds(State(site): State<Site>) -> Response {
    let stream = match site.feed.rects(0.0, f64::MAX / 1e6).await {
        Ok(stream) => stream,
        Err(why) => return silence(&why),
    };
    let begin = stream.chunks.iter().map(|chunk| chunk.begin_ms).fold(f64::INFINITY, f64::min);
    let end = stream.chunks.iter().map(|chunk| chunk.end_ms).fold(f64::NEG_INFINITY, f64::max);
    let known = begin.is_finite() && end.is_finite();
    let body = json!({
        "first": known.then_some(begin / 1e3),
        "last": known.then_some(end / 1e3),
        "count": stream.next.saturating_sub(stream.first),
    });
    json_answer(Ok(body.to_string()))
}

async fn trace(State(site): State<Site>, Query(asked): Query<Window>) -> Response {
    let (from, to) = asked.span(&site);
    let mut response = typed(site.feed.trace(from, to).await, "application/json");
    let name = header::HeaderValue::from_static("attachment; filename=\"rask-trace.json\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    response
}

// ---- asked of the workers -------------------------------------------------------------------------------------

fn request(op: &str, fields: Vec<(&str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
    Value::Map(std::iter::once(("op".into(), op.into())).chain(fields).collect())
}

async fn profile(State(site): State<Site>, Query(asked): Query<Window>) -> Response {
    let optional = |secs: Option<f64>| secs.map_or(Value::Nil, Value::Float);
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Value::from);
    let workers = text(&asked.worker).map_or(Value::Nil, |worker| Value::Array(vec![worker]));
    let fields = vec![
        ("start", optional(asked.from)),
        ("stop", optional(asked.to)),
        ("key", text(&asked.prefix).unwrap_or(Value::Nil)),
        ("workers", workers),
        ("merge_workers", true.into()),
        ("server", asked.server.unwrap_or(false).into()),
    ];
    match site.feed.request(request("profile", fields)).await {
        Ok(tree) => json_answer(Ok(crate::feed::flame(&tree).to_string())),
        Err(why) => silence(&why),
    }
}

#[derive(Deserialize)]
struct Stack {
    key: Option<String>,
    worker: Option<String>,
}

async fn call_stack(State(site): State<Site>, Query(asked): Query<Stack>) -> Response {
    let keys = asked.key.map_or(Value::Nil, |key| Value::Array(vec![key.as_str().into()]));
    let stacks = match site.feed.request(request("call_stack", vec![("keys", keys)])).await {
        Ok(stacks) => plain(&stacks),
        Err(why) => return silence(&why),
    };
    let of_worker = |stacks: Json| match (&asked.worker, stacks) {
        (Some(worker), Json::Object(mut all)) => {
            all.retain(|address, _| address == worker);
            Json::Object(all)
        }
        (_, stacks) => stacks,
    };
    json_answer(Ok(of_worker(stacks).to_string()))
}

async fn worker_logs(State(site): State<Site>, Query(asked): Query<Address>) -> Response {
    let fields = vec![
        ("n", i64::from(asked.n.unwrap_or(1_000)).into()),
        ("workers", Value::Array(vec![asked.address.as_str().into()])),
    ];
    match site.feed.request(request("worker_logs", fields)).await {
        Ok(logs) => {
            let mut lines = logs.fields().and_then(|all| all.first()).map_or_else(|| json!([]), |(_, log)| plain(log));
            if let Json::Array(lines) = &mut lines {
                // Workers tell the newest first.
                lines.reverse();
            }
            json_answer(Ok(json!({"lines": lines}).to_string()))
        }
        Err(why) => silence(&why),
    }
}

/// Disks, memories and links are busy with it for seconds: a page of another site must not start it, though it could
/// not read the answer.
async fn hardware(State(site): State<Site>, request: Request) -> Response {
    let strange = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if strange && !site.is_pane(request.method(), request.uri(), request.headers()) {
        return problem(StatusCode::FORBIDDEN, "a page of another site may not measure", "open the page Hardware");
    }
    plainly(site.feed.request(self::request("benchmark_hardware", Vec::new())).await)
}

async fn versions(State(site): State<Site>) -> Response {
    plainly(site.feed.request(request("versions", Vec::new())).await)
}

fn plainly(answer: Result<Value, Silence>) -> Response {
    json_answer(answer.map(|value| plain(&value).to_string()))
}

/// Any value as JSON; payloads become nulls.
fn plain(value: &Value) -> Json {
    crate::cluster::json_of(value)
}
