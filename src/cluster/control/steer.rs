//! What a supervisor asks of a scheduler, and has done by it: its state in short, fewer workers, a word to clients.

use tracing::info;

use crate::base::{Value, WorkerId};
use crate::cluster::codec::args::shown;
use crate::cluster::ops::{retire, workers};
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::records::worker_exit::WorkerExit;
use crate::cluster::state::State;
use crate::cluster::views::identity;
use crate::control::{LastWords, SchedulerState, SchedulerWorker};
use crate::sched::{CloseWish, Event, WorkerStatus, WorkerView};

/// Publishes a text on the topic `warn`: clients show it to their users.
pub fn warn(state: &mut State, text: &str) {
    info!("telling clients: {text}");
    state.log_event(&["warn".into()], &Value::Str(text.into()));
}

/// What a worker was doing when it went. Forgotten when told.
pub fn last_words(state: &mut State, name: &str) -> LastWords {
    match state.records.worker_exits.take(name) {
        Some(WorkerExit { running, given, last, peak_bytes }) => {
            LastWords { gone: true, present: false, running, given, last, peak_bytes }
        }
        None => {
            let present = state.sched.workers().iter().any(|view| shown(view.name) == name);
            LastWords { present, ..LastWords::default() }
        }
    }
}

/// What decides about scale and lifetime.
pub fn in_short(state: &State) -> SchedulerState {
    let counted = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let views = state.sched.workers();
    let worker = |view: &WorkerView<'_>| SchedulerWorker {
        name: shown(view.name),
        address: view.address.to_string(),
        retiring: is_leaving(state, view.id, view.status),
    };
    let identity = &state.setup.identity;
    SchedulerState {
        address: identity.address.to_string(),
        listening: identity.listening.iter().map(|address| address.to_string()).collect(),
        clients: counted(state.peers.clients.len()),
        busy: identity::idle_since(state).is_none(),
        transitions: state.sched.counts().transitions,
        adaptive_target: counted(state.sched.adaptive_target(DEFAULT_TARGET_SECS)),
        workers: views.iter().map(worker).collect(),
    }
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

pub fn retire_these(state: &mut State, names: &[String]) -> Vec<String> {
    let (ids, names): (Vec<WorkerId>, Vec<String>) = known(state, names).into_iter().unzip();
    if !ids.is_empty() {
        retire::and_close(state, ids);
    }
    names
}

/// Their machine is gone without a word, so their connections may look open for minutes. It is not the fault of what
/// they were running.
pub fn lose(state: &mut State, names: &[String]) -> Vec<String> {
    let (lost, names) = named(state, names);
    for id in lost {
        workers::remove_worker(state, id, true, true, "its machine is gone");
    }
    names
}

pub fn silent_or_heard(state: &mut State, names: &[String], silent: bool) -> Vec<String> {
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
pub fn retire_down_to(state: &mut State, keep: usize) -> Vec<String> {
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
