//! Worker and nanny plugins: pickles that are kept for newcomers and broadcast to those who are there.
//!
//! Source: `distributed/scheduler.py`, `register_worker_plugin`, `register_nanny_plugin`.

use tokio::sync::oneshot;

use crate::base::{Failure, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::jobs::broadcast::{OnError, broadcast, every_nanny, every_worker};
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled};

/// The operations of this family.
pub const OPS: Operations = &[
    ("register_worker_plugin", register_worker),
    ("unregister_worker_plugin", unregister_worker),
    ("register_nanny_plugin", register_nanny),
    ("unregister_nanny_plugin", unregister_nanny),
];

fn register_worker(state: &mut State, call: Call, body: &Value) -> Handled {
    let (name, plugin) = named_plugin(body)?;
    if args::flag(body, "idempotent", false) && state.plugins.workers.contains(&name) {
        return Ok(Done::Now(Value::Map(Vec::new())));
    }
    // Kept before it is sent: a worker that registers meanwhile gets it one way or the other, maybe both.
    state.plugins.workers.keep(name.clone(), plugin.clone());
    let message = Value::map([("op", "plugin-add".into()), ("plugin", plugin), ("name", Value::Str(name))]);
    let (handle, targets) = (state.handle.clone(), every_worker(state));
    Ok(state.job(call, broadcast(handle, targets, message, OnError::Raise)))
}

fn unregister_worker(state: &mut State, call: Call, body: &Value) -> Handled {
    let name = args::text(body, "name")?;
    if !state.plugins.workers.remove(&name) {
        return Err(raise("ValueError", format!("The worker plugin {name} does not exist")));
    }
    let message = Value::map([("op", "plugin-remove".into()), ("name", Value::Str(name))]);
    let (handle, targets) = (state.handle.clone(), every_worker(state));
    Ok(state.job(call, broadcast(handle, targets, message, OnError::Raise)))
}

fn register_nanny(state: &mut State, call: Call, body: &Value) -> Handled {
    let (name, plugin) = named_plugin(body)?;
    if args::flag(body, "idempotent", false) && state.plugins.nannies.contains(&name) {
        return Ok(Done::Now(Value::Map(Vec::new())));
    }
    state.plugins.nannies.keep(name.clone(), plugin.clone());
    let message = Value::map([("op", "plugin_add".into()), ("plugin", plugin), ("name", Value::Str(name))]);
    // A nanny that is starting its worker got the plugins of a moment ago, and can't be reached through its worker
    // yet: wait for it.
    let started = (!state.peers.starting_nannies.is_empty()).then(|| {
        let (waiter, started) = oneshot::channel();
        state.peers.nannies_waiters.push(waiter);
        started
    });
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        if let Some(started) = started {
            // An error means that the scheduler closes.
            drop(started.await);
        }
        let targets = handle.ask(|state| every_nanny(state)).await.unwrap_or_default();
        broadcast(handle, targets, message, OnError::Raise).await
    }))
}

fn unregister_nanny(state: &mut State, call: Call, body: &Value) -> Handled {
    let name = args::text(body, "name")?;
    if !state.plugins.nannies.remove(&name) {
        return Err(raise("ValueError", format!("The nanny plugin {name} does not exist")));
    }
    let message = Value::map([("op", "plugin_remove".into()), ("name", Value::Str(name))]);
    let (handle, targets) = (state.handle.clone(), every_nanny(state));
    Ok(state.job(call, broadcast(handle, targets, message, OnError::Raise)))
}

fn named_plugin(body: &Value) -> Result<(Text, Value), Failure> {
    let plugin = body.get("plugin").cloned().ok_or_else(|| args::missing("plugin"))?;
    Ok((args::text(body, "name")?, plugin))
}
