//! Workers, lists of tasks and search, for pages. Each answer is bounded.

use serde::Serialize;

use crate::base::{Key, Text};
use crate::cluster::codec::args::shown;
use crate::cluster::codec::json::{AsJson, as_text};
use crate::cluster::state::State;
use crate::cluster::views::task::{TaskRun, TaskSummary};
use crate::cluster::views::{identity, task};
use crate::sched::{TaskFilter, TaskView, WorkerView};

/// Keys of a worker that are listed.
const KEYS_MAX: usize = 500;

/// A task in a list.
#[derive(Clone, Debug, Serialize)]
pub struct TaskRow {
    #[serde(flatten)]
    pub summary: TaskSummary,
    /// Where the task runs or its result is.
    pub worker: Option<Text>,
}

/// Some of the tasks that pass a filter.
#[derive(Clone, Debug, Serialize)]
pub struct TaskList {
    /// How many pass.
    pub total: usize,
    pub tasks: Vec<TaskRow>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FoundNames {
    pub tasks: Vec<TaskRow>,
    pub tasks_total: usize,
    pub workers: Vec<WorkerRow>,
    pub prefixes: Vec<Text>,
}

/// A worker in a list.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerRow {
    pub address: Text,
    pub name: String,
    pub status: &'static str,
}

/// One worker with what it runs and holds.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerPage {
    pub address: Text,
    pub identity: Option<AsJson>,
    pub metrics: Option<AsJson>,
    pub versions: Option<AsJson>,
    /// Unit: seconds since the epoch.
    pub last_seen: Option<f64>,
    pub processing: Vec<ProcessingRow>,
    pub processing_total: usize,
    pub has_what: Vec<HeldRow>,
    pub keys_total: usize,
}

/// A task that a worker was sent.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessingRow {
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    pub state: &'static str,
    pub prefix: Text,
    /// For how long the task ran at the last heartbeat. Unit: seconds.
    pub executing: Option<f64>,
}

/// A key that a worker holds.
#[derive(Clone, Debug, Serialize)]
pub struct HeldRow {
    pub key: String,
    pub nbytes: i64,
}

fn row(state: &State, task: &TaskView<'_>) -> TaskRow {
    TaskRow {
        summary: TaskSummary::of(task),
        worker: task.processing_on.or_else(|| task.holders.first().copied()).and_then(|id| state.address_of(id)),
    }
}

/// Tasks that pass a filter.
pub fn tasks(state: &State, filter: &TaskFilter, offset: usize, max: usize) -> TaskList {
    let (found, total) = state.sched.tasks_where(filter, offset, max);
    TaskList { total, tasks: found.iter().map(|task| row(state, task)).collect() }
}

/// Tasks, workers and prefixes whose names contain a text.
pub fn find(state: &State, text: &Text, max: usize) -> FoundNames {
    let filter = TaskFilter { contains: Some(text.clone()), ..TaskFilter::default() };
    let (tasks, tasks_total) = state.sched.tasks_where(&filter, 0, max);
    let named = |view: &WorkerView<'_>| {
        let name = shown(view.name);
        let fits = view.address.contains(&**text) || name.contains(&**text);
        fits.then(|| WorkerRow { address: view.address.clone(), name, status: view.status.name() })
    };
    let prefixes = state.sched.prefixes().into_iter().filter(|view| view.name.contains(&**text));
    FoundNames {
        tasks: tasks.iter().map(|task| row(state, task)).collect(),
        tasks_total,
        workers: state.sched.workers().iter().filter_map(named).take(max).collect(),
        prefixes: prefixes.take(max).map(|view| view.name.clone()).collect(),
    }
}

/// One worker with what it runs and holds.
pub fn worker(state: &State, address: &str) -> Option<WorkerPage> {
    let id = state.worker_at(address)?;
    let view = state.sched.worker(id)?;
    let facts = state.peers.workers.get(&id).map(|link| &link.facts);
    let executing = |key: &Key| {
        let facts = facts?;
        facts.executing.iter().find(|(other, _)| other == key).map(|(_, secs)| *secs)
    };
    let processing = state.sched.processing(id);
    let running = |key: &Key| {
        let task = state.sched.task(key)?;
        let (state, prefix) = (task.state, task.prefix.clone());
        Some(ProcessingRow { key: key.clone(), state, prefix, executing: executing(key) })
    };
    let mut held: Vec<(i64, String)> = state
        .sched
        .has_what(id)
        .iter()
        .filter_map(|key| Some((state.sched.task(key)?.nbytes, key.to_string())))
        .collect();
    held.sort_unstable_by(|left, right| right.cmp(left));
    held.truncate(KEYS_MAX);
    let identity = identity::worker_identity(state, id).map(|identity| identity::without_metrics(identity).into());
    Some(WorkerPage {
        address: view.address.clone(),
        identity,
        metrics: facts.map(|facts| AsJson(facts.metrics.clone())),
        versions: facts.map(|facts| facts.versions.clone().into()),
        last_seen: facts.map(|facts| facts.last_seen),
        processing: processing.iter().take(KEYS_MAX).filter_map(running).collect(),
        processing_total: processing.len(),
        has_what: held.into_iter().map(|(nbytes, key)| HeldRow { key, nbytes }).collect(),
        keys_total: view.nkeys,
    })
}

/// One rectangle of the task stream.
pub fn rect(state: &State, number: u64) -> Option<TaskRun> {
    let (chunk, at) = state.records.timeline.find(number)?;
    Some(task::rectangle(state, chunk, at))
}
