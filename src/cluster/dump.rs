//! `get_cluster_state`: everything about the scheduler and its workers as plain data, for people to read.
//!
//! Source: `distributed/scheduler.py`, `get_cluster_state`, `_to_dict`.

use super::broadcast::{OnError, broadcast};
use super::driver::{Call, Driver};
use super::rpc::Done;
use super::rpc::info;
use crate::base::{Key, Text, Value};
use crate::sched::TaskView;

/// The state of the scheduler now, and of each worker when it answers.
pub(super) fn start(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let exclude = body.get("exclude").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let left_out: Vec<String> =
        exclude.items().unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    let scheduler = scheduler_state(driver, &left_out);
    let versions = driver.any_versions();
    let targets = driver.every_worker();
    let desk = driver.desk.clone();
    driver.job(call, async move {
        let dump = Value::map([("op", "dump_state".into()), ("exclude", exclude)]);
        let asked = Value::map([("op", "versions".into())]);
        let workers = broadcast(desk.clone(), targets.clone(), dump, OnError::Return).await?;
        let worker_versions = broadcast(desk, targets, asked, OnError::Ignore).await?;
        let versions = Value::map([("scheduler", versions), ("workers", worker_versions)]);
        Ok(Value::map([("scheduler", scheduler), ("workers", workers), ("versions", versions)]))
    })
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
    Value::Map(state)
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
