//! Requests to locks, events, queues and variables: all state lives in the core.
//!
//! Source: `distributed/event.py`, `semaphore.py`, `multi_lock.py`, `queues.py`, `variable.py`.

use crate::base::{ClientId, Failure, Key, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, plain};
use crate::cluster::state::calls::WaitingCall;
use crate::pickle;
use crate::sched::coord::{CoordRequest, Item, QueueBatch};
use crate::sched::{Answer, Event};

/// The operations of this family.
pub const OPS: Operations = &[
    ("event_wait", |state, call, body| {
        let request = CoordRequest::EventWait { name: name(body)?, timeout: args::timeout(body, "timeout")? };
        ask_core(state, call, body, request)
    }),
    ("event_set", |state, call, body| ask_core(state, call, body, CoordRequest::EventSet { name: name(body)? })),
    ("event_clear", |state, call, body| ask_core(state, call, body, CoordRequest::EventClear { name: name(body)? })),
    ("event_is_set", |state, call, body| ask_core(state, call, body, CoordRequest::EventIsSet { name: name(body)? })),
    ("semaphore_register", |state, call, body| ask_core(state, call, body, semaphore_register(body)?)),
    ("semaphore_acquire", |state, call, body| {
        let (timeout, lease_id) = (args::timeout(body, "timeout")?, args::key(body, "lease_id")?);
        ask_core(state, call, body, CoordRequest::SemaphoreAcquire { name: name(body)?, timeout, lease_id })
    }),
    ("semaphore_release", |state, call, body| {
        let request = CoordRequest::SemaphoreRelease { name: name(body)?, lease_id: args::key(body, "lease_id")? };
        ask_core(state, call, body, request)
    }),
    ("semaphore_refresh_leases", |state, call, body| {
        let request = CoordRequest::SemaphoreRefresh { name: name(body)?, lease_ids: args::keys(body, "lease_ids")? };
        ask_core(state, call, body, request)
    }),
    ("semaphore_value", |state, call, body| {
        ask_core(state, call, body, CoordRequest::SemaphoreValue { name: name(body)? })
    }),
    ("semaphore_close", |state, call, body| {
        ask_core(state, call, body, CoordRequest::SemaphoreClose { name: name(body)? })
    }),
    ("multi_lock_acquire", |state, call, body| ask_core(state, call, body, multi_lock_acquire(body)?)),
    ("multi_lock_release", |state, call, body| {
        ask_core(state, call, body, CoordRequest::MultiLockRelease { id: args::key(body, "id")? })
    }),
    ("queue_create", |state, call, body| {
        let maxsize = args::count(body, "maxsize").unwrap_or(0);
        ask_core(state, call, body, CoordRequest::QueueCreate { name: name(body)?, maxsize })
    }),
    ("queue_put", |state, call, body| {
        let (item, timeout) = (item(body)?, args::timeout(body, "timeout")?);
        ask_core(state, call, body, CoordRequest::QueuePut { name: name(body)?, item, timeout })
    }),
    ("queue_get", |state, call, body| ask_for_elements(state, call, body, queue_get(body)?)),
    ("queue_qsize", |state, call, body| ask_core(state, call, body, CoordRequest::QueueSize { name: name(body)? })),
    ("queue_release", |state, call, body| {
        ask_core(state, call, body, CoordRequest::QueueRelease { name: name(body)? })
    }),
    ("variable_set", |state, call, body| {
        let (item, timeout) = (item(body)?, args::timeout(body, "timeout")?);
        ask_core(state, call, body, CoordRequest::VariableSet { name: name(body)?, item, timeout })
    }),
    ("variable_get", |state, call, body| {
        let request = CoordRequest::VariableGet { name: name(body)?, timeout: args::timeout(body, "timeout")? };
        ask_for_elements(state, call, body, request)
    }),
    ("variable_delete", |state, call, body| {
        ask_core(state, call, body, CoordRequest::VariableDelete { name: name(body)? })
    }),
];

