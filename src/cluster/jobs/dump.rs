//! `get_cluster_state` and `dump_cluster_state_to_url`: everything about the scheduler and its workers as plain data, for people to read.
//!
//! Source: `distributed/scheduler.py`, `get_cluster_state`, `dump_cluster_state_to_url`, `_to_dict`.

use std::collections::BTreeMap;
use std::future::Future;

use crate::base::{Failure, Key, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::failure_text;
use crate::cluster::jobs::broadcast::{OnError, broadcast, every_worker};
use crate::cluster::jobs::python::python_side;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Handled, Outcome};
use crate::cluster::views::{identity, story};
use crate::sched::{KeyState, Priority, STATE_NAMES, TaskView, WorkerView};

/// Answers with the state.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let whole = whole_state(state, body);
    Ok(state.job(call, whole))
}

/// Has Python write the state to a file or to anything else that it has a file system for.
pub fn start_to_url(state: &mut State, call: Call, body: &Value) -> Handled {
    let pyhost = python_side(state)?;
    let url = Value::Str(args::text(body, "url")?);
    let format = body.field("format").cloned().unwrap_or_else(|| "msgpack".into());
    let fields = body.fields().unwrap_or_default();
    let ours = ["op", "url", "exclude", "format", "reply", "close"];
    let options = fields.iter().filter(|(name, _)| name.as_str().is_none_or(|name| !ours.contains(&name))).cloned();
    let options = Value::Map(options.collect());
    let whole = whole_state(state, body);
    Ok(state.job(call, async move {
        let whole = whole.await?;
        let request = Value::map([("url", url), ("format", format), ("storage_options", options), ("state", whole)]);
        pyhost.call("write_state", request).await.map(|_| Value::Nil)
    }))
}

/// The state of the scheduler now, and of each worker when it answers.
fn whole_state(state: &State, body: &Value) -> impl Future<Output = Outcome> + Send + use<> {
    let exclude = body.get("exclude").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let left_out: Vec<String> =
        exclude.items().unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    let scheduler = scheduler_state(state, &left_out);
    let versions = identity::any_versions(state);
    let targets = every_worker(state);
    let handle = state.handle.clone();
    async move {
        let dump = Value::map([("op", "dump_state".into()), ("exclude", exclude)]);
        let asked = Value::map([("op", "versions".into())]);
        let workers = broadcast(handle.clone(), targets.clone(), dump, OnError::ReturnText).await?;
        let worker_versions = broadcast(handle, targets, asked, OnError::Ignore).await?;
        let versions = Value::map([("scheduler", versions), ("workers", worker_versions)]);
        Ok(Value::map([("scheduler", scheduler), ("workers", workers), ("versions", versions)]))
    }
}

fn scheduler_state(state: &State, exclude: &[String]) -> Value {
    let mut shown = match identity::identity(state, None) {
        Value::Map(fields) => fields,
        _ => Vec::new(),
    };
    let tasks = state.sched.tasks();
    let tasks = tasks.iter().map(|task| (task.key.to_string().into(), task_state(state, task))).collect();
    let story = story::story_of_all(state);
    shown.retain(|(name, _)| name.as_str() != Some("workers"));
    shown.push(("workers".into(), workers_state(state)));
    shown.push(("tasks".into(), Value::Map(tasks)));
    shown.push(("clients".into(), clients_state(state)));
    shown.push(("events".into(), state.records.topics.all_events()));
    shown.push(("transition_log".into(), story));
    shown.push(("transition_counter".into(), state.sched.counts().transitions.into()));
    shown.push(("status".into(), "running".into()));
    shown.push(("thread_id".into(), Value::Int(i64::from(std::process::id()))));
    shown.push(("memory".into(), memory(state)));
    shown.push(("task_groups".into(), task_groups(state)));
    shown.push(("extensions".into(), Value::Map(Vec::new())));
    named_by_text(without(Value::Map(shown), exclude))
}

/// Leaves out fields of these names, at any depth. Source: `distributed/utils.py`, `recursive_to_dict`.
fn without(value: Value, exclude: &[String]) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| without(item, exclude)).collect()),
        Value::Map(fields) => {
            let kept = fields
                .into_iter()
                .filter(|(name, _)| name.as_str().is_none_or(|name| !exclude.iter().any(|out| out == name)));
            Value::Map(kept.map(|(name, value)| (name, without(value, exclude))).collect())
        }
        other => other,
    }
}

