//! One task with everything that decides its fate: why it does not run, or where it ran, and what it waits for.
//!
//! `GET api/task` and `rask explain` show the same.

use serde_json::{Value as Json, json};

use crate::base::{Failure, Key, Text};
use crate::cluster::codec::failures::failure_text;
use crate::cluster::codec::json::{json_of, url_text};
use crate::cluster::records::timeline::{ACTION_NAMES, FAILED, RectChunk};
use crate::cluster::state::State;
use crate::sched::{KeyState, TaskDetail};

/// Neighbours that are listed.
const NEIGHBOURS_MAX: usize = 200;
/// Of the inputs that are missing.
const WAITS_MAX: usize = 100;
/// Rectangles of the task that are listed.
const RUNS_MAX: usize = 100;
/// Lines of its story, the last ones.
const STORY_MAX: usize = 200;

/// The task, as JSON; none when nobody knows it.
pub fn task(state: &State, text: &str) -> Option<Json> {
    let key = key_of(state, text)?;
    let detail = state.sched.task_detail(&key, NEIGHBOURS_MAX)?;
    let mut task = facts(state, &key, &detail);
    let fields = task.as_object_mut()?;
    fields.insert("why".to_owned(), why(state, &key, &detail));
    fields.insert("runs".to_owned(), runs(state, &key));
    fields.insert("story".to_owned(), story(state, &key));
    if let Some(failure) = detail.view.failure {
        fields.insert("exception".to_owned(), exception(failure, detail.view.blame));
    }
    Some(task)
}

/// The key that people write: its text, or a tuple or number as Python shows it. Looks at every task for the latter.
pub fn key_of(state: &State, text: &str) -> Option<Key> {
    let plain = Key::text(text);
    if state.sched.task(&plain).is_some() {
        return Some(plain);
    }
    state.sched.tasks().into_iter().find(|task| task.key.to_string() == text).map(|task| task.key.clone())
}

fn addresses(state: &State, workers: &[crate::base::WorkerId]) -> Vec<Text> {
    workers.iter().filter_map(|&worker| state.address_of(worker)).collect()
}

fn states(list: &[KeyState], max: usize) -> Json {
    list.iter().take(max).map(|(key, state)| json!({"key": key.to_string(), "state": state})).collect()
}

fn facts(state: &State, key: &Key, detail: &TaskDetail<'_>) -> Json {
    let view = &detail.view;
    let resources: serde_json::Map<String, Json> =
        detail.resources.iter().map(|(name, amount)| (name.to_string(), (*amount).into())).collect();
    let priority = view.priority.map(|priority| [priority.user, priority.generation, priority.order]);
    json!({
        "key": key.to_string(),
        "state": view.state,
        "prefix": view.prefix,
        "group": view.group,
        "nbytes": (view.nbytes >= 0).then_some(view.nbytes),
        "type": view.typename,
        "actor": view.actor,
        "priority": priority,
        "retries": detail.retries,
        "suspicious": detail.suspicious,
        "where": addresses(state, view.holders),
        "processing_on": view.processing_on.and_then(|worker| state.address_of(worker)),
        "waits_for": states(&detail.waiting_on.0, WAITS_MAX),
        "waits_for_total": detail.waiting_on.1,
        "dependencies": states(&detail.dependencies.0, NEIGHBOURS_MAX),
        "dependencies_total": detail.dependencies.1,
        "dependents": states(&detail.dependents.0, NEIGHBOURS_MAX),
        "dependents_total": detail.dependents.1,
        "wanted_by": detail.wanted_by,
        "restrictions": {
            "workers": detail.worker_restrictions,
            "hosts": detail.host_restrictions,
            "resources": resources,
            "loose": detail.loose,
        },
        "annotations": detail.annotations.map(json_of),
        "metadata": json_of(view.metadata),
        "since": last_change(state, key),
    })
}

fn last_change(state: &State, key: &Key) -> Option<f64> {
    let last = state.sched.story(std::slice::from_ref(key)).pop()?;
    Some(state.clock.started_wall() + last.at_us as f64 / 1e6)
}

fn exception(failure: &Failure, blame: Option<&Key>) -> Json {
    let blame = blame.map(ToString::to_string);
    match failure {
        Failure::Remote { exception_text, traceback_text, .. } => {
            let lines: Vec<&str> = traceback_text.lines().collect();
            let kind = exception_text.split('(').next().filter(|name| !name.contains(' '));
            json!({"type": kind, "text": exception_text, "traceback": lines, "blame": blame})
        }
        Failure::Raised(_) => json!({"text": failure_text(failure), "blame": blame}),
    }
}

