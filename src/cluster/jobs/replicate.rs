//! Copies keys between workers until there are as many copies as wished, and deletes surplus ones.
//!
//! Source: `distributed/scheduler.py`, `replicate`, `gather_on_worker`, `delete_worker_data`.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tracing::warn;

use crate::base::{Failure, Key, PyError, Rng, SeededMap, Text, Value};
use crate::clock::random_u64;
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::jobs::gather::DATA_DEADLINE;
use crate::cluster::state::call::{Call, Handled, Outcome};
use crate::cluster::state::{Handle, State};
use crate::sched::{Event, WorkerStatus};

/// Rounds of copying without getting anywhere before giving up.
const IDLE_ROUNDS_MAX: u32 = 3;

/// What `replicate` asks for.
pub struct Replicate {
    pub keys: Vec<Key>,
    /// Copies per key; none: one on each worker.
    pub copies: Option<usize>,
    /// Addresses; none: all running workers.
    pub workers: Option<Vec<Text>>,
    /// Copies that each holder may serve in one round.
    pub branching: usize,
    /// Delete surplus copies.
    pub delete: bool,
}

/// `replicate`.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let keys = args::keys(body, "keys")?;
    if body.field("n").and_then(Value::as_i64).is_some_and(|n| n < 0) {
        return Err(raise("ValueError", "Sample larger than population or is negative"));
    }
    let workers = match body.field("workers") {
        None => None,
        given => {
            // What may be an address must be one of a worker; a name that nobody has means no worker.
            let ids = state.workers_named(given, |one| one.as_str().is_some_and(|text| text.contains(':')))?;
            Some(ids.into_iter().filter_map(|id| state.address_of(id)).collect())
        }
    };
    let wish = Replicate {
        keys,
        copies: args::count(body, "n"),
        workers,
        branching: args::count(body, "branching_factor").unwrap_or(2).max(1),
        delete: args::flag(body, "delete", true),
    };
    let handle = state.handle.clone();
    Ok(state.job(call, run(handle, wish)))
}

/// One look at the cluster: who may hold copies, and who does.
struct Situation {
    workers: BTreeSet<Text>,
    holders: Vec<(Key, Option<Vec<Text>>)>,
}

async fn look(handle: &Handle, keys: &[Key], workers: Option<&[Text]>) -> Situation {
    let (keys, wanted) = (keys.to_vec(), workers.map(<[Text]>::to_vec));
    let seen = handle.ask(move |state| {
        let views = state.sched.workers();
        let workers = views
            .iter()
            .filter(|view| view.status == WorkerStatus::Running)
            .filter(|view| wanted.as_ref().is_none_or(|wanted| wanted.contains(view.address)))
            .map(|view| view.address.clone())
            .collect();
        let holders = keys
            .into_iter()
            .map(|key| {
                let known = state.sched.task(&key).is_some();
                (key.clone(), known.then(|| state.holders(&key)))
            })
            .collect();
        Situation { workers, holders }
    });
    seen.await.unwrap_or(Situation { workers: BTreeSet::new(), holders: Vec::new() })
}

/// Runs to the end: nil, or the keys that have no copy at all.
pub async fn run(handle: Handle, wish: Replicate) -> Outcome {
    let mut rng = Rng::new(random_u64());
    let first = look(&handle, &wish.keys, wish.workers.as_deref()).await;
    let copies = wish.copies.unwrap_or(first.workers.len()).min(first.workers.len());
    if copies == 0 {
        return Err(raise("ValueError", "Can not use replicate to delete data"));
    }
    if let Some((key, _)) = first.holders.iter().find(|(_, holders)| holders.is_none()) {
        return Err(Failure::Raised(PyError::MissingKey(key.to_value())));
    }
    let lost: Vec<Value> = first
        .holders
        .iter()
        .filter(|(_, holders)| holders.as_ref().is_none_or(Vec::is_empty))
        .map(|(key, _)| key.to_value())
        .collect();
    if !lost.is_empty() {
        return Ok(partial_fail(lost));
    }
    if wish.delete {
        delete_surplus(&handle, &first, copies, &mut rng).await;
    }
    let mut idle_rounds = 0;
    let mut before = usize::MAX;
    loop {
        let now = look(&handle, &wish.keys, wish.workers.as_deref()).await;
        let (rounds, lacking) = plan(&now, copies, wish.branching, &mut rng);
        if rounds.is_empty() {
            break;
        }
        idle_rounds = if lacking < before { 0 } else { idle_rounds + 1 };
        before = lacking;
        if idle_rounds >= IDLE_ROUNDS_MAX {
            warn!(lacking, "replication does not get on, giving up");
            break;
        }
        join_all(rounds.into_iter().map(|(worker, keys)| copy_to(&handle, worker, keys))).await;
    }
    let (count, branching) = (wish.keys.len(), wish.branching);
    handle
        .tell(move |state| {
            let message = Value::map([
                ("action", "replicate".into()),
                ("workers", Value::Array(first.workers.into_iter().map(Value::Str).collect())),
                ("key-count", count.into()),
                ("branching-factor", branching.into()),
            ]);
            state.log_event(&["all".into()], &message);
        })
        .await;
    Ok(Value::Nil)
}