/// What all workers hold together.
fn memory(state: &State) -> Value {
    let workers = state.sched.workers();
    let managed = workers.iter().map(|view| view.nbytes).fold(0, i64::saturating_add);
    let told =
        |worker: &WorkerView<'_>| identity::worker_identity(state, worker.id)?.get("metrics")?.get("memory")?.as_i64();
    let process = workers.iter().filter_map(told).fold(0, i64::saturating_add);
    let unmanaged = process.saturating_sub(managed).max(0);
    Value::map([
        ("managed", managed.into()),
        ("managed_total", managed.into()),
        ("process", process.into()),
        ("unmanaged", unmanaged.into()),
        ("optimistic", process.into()),
        ("spilled", Value::Int(0)),
    ])
}

fn task_groups(state: &State) -> Value {
    let mut groups: BTreeMap<Text, (Text, i64, BTreeMap<&'static str, i64>)> = BTreeMap::new();
    for task in state.sched.tasks() {
        let (_, nbytes, states) = groups
            .entry(task.group.clone())
            .or_insert_with(|| (task.prefix.clone(), 0, STATE_NAMES.iter().map(|name| (*name, 0)).collect()));
        *nbytes = nbytes.saturating_add(task.nbytes.max(0));
        let count = states.entry(task.state).or_default();
        *count = count.saturating_add(1);
    }
    let shown = |(name, (prefix, nbytes, states)): (Text, (Text, i64, BTreeMap<&'static str, i64>))| {
        let states = states.into_iter().map(|(state, count)| (state.into(), count.into())).collect();
        let fields = Value::map([
            ("name", Value::Str(name.clone())),
            ("prefix", Value::Str(prefix)),
            ("nbytes_total", nbytes.into()),
            ("states", Value::Map(states)),
        ]);
        (Value::Str(name), fields)
    };
    Value::Map(groups.into_iter().map(shown).collect())
}

/// Names that are lists (of a worker's counters, for one) become text: readers of YAML and JSON know no others.
///
/// Source: `distributed/utils.py`, `recursive_to_dict`.
fn named_by_text(value: Value) -> Value {
    let name = |name: Value| match &name {
        Value::Array(_) | Value::Map(_) => args::repr(&name).into(),
        _ => name,
    };
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(named_by_text).collect()),
        Value::Map(fields) => {
            Value::Map(fields.into_iter().map(|(field, value)| (name(field), named_by_text(value))).collect())
        }
        other => other,
    }
}

fn task_state(state: &State, task: &TaskView<'_>) -> Value {
    let (needs, needed_by) = state.sched.edges(task.key);
    let list = |keys: Vec<Key>| Value::Array(keys.iter().map(|key| key.to_string().into()).collect());
    let address = |worker| state.address_of(worker).map(Value::Str);
    let mut shown = task_detail(state, task.key);
    let (mut exception, mut traceback) = (Value::Nil, Value::Nil);
    if let Some(failure) = task.failure {
        exception = failure_text(failure).into();
        if let Failure::Remote { traceback_text, .. } = failure {
            traceback = Value::Str(traceback_text.clone());
        }
    }
    let fields = Value::map([
        ("key", task.key.to_string().into()),
        ("state", task.state.into()),
        ("nbytes", task.nbytes.into()),
        ("type", task.typename.cloned().into()),
        ("who_has", Value::Array(task.holders.iter().filter_map(|worker| address(*worker)).collect())),
        ("processing_on", task.processing_on.and_then(address).unwrap_or_default()),
        ("group", Value::Str(task.group.clone())),
        ("group_key", Value::Str(task.group.clone())),
        ("run_id", task.run_id.into()),
        ("prefix", Value::Str(task.prefix.clone())),
        ("actor", task.actor.into()),
        ("priority", task.priority.map_or(Value::Nil, priority)),
        ("dependencies", list(needs)),
        ("dependents", list(needed_by)),
        ("who_wants", Value::Array(state.sched.who_wants(task.key).into_iter().map(Value::Str).collect())),
        ("exception_blame", task.blame.map(Key::to_string).into()),
        ("exception", exception.clone()),
        ("exception_text", exception),
        ("traceback", traceback.clone()),
        ("traceback_text", traceback),
        ("erred_on", Value::Nil),
        ("metadata", task.metadata.clone()),
    ]);
    shown.extend(fields.fields().unwrap_or_default().iter().cloned());
    Value::Map(shown)
}

