//! Published datasets, and their barrier: a request that must not overtake what its client said on its stream before.
//!
//! Source: `distributed/publish.py`, `_sync_batched_send`; before 2026.6 `flush_wait`, a request of its own.

use crate::base::{ClientId, Failure, Key, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::coord::ask_core;
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::barriers::Blocked;
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::state::calls::WaitingCall;
use crate::sched::Event;
use crate::sched::coord::CoordRequest;

/// The operations of this family.
pub const OPS: Operations = &[
    ("publish_put", |state, call, body| after_flush(state, call, body, put(body)?)),
    ("publish_delete", |state, call, body| after_flush(state, call, body, delete(body)?)),
    ("publish_get", |state, call, body| ask_core(state, call, body, get(body)?)),
    ("publish_list", |state, call, body| ask_core(state, call, body, CoordRequest::PublishList)),
    ("publish_wait_flush", |state, call, body| wait_flush(state, call, body.get("uid").cloned().unwrap_or_default())),
];

/// Clients before distributed 2026.6 name one dataset in `name`, later ones several in `names`.
fn is_alone(body: &Value) -> bool {
    body.get("name").is_some() && body.get("names").is_none()
}

fn put(body: &Value) -> Result<CoordRequest, Failure> {
    let overwrite = args::flag(body, "override", false);
    if is_alone(body) {
        let data = vec![body.get("data").cloned().unwrap_or_default()];
        let (names, keys) = (vec![args::key(body, "name")?], vec![args::keys(body, "keys")?]);
        return Ok(CoordRequest::PublishPut { names, keys, data, overwrite });
    }
    let wrong = || raise("TypeError", "publish_put needs names, keys and data of the same length");
    let names = args::keys(body, "names")?;
    let keys: Vec<Vec<Key>> = body
        .get("keys")
        .and_then(Value::items)
        .ok_or_else(wrong)?
        .iter()
        .map(|keys| keys.as_keys().ok_or_else(wrong))
        .collect::<Result<_, Failure>>()?;
    let data = body.get("data").and_then(Value::items).ok_or_else(wrong)?.to_vec();
    if names.len() != keys.len() || names.len() != data.len() {
        return Err(wrong());
    }
    Ok(CoordRequest::PublishPut { names, keys, data, overwrite })
}

fn delete(body: &Value) -> Result<CoordRequest, Failure> {
    let names = if is_alone(body) { vec![args::key(body, "name")?] } else { args::keys(body, "names")? };
    Ok(CoordRequest::PublishDelete { names })
}

fn get(body: &Value) -> Result<CoordRequest, Failure> {
    if is_alone(body) {
        return Ok(CoordRequest::PublishGetOne { name: args::key(body, "name")? });
    }
    Ok(CoordRequest::PublishGet { names: args::keys(body, "names")? })
}

/// Runs `request` once the token `uid` came on its client's stream.
fn after_flush(state: &mut State, call: Call, body: &Value, request: CoordRequest) -> Handled {
    let uid = body.get("uid").cloned().unwrap_or_default();
    let client: Text = body.get("client").and_then(Value::as_str).unwrap_or_default().into();
    let known = state.client_link(&client).map(|(id, _)| id);
    if !state.calls.barriers.take_early(&uid) && known.is_some() && !uid.is_nil() {
        state.calls.barriers.block(Blocked { uid, client, call, request: Some(request) });
    } else {
        // The token came, or nobody will ever send it.
        publish(state, call, known, request);
    }
    Ok(Done::Later)
}

/// `publish_wait_flush`: answered once the token `uid` came. Several may ask for one token.
fn wait_flush(state: &mut State, call: Call, uid: Value) -> Handled {
    if state.calls.barriers.came(&uid) {
        return Ok(Done::Now(Value::Nil));
    }
    state.calls.barriers.block(Blocked { uid, client: Text::default(), call, request: None });
    Ok(Done::Later)
}

/// The token came.
pub fn on_flushed(state: &mut State, uid: &Value) {
    for blocked in state.calls.barriers.on_token(uid) {
        let client = state.sched.client_id(&blocked.client);
        match blocked.request {
            Some(request) => publish(state, blocked.call, client, request),
            None => state.finish(blocked.call, Ok(Value::Nil)),
        }
    }
}

/// The client is gone and its tokens with it.
pub fn fail_barriers(state: &mut State, client: &str) {
    for blocked in state.calls.barriers.forget_client(client) {
        state.finish(blocked.call, Err(raise("TimeoutError", "the client is gone")));
    }
}

fn publish(state: &mut State, call: Call, client: Option<ClientId>, request: CoordRequest) {
    let id = state.open_call(WaitingCall::Asker(call));
    state.step(Event::Coord { call: id, client, request });
}
