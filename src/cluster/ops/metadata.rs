//! Requests about the tree of metadata, the task stream, and what is collected of tasks.

use crate::base::{Failure, PyError, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::records::task_stream::RunQuery;
use crate::cluster::state::State;
use crate::cluster::state::call::Outcome;

/// The operations of this family.
pub const OPS: Operations = &[
    ("get_metadata", |state, _, body| now(get_metadata(state, body))),
    ("set_metadata", |state, _, body| now(set_metadata(state, body))),
    ("get_task_stream", |state, _, body| now(task_stream(state, body))),
    ("get_task_stream_index", |state, _, _| now(Ok(task_stream_index(state)))),
    ("start_task_metadata", |state, _, body| now(start_collecting(state, body))),
    ("stop_task_metadata", |state, _, body| now(stop_collecting(state, body))),
];

// ---- metadata -------------------------------------------------------------------------------------------------

fn get_metadata(state: &State, body: &Value) -> Outcome {
    let path = args::iterated(body.get("keys").unwrap_or(&Value::Nil))?;
    match (state.records.metadata.get(&path), body.get("default")) {
        (Ok(found), _) => Ok(found.clone()),
        (Err(missing), default) => match default {
            // An Enum on the wire: `no_default`, the caller wants an exception.
            None | Some(Value::Map(_)) if default.is_none_or(|given| given.get("__Enum__").is_some()) => {
                Err(Failure::Raised(PyError::MissingKey(missing.clone())))
            }
            given => Ok(given.cloned().unwrap_or_default()),
        },
    }
}

fn set_metadata(state: &mut State, body: &Value) -> Outcome {
    let path = args::iterated(body.get("keys").unwrap_or(&Value::Nil))?;
    let value = body.get("value").cloned().unwrap_or_default();
    match state.records.metadata.set(&path, value) {
        Ok(()) => Ok(Value::Nil),
        Err(_) if path.is_empty() => Err(raise("IndexError", "tuple index out of range")),
        Err(_) => Err(raise("ValueError", "keys must be a list of 1 to 64 keys")),
    }
}

// ---- task stream and task metadata ----------------------------------------------------------------------------

fn task_stream(state: &mut State, body: &Value) -> Outcome {
    state.records.task_stream.start();
    let now = state.clock.wall();
    // Text is a time span before now, a number is a time.
    let time = |name: &str| match body.field(name) {
        Some(Value::Str(_)) => args::timeout(body, name).map(|span| span.map(|span| now - span)),
        Some(number) => Ok(number.as_f64()),
        None => Ok(None),
    };
    Ok(state.records.task_stream.collect(RunQuery {
        start_secs: time("start")?,
        stop_secs: time("stop")?,
        count: args::count(body, "count"),
        start_index: args::count(body, "start_index"),
    }))
}

fn start_collecting(state: &mut State, body: &Value) -> Outcome {
    let name = args::text(body, "name")?;
    state.records.task_metadata.start(name);
    Ok(Value::Nil)
}

fn stop_collecting(state: &mut State, body: &Value) -> Outcome {
    let name = args::text(body, "name")?;
    let missing = || {
        let text = format!("Expected to find exactly one CollectTaskMetaDataPlugin with name {name} but found 0.");
        raise("ValueError", text)
    };
    state.records.task_metadata.stop(&name).ok_or_else(missing)
}

fn task_stream_index(state: &mut State) -> Value {
    state.records.task_stream.start();
    state.records.task_stream.index().into()
}
