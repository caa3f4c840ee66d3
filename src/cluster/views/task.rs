//! One task with everything that decides its fate: why it does not run, or where it ran, and what it waits for.
//!
//! `GET api/task` and `rask explain` show the same.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::{Failure, Key, Text, WorkerId, url_part};
use crate::cluster::codec::failures::failure_text;
use crate::cluster::codec::json::{AsJson, as_text};
use crate::cluster::records::timeline::{ACTION_NAMES, FAILED, RectChunk};
use crate::cluster::state::State;
use crate::sched::{KeyState, StoryLine, TaskDetail, TaskView, WorkerStatus};

/// Neighbours that are listed.
const NEIGHBOURS_MAX: usize = 200;
/// Of the inputs that are missing.
const WAITS_MAX: usize = 100;
/// Rectangles of the task that are listed.
const RUNS_MAX: usize = 100;
/// Lines of its story, the last ones.
const STORY_MAX: usize = 200;

/// What lists and pages both say of a task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskSummary {
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    pub state: &'static str,
    pub prefix: Text,
    pub group: Text,
    /// None: unknown. Unit: bytes.
    pub nbytes: Option<i64>,
}

impl TaskSummary {
    pub fn of(task: &TaskView<'_>) -> Self {
        Self {
            key: task.key.clone(),
            state: task.state,
            prefix: task.prefix.clone(),
            group: task.group.clone(),
            nbytes: (task.nbytes >= 0).then_some(task.nbytes),
        }
    }
}

/// The task as its page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TaskPage {
    #[serde(flatten)]
    pub summary: TaskSummary,
    #[serde(rename = "type")]
    pub typename: Option<Text>,
    pub actor: bool,
    /// By user, generation and order. None before its graph gave it one.
    pub priority: Option<[f64; 3]>,
    pub retries: u32,
    /// Deaths of workers that ran it.
    pub suspicious: u32,
    /// Addresses of the workers that hold the result.
    #[serde(rename = "where")]
    pub holders: Vec<Text>,
    pub processing_on: Option<Text>,
    pub waits_for: Vec<Neighbour>,
    pub waits_for_total: usize,
    pub dependencies: Vec<Neighbour>,
    pub dependencies_total: usize,
    pub dependents: Vec<Neighbour>,
    pub dependents_total: usize,
    pub wanted_by: Vec<Text>,
    pub restrictions: Restrictions,
    pub annotations: Option<AsJson>,
    pub metadata: AsJson,
    /// When it came into its state. Unit: seconds since the epoch.
    pub since: Option<f64>,
    pub why: Why,
    pub runs: Vec<TaskRun>,
    pub story: Vec<StoryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<TaskException>,
}

/// Another task, and its state.
#[derive(Clone, Debug, Serialize)]
pub struct Neighbour {
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    pub state: &'static str,
}

/// Where a task may run.
#[derive(Clone, Debug, Serialize)]
pub struct Restrictions {
    pub workers: Vec<Text>,
    pub hosts: Vec<Text>,
    pub resources: BTreeMap<Text, f64>,
    /// The restrictions are wishes only.
    pub loose: bool,
}

