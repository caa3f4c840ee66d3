//! What a supervisor asks of a scheduler, and has done by it: its state in short, fewer workers, a word to clients.

use serde_json::json;
use tracing::info;

use crate::base::{Value, WorkerId};
use crate::cluster::codec::args::shown;
use crate::cluster::control::vocabulary::Steer;
use crate::cluster::ops::{retire, workers};
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::records::worker_exit::WorkerExit;
use crate::cluster::state::State;
use crate::cluster::views::identity;
use crate::sched::{CloseWish, Event, WorkerStatus};

/// Does it, and answers with JSON.
pub fn answer(state: &mut State, what: &Steer) -> serde_json::Value {
    match what {
        Steer::State => in_short(state),
        Steer::Retire { keep } => json!(retire_down_to(state, *keep as usize)),
        Steer::RetireThese { names } => json!(retire_these(state, names)),
        Steer::Lose { names } => json!(lose(state, names)),
        Steer::LastWords { name } => last_words(state, name),
        Steer::Silent { names, silent } => json!(silent_or_heard(state, names, *silent)),
        Steer::Warn { text } => {
            info!("telling clients: {text}");
            state.log_event(&["warn".into()], &Value::Str(text.as_str().into()));
            serde_json::Value::Null
        }
    }
}

/// The fields are those of the link's `LastWords`. Forgotten when told.
fn last_words(state: &mut State, name: &str) -> serde_json::Value {
    match state.records.worker_exits.take(name) {
        Some(WorkerExit { running, given, last, peak_bytes }) => {
            json!({"gone": true, "running": running, "given": given, "last": last, "peak_bytes": peak_bytes})
        }
        None => json!({"present": state.sched.workers().iter().any(|view| shown(view.name) == name)}),
    }
}

/// The fields are those of the link's `SchedulerState`.
fn in_short(state: &State) -> serde_json::Value {
    let counts = state.sched.counts();
    let workers = state.sched.workers();
    let workers: Vec<serde_json::Value> = workers
        .iter()
        .map(|view| {
            let retiring = is_leaving(state, view.id, view.status);
            json!({ "name": shown(view.name), "address": &**view.address, "retiring": retiring })
        })
        .collect();
    json!({
        "address": &*state.setup.identity.address,
        "listening": state.setup.identity.listening.iter().map(|address| &**address).collect::<Vec<_>>(),
        "clients": state.peers.clients.len(),
        "busy": identity::idle_since(state).is_none(),
        "transitions": counts.transitions,
        "adaptive_target": state.sched.adaptive_target(DEFAULT_TARGET_SECS),
        "workers": workers,
    })
}

fn is_leaving(state: &State, worker: WorkerId, status: WorkerStatus) -> bool {
    state.jobs.retiring.contains_key(&worker) || status == WorkerStatus::ClosingGracefully
}

fn known(state: &State, names: &[String]) -> Vec<(WorkerId, String)> {
    let all = state.sched.workers();
    let all = all.iter().map(|view| (view.id, shown(view.name), view.status));
    let fits = |(id, name, status): (WorkerId, String, WorkerStatus)| {
        (names.contains(&name) && !is_leaving(state, id, status)).then_some((id, name))
    };
    all.filter_map(fits).collect()
}

fn retire_these(state: &mut State, names: &[String]) -> Vec<String> {
    let (ids, names): (Vec<WorkerId>, Vec<String>) = known(state, names).into_iter().unzip();
    if !ids.is_empty() {
        retire::and_close(state, ids);
    }
    names
}

/// Their machine is gone without a word, so their connections may look open for minutes. It is not the fault of what
/// they were running.
fn lose(state: &mut State, names: &[String]) -> Vec<String> {
    let (lost, names) = named(state, names);
    for id in lost {
        workers::remove_worker(state, id, true, true, "its machine is gone");
    }
    names
}

fn silent_or_heard(state: &mut State, names: &[String], silent: bool) -> Vec<String> {
    let (workers, names) = named(state, names);
    for worker in workers {
        state.step(Event::WorkerSilent { worker, silent });
    }
    names
}

fn named(state: &State, names: &[String]) -> (Vec<WorkerId>, Vec<String>) {
    let all = state.sched.workers();
    all.iter().map(|view| (view.id, shown(view.name))).filter(|(_, name)| names.contains(name)).unzip()
}

/// Starts to retire what is more than `keep` workers. Names of those that were chosen now.
fn retire_down_to(state: &mut State, keep: usize) -> Vec<String> {
    let (mut staying, mut leaving) = (0_usize, 0_usize);
    for view in state.sched.workers() {
        if is_leaving(state, view.id, view.status) { leaving += 1 } else { staying += 1 }
    }
    let surplus = staying.saturating_sub(keep);
    if surplus == 0 {
        return Vec::new();
    }
    // The rule knows nothing of those that leave already: it may name them again.
    let wish = CloseWish { n: Some(surplus + leaving), ..CloseWish::default() };
    let mut chosen = state.sched.workers_to_close(&wish);
    chosen.retain(|id| state.sched.worker(*id).is_some_and(|view| !is_leaving(state, *id, view.status)));
    chosen.truncate(surplus);
    let names = chosen.iter().filter_map(|id| state.sched.worker(*id)).map(|view| shown(view.name)).collect::<Vec<_>>();
    retire::and_close(state, chosen);
    names
}