/// Hands a request to the core, whose answer goes to the asker.
pub fn ask_core(state: &mut State, call: Call, body: &Value, request: CoordRequest) -> Handled {
    step(state, WaitingCall::Asker(call), body, request)
}

/// As [`ask_core`], for what is answered with elements of a queue or a variable's value.
fn ask_for_elements(state: &mut State, call: Call, body: &Value, request: CoordRequest) -> Handled {
    step(state, WaitingCall::Elements(call), body, request)
}

fn step(state: &mut State, waiting: WaitingCall, body: &Value, request: CoordRequest) -> Handled {
    let client = asker(state, body);
    let id = state.open_call(waiting);
    state.step(Event::Coord { call: id, client, request });
    Ok(Done::Later)
}

fn asker(state: &State, body: &Value) -> Option<ClientId> {
    state.sched.client_id(body.get("client").and_then(Value::as_str)?)
}

fn name(body: &Value) -> Result<Key, Failure> {
    args::key(body, "name")
}

fn semaphore_register(body: &Value) -> Result<CoordRequest, Failure> {
    Ok(CoordRequest::SemaphoreRegister {
        name: name(body)?,
        max_leases: body.get("max_leases").and_then(Value::as_i64).unwrap_or(1),
        lease_timeout: args::timeout(body, "lease_timeout")?,
    })
}

fn multi_lock_acquire(body: &Value) -> Result<CoordRequest, Failure> {
    Ok(CoordRequest::MultiLockAcquire {
        id: args::key(body, "id")?,
        locks: args::keys(body, "locks")?,
        timeout: args::timeout(body, "timeout")?,
        num_locks: args::count(body, "num_locks"),
    })
}

fn queue_get(body: &Value) -> Result<CoordRequest, Failure> {
    let timeout = args::timeout(body, "timeout")?;
    let batch = batch(body.get("batch"));
    if timeout.is_some() && matches!(batch, QueueBatch::Count(_)) {
        let text = "Dask queues don't support simultaneous use of integer batch sizes and timeouts";
        return Err(raise("NotImplementedError", text));
    }
    Ok(CoordRequest::QueueGet { name: name(body)?, timeout, batch })
}

fn batch(value: Option<&Value>) -> QueueBatch {
    match value {
        Some(Value::Bool(true)) => QueueBatch::All,
        None | Some(Value::Bool(false) | Value::Nil) => QueueBatch::One,
        Some(other) => match other.as_i64().and_then(|n| usize::try_from(n).ok()) {
            Some(0) | None => QueueBatch::One,
            Some(n) => QueueBatch::Count(n),
        },
    }
}

/// A future is sent as `key`, anything else as `data`.
fn item(body: &Value) -> Result<Item, Failure> {
    match body.field("key") {
        Some(_) => Ok(Item::Future(args::key(body, "key")?)),
        None => Ok(Item::Data(body.get("data").cloned().unwrap_or_default())),
    }
}

/// Elements of a queue, or a variable's value. Failures of our own come without their pickle: it is put there.
pub fn on_elements(state: &mut State, asker: Call, answer: Answer) {
    let mut outcome = plain(answer);
    match &mut outcome {
        Ok(Value::Array(elements)) => elements.iter_mut().for_each(|element| add_exception(state, element)),
        Ok(element) => add_exception(state, element),
        Err(_) => (),
    }
    state.finish(asker, outcome);
}

fn add_exception(state: &State, element: &mut Value) {
    let Value::Map(fields) = element else { return };
    let value_of = |fields: &[(Value, Value)], name: &str| {
        fields.iter().find(|(field, _)| field.as_str() == Some(name)).map(|(_, value)| value.clone())
    };
    if value_of(fields, "exception") != Some(Value::Nil) {
        return;
    }
    let Some(key) = value_of(fields, "value").and_then(|value| value.as_key()) else { return };
    if let Some(Failure::Raised(error)) = state.sched.task(&key).and_then(|task| task.failure) {
        fields.retain(|(field, _)| field.as_str() != Some("exception"));
        fields.push((Value::str("exception"), Value::Bin(pickle::error(error))));
    }
}
