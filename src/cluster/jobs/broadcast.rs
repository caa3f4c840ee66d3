//! Sends one message to many workers or nannies and collects what they say.
//!
//! Source: `distributed/scheduler.py`, `broadcast`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::base::{Failure, PickledPart, PyError, Text, Value};
use crate::cluster::codec::failures::{error_text, raise};
use crate::cluster::state::call::Outcome;
use crate::cluster::state::{Handle, State};
use crate::net::NetError;
use crate::pickle;

/// Longest a broadcast waits for one answer: it may run a user's function.
pub const BROADCAST_DEADLINE: Duration = Duration::from_secs(86_400);

/// What to do with those that can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The whole broadcast fails.
    Raise,
    /// Their place is taken by the exception.
    Return,
    /// Their place is taken by the text of the error.
    ReturnText,
    /// Their place is taken by a pickled exception.
    ReturnPickle,
    /// They are left out.
    Ignore,
}

impl OnError {
    /// From the word in the request.
    pub fn parse(value: Option<&Value>) -> Result<Self, Failure> {
        match value.map(Value::as_str) {
            None | Some(Some("raise")) => Ok(Self::Raise),
            Some(Some("return")) => Ok(Self::Return),
            Some(Some("return_pickle")) => Ok(Self::ReturnPickle),
            Some(Some("ignore")) => Ok(Self::Ignore),
            Some(_) => Err(raise("ValueError", "on_error must be 'raise', 'return', 'return_pickle', or 'ignore'")),
        }
    }
}

/// Whom to ask: the address under which the answer is reported, and the address that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastTarget {
    pub name: Text,
    pub address: Text,
}

/// All workers, as targets of a broadcast.
pub fn every_worker(state: &State) -> Vec<BroadcastTarget> {
    state.worker_addresses().into_iter().map(|address| BroadcastTarget { name: address.clone(), address }).collect()
}

/// All nannies, under the addresses of their workers.
pub fn every_nanny(state: &State) -> Vec<BroadcastTarget> {
    let views = state.sched.workers();
    views
        .iter()
        .filter_map(|view| Some(BroadcastTarget { name: view.address.clone(), address: view.nanny?.clone() }))
        .collect()
}

/// Asks `message` of every target; `{name: answer}`.
pub async fn broadcast(handle: Handle, targets: Vec<BroadcastTarget>, message: Value, on_error: OnError) -> Outcome {
    let message = with_reply(message);
    let answers = join_all(targets.iter().map(|to| handle.call(&to.address, &message, BROADCAST_DEADLINE))).await;
    let mut all = Vec::with_capacity(answers.len());
    for (target, answer) in targets.into_iter().zip(answers) {
        // A handler that raised: its answer says so, and stock raises it again here.
        let answer = match answer {
            Ok(value) if value.get("status").and_then(Value::as_str) == Some("uncaught-error") => {
                Err(remote_failure(&value))
            }
            Ok(value) => Ok(value),
            Err(error) => {
                warn!(peer = %target.address, %error, "a broadcast did not arrive");
                Err(unreachable(&target.address, &error))
            }
        };
        let answer = match (answer, on_error) {
            (Ok(value), _) => value,
            (Err(failure), OnError::Raise) => return Err(failure),
            (Err(failure), OnError::Return) => {
                let part = PickledPart { pickle: failure_pickle(&failure), buffers: Vec::new() };
                Value::Pickled(Arc::new(pickle::to_wire(&part)))
            }
            (Err(failure), OnError::ReturnText) => Value::from(failure_text(&failure)),
            (Err(failure), OnError::ReturnPickle) => Value::Bin(failure_pickle(&failure)),
            (Err(_), OnError::Ignore) => continue,
        };
        all.push((Value::Str(target.name), answer));
    }
    Ok(Value::Map(all))
}

/// Adds what the other end expects of a request.
pub fn with_reply(message: Value) -> Value {
    match message {
        Value::Map(mut fields) => {
            for (name, value) in [("reply", true), ("close", false)] {
                if !fields.iter().any(|(field, _)| field.as_str() == Some(name)) {
                    fields.push((name.into(), value.into()));
                }
            }
            Value::Map(fields)
        }
        other => other,
    }
}

/// The exception in an `uncaught-error` answer.
pub fn remote_failure(answer: &Value) -> Failure {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().into();
    Failure::Remote {
        exception: answer.get("exception").cloned().unwrap_or_default(),
        traceback: answer.get("traceback").cloned().unwrap_or_default(),
        exception_text: text("exception_text"),
        traceback_text: text("traceback_text"),
    }
}

/// The exception for a peer that can't be reached.
pub fn unreachable(address: &str, error: &NetError) -> Failure {
    match error {
        NetError::Timeout { .. } => raise("TimeoutError", format!("in <rask>: no answer from {address}: {error}")),
        // Code matches these words. Source: `distributed/comm/core.py`, `connect`.
        NetError::Io(_) => raise("OSError", format!("Timed out trying to connect to {address}: {error}")),
        _ => raise("OSError", format!("in <rask>: no answer from {address}: {error}")),
    }
}

/// What people read of it.
pub fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Remote { exception_text, .. } => exception_text.to_string(),
        Failure::Raised(error) => error_text(error),
    }
}

fn failure_pickle(failure: &Failure) -> bytes::Bytes {
    match failure {
        Failure::Remote { exception: Value::Bin(pickle), .. } => pickle.clone(),
        Failure::Remote { exception_text, .. } => pickle::error(&PyError::builtin("Exception", exception_text.clone())),
        Failure::Raised(error) => pickle::error(error),
    }
}
