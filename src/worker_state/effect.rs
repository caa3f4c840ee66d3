//! What a worker's state machine wants done. Effects are carried out in the order they were appended.

use serde::{Deserialize, Serialize};

use super::phase::{TaskPhase, TaskTarget};
use crate::base::{Key, RunId, Text};

/// A wish of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerEffect {
    /// Send on the stream to the scheduler.
    ToScheduler(WorkerMessage),
    /// Append this run to the slot's queue; with `answers_first`, the slot sends the answers it keeps back before it
    /// begins.
    Push { slot: u32, key: Key, run: RunId, inputs: Vec<Key>, answers_first: bool },
    /// Take everything that has not begun out of the slot's queue; [`super::WorkerEvent::Recalled`] must follow.
    Recall { slot: u32 },
    /// Ask a peer for these values; one of the `Fetch...` events must follow.
    Fetch { peer: Text, keys: Vec<Key>, size_bytes: u64 },
    /// The value is no longer needed here.
    Drop { key: Key },
    /// The machine has no such task any more: nobody needs to know how it is run.
    Forgotten { key: Key },
    /// A task moved; only while somebody is subscribed. Source: `distributed/diagnostics/plugin.py`,
    /// `WorkerPlugin.transition`.
    Transition { key: Key, start: TaskPhase, finish: TaskTarget },
    /// The worker must close: a rule of the protocol was broken, or the executor is gone.
    Close { reason: Text },
}

/// A message to the scheduler. Source: `distributed/worker_state_machine.py`, `SendMessageToScheduler`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerMessage {
    /// `task-finished`.
    Finished { key: Key, run: RunId, size_bytes: u64 },
    /// `task-erred`.
    Erred { key: Key, run: RunId },
    /// `release-worker-data`.
    ReleaseData { key: Key },
    /// `add-keys`.
    AddKeys { keys: Vec<Key> },
    /// `reschedule`.
    Reschedule { key: Key },
    /// `long-running`; the time is unknown when the message is late.
    LongRunning { key: Key, run: RunId, compute_secs: Option<f64> },
    /// `steal-response`; no state when the task is unknown.
    StealResponse { key: Key, state: Option<TaskPhase>, stimulus: Text },
    /// `request-refresh-who-has`.
    RefreshWhoHas { keys: Vec<Key> },
}