fn runs(state: &State, key: &Key) -> Json {
    let mut runs: Vec<Json> = state
        .records
        .timeline
        .of_key(key, RUNS_MAX)
        .into_iter()
        .map(|(chunk, at)| rectangle(state, chunk, at))
        .collect();
    let start = |run: &Json| run.get("start").and_then(Json::as_f64).unwrap_or_default();
    runs.sort_by(|left, right| start(left).total_cmp(&start(right)));
    Json::Array(runs)
}

/// One rectangle of the task stream in words.
pub fn rectangle(state: &State, chunk: &RectChunk, at: usize) -> Json {
    let lane = chunk.lane.get(at).and_then(|lane| state.records.timeline.lanes().get(usize::from(*lane)));
    let start = chunk.start_ms.get(at).map_or(0.0, |ms| ms / 1e3);
    let duration = chunk.duration_ms.get(at).map_or(0.0, |ms| f64::from(*ms) / 1e3);
    let action = chunk.action.get(at).copied().unwrap_or_default();
    let prefix = chunk.prefix.get(at).map(|prefix| usize::from(*prefix));
    json!({
        "id": chunk.first.saturating_add(at as u64),
        "key": chunk.key(at),
        "prefix": prefix.and_then(|at| state.sched.prefixes().get(at).map(|view| view.name.clone())),
        "worker": lane.map(|lane| lane.worker.clone()),
        "name": lane.map(|lane| lane.name.clone()),
        "thread": lane.map(|lane| lane.thread),
        "start": start,
        "stop": start + duration,
        "action": ACTION_NAMES.get(usize::from(if action == FAILED { 0 } else { action })),
        "ok": action != FAILED,
    })
}

fn story(state: &State, key: &Key) -> Json {
    let lines = state.sched.story(std::slice::from_ref(key));
    let skip = lines.len().saturating_sub(STORY_MAX);
    let started = state.clock.started_wall();
    let line = |line: &crate::sched::StoryLine| {
        let (kind, number) = line.stimulus;
        let at = started + line.at_us as f64 / 1e6;
        json!({"t": at, "start": line.start, "finish": line.finish, "stimulus": format!("{kind}-{number}")})
    };
    lines.iter().skip(skip).map(line).collect()
}

// ---- why it stands where it stands ----------------------------------------------------------------------------

fn reason(text: impl Into<String>) -> Json {
    json!({"text": text.into()})
}

fn linked(text: impl Into<String>, link: impl Into<String>) -> Json {
    json!({"text": text.into(), "link": link.into()})
}

/// `{"text", "reasons"}`: one sentence, and what is behind it.
fn why(state: &State, key: &Key, detail: &TaskDetail<'_>) -> Json {
    let (text, reasons) = match detail.view.state {
        "waiting" => waiting(detail),
        "queued" => queued(state, detail),
        "no-worker" => no_worker(state, detail),
        "processing" => processing(state, key, detail),
        "memory" => {
            let holders = addresses(state, detail.view.holders);
            let link = |address: &Text| linked(format!("held by {address}"), worker_link(address));
            ("It is done and in memory.".to_owned(), holders.iter().map(link).collect())
        }
        "erred" => erred(detail),
        _ => released(detail),
    };
    json!({"text": text, "reasons": reasons})
}

fn worker_link(address: &str) -> String {
    format!("worker?address={}", url_text(address))
}

fn task_link(key: &str) -> String {
    format!("task?key={}", url_text(key))
}

fn released(detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let mut reasons = Vec::new();
    if detail.lost_dependencies {
        reasons.push(reason("an input of it was forgotten, so it can't run any more; submit it again"));
    }
    if detail.wanted_by.is_empty() && detail.dependents.1 == 0 {
        reasons.push(reason("no client holds a future of it and no other task needs it"));
    } else if detail.graph_open {
        reasons.push(reason("a graph is still being read; it starts when the graph is in"));
    } else if detail.wanted_by.is_empty() {
        reasons.push(reason("what needed it is done or was cancelled"));
    }
    ("It is not to run: nothing needs its result now.".to_owned(), reasons)
}

