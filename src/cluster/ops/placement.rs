//! Requests that steer where tasks and copies go: resources, restrictions, the active memory manager.

use crate::base::{Failure, PyError, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::args::{amounts, shown};
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::state::State;
use crate::cluster::state::call::Outcome;
use crate::sched::{AmmAction, Event};

/// The operations of this family.
pub const OPS: Operations = &[
    ("set_resources", |state, _, body| now(set_resources(state, body))),
    ("set_restrictions", |state, _, body| now(set_restrictions(state, body))),
    ("amm_handler", |state, _, body| now(amm(state, body))),
];

fn set_resources(state: &mut State, body: &Value) -> Outcome {
    let address = args::text(body, "worker")?;
    let worker = state.worker_at(&address).ok_or_else(|| Failure::Raised(PyError::MissingKey(Value::Str(address))))?;
    let resources = amounts(body.get("resources").unwrap_or(&Value::Nil));
    state.step(Event::SetResources { worker, resources });
    Ok("OK".into())
}

fn set_restrictions(state: &mut State, body: &Value) -> Outcome {
    let wrong = || raise("TypeError", "worker must map keys to addresses");
    let fields = body.get("worker").and_then(Value::fields).ok_or_else(wrong)?;
    let mut restrictions = Vec::with_capacity(fields.len());
    for (key, workers) in fields {
        let workers = match workers {
            one @ (Value::Str(_) | Value::Int(_)) => vec![shown(one).into()],
            many => many.items().unwrap_or_default().iter().map(|name| shown(name).into()).collect(),
        };
        restrictions.push((key.as_key().ok_or_else(wrong)?, workers));
    }
    state.step(Event::SetRestrictions { restrictions });
    Ok(Value::Nil)
}

fn amm(state: &mut State, body: &Value) -> Outcome {
    let action = match body.get("method").and_then(Value::as_str) {
        Some("start") => AmmAction::Start,
        Some("stop") => AmmAction::Stop,
        Some("run_once") => AmmAction::RunOnce,
        Some("running") => return Ok(state.sched.amm_running().into()),
        _ => return Err(raise("AssertionError", "method must be start, stop, run_once or running")),
    };
    state.step(Event::Amm { action });
    Ok(Value::Nil)
}
