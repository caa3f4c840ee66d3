//! Requests that carry Python to run "on the scheduler": they run in pyhost, with a snapshot of the scheduler.
//!
//! Source: `distributed/scheduler.py`, `run_function`, `feed`, `dump_cluster_state_to_url`.

use std::time::Duration;

use crate::base::Value;
use crate::cluster::codec::args;
use crate::cluster::codec::failures::failure_reply;
use crate::cluster::jobs::python::{carry_out, python_side};
use crate::cluster::jobs::{dump, progress};
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Handled};
use crate::cluster::views::python_snapshot;

/// The operations of this family.
pub const OPS: Operations =
    &[("run_function", run_function), ("feed", progress::start), ("dump_cluster_state_to_url", dump::start_to_url)];

/// Pause between two looks at a request that user code has not answered yet.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A request that user code answers: it put a function of its own into `Scheduler.handlers`.
pub fn operation(state: &mut State, call: Call, op: &str, body: &Value) -> Handled {
    let pyhost = python_side(state)?;
    let ours = |name: &Value| name.as_str().is_some_and(|name| ["op", "reply", "close", "serializers"].contains(&name));
    let fields = body.fields().unwrap_or_default().iter().filter(|(name, _)| !ours(name)).cloned().collect();
    let request =
        Value::map([("op", op.into()), ("fields", Value::Map(fields)), ("snapshot", python_snapshot::snapshot(state))]);
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let mut answer = pyhost.call("operation", request).await?;
        loop {
            carry_out(&handle, &answer).await;
            let Some(waiting) = answer.field("waiting").cloned() else { break };
            tokio::time::sleep(LOOK_AGAIN).await;
            answer = pyhost.call("operation_wait", Value::map([("waiting", waiting)])).await?;
        }
        Ok(answer.get("result").cloned().unwrap_or_default())
    }))
}

fn run_function(state: &mut State, call: Call, body: &Value) -> Handled {
    let pyhost = python_side(state)?;
    let field = |name: &str| body.get(name).cloned().unwrap_or_default();
    let request = Value::map([
        ("function", field("function")),
        ("args", field("args")),
        ("kwargs", field("kwargs")),
        ("serializers", field("serializers")),
        ("wait", args::flag(body, "wait", true).into()),
        ("snapshot", python_snapshot::snapshot(state)),
    ]);
    let message = Value::map([("action", "run-function".into()), ("function", field("function"))]);
    state.log_event(&["all".into()], &message);
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        match pyhost.call("call", request).await {
            Ok(answer) => {
                carry_out(&handle, &answer).await;
                let result = answer.get("result").cloned().unwrap_or_default();
                Ok(Value::map([("status", "OK".into()), ("result", result)]))
            }
            // As stock: an exception in the function is an answer, not a failure of the request.
            Err(failure) => Ok(failure_reply("error", &failure)),
        }
    }))
}