fn waiting(detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let (missing, all) = (detail.waiting_on.1, detail.dependencies.1);
    let mut by_state: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    for (key, state) in &detail.waiting_on.0 {
        by_state.entry(state).or_default().push(key.to_string());
    }
    let reasons = by_state.into_iter().map(|(state, keys)| {
        let first = keys.first().map_or_else(String::new, |key| task_link(key));
        json!({"text": format!("{} of them: {state}", keys.len()), "link": first, "keys": keys})
    });
    (format!("It waits for {missing} of its {all} inputs."), reasons.collect())
}

fn queued(state: &State, detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let saturation = state.sched.config().worker_saturation;
    let counts = state.sched.counts();
    let ahead = detail.ahead_in_queue.unwrap_or_default();
    let reasons = vec![
        reason(format!("{ahead} tasks come before it by priority")),
        linked(
            format!(
                "{} threads have work; a worker is sent no more than {saturation} tasks per thread of this kind, so \
                 that what depends on them can run first (distributed.scheduler.worker-saturation)",
                counts.threads
            ),
            "workers",
        ),
    ];
    ("It is queued: its inputs are there, and every worker has enough to do.".to_owned(), reasons)
}

fn no_worker(state: &State, detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let workers = state.sched.counts().workers;
    if workers == 0 {
        return ("No worker is connected.".to_owned(), vec![linked("add workers to the cluster", "workers")]);
    }
    let mut reasons = Vec::new();
    if !detail.worker_restrictions.is_empty() {
        let gone = |address: &&Text| state.worker_at(address).is_none();
        let missing: Vec<&str> = detail.worker_restrictions.iter().filter(gone).map(|address| &**address).collect();
        reasons.push(linked(
            format!(
                "it is restricted to {}{}",
                joined(detail.worker_restrictions),
                if missing.is_empty() { String::new() } else { format!("; not connected: {}", missing.join(", ")) }
            ),
            "workers",
        ));
    }
    if !detail.host_restrictions.is_empty() {
        reasons.push(linked(format!("it is restricted to hosts {}", joined(detail.host_restrictions)), "workers"));
    }
    if !detail.resources.is_empty() {
        let needs: Vec<String> = detail.resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        reasons.push(linked(format!("it needs the resources {} on one worker", needs.join(", ")), "workers"));
    }
    if reasons.is_empty() {
        let text = format!("none of the {workers} workers takes tasks: they are paused, starting or leaving");
        return (text.clone(), vec![linked(text, "workers")]);
    }
    (format!("None of the {workers} workers may run it."), reasons)
}

fn joined(names: &[Text]) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

fn processing(state: &State, key: &Key, detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let Some(worker) = detail.view.processing_on else { return ("It is on its way.".to_owned(), Vec::new()) };
    let Some(view) = state.sched.worker(worker) else { return ("Its worker is leaving.".to_owned(), Vec::new()) };
    let address = view.address.clone();
    let facts = state.peers.workers.get(&worker).map(|link| &link.facts);
    let running = facts.and_then(|facts| facts.executing.iter().find(|(other, _)| other == key));
    let mut reasons = vec![linked(format!("sent to {address}"), worker_link(&address))];
    if let Some((_, secs)) = running {
        return (format!("It runs on {address}, for {secs:.1} s at the worker's last heartbeat."), reasons);
    }
    let others = view.processing.saturating_sub(1);
    let text = format!(
        "{others} other tasks were sent there too, for {} threads; it runs when its inputs are there and a thread is free",
        view.nthreads
    );
    reasons.push(reason(text));
    if view.status != crate::sched::WorkerStatus::Running {
        reasons.push(reason(format!("the worker is {}", view.status.name())));
    }
    (format!("It was sent to {address} and has not been seen running yet."), reasons)
}

fn erred(detail: &TaskDetail<'_>) -> (String, Vec<Json>) {
    let mut reasons = Vec::new();
    if let Some(blame) = detail.view.blame.filter(|blame| **blame != *detail.view.key) {
        let blame = blame.to_string();
        reasons.push(linked(format!("the failure came from {blame}"), task_link(&blame)));
        return (format!("It can't run: its input {blame} failed."), reasons);
    }
    if detail.suspicious > 0 {
        reasons.push(reason(format!("{} workers died while they ran it", detail.suspicious)));
    }
    reasons.push(linked("all exceptions by cause", "exceptions"));
    ("It failed.".to_owned(), reasons)
}