/// Who fetches which keys, and from whom.
type Fetches = SeededMap<Text, Vec<(Key, Vec<Text>)>>;

/// Which worker fetches which keys from whom in the next round, and how many copies are lacking in all.
fn plan(now: &Situation, copies: usize, branching: usize, rng: &mut Rng) -> (Fetches, usize) {
    let mut rounds = Fetches::default();
    let mut lacking = 0;
    for (key, holders) in &now.holders {
        let Some(holders) = holders.as_ref().filter(|holders| !holders.is_empty()) else { continue };
        let held = holders.iter().filter(|holder| now.workers.contains(*holder)).count();
        let missing = copies.saturating_sub(held);
        lacking += missing;
        let mut free: Vec<&Text> = now.workers.iter().filter(|worker| !holders.contains(worker)).collect();
        for _ in 0..missing.min(branching.saturating_mul(holders.len())) {
            if free.is_empty() {
                break;
            }
            let worker = free.swap_remove(rng.below(free.len()));
            rounds.entry(worker.clone()).or_default().push((key.clone(), holders.clone()));
        }
    }
    (rounds, lacking)
}

async fn delete_surplus(handle: &Handle, now: &Situation, copies: usize, rng: &mut Rng) {
    let mut surplus: SeededMap<Text, Vec<Key>> = SeededMap::default();
    for (key, holders) in &now.holders {
        let mut candidates: Vec<&Text> =
            holders.iter().flatten().filter(|holder| now.workers.contains(*holder)).collect();
        while candidates.len() > copies {
            let worker = candidates.swap_remove(rng.below(candidates.len()));
            surplus.entry(worker.clone()).or_default().push(key.clone());
        }
    }
    join_all(surplus.into_iter().map(|(worker, keys)| delete_from(handle, worker, keys))).await;
}

/// Lets `worker` fetch copies of keys; returns those that failed.
pub async fn copy_to(handle: &Handle, worker: Text, keys: Vec<(Key, Vec<Text>)>) -> Vec<Key> {
    let who_has = keys
        .iter()
        .map(|(key, holders)| (key.to_value(), Value::Array(holders.iter().cloned().map(Value::Str).collect())));
    let body =
        Value::map([("op", "gather".into()), ("who_has", Value::Map(who_has.collect())), ("reply", true.into())]);
    let all: Vec<Key> = keys.into_iter().map(|(key, _)| key).collect();
    let answer = match handle.call(&worker, &body, DATA_DEADLINE).await {
        Ok(answer) => answer,
        Err(error) => {
            warn!(worker = %worker, %error, "a worker could not fetch copies");
            return all;
        }
    };
    let failed: Vec<Key> = match answer.get("status").and_then(Value::as_str) {
        Some("OK") => Vec::new(),
        Some("partial-fail") => answer.get("keys").and_then(Value::as_keys).unwrap_or_default(),
        _ => all.clone(),
    };
    let copied: Vec<Key> = all.into_iter().filter(|key| !failed.contains(key)).collect();
    handle
        .ask(move |state| {
            if let Some(worker) = state.worker_at(&worker) {
                state.step(Event::AddReplicas { worker, keys: copied });
            }
        })
        .await;
    failed
}

/// Deletes copies on a worker.
pub async fn delete_from(handle: &Handle, worker: Text, keys: Vec<Key>) {
    let body = Value::map([
        ("op", "free_keys".into()),
        ("keys", Value::Array(keys.iter().map(Key::to_value).collect())),
        ("stimulus_id", "delete-data".into()),
        ("reply", true.into()),
    ]);
    if let Err(error) = handle.call(&worker, &body, DATA_DEADLINE).await {
        warn!(worker = %worker, %error, "a worker did not delete copies");
        return;
    }
    handle
        .ask(move |state| {
            if let Some(id) = state.worker_at(&worker) {
                let named = Value::Array(keys.iter().map(Key::to_value).collect());
                state.step(Event::DropReplicas { worker: id, keys });
                let message = Value::map([("action", "remove-worker-data".into()), ("keys", named)]);
                state.log_event(&[worker], &message);
            }
        })
        .await;
}

/// The answer that names keys which could not be copied.
pub fn partial_fail(keys: Vec<Value>) -> Value {
    Value::map([("status", "partial-fail".into()), ("keys", Value::Array(keys))])
}
