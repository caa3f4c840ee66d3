//! JSON about workers, lists of tasks and search, for pages. Each answer is bounded.

use serde_json::{Value as Json, json};

use crate::base::{Key, Text};
use crate::cluster::codec::args::shown;
use crate::cluster::codec::json::json_of;
use crate::cluster::state::State;
use crate::cluster::views::{identity, task};
use crate::sched::{TaskFilter, TaskView};

/// Keys of a worker that are listed.
const KEYS_MAX: usize = 500;

fn summary(state: &State, task: &TaskView<'_>) -> Json {
    json!({
        "key": task.key.to_string(),
        "state": task.state,
        "prefix": task.prefix,
        "group": task.group,
        "nbytes": (task.nbytes >= 0).then_some(task.nbytes),
        "worker": task.processing_on.or_else(|| task.holders.first().copied()).and_then(|id| state.address_of(id)),
    })
}

/// Tasks that pass a filter.
pub fn tasks(state: &State, filter: &TaskFilter, offset: usize, max: usize) -> Json {
    let (found, total) = state.sched.tasks_where(filter, offset, max);
    json!({"total": total, "tasks": found.iter().map(|task| summary(state, task)).collect::<Vec<_>>()})
}

/// Tasks, workers and prefixes whose names contain a text.
pub fn find(state: &State, text: &Text, max: usize) -> Json {
    let filter = TaskFilter { contains: Some(text.clone()), ..TaskFilter::default() };
    let (tasks, total) = state.sched.tasks_where(&filter, 0, max);
    let tasks: Vec<Json> = tasks.iter().map(|task| summary(state, task)).collect();
    let named = |view: &crate::sched::WorkerView<'_>| {
        let name = shown(view.name);
        (view.address.contains(&**text) || name.contains(&**text))
            .then(|| json!({"address": view.address, "name": name, "status": view.status.name()}))
    };
    let workers: Vec<Json> = state.sched.workers().iter().filter_map(named).take(max).collect();
    let views = state.sched.prefixes();
    let prefixes: Vec<&Text> = views.iter().map(|view| view.name).filter(|name| name.contains(&**text)).collect();
    json!({"tasks": tasks, "tasks_total": total, "workers": workers, "prefixes": prefixes.get(..max).unwrap_or(&prefixes)})
}

/// One worker with what it runs and holds.
pub fn worker(state: &State, address: &str) -> Option<Json> {
    let id = state.worker_at(address)?;
    let view = state.sched.worker(id)?;
    let facts = state.peers.workers.get(&id).map(|link| &link.facts);
    let executing = |key: &Key| {
        let facts = facts?;
        facts.executing.iter().find(|(other, _)| other == key).map(|(_, secs)| *secs)
    };
    let processing = state.sched.processing(id);
    let running: Vec<Json> = processing
        .iter()
        .take(KEYS_MAX)
        .filter_map(|key| {
            let task = state.sched.task(key)?;
            Some(json!({
                "key": key.to_string(),
                "state": task.state,
                "prefix": task.prefix,
                "executing": executing(key),
            }))
        })
        .collect();
    let mut held: Vec<(i64, String)> = state
        .sched
        .has_what(id)
        .iter()
        .filter_map(|key| Some((state.sched.task(key)?.nbytes, key.to_string())))
        .collect();
    held.sort_unstable_by(|left, right| right.cmp(left));
    held.truncate(KEYS_MAX);
    let held: Vec<Json> = held.into_iter().map(|(nbytes, key)| json!({"key": key, "nbytes": nbytes})).collect();
    Some(json!({
        "address": view.address,
        "identity": identity::worker_identity(state, id).map(|identity| json_of(&identity::without_metrics(identity))),
        "metrics": facts.map(|facts| json_of(&facts.metrics)),
        "versions": facts.map(|facts| json_of(&facts.versions)),
        "last_seen": facts.map(|facts| facts.last_seen),
        "processing": running,
        "processing_total": processing.len(),
        "has_what": held,
        "keys_total": view.nkeys,
    }))
}

/// One rectangle of the task stream.
pub fn rect(state: &State, number: u64) -> Option<Json> {
    let (chunk, at) = state.records.timeline.find(number)?;
    Some(task::rectangle(state, chunk, at))
}
