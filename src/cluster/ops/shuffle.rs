//! P2P shuffles: workers ask which run they take part in, and the barrier tells them that all inputs are in.
//!
//! Source: `distributed/shuffle/_scheduler_plugin.py`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::base::{Failure, PyError, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::{failure_reply, raise};
use crate::cluster::jobs::broadcast::{BROADCAST_DEADLINE, remote_failure, unreachable};
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::call::{Call, Done, Handled, Outcome, plain};
use crate::cluster::state::calls::WaitingCall;
use crate::cluster::state::{Handle, State};
use crate::pickle;
use crate::sched::{Answer, Event, ShuffleRequest, ShuffleRun};

/// Pause before those who could not be reached are tried again.
///
/// Source: `distributed/shuffle/_scheduler_plugin.py`, `barrier`.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Rounds in which nobody new could be reached.
///
/// Source: `distributed/shuffle/_scheduler_plugin.py`, `barrier`.
const IDLE_ROUNDS_MAX: u32 = 3;

/// The operations of this family.
pub const OPS: Operations = &[
    ("shuffle_get_or_create", |state, call, body| ask(state, call, get_or_create(body)?)),
    ("shuffle_get", |state, call, body| ask(state, call, get(body)?)),
    ("shuffle_barrier", |state, call, body| {
        let request = barrier(state, body)?;
        ask(state, call, request)
    }),
    ("shuffle_restrict_task", |state, call, body| ask(state, call, restrict(body)?)),
];

fn ask(state: &mut State, call: Call, request: ShuffleRequest) -> Handled {
    let barrier = match &request {
        ShuffleRequest::Barrier { id, run_id, .. } => Some((id.clone(), *run_id)),
        ShuffleRequest::GetOrCreate { .. } | ShuffleRequest::Get { .. } | ShuffleRequest::Restrict { .. } => None,
    };
    let id = state.open_call(WaitingCall::Shuffle(call, barrier));
    state.step(Event::Shuffle { call: id, request });
    Ok(Done::Later)
}

fn get_or_create(body: &Value) -> Result<ShuffleRequest, Failure> {
    Ok(ShuffleRequest::GetOrCreate {
        id: args::text(body, "shuffle_id")?,
        key: args::key(body, "key")?,
        worker: args::text(body, "worker")?,
    })
}

fn get(body: &Value) -> Result<ShuffleRequest, Failure> {
    Ok(ShuffleRequest::Get { id: args::text(body, "id")?, worker: args::text(body, "worker")? })
}

fn barrier(state: &mut State, body: &Value) -> Result<ShuffleRequest, Failure> {
    let id = args::text(body, "id")?;
    let consistent = args::flag(body, "consistent", true);
    if !consistent {
        state.warn(format!("shuffle {id} starts over: its inputs were inconsistent at the barrier"));
    }
    Ok(ShuffleRequest::Barrier { id, run_id: run_id(body)?, consistent })
}

fn restrict(body: &Value) -> Result<ShuffleRequest, Failure> {
    Ok(ShuffleRequest::Restrict {
        id: args::text(body, "id")?,
        run_id: run_id(body)?,
        key: args::key(body, "key")?,
        worker: args::text(body, "worker")?,
    })
}

fn run_id(body: &Value) -> Result<i64, Failure> {
    body.get("run_id").and_then(Value::as_i64).ok_or_else(|| raise("TypeError", "run_id must be an integer"))
}

/// The scheduler's answer to one of these requests.
/// `barrier` is the shuffle and run whose barrier was asked about.
pub fn on_answer(state: &mut State, asker: Call, barrier: Option<(Text, i64)>, answer: Answer) {
    let outcome = match answer {
        Answer::Shuffle(run) => run_spec(&run),
        Answer::Participants(workers) => {
            let Some((id, run_id)) = barrier else { return state.finish(asker, Ok(Value::Nil)) };
            let handle = state.handle.clone();
            state.job(asker, tell_inputs_done(handle, id, run_id, workers));
            return;
        }
        // Workers expect this one as an answer, not as an exception.
        Answer::Error(error @ PyError::P2pConsistency(_)) => Ok(failure_reply("error", &Failure::Raised(error))),
        other => plain(other),
    };
    state.finish(asker, outcome);
}

fn run_spec(run: &ShuffleRun) -> Outcome {
    let part = pickle::shuffle_run_spec(run.run_id, &run.spec, &run.worker_for, None)
        .map_err(|error| raise("RuntimeError", format!("the shuffle's run could not be written: {error}")))?;
    let payload = Value::Pickled(Arc::new(pickle::to_wire(&part)));
    Ok(Value::map([("status", "OK".into()), ("run_spec", payload)]))
}

/// Tells every participant, trying those again that can't be reached.
async fn tell_inputs_done(handle: Handle, id: Text, run_id: i64, mut workers: Vec<Text>) -> Outcome {
    let message = Value::map([
        ("op", "shuffle_inputs_done".into()),
        ("shuffle_id", Value::Str(id.clone())),
        ("run_id", run_id.into()),
        ("close", false.into()),
        ("reply", true.into()),
    ]);
    let mut idle_rounds = 0;
    while !workers.is_empty() {
        let answers = join_all(workers.iter().map(|worker| handle.call(worker, &message, BROADCAST_DEADLINE))).await;
        let before = workers.len();
        let mut again = Vec::new();
        for (worker, answer) in workers.into_iter().zip(answers) {
            match answer {
                Ok(Value::Nil) => {}
                Ok(answer) if answer.get("status").is_some() => return Err(remote_failure(&answer)),
                Ok(answer) => {
                    return Err(raise("RuntimeError", format!("unexpected answer at the P2P barrier: {answer:?}")));
                }
                Err(error) => {
                    warn!(worker = %worker, %error, "a participant of a shuffle was not told, trying again");
                    again.push((worker, error));
                }
            }
        }
        let Some((first, error)) = again.first() else { break };
        let gone = again.iter().map(|(worker, _)| worker.clone()).collect::<Vec<_>>();
        let known = handle
            .ask(move |state| gone.iter().all(|worker| state.sched.worker_by_address(worker).is_some()))
            .await
            .unwrap_or(false);
        idle_rounds = if again.len() < before { 0 } else { idle_rounds + 1 };
        if !known || idle_rounds >= IDLE_ROUNDS_MAX {
            return Err(unreachable(first, error));
        }
        workers = again.into_iter().map(|(worker, _)| worker).collect();
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(Value::Nil)
}
