//! Requests that only look: who is there, what is running, logs, events, metadata, stories.

use crate::base::{Failure, Key, PyError, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::codec::args::topic_names;
use crate::cluster::jobs::broadcast::{BroadcastTarget, OnError, broadcast, every_nanny, every_worker};
use crate::cluster::jobs::{dump, memory_sampler, profile, report};
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::views::{identity, story};
use crate::sched::{STATE_NAMES, WorkerStatus};

/// The operations of this family.
pub const OPS: Operations = &[
    ("identity", |state, _, body| now(Ok(identity::identity(state, body.get("n_workers").and_then(Value::as_i64))))),
    ("ncores", |state, _, body| now(ncores(state, body, false))),
    ("ncores_running", |state, _, body| now(ncores(state, body, true))),
    ("processing", |state, _, body| now(processing(state, body))),
    ("get_task_status", |state, _, body| now(task_status(state, body))),
    ("get_task_prefix_states", |state, _, _| now(Ok(prefix_states(state)))),
    ("versions", versions),
    ("logs", |state, _, body| now(logs(state, body))),
    ("get_logs", |state, _, body| now(logs(state, body))),
    ("worker_logs", worker_logs),
    ("events", |state, _, body| now(events(state, body))),
    ("log_event", |state, _, body| now(log_event(state, body))),
    ("call_stack", profile::call_stack),
    ("profile", profile::start),
    ("performance_report", report::report),
    ("get_story", |state, _, body| now(story(state, body))),
    ("get_cluster_state", dump::start),
    ("memory_sampler_start", |state, _, body| now(memory_sampler::start(state, body))),
    ("memory_sampler_stop", |state, _, body| now(memory_sampler::stop(state, body))),
    ("echo", |_, _, body| now(Ok(body.get("data").cloned().unwrap_or_default()))),
    ("ping", |_, _, _| now(Ok(Value::Bin(bytes::Bytes::from_static(b"pong"))))),
];

/// The workers that a request names, as it spells them; all when it names none. Unknown ones stay, without an id.
///
/// Errors: what can be no worker.
pub fn workers_asked(state: &State, body: &Value) -> Result<Vec<(Text, Option<WorkerId>)>, Failure> {
    match body.field("workers") {
        None => Ok(state.sched.workers().into_iter().map(|view| (view.address.clone(), Some(view.id))).collect()),
        Some(many) => args::iterated(many)?.iter().map(|alias| named_worker(state, alias)).collect(),
    }
}

fn named_worker(state: &State, alias: &Value) -> Result<(Text, Option<WorkerId>), Failure> {
    let id = state.sched.worker_by_alias(alias).or_else(|| alias.as_str().and_then(|address| state.worker_at(address)));
    match id.and_then(|id| state.address_of(id)) {
        Some(address) => Ok((address, id)),
        None => Ok((args::address(alias)?, None)),
    }
}

fn ncores(state: &State, body: &Value, running: bool) -> Outcome {
    let entry = |(address, id): (Text, Option<WorkerId>)| {
        let view = state.sched.worker(id?)?;
        let wanted = !running || view.status == WorkerStatus::Running;
        wanted.then(|| (Value::Str(address), i64::from(view.nthreads).into()))
    };
    Ok(Value::Map(workers_asked(state, body)?.into_iter().filter_map(entry).collect()))
}

fn processing(state: &State, body: &Value) -> Outcome {
    let mut all = Vec::new();
    for (address, id) in workers_asked(state, body)? {
        let id = id.ok_or_else(|| Failure::Raised(PyError::MissingKey(Value::Str(address.clone()))))?;
        let keys = state.sched.processing(id).iter().map(Key::to_value).collect();
        all.push((Value::Str(address), Value::Array(keys)));
    }
    Ok(Value::Map(all))
}

fn task_status(state: &State, body: &Value) -> Outcome {
    let state = |key: &Key| Value::from(state.sched.task(key).map(|task| Value::from(task.state)));
    let keys = args::keys(body, "keys")?;
    Ok(Value::Map(keys.iter().map(|key| (key.to_value(), state(key))).collect()))
}

fn prefix_states(state: &State) -> Value {
    const SHOWN: [&str; 5] = ["memory", "erred", "released", "processing", "waiting"];
    let views = state.sched.prefixes();
    let entry = |view: &crate::sched::PrefixView<'_>| {
        let count = |name: &str| {
            STATE_NAMES.iter().zip(view.states).find(|(state, _)| **state == name).map_or(0, |(_, count)| count)
        };
        let counts: Vec<(Value, Value)> = SHOWN.iter().map(|name| ((*name).into(), count(name).into())).collect();
        SHOWN.iter().any(|name| count(name) > 0).then(|| (Value::Str(view.name.clone()), Value::Map(counts)))
    };
    Value::Map(views.iter().filter_map(entry).collect())
}