/// What a task waits for and where it may run. Lists that are empty are `None`, where they are with Dask.
fn task_detail(state: &State, key: &Key) -> Vec<(Value, Value)> {
    let Some(detail) = state.sched.task_detail(key, usize::MAX) else { return Vec::new() };
    let names = |names: &[Text]| if names.is_empty() { Value::Nil } else { args::text_list(names) };
    let keys =
        |keys: &mut dyn Iterator<Item = &KeyState>| Value::Array(keys.map(|(key, _)| key.to_string().into()).collect());
    let ended = |one: &&KeyState| !matches!(one.1, "memory" | "erred" | "released" | "forgotten");
    let resources = detail.resources.iter().map(|(name, amount)| (Value::Str(name.clone()), (*amount).into()));
    let shown = Value::map([
        ("annotations", detail.annotations.cloned().unwrap_or_else(|| Value::Map(Vec::new()))),
        ("has_lost_dependencies", detail.lost_dependencies.into()),
        ("host_restrictions", names(detail.host_restrictions)),
        ("loose_restrictions", detail.loose.into()),
        ("resource_restrictions", Value::Map(resources.collect())),
        ("retries", i64::from(detail.retries).into()),
        ("suspicious", i64::from(detail.suspicious).into()),
        ("waiters", keys(&mut detail.dependents.0.iter().filter(ended))),
        ("waiting_on", keys(&mut detail.waiting_on.0.iter())),
        ("worker_restrictions", names(detail.worker_restrictions)),
    ]);
    shown.fields().unwrap_or_default().to_vec()
}

/// Clients, with the keys that they hold futures of.
fn clients_state(state: &State) -> Value {
    let mut wanted: BTreeMap<Text, Vec<Value>> = BTreeMap::new();
    for task in state.sched.tasks() {
        for name in state.sched.who_wants(task.key) {
            wanted.entry(name).or_default().push(task.key.to_string().into());
        }
    }
    let shown = |(_, name): (_, Text)| {
        let last_seen = state.client_link(&name).map(|(_, link)| link.last_seen);
        let fields = Value::map([
            ("client_key", Value::Str(name.clone())),
            ("last_seen", last_seen.into()),
            ("wants_what", Value::Array(wanted.remove(&name).unwrap_or_default())),
        ]);
        (Value::Str(name), fields)
    };
    Value::Map(state.sched.clients().into_iter().map(shown).collect())
}

/// The tuple that stock's scheduler sorts tasks by.
fn priority(priority: Priority) -> Value {
    Value::Array([priority.user, priority.generation, priority.order].map(Value::Float).to_vec())
}

fn workers_state(state: &State) -> Value {
    let entry = |address: Text| {
        let id = state.worker_at(&address)?;
        let mut fields = match identity::worker_identity(state, id)? {
            Value::Map(fields) => fields,
            _ => Vec::new(),
        };
        fields.retain(|(name, _)| !matches!(name.as_str(), Some("type" | "id")));
        let keys = |keys: Vec<Key>| Value::Array(keys.iter().map(|key| key.to_string().into()).collect());
        let (view, facts) = (state.sched.worker(id)?, &state.peers.workers.get(&id)?.facts);
        let executing = facts.executing.iter().map(|(key, secs)| (key.to_string().into(), (*secs).into())).collect();
        let told = Value::map([
            ("address", Value::Str(address.clone())),
            ("server_id", Value::Str(view.server_id.clone())),
            ("nbytes", view.nbytes.into()),
            ("occupancy", view.occupancy.into()),
            ("time_delay", facts.time_delay.into()),
            ("extra", facts.extra.clone()),
            ("bandwidth", facts.metrics.get("bandwidth").and_then(|all| all.get("total")).cloned().unwrap_or_default()),
            ("memory", facts.metrics.get("memory").cloned().unwrap_or_default()),
            ("long_running", view.long_running.into()),
            ("executing", Value::Map(executing)),
            ("processing", keys(state.sched.processing(id))),
            ("has_what", keys(state.sched.has_what(id))),
        ]);
        fields.extend(told.fields().unwrap_or_default().iter().cloned());
        Some((Value::Str(address), Value::Map(fields)))
    };
    Value::Map(state.worker_addresses().into_iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a worker counts under tuples can be written as YAML that any reader takes.
    #[test]
    fn lists_as_names_become_text() {
        let counter = Value::Array(vec!["execute".into(), Value::Nil, "inc".into(), Value::Int(1)]);
        let metrics = Value::Map(vec![(counter, Value::Int(1))]);
        let dumped = named_by_text(Value::Array(vec![Value::map([("metrics", metrics)])]));
        let expected = Value::map([("['execute', None, 'inc', 1]", Value::Int(1))]);
        assert_eq!(dumped, Value::Array(vec![Value::map([("metrics", expected)])]));
    }
}
