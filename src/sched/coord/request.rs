//! What is asked of coordination, what it asks of the tasks, and what it wants done.

use serde::{Deserialize, Serialize};

use crate::base::{CallId, Failure, Key, PyError, Text, Value};

/// A request; names are keys (a list name is a tuple). Source: the scheduler side of `distributed`'s `event.py`,
/// `semaphore.py`, `multi_lock.py`, `queues.py`, `variable.py`, `publish.py`. Timeouts in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CoordRequest {
    /// `event_wait`: true, or false after the timeout.
    EventWait { name: Key, timeout: Option<f64> },
    /// `event_set`.
    EventSet { name: Key },
    /// `event_clear`.
    EventClear { name: Key },
    /// `event_is_set`.
    EventIsSet { name: Key },
    /// `semaphore_register`.
    SemaphoreRegister { name: Key, max_leases: i64, lease_timeout: Option<f64> },
    /// `semaphore_acquire`: true, or false after the timeout. Holding `lease_id` already counts as success.
    SemaphoreAcquire { name: Key, timeout: Option<f64>, lease_id: Key },
    /// `semaphore_release`: whether the lease was held.
    SemaphoreRelease { name: Key, lease_id: Key },
    /// `semaphore_refresh_leases`.
    SemaphoreRefresh { name: Key, lease_ids: Vec<Key> },
    /// `semaphore_value`: leases taken.
    SemaphoreValue { name: Key },
    /// `semaphore_close`.
    SemaphoreClose { name: Key },
    /// `multi_lock_acquire`.
    MultiLockAcquire { locks: Vec<Key>, id: Key, timeout: Option<f64>, num_locks: Option<usize> },
    /// `multi_lock_release`.
    MultiLockRelease { id: Key },
    /// `queue_create`; 0: unbounded.
    QueueCreate { name: Key, maxsize: usize },
    /// `queue_release` (stream): one user less; the last one deletes the queue.
    QueueRelease { name: Key },
    /// `queue_put`.
    QueuePut { name: Key, item: Item, timeout: Option<f64> },
    /// `queue_get`.
    QueueGet { name: Key, timeout: Option<f64>, batch: QueueBatch },
    /// `queue_qsize`.
    QueueSize { name: Key },
    /// `queue-future-release` (stream).
    QueueFutureRelease { name: Key, key: Key },
    /// `variable_set`.
    VariableSet { name: Key, item: Item, timeout: Option<f64> },
    /// `variable_get`.
    VariableGet { name: Key, timeout: Option<f64> },
    /// `variable-future-received-confirm` (stream).
    VariableConfirm { name: Key, key: Key, token: Text },
    /// `variable_delete` (stream).
    VariableDelete { name: Key },
    /// `publish_put`.
    PublishPut { names: Vec<Key>, keys: Vec<Vec<Key>>, data: Vec<Value>, overwrite: bool },
    /// `publish_delete`.
    PublishDelete { names: Vec<Key> },
    /// `publish_list`.
    PublishList,
    /// `publish_get`.
    PublishGet { names: Vec<Key> },
    /// `publish_get` of one, whose answer is no list: of clients before distributed 2026.6.
    PublishGetOne { name: Key },
}

/// What travels through queues and variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// A future: the key of a task.
    Future(Key),
    /// Any other value.
    Data(Value),
}

/// The `batch` argument of `queue_get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueBatch {
    /// One element, not in a list.
    One,
    /// Whatever is there now, possibly nothing.
    All,
    /// Exactly this number: waits for them.
    Count(usize),
}

/// What coordination may ask about tasks.
pub trait KeyWorld {
    /// How the key stands: its state's name, and how it failed when erred. None: unknown.
    fn key_state(&self, key: &Key) -> Option<(&'static str, Option<&Failure>)>;
}

/// What coordination wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordWish {
    /// Answer this call.
    Answer(CallId, Result<Value, PyError>),
    /// Let the pseudo client want these keys.
    Desire(Text, Vec<Key>),
    /// Let the pseudo client release these keys.
    Release(Text, Vec<Key>),
}

/// One element of a queue or value of a variable, as it goes to a reader.
///
/// A failure of our own ([`Failure::Raised`]) is not a pickle yet: then `state` is `erred` and `exception` is nil,
/// and whoever writes the answer puts the pickle there (the key is `value`).
pub(super) fn record(item: &Item, world: &dyn KeyWorld) -> Value {
    let key = match item {
        Item::Data(data) => return Value::map([("type", Value::str("msgpack")), ("value", data.clone())]),
        Item::Future(key) => key,
    };
    let (state, failure) = world.key_state(key).unwrap_or(("lost", None));
    let mut fields = vec![
        (Value::str("type"), Value::str("Future")),
        (Value::str("value"), key.to_value()),
        (Value::str("state"), Value::str(state)),
    ];
    if state == "erred" {
        let (exception, traceback) = match failure {
            Some(Failure::Remote { exception, traceback, .. }) => (exception.clone(), traceback.clone()),
            Some(Failure::Raised(_)) | None => (Value::Nil, Value::Nil),
        };
        fields.push((Value::str("exception"), exception));
        fields.push((Value::str("traceback"), traceback));
    }
    Value::Map(fields)
}

/// One primitive as pages show it.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordView {
    /// `lock`, `semaphore`, `event`, `queue`, `variable`, `multilock` or `dataset`.
    pub kind: &'static str,
    /// Its name.
    pub name: Key,
    /// What there is to say of this kind.
    pub fields: Vec<(&'static str, Value)>,
}
