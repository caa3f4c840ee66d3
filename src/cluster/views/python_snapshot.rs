//! What user code can see of the scheduler: it runs in another process, so it is given a snapshot.

use crate::base::{Key, Value};
use crate::cluster::records::computations::Computation;
use crate::cluster::state::State;
use crate::cluster::views::{identity, story};
use crate::sched::coord::CoordView;
use crate::sched::{TaskView, WorkerView};

/// Most tasks that are shown to user code. A snapshot of more would take seconds to make and to read.
const TASKS_SHOWN_MAX: usize = 20_000;

/// Most locks, queues and the like.
const COORDINATION_SHOWN_MAX: usize = 1_000;

/// Most transitions, the last ones.
const TRANSITIONS_SHOWN_MAX: usize = 1_000;

/// What user code can see of the scheduler.
pub fn snapshot(state: &State) -> Value {
    let workers = state.sched.workers();
    let workers = workers.iter().map(|view| (Value::Str(view.address.clone()), worker_shown(state, view)));
    let tasks = state.sched.tasks();
    let tasks = tasks.iter().take(TASKS_SHOWN_MAX).map(|task| (task.key.to_value(), task_shown(state, task)));
    let clients = state.sched.clients().into_iter().map(|(_, name)| (Value::Str(name), Value::Map(Vec::new())));
    let services = state.setup.identity.dashboard_port.map(|port| ("dashboard".into(), i64::from(port).into()));
    Value::map([
        ("address", Value::Str(state.setup.identity.address.clone())),
        ("id", Value::Str(state.setup.identity.id.clone())),
        ("status", "running".into()),
        ("services", Value::Map(services.into_iter().collect())),
        ("time_started", state.clock.started_wall().into()),
        ("workers", Value::Map(workers.collect())),
        ("tasks", Value::Map(tasks.collect())),
        ("clients", Value::Map(clients.collect())),
        ("coordination", coordination(state)),
        ("computations", computations(state)),
        ("cumulative_worker_metrics", metrics(state)),
        ("monitor", Value::map([("count", Value::Int(0))])),
        ("transition_counter", state.sched.counts().transitions.into()),
        ("transition_log", story::latest(state, TRANSITIONS_SHOWN_MAX)),
    ])
}

/// `[kind, name, what it holds]` of what clients share.
fn coordination(state: &State) -> Value {
    let shown = |view: CoordView| {
        let fields = view.fields.into_iter().map(|(field, value)| (field.into(), value)).collect();
        Value::Array(vec![view.kind.into(), view.name.to_value(), Value::Map(fields)])
    };
    Value::Array(state.sched.coordination(COORDINATION_SHOWN_MAX).into_iter().map(shown).collect())
}

fn computations(state: &State) -> Value {
    let shown = |computation: Computation| {
        Value::map([
            ("id", computation.id.to_string().into()),
            ("start", computation.start_secs.into()),
            ("stop", computation.stop_secs.unwrap_or(-1.0).into()),
            ("groups", Value::Array(computation.groups.into_iter().map(Value::Str).collect())),
            ("states", Value::map([("memory", computation.done.into()), ("erred", computation.erred.into())])),
        ])
    };
    Value::Array(state.records.computations.list(state.sched.ended_totals()).into_iter().map(shown).collect())
}

/// Sums of fine performance metrics, by context, labels and unit.
fn metrics(state: &State) -> Value {
    let fine = state.records.worker_metrics.fine.iter();
    Value::Map(fine.map(|(name, sum)| (name.as_str().into(), (*sum).into())).collect())
}

fn worker_shown(state: &State, view: &WorkerView<'_>) -> Value {
    let keys = |keys: Vec<Key>| Value::Array(keys.iter().map(Key::to_value).collect());
    let mut shown = match identity::worker_identity(state, view.id) {
        Some(Value::Map(fields)) => fields,
        _ => Vec::new(),
    };
    shown.retain(|(name, _)| !matches!(name.as_str(), Some("type" | "id")));
    shown.extend([
        ("address".into(), Value::Str(view.address.clone())),
        ("server_id".into(), Value::Str(view.server_id.clone())),
        ("nbytes".into(), view.nbytes.into()),
        ("occupancy".into(), view.occupancy.into()),
        ("processing".into(), keys(state.sched.processing(view.id))),
        ("has_what".into(), keys(state.sched.has_what(view.id))),
    ]);
    Value::Map(shown)
}

fn task_shown(state: &State, task: &TaskView<'_>) -> Value {
    let (needs, needed_by) = state.sched.edges(task.key);
    let keys = |keys: Vec<Key>| Value::Array(keys.iter().map(Key::to_value).collect());
    let address = |worker| state.address_of(worker).map(Value::Str);
    Value::map([
        ("state", task.state.into()),
        ("nbytes", task.nbytes.into()),
        ("type", task.typename.cloned().into()),
        ("who_has", Value::Array(task.holders.iter().filter_map(|worker| address(*worker)).collect())),
        ("processing_on", task.processing_on.and_then(address).unwrap_or_default()),
        ("dependencies", keys(needs)),
        ("dependents", keys(needed_by)),
        ("group_key", task.group.to_string().into()),
        ("prefix_key", task.prefix.to_string().into()),
        ("actor", task.actor.into()),
    ])
}
