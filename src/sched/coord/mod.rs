//! Coordination primitives: events, semaphores (and so locks), multi-locks, queues, variables, published datasets.
//!
//! A state machine of its own beside the tasks: requests in, answers and wishes about keys out. It may not know tasks;
//! what it must know of a key it asks through [`KeyWorld`].

use serde::{Deserialize, Serialize};

use crate::base::{CallId, Failure, Key, PyError, Text, Value};

/// A request; names are keys (a list name is a tuple). Source: `client-ops.md` 5 and 6. Timeouts in seconds.
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
    QueueGet { name: Key, timeout: Option<f64>, batch: Batch },
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
pub enum Batch {
    /// One element, not in a list.
    One,
    /// Whatever is there now, possibly nothing.
    All,
    /// Exactly so many: waits for them.
    Count(usize),
}

/// What coordination may ask about tasks.
pub trait KeyWorld {
    /// How the key stands: its state's name, and how it failed when erred. None: unknown.
    fn key_state(&self, key: &Key) -> Option<(&'static str, Option<&Failure>)>;
}

/// What coordination wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Answer this call.
    Answer(CallId, Result<Value, PyError>),
    /// Let the pseudo client want these keys.
    Desire(Text, Vec<Key>),
    /// Let the pseudo client release these keys.
    Release(Text, Vec<Key>),
}