/// Why a task stands where it stands: one sentence, and what is behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    pub text: String,
    pub reasons: Vec<Reason>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Reason {
    pub text: String,
    /// The page that shows more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// One rectangle of the task stream.
#[derive(Clone, Debug, Serialize)]
pub struct TaskRun {
    pub id: u64,
    pub key: Option<String>,
    pub prefix: Option<Text>,
    pub worker: Option<Text>,
    /// Name of that worker.
    pub name: Option<Text>,
    pub thread: Option<i64>,
    /// Unit: seconds since the epoch.
    pub start: f64,
    /// Unit: seconds since the epoch.
    pub stop: f64,
    pub action: Option<&'static str>,
    /// False: the task failed.
    pub ok: bool,
}

/// One transition.
#[derive(Clone, Debug, Serialize)]
pub struct StoryRow {
    /// Unit: seconds since the epoch.
    pub t: f64,
    pub start: &'static str,
    pub finish: &'static str,
    pub stimulus: String,
}

/// How a task failed.
#[derive(Clone, Debug, Serialize)]
pub struct TaskException {
    /// Class of the exception, as far as its text tells. Absent for failures of rask's own.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Option<String>>,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<Vec<String>>,
    /// The task whose failure it is.
    pub blame: Option<String>,
}

/// The task; none when nobody knows it.
pub fn task(state: &State, text: &str) -> Option<TaskPage> {
    let key = key_of(state, text)?;
    let detail = state.sched.task_detail(&key, NEIGHBOURS_MAX)?;
    let view = &detail.view;
    Some(TaskPage {
        summary: TaskSummary::of(view),
        typename: view.typename.cloned(),
        actor: view.actor,
        priority: view.priority.map(|priority| [priority.user, priority.generation, priority.order]),
        retries: detail.retries,
        suspicious: detail.suspicious,
        holders: addresses(state, view.holders),
        processing_on: view.processing_on.and_then(|worker| state.address_of(worker)),
        waits_for: neighbours(&detail.waiting_on.0, WAITS_MAX),
        waits_for_total: detail.waiting_on.1,
        dependencies: neighbours(&detail.dependencies.0, NEIGHBOURS_MAX),
        dependencies_total: detail.dependencies.1,
        dependents: neighbours(&detail.dependents.0, NEIGHBOURS_MAX),
        dependents_total: detail.dependents.1,
        wanted_by: detail.wanted_by.clone(),
        restrictions: Restrictions {
            workers: detail.worker_restrictions.to_vec(),
            hosts: detail.host_restrictions.to_vec(),
            resources: detail.resources.iter().cloned().collect(),
            loose: detail.loose,
        },
        annotations: detail.annotations.map(|annotations| annotations.clone().into()),
        metadata: view.metadata.clone().into(),
        since: last_change(state, &key),
        why: why(state, &key, &detail),
        runs: runs(state, &key),
        story: story(state, &key),
        exception: view.failure.map(|failure| exception(failure, view.blame)),
    })
}

/// The key that people write: its text, or a tuple or number as Python shows it. Looks at every task for the latter.
pub fn key_of(state: &State, text: &str) -> Option<Key> {
    let plain = Key::text(text);
    if state.sched.task(&plain).is_some() {
        return Some(plain);
    }
    state.sched.tasks().into_iter().find(|task| task.key.to_string() == text).map(|task| task.key.clone())
}

fn addresses(state: &State, workers: &[WorkerId]) -> Vec<Text> {
    workers.iter().filter_map(|&worker| state.address_of(worker)).collect()
}

fn neighbours(list: &[KeyState], max: usize) -> Vec<Neighbour> {
    list.iter().take(max).map(|listed| Neighbour { key: listed.0.clone(), state: listed.1 }).collect()
}

fn last_change(state: &State, key: &Key) -> Option<f64> {
    let last = state.sched.story(std::slice::from_ref(key)).pop()?;
    Some(state.clock.started_wall() + last.at_us as f64 / 1e6)
}

fn exception(failure: &Failure, blame: Option<&Key>) -> TaskException {
    let blame = blame.map(ToString::to_string);
    match failure {
        Failure::Remote { exception_text, traceback_text, .. } => {
            let kind = exception_text.split('(').next().filter(|name| !name.contains(' '));
            TaskException {
                kind: Some(kind.map(str::to_owned)),
                text: exception_text.to_string(),
                traceback: Some(traceback_text.lines().map(str::to_owned).collect()),
                blame,
            }
        }
        Failure::Raised(_) => TaskException { kind: None, text: failure_text(failure), traceback: None, blame },
    }
}

fn runs(state: &State, key: &Key) -> Vec<TaskRun> {
    let found = state.records.timeline.of_key(key, RUNS_MAX);
    let mut runs: Vec<TaskRun> = found.into_iter().map(|(chunk, at)| rectangle(state, chunk, at)).collect();
    runs.sort_by(|left, right| left.start.total_cmp(&right.start));
    runs
}

/// One rectangle of the task stream in words.
pub fn rectangle(state: &State, chunk: &RectChunk, at: usize) -> TaskRun {
    let lane = chunk.lane.get(at).and_then(|lane| state.records.timeline.lanes().get(usize::from(*lane)));
    let start = chunk.start_ms.get(at).map_or(0.0, |ms| ms / 1e3);
    let duration = chunk.duration_ms.get(at).map_or(0.0, |ms| f64::from(*ms) / 1e3);
    let action = chunk.action.get(at).copied().unwrap_or_default();
    let prefix = chunk.prefix.get(at).map(|prefix| usize::from(*prefix));
    TaskRun {
        id: chunk.first.saturating_add(at as u64),
        key: chunk.key(at),
        prefix: prefix.and_then(|at| state.sched.prefixes().get(at).map(|view| view.name.clone())),
        worker: lane.map(|lane| lane.worker.clone()),
        name: lane.map(|lane| lane.name.clone()),
        thread: lane.map(|lane| lane.thread),
        start,
        stop: start + duration,
        action: ACTION_NAMES.get(usize::from(if action == FAILED { 0 } else { action })).copied(),
        ok: action != FAILED,
    }
}

fn story(state: &State, key: &Key) -> Vec<StoryRow> {
    let lines = state.sched.story(std::slice::from_ref(key));
    let skip = lines.len().saturating_sub(STORY_MAX);
    let started = state.clock.started_wall();
    let line = |line: &StoryLine| {
        let (kind, number) = line.stimulus;
        StoryRow {
            t: started + line.at_us as f64 / 1e6,
            start: line.start,
            finish: line.finish,
            stimulus: format!("{kind}-{number}"),
        }
    };
    lines.iter().skip(skip).map(line).collect()
}

// ---- why it stands where it stands ----------------------------------------------------------------------------

fn reason(text: impl Into<String>) -> Reason {
    Reason { text: text.into(), ..Reason::default() }
}

fn linked(text: impl Into<String>, link: impl Into<String>) -> Reason {
    Reason { text: text.into(), link: Some(link.into()), keys: None }
}

fn why(state: &State, key: &Key, detail: &TaskDetail<'_>) -> Why {
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
    Why { text, reasons }
}

fn worker_link(address: &str) -> String {
    format!("worker?address={}", url_part(address))
}

fn task_link(key: &str) -> String {
    format!("task?key={}", url_part(key))
}

fn released(detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
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

fn waiting(detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
    let (missing, all) = (detail.waiting_on.1, detail.dependencies.1);
    let mut by_state: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, state) in &detail.waiting_on.0 {
        by_state.entry(state).or_default().push(key.to_string());
    }
    let reasons = by_state.into_iter().map(|(state, keys)| {
        let first = keys.first().map_or_else(String::new, |key| task_link(key));
        Reason { text: format!("{} of them: {state}", keys.len()), link: Some(first), keys: Some(keys) }
    });
    (format!("It waits for {missing} of its {all} inputs."), reasons.collect())
}

fn queued(state: &State, detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
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

fn no_worker(state: &State, detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
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

fn processing(state: &State, key: &Key, detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
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
    if view.status != WorkerStatus::Running {
        reasons.push(reason(format!("the worker is {}", view.status.name())));
    }
    (format!("It was sent to {address} and has not been seen running yet."), reasons)
}

fn erred(detail: &TaskDetail<'_>) -> (String, Vec<Reason>) {
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
