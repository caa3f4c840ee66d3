//! `get_cluster_state` and `dump_cluster_state_to_url`: everything about the scheduler and its workers as plain data, for people to read.
//!
//! Source: `distributed/scheduler.py`, `get_cluster_state`, `dump_cluster_state_to_url`, `_to_dict`.

use std::future::Future;

use crate::base::{Failure, Key, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::jobs::broadcast::{OnError, broadcast};
use crate::cluster::ops::Done;
use crate::cluster::ops::{info, python};
use crate::cluster::state::{Call, Driver, Outcome};
use crate::sched::TaskView;

/// Answers with the state.
pub fn start(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let state = state(driver, body);
    driver.job(call, state)
}

/// Has Python write the state to a file or to anything else that it has a file system for.
pub fn start_to_url(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let pyhost = python::python(driver)?;
    let url = Value::Str(args::text(body, "url")?);
    let format = body.field("format").cloned().unwrap_or_else(|| "msgpack".into());
    let fields = body.fields().unwrap_or_default();
    let ours = ["op", "url", "exclude", "format", "reply", "close"];
    let options = fields.iter().filter(|(name, _)| name.as_str().is_none_or(|name| !ours.contains(&name))).cloned();
    let options = Value::Map(options.collect());
    let state = state(driver, body);
    Ok(driver.job(call, async move {
        let state = state.await?;
        let request = Value::map([("url", url), ("format", format), ("storage_options", options), ("state", state)]);
        pyhost.call("write_state", request).await.map(|_| Value::Nil)
    }))
}

/// The state of the scheduler now, and of each worker when it answers.
fn state(driver: &Driver, body: &Value) -> impl Future<Output = Outcome> + Send + use<> {
    let exclude = body.get("exclude").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let left_out: Vec<String> =
        exclude.items().unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    let scheduler = scheduler_state(driver, &left_out);
    let versions = driver.any_versions();
    let targets = driver.every_worker();
    let desk = driver.desk.clone();
    async move {
        let dump = Value::map([("op", "dump_state".into()), ("exclude", exclude)]);
        let asked = Value::map([("op", "versions".into())]);
        let workers = broadcast(desk.clone(), targets.clone(), dump, OnError::Return).await?;
        let worker_versions = broadcast(desk, targets, asked, OnError::Ignore).await?;
        let versions = Value::map([("scheduler", versions), ("workers", worker_versions)]);
        Ok(Value::map([("scheduler", scheduler), ("workers", workers), ("versions", versions)]))
    }
}

fn scheduler_state(driver: &Driver, exclude: &[String]) -> Value {
    let mut state = match info::identity(driver, None) {
        Value::Map(fields) => fields,
        _ => Vec::new(),
    };
    let tasks = driver.sched.tasks();
    let tasks = tasks.iter().map(|task| (task.key.to_string().into(), task_state(driver, task))).collect();
    let clients: Vec<(Value, Value)> = driver
        .sched
        .clients()
        .into_iter()
        .map(|(_, name)| (Value::Str(name.clone()), Value::map([("client_key", Value::Str(name))])))
        .collect();
    let story = info::story_of_all(driver);
    state.retain(|(name, _)| name.as_str() != Some("workers"));
    state.push(("workers".into(), workers_state(driver)));
    state.push(("tasks".into(), Value::Map(tasks)));
    state.push(("clients".into(), Value::Map(clients)));
    state.push(("events".into(), driver.topics.all_events()));
    state.push(("transition_log".into(), story));
    state.push(("transition_counter".into(), driver.sched.counts().transitions.into()));
    state.retain(|(name, _)| name.as_str().is_none_or(|name| !exclude.iter().any(|out| out == name)));
    named_by_text(Value::Map(state))
}

/// Names that are lists (of a worker's counters, for one) become text: readers of YAML and JSON know no others.
///
/// Source: `distributed/utils.py`, `recursive_to_dict`.
fn named_by_text(value: Value) -> Value {
    let name = |name: Value| match &name {
        Value::Array(_) | Value::Map(_) => python_text(&name).into(),
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

/// As Python prints it; unlike keys, such names hold nothings too.
fn python_text(value: &Value) -> String {
    match value {
        Value::Nil => "None".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(python_text).collect::<Vec<_>>().join(", ")),
        // Inside a tuple text is quoted; the tuple's own marks are taken off again.
        other => other.as_key().map_or_else(
            || format!("{other:?}"),
            |key| Key::tuple(&[key]).to_string().trim_start_matches('(').trim_end_matches(",)").to_owned(),
        ),
    }
}

fn task_state(driver: &Driver, task: &TaskView<'_>) -> Value {
    let (needs, needed_by) = driver.sched.edges(task.key);
    let list = |keys: Vec<Key>| Value::Array(keys.iter().map(|key| key.to_string().into()).collect());
    let address = |worker| driver.address_of(worker).map(Value::Str);
    Value::map([
        ("key", task.key.to_string().into()),
        ("state", task.state.into()),
        ("nbytes", task.nbytes.into()),
        ("type", task.typename.cloned().into()),
        ("who_has", Value::Array(task.holders.iter().filter_map(|worker| address(*worker)).collect())),
        ("processing_on", task.processing_on.and_then(address).unwrap_or_default()),
        ("group", Value::Str(task.group.clone())),
        ("prefix", Value::Str(task.prefix.clone())),
        ("actor", task.actor.into()),
        ("dependencies", list(needs)),
        ("dependents", list(needed_by)),
        ("who_wants", Value::Array(driver.sched.who_wants(task.key).into_iter().map(Value::Str).collect())),
        ("exception_blame", task.blame.map(Key::to_string).into()),
        ("run_spec", task.run_spec.map(|spec| format!("<{} bytes>", spec.size_bytes())).into()),
    ])
}

fn workers_state(driver: &Driver) -> Value {
    let entry = |address: Text| {
        let id = driver.worker_at(&address)?;
        let mut fields = match driver.worker_identity(id)? {
            Value::Map(fields) => fields,
            _ => Vec::new(),
        };
        let processing = driver.sched.processing(id).iter().map(|key| key.to_string().into()).collect();
        fields.push(("processing".into(), Value::Array(processing)));
        let held = driver.sched.has_what(id).iter().map(|key| key.to_string().into()).collect();
        fields.push(("has_what".into(), Value::Array(held)));
        Some((Value::Str(address), Value::Map(fields)))
    };
    Value::Map(driver.worker_addresses().into_iter().filter_map(entry).collect())
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