// ---- versions and logs ----------------------------------------------------------------------------------------

/// The versions of pyhost's interpreter: what graphs and plugins run with.
fn versions(state: &mut State, call: Call, body: &Value) -> Handled {
    let packages = args::texts(body.field("packages"));
    if packages.is_empty()
        && let Some(known) = &state.python.versions
    {
        return Ok(Done::Now(known.clone()));
    }
    let fallback = identity::any_versions(state);
    let Some(pyhost) = state.python.pyhost.clone() else { return Ok(Done::Now(fallback)) };
    Ok(state.job(call, async move {
        let asked = Value::map([("packages", Value::Array(packages.into_iter().map(Value::Str).collect()))]);
        Ok(pyhost.call("versions", asked).await.unwrap_or(fallback))
    }))
}

fn logs(state: &State, body: &Value) -> Outcome {
    // No lines at all are asked for by nobody: as with Dask, 0 is no bound.
    let count = args::count(body, "n").filter(|count| *count > 0).unwrap_or(usize::MAX);
    let start_secs = args::number(body, "start", 0.0)?;
    Ok(state.records.log.newest(count, start_secs, args::flag(body, "timestamps", false)))
}

fn events(state: &State, body: &Value) -> Outcome {
    match body.field("topic") {
        Some(Value::Str(topic)) => Ok(state.records.topics.events(topic)),
        // Topics are text: nothing was logged under another name.
        Some(_) => args::key(body, "topic").map(|_| Value::Array(Vec::new())),
        None => Ok(state.records.topics.all_events()),
    }
}

fn worker_logs(state: &mut State, call: Call, body: &Value) -> Handled {
    let message = Value::map([("op", "get_logs".into()), ("n", body.get("n").cloned().unwrap_or_default())]);
    let targets = if args::flag(body, "nanny", false) { every_nanny(state) } else { every_worker(state) };
    let targets: Vec<BroadcastTarget> = match body.field("workers") {
        None => targets,
        Some(wanted) => {
            let known = |name: &Text| targets.iter().find(|target| target.name == *name).cloned();
            // One that is not there is asked too: then the answer is that it cannot be reached.
            let asked =
                |name: Text| known(&name).unwrap_or_else(|| BroadcastTarget { name: name.clone(), address: name });
            args::iterated(wanted)?.iter().map(|one| args::address(one).map(asked)).collect::<Result<_, Failure>>()?
        }
    };
    let handle = state.handle.clone();
    Ok(state.job(call, broadcast(handle, targets, message, OnError::Raise)))
}

fn log_event(state: &mut State, body: &Value) -> Outcome {
    let nil = Value::Nil;
    let topic = body.get("topic").unwrap_or(&nil);
    args::iterated(topic)?;
    state.log_event(&topic_names(topic), body.get("msg").unwrap_or(&nil));
    Ok(Value::Nil)
}

// ---- stories --------------------------------------------------------------------------------------------------

/// Transitions of these keys, or that these stimuli set off.
fn story(state: &State, body: &Value) -> Outcome {
    let wanted = args::keys(body, "keys_or_stimuli")?;
    Ok(story::story_where(state, |key, stimulus| {
        wanted.iter().any(|one| one == key || one.as_text() == Some(stimulus))
    }))
}
