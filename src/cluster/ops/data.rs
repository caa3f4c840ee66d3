//! Requests about data: gather, scatter, replicate, rebalance, who has what.

use tracing::info;

use crate::base::{Failure, Key, PyError, SeededMap, Text, Value, WorkerId, key_prefix};
use crate::cluster::codec::args;
use crate::cluster::jobs::{gather, prefetch, rebalance, replicate, scatter};
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::ops::info::workers_asked;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::state::calls::WaitingCall;
use crate::sched::Event;

/// The operations of this family.
pub const OPS: Operations = &[
    ("gather", start_gather),
    ("scatter", scatter::start),
    ("update_data", |state, _, body| now(update_data(state, body))),
    ("add_keys", |state, _, body| now(add_keys(state, body))),
    ("replicate", replicate::start),
    ("rebalance", rebalance::start),
    ("retry", retry),
    ("who_has", |state, _, body| now(who_has(state, body))),
    ("has_what", |state, _, body| now(has_what(state, body))),
    ("get_runspec", |state, _, body| now(run_spec(state, body))),
    ("get_error_cause", |state, _, body| now(error_cause(state, body))),
    ("nbytes", |state, _, body| now(nbytes(state, body))),
];

fn start_gather(state: &mut State, call: Call, body: &Value) -> Handled {
    let keys = args::keys(body, "keys")?;
    let serializers = body.field("serializers").cloned();
    // What was fetched ahead is as workers write it by themselves, which this client may not read.
    let ahead = prefetch::fetched_ahead(state, &keys).filter(|_| serializers.is_none());
    Ok(state.job_for_asker(call, gather::gather(state.handle.clone(), keys, ahead, serializers)))
}

fn update_data(state: &mut State, body: &Value) -> Outcome {
    let who_has = args::located(body.get("who_has").ok_or_else(|| args::missing("who_has"))?)?;
    let sizes = body.get("nbytes").and_then(Value::fields).unwrap_or_default();
    let nbytes: Vec<(Key, i64)> =
        sizes.iter().filter_map(|(key, size)| Some((key.as_key()?, size.as_i64()?))).collect();
    let client = args::optional_text(body, "client").map(|name| state.client_named(&name));
    state.update_data(client, who_has, &nbytes);
    Ok(Value::Nil)
}

fn add_keys(state: &mut State, body: &Value) -> Outcome {
    let address = args::text(body, "worker")?;
    let keys = args::optional_keys(body, "keys")?.unwrap_or_default();
    Ok(match state.worker_at(&address) {
        Some(worker) => {
            state.step(Event::AddKeys { worker, keys });
            "OK".into()
        }
        None => "not found".into(),
    })
}

fn retry(state: &mut State, call: Call, body: &Value) -> Handled {
    let keys = args::keys(body, "keys")?;
    let name = args::optional_text(body, "client").unwrap_or_default();
    let client = state.client_named(&name);
    info!(client = %name, keys = keys.len(), "retrying");
    let message = Value::map([("action", "retry".into()), ("count", keys.len().into())]);
    state.log_event(std::slice::from_ref(&name), &message);
    let id = state.open_call(WaitingCall::Asker(call));
    state.step(Event::Retry { call: id, client, keys });
    Ok(Done::Later)
}

fn who_has(state: &State, body: &Value) -> Outcome {
    let keys = match args::optional_keys(body, "keys")? {
        Some(keys) => keys,
        None => state.sched.tasks().into_iter().map(|task| task.key.clone()).collect(),
    };
    let entry = |key: Key| {
        let holders = state.holders(&key).into_iter().map(Value::Str).collect();
        (key.to_value(), Value::Array(holders))
    };
    Ok(Value::Map(keys.into_iter().map(entry).collect()))
}

fn has_what(state: &State, body: &Value) -> Outcome {
    let asked = workers_asked(state, body)?;
    let keys_of = |worker: Option<WorkerId>| worker.map(|worker| state.sched.has_what(worker)).unwrap_or_default();
    let entry = |(address, worker): (Text, _)| {
        (Value::Str(address), Value::Array(keys_of(worker).iter().map(Key::to_value).collect()))
    };
    Ok(Value::Map(asked.into_iter().map(entry).collect()))
}

fn run_spec(state: &State, body: &Value) -> Outcome {
    let key = args::key(body, "key")?;
    let task = state.sched.task(&key).ok_or_else(|| Failure::Raised(PyError::MissingKey(key.to_value())))?;
    Ok(task.run_spec.map_or(Value::Nil, |spec| Value::Pickled(spec.clone())))
}

fn error_cause(state: &State, body: &Value) -> Outcome {
    for key in args::keys(body, "keys")? {
        if let Some(blame) = state.sched.task(&key).and_then(|task| task.blame.cloned()) {
            return Ok(blame.to_value());
        }
    }
    Ok(Value::Nil)
}

/// `nbytes`: sizes of keys, or of prefixes.
fn nbytes(state: &State, body: &Value) -> Outcome {
    let sizes: Vec<(Key, i64)> = match args::optional_keys(body, "keys")? {
        Some(keys) => keys
            .into_iter()
            .map(|key| match state.sched.task(&key) {
                Some(task) => Ok((key.clone(), task.nbytes)),
                None => Err(Failure::Raised(PyError::MissingKey(key.to_value()))),
            })
            .collect::<Result<_, Failure>>()?,
        None => {
            let tasks = state.sched.tasks();
            tasks.iter().filter(|task| task.nbytes >= 0).map(|task| (task.key.clone(), task.nbytes)).collect()
        }
    };
    if !args::flag(body, "summary", true) {
        return Ok(Value::Map(sizes.into_iter().map(|(key, size)| (key.to_value(), size.into())).collect()));
    }
    let mut by_prefix: SeededMap<String, i64> = SeededMap::default();
    for (key, size) in sizes {
        let entry = by_prefix.entry(key_prefix(&key)).or_default();
        *entry = entry.saturating_add(size);
    }
    Ok(Value::Map(by_prefix.into_iter().map(|(prefix, size)| (prefix.into(), size.into())).collect()))
}
