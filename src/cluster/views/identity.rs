//! Who the scheduler and its workers are, as `identity` tells it.
//!
//! Source: `distributed/scheduler.py`, `identity`, `WorkerState.identity`.

use crate::base::{Value, WorkerId};
use crate::cluster::state::State;

/// `identity()`: at most `n_workers` workers in detail; all when negative or not given.
pub fn identity(state: &State, n_workers: Option<i64>) -> Value {
    let views = state.sched.workers();
    let shown = n_workers.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let workers = views
        .iter()
        .take(shown)
        .filter_map(|view| Some((Value::Str(view.address.clone()), worker_identity(state, view.id)?)));
    let services = state.setup.identity.dashboard_port.map(|port| ("dashboard".into(), i64::from(port).into()));
    Value::map([
        ("type", "Scheduler".into()),
        ("id", Value::Str(state.setup.identity.id.clone())),
        ("address", Value::Str(state.setup.identity.address.clone())),
        ("services", Value::Map(services.into_iter().collect())),
        ("started", state.clock.started_wall().into()),
        ("n_workers", views.len().into()),
        ("total_threads", views.iter().map(|view| u64::from(view.nthreads)).sum::<u64>().into()),
        ("total_memory", views.iter().map(|view| view.memory_limit).sum::<u64>().into()),
        ("workers", Value::Map(workers.collect())),
    ])
}

/// The map that `identity` holds for a worker.
pub fn worker_identity(state: &State, worker: WorkerId) -> Option<Value> {
    let view = state.sched.worker(worker)?;
    let facts = state.peers.workers.get(&worker).map(|link| link.facts.clone()).unwrap_or_default();
    let resources = view.resources.iter().map(|(name, amount)| (Value::Str(name.clone()), (*amount).into()));
    let mut fields = vec![
        ("type".into(), "Worker".into()),
        ("id".into(), view.name.clone()),
        ("host".into(), Value::Str(view.host.clone())),
        ("resources".into(), Value::Map(resources.collect())),
        ("local_directory".into(), facts.local_directory),
        ("name".into(), view.name.clone()),
        ("nthreads".into(), i64::from(view.nthreads).into()),
        ("memory_limit".into(), view.memory_limit.into()),
        ("last_seen".into(), facts.last_seen.into()),
        ("services".into(), facts.services),
        ("metrics".into(), (*facts.metrics).clone()),
        ("status".into(), view.status.name().into()),
        ("nanny".into(), view.nanny.cloned().into()),
    ];
    if let Value::Map(extra) = facts.extra {
        fields.extend(extra);
    }
    Some(Value::Map(fields))
}

/// The identity that watchers get: without what changes all the time.
pub fn without_metrics(identity: Value) -> Value {
    match identity {
        Value::Map(mut fields) => {
            fields.retain(|(name, _)| !matches!(name.as_str(), Some("metrics" | "last_seen")));
            Value::Map(fields)
        }
        other => other,
    }
}

/// What to say about our versions when there is no interpreter to ask: what a client or worker has.
pub fn any_versions(state: &State) -> Value {
    let of_client = state.peers.clients.values().map(|link| &link.versions);
    let of_worker = state.peers.workers.values().map(|link| &link.facts.versions);
    let empty = || Value::map([("host", Value::Map(Vec::new())), ("packages", Value::Map(Vec::new()))]);
    let mut known = state.python.versions.iter().chain(of_client).chain(of_worker);
    known.find(|versions| versions.get("packages").is_some()).cloned().unwrap_or_else(empty)
}

/// Since when nothing happens. Unit: seconds since the epoch.
pub fn idle_since(state: &State) -> Option<f64> {
    if state.graphs.open_count() > 0 {
        return None;
    }
    state.sched.idle_since_us().map(|us| state.clock.started_wall() + us as f64 / 1e6)
}
