//! Requests and replies: how a request begins and ends, and who handles it.
//!
//! Source: `distributed/core.py`, `Server._handle_comm`; `distributed/scheduler.py`, `Scheduler.__init__`.

use std::sync::LazyLock;

use tokio::sync::oneshot;
use tracing::debug;

use crate::base::{SeededMap, Value};
use crate::cluster::codec::failures::raise;
use crate::cluster::codec::signatures;
use crate::cluster::ops::handler::{Handler, Operations};
use crate::cluster::ops::{
    clients, coord, data, info, messages, metadata, placement, plugins, publish_barrier, python, restart, retire,
    scale, scheduler_plugins, shuffle, workers,
};
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::state::handle::ConnId;

/// The operations of all families.
const FAMILIES: &[Operations] = &[
    clients::OPS,
    coord::OPS,
    data::OPS,
    info::OPS,
    messages::OPS,
    metadata::OPS,
    placement::OPS,
    plugins::OPS,
    publish_barrier::OPS,
    python::OPS,
    restart::OPS,
    retire::OPS,
    scale::OPS,
    scheduler_plugins::OPS,
    shuffle::OPS,
    workers::OPS,
];

/// The same by name.
static HANDLERS: LazyLock<SeededMap<&'static str, Handler>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|family| family.iter().copied()).collect());

/// A request came; it is worked on now, or after the one before it.
pub fn on_request(state: &mut State, conn: ConnId, body: Value) {
    let Some(line) = state.peers.rpc_line(conn) else { return };
    if line.busy {
        line.waiting.push_back(body);
        return;
    }
    let Some(op) = body.get("op").and_then(Value::as_str) else {
        return state.drop_conn(conn, "a request without op");
    };
    line.busy = true;
    let flag = |name: &str, default: bool| body.get(name).and_then(Value::as_bool).unwrap_or(default);
    let call = Call { conn, reply: flag("reply", true), close: flag("close", false) };
    debug!(conn, op, "request");
    handle(state, op, call, &body);
}

/// A request from inside this process, answered through `reply`.
pub fn on_inner_request(state: &mut State, body: &Value, reply: oneshot::Sender<Outcome>) {
    let Some(op) = body.get("op").and_then(Value::as_str) else { return };
    let call = state.calls.open_inner(reply);
    handle(state, op, call, body);
}

fn handle(state: &mut State, op: &str, call: Call, body: &Value) {
    match handled(state, op, call, body) {
        Ok(Done::Now(answer)) => state.finish(call, Ok(answer)),
        Ok(Done::Later) => {}
        Err(failure) => state.finish(call, Err(failure)),
    }
}

fn handled(state: &mut State, op: &str, call: Call, body: &Value) -> Handled {
    if state.setup.blocked.contains(op) {
        let text = format!(
            "The '{op}' handler has been explicitly disallowed in Scheduler, possibly due to security concerns."
        );
        return Err(raise("ValueError", text));
    }
    if state.plugins.scheduler.answers(op) {
        return python::operation(state, call, op, body);
    }
    match HANDLERS.get(op) {
        Some(handler) => {
            signatures::check(op, body)?;
            handler(state, call, body)
        }
        None => {
            debug!(op, "unknown operation, answered with nil");
            Ok(Done::Now(Value::Nil))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every operation has one handler.
    #[test]
    fn no_operation_is_in_two_families() {
        let rows: usize = FAMILIES.iter().map(|family| family.len()).sum();
        assert_eq!(HANDLERS.len(), rows);
    }
}
