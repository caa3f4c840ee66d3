//! P2P shuffles: workers ask which run they take part in, and the barrier tells them that all inputs are in.
//!
//! Source: `distributed/shuffle/_scheduler_plugin.py`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::base::{Failure, PyError, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::{failure_reply, raise};
use crate::cluster::jobs::broadcast::{BROADCAST_DEADLINE, remote_failure, unreachable};
use crate::cluster::ops::Done;
use crate::cluster::state::handle::Desk;
use crate::cluster::state::{Call, Driver, Outcome, Waiting};
use crate::cluster::turn::effects::plain;
use crate::pickle;
use crate::sched::{Answer, Event, ShuffleRequest, ShuffleRun};

/// Pause before those who could not be reached are tried again. Source: `barrier`.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Rounds in which nobody new could be reached. Source: `barrier`.
const IDLE_ROUNDS_MAX: u32 = 3;

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    let request = match op {
        "shuffle_get_or_create" => get_or_create(body),
        "shuffle_get" => get(body),
        "shuffle_barrier" => barrier(driver, body),
        "shuffle_restrict_task" => restrict(body),
        _ => return None,
    };
    Some(match request {
        Ok(request) => {
            let named = match &request {
                ShuffleRequest::Barrier { id, run_id, .. } => Some((id.clone(), *run_id)),
                ShuffleRequest::GetOrCreate { .. } | ShuffleRequest::Get { .. } | ShuffleRequest::Restrict { .. } => {
                    None
                }
            };
            let id = driver.open_call(Waiting::Shuffle(call, named));
            driver.apply(Event::Shuffle { call: id, request });
            Done::Later
        }
        Err(failure) => Done::Now(Err(failure)),
    })
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

fn barrier(driver: &mut Driver, body: &Value) -> Result<ShuffleRequest, Failure> {
    let id = args::text(body, "id")?;
    let consistent = args::flag(body, "consistent", true);
    if !consistent {
        driver.warn(format!("shuffle {id} starts over: its inputs were inconsistent at the barrier"));
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
pub fn on_answer(driver: &mut Driver, asker: Call, barrier: Option<(Text, i64)>, answer: Answer) {
    let outcome = match answer {
        Answer::Shuffle(run) => run_spec(&run),
        Answer::Participants(workers) => {
            let Some((id, run_id)) = barrier else { return driver.finish(asker, Ok(Value::Nil)) };
            let desk = driver.desk.clone();
            driver.job(asker, tell_inputs_done(desk, id, run_id, workers));
            return;
        }
        // Workers expect this one as an answer, not as an exception.
        Answer::Error(error @ PyError::P2pConsistency(_)) => Ok(failure_reply("error", &Failure::Raised(error))),
        other => plain(other),
    };
    driver.finish(asker, outcome);
}

fn run_spec(run: &ShuffleRun) -> Outcome {
    let part = pickle::shuffle_run_spec(run.run_id, &run.spec, &run.worker_for, None)
        .map_err(|error| raise("RuntimeError", format!("the shuffle's run could not be written: {error}")))?;
    let payload = Value::Pickled(Arc::new(pickle::to_wire(&part)));
    Ok(Value::map([("status", "OK".into()), ("run_spec", payload)]))
}

/// Tells every participant, trying those again that can't be reached.
async fn tell_inputs_done(desk: Desk, id: Text, run_id: i64, mut workers: Vec<Text>) -> Outcome {
    let message = Value::map([
        ("op", "shuffle_inputs_done".into()),
        ("shuffle_id", Value::Str(id.clone())),
        ("run_id", run_id.into()),
        ("close", false.into()),
        ("reply", true.into()),
    ]);
    let mut idle_rounds = 0;
    while !workers.is_empty() {
        let answers = join_all(workers.iter().map(|worker| desk.call(worker, &message, BROADCAST_DEADLINE))).await;
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
        let known = desk
            .ask(move |driver| gone.iter().all(|worker| driver.sched.worker_by_address(worker).is_some()))
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
