//! What a worker's state machine is told: by the scheduler, by its executor, by transfers and by its node.

use serde::{Deserialize, Serialize};

use super::rank::TaskPriority;
use crate::base::{Key, RunId, Text};

/// Something that happened. Old and unknown names in it are normal: the machine ignores what no longer applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerEvent {
    /// `compute-task` from the scheduler.
    Compute(Box<ComputeTask>),
    /// `free-keys`: nobody needs these keys here any more.
    FreeKeys { keys: Vec<Key> },
    /// `remove-replicas`: these values exist elsewhere, too, and may go.
    RemoveReplicas { keys: Vec<Key> },
    /// `acquire-replicas`: fetch these values.
    AcquireReplicas { inputs: Vec<Input> },
    /// `steal-request`: may another worker run this task? The answer carries the same stimulus.
    StealRequest { key: Key, stimulus: Text },
    /// `cancel-compute`: do not start this task if it has not started.
    CancelCompute { key: Key },
    /// `refresh-who-has`: where values are now; no holder means that nobody has the value.
    RefreshWhoHas { holders: Vec<(Key, Vec<Text>)> },
    /// `remove-worker`: this peer is gone.
    RemoveWorker { address: Text },
    /// The worker may start runs and transfers (`true`), or is paused or closing (`false`).
    SetRunning { running: bool },

    /// A run came to its end in the executor.
    Ended { key: Key, run: RunId, outcome: Outcome },
    /// The answer to [`super::WorkerEffect::Recall`]: these keys had not begun and are no longer in the slot's queue.
    /// The ends of all runs before them were told earlier.
    Recalled { slot: u32, keys: Vec<Key> },
    /// The task called `secede`, after running for this long.
    Seceded { key: Key, run: RunId, compute_secs: f64 },
    /// A task that had seceded called `rejoin` and occupies this slot until it ends.
    Rejoined { key: Key, slot: u32 },
    /// The bytes of these values cannot be read any more: they must be computed anew.
    Lost { keys: Vec<Key> },
    /// The executor is gone, and all values in it.
    ExecutorLost,

    /// A transfer ended with these values and their sizes in bytes; what was asked for and is not here is not there.
    Fetched { peer: Text, values: Vec<(Key, u64)> },
    /// The peer has too many transfers of its own.
    FetchBusy { peer: Text },
    /// The connection to the peer broke, or could not be made.
    FetchBroken { peer: Text },
    /// The peer answered with something that cannot be used.
    FetchFailed { peer: Text },
    /// A client put these values here (`update_data`), with their sizes in bytes.
    Scattered { values: Vec<(Key, u64)> },

    /// The resources of this worker were set anew.
    Resources { totals: Vec<(Text, f64)> },
    /// Whether [`super::WorkerEffect::Transition`] is wanted.
    Subscribed { wanted: bool },
    /// Time passed. Sent when [`super::WorkerMachine::next_deadline`] is reached.
    Tick,
}

/// `compute-task`. Source: `distributed/worker_state_machine.py`, `ComputeTaskEvent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeTask {
    /// What to compute.
    pub key: Key,
    /// Number of this sending; comes back in the answer.
    pub run: RunId,
    /// The scheduler's priority.
    pub rank: TaskPriority,
    /// Every value the task reads.
    pub inputs: Vec<Input>,
    /// Resources that the run occupies from its start to its end.
    pub resources: Vec<(Text, f64)>,
    /// Whether the task may be handed to a slot before that slot is free. Not so for actors, coroutines, and tasks for
    /// other executors.
    pub may_wait_in_slot: bool,
}

/// A value that is somewhere in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Which value.
    pub key: Key,
    /// Unit: bytes.
    pub size_bytes: u64,
    /// Addresses of the workers that hold it.
    pub holders: Vec<Text>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The value is in the executor.
    Success { size_bytes: u64, duration_us: u64 },
    /// The task raised an exception.
    Failure,
    /// The task raised `Reschedule`.
    Reschedule,
}
