//! Carries out what the core asks for, one effect at a time, in the order in which it was asked for.

use tracing::{debug, info};

use crate::base::{CallId, ClientId, Value, WorkerId};
use crate::cluster::codec::messages::{Stimulus, put_to_client, put_to_worker};
use crate::cluster::jobs::prefetch;
use crate::cluster::ops::{coord, graphs, restart, shuffle, workers};
use crate::cluster::state::State;
use crate::cluster::state::call::plain;
use crate::cluster::state::calls::WaitingCall;
use crate::sched::{Answer, Effect, ToClient, ToWorker};

/// Carries out all pending effects, those that carrying out leads to included. This is the only place where effects
/// are carried out, so no message overtakes another.
pub fn settle(state: &mut State) {
    loop {
        while !state.pending.effects.is_empty() {
            let mut batch = std::mem::take(&mut state.pending.spare);
            std::mem::swap(&mut batch, &mut state.pending.effects);
            for (stimulus, effect) in batch.drain() {
                state.pending.stimulus = stimulus;
                carry(state, effect);
            }
            state.pending.spare = batch;
        }
        let Some(event) = state.pending.events.pop_front() else { return };
        state.step(event);
    }
}

/// Carries out one effect. What it leads to is appended behind the effects that are still to come.
fn carry(state: &mut State, effect: Effect) {
    match effect {
        Effect::ToWorker { worker, message } => say_to_worker(state, worker, &message),
        Effect::ToClient { client, message } => say_to_client(state, client, &message),
        Effect::ToAllClients { message } => {
            note_cancelled(state, &message);
            let everyone: Vec<ClientId> = state.peers.clients.keys().copied().collect();
            for client in everyone {
                say_to_client(state, client, &message);
            }
        }
        Effect::Answer { call, answer } => on_answer(state, call, answer),
        Effect::ReadGraph { ticket } => graphs::read_graph(state, ticket),
        Effect::GraphClosed { ticket } => graphs::on_graph_closed(state, ticket),
        Effect::WorkerAdded { worker } => workers::on_worker_added(state, worker),
        Effect::WorkerRemoved { worker, address, expected, close } => {
            info!(worker = %address, expected, "worker removed");
            state.note(format!("Remove worker addr: {address} (stimulus_id='{}')", state.pending.stimulus));
            workers::on_worker_removed(state, worker, &address, close);
        }
        Effect::WorkerSilent { worker } => restart::restart_silent(state, worker),
        Effect::Retired { worker, moved } => {
            for waiter in state.jobs.retiring.remove(&worker).unwrap_or_default() {
                // The job may have been dropped; then the worker is left unchanged.
                let _ = waiter.send(moved);
            }
        }
        Effect::Log { topics, message } => {
            let message = with_stimulus(message, state.pending.stimulus);
            state.log_event(&topics, &message);
        }
        Effect::Warn { text } => state.warn(text),
        Effect::IdleTimeout => {
            info!("closing after being idle for longer than the idle timeout");
            state.close_because("idle-timeout-exceeded");
        }
    }
}

/// What set an event off, for those events in which Dask tells it.
fn with_stimulus(message: Value, stimulus: Stimulus) -> Value {
    const TOLD: [&str; 2] = ["remove-worker", "worker-status-change"];
    let told = message.get("action").and_then(Value::as_str).is_some_and(|action| TOLD.contains(&action));
    match message {
        Value::Map(mut fields) if told => {
            fields.push(("stimulus_id".into(), stimulus.to_string().into()));
            Value::Map(fields)
        }
        message => message,
    }
}

/// Keys that are named in the log when a client cancels many.
const CANCELLED_SHOWN_MAX: usize = 100;

fn note_cancelled(state: &mut State, message: &ToClient) {
    let (ToClient::CancelledKeys { keys, .. }, Some(force)) = (message, state.pending.cancelling) else { return };
    let force = if force { "True" } else { "False" };
    for key in keys.iter().take(CANCELLED_SHOWN_MAX) {
        state.note(format!("Scheduler cancels key {key}.  Force={force}"));
    }
}

fn say_to_worker(state: &mut State, worker: WorkerId, message: &ToWorker) {
    let stimulus = state.pending.stimulus;
    if let Some(outbox) = state.peers.worker_outbox(worker) {
        outbox.push(|encoder| put_to_worker(encoder, message, stimulus));
    }
}

fn say_to_client(state: &mut State, client: ClientId, message: &ToClient) {
    if let ToClient::KeyInMemory { key, type_pickle: Some(_) } = message {
        prefetch::note_reported(state, client, key);
    }
    if let Some(outbox) = state.peers.client_outbox(client) {
        outbox.push(|encoder| put_to_client(encoder, message));
    }
}

fn on_answer(state: &mut State, call: CallId, answer: Answer) {
    match state.calls.close(call) {
        None => debug!(call, "an answer that nobody waits for any more"),
        Some(WaitingCall::Asker(asker)) => state.finish(asker, plain(answer)),
        Some(WaitingCall::Elements(asker)) => coord::on_elements(state, asker, answer),
        Some(WaitingCall::Shuffle(asker, barrier)) => shuffle::on_answer(state, asker, barrier, answer),
        Some(WaitingCall::Registration(joining)) => workers::on_registered(state, *joining, answer),
    }
}
