//! Everything a scheduler can ask for. The driver carries effects out in the order they were appended.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::event::WorkerStatus;
use crate::base::{
    Annotations, CallId, ClientId, Failure, Key, Opaque, PyError, RunId, ShuffleSpec, Text, TicketId, Value, WorkerId,
};

/// A wish of the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Send on a worker's stream.
    ToWorker { worker: WorkerId, message: ToWorker },
    /// Send on a client's stream; nothing happens for pseudo clients.
    ToClient { client: ClientId, message: ToClient },
    /// Send to every client that has a stream.
    ToAllClients { message: ToClient },
    /// The answer to a call.
    Answer { call: CallId, answer: Answer },
    /// Read this graph; [`super::Event::GraphPart`] or [`super::Event::GraphFailed`] must follow.
    ReadGraph { ticket: TicketId },
    /// The graph with this ticket is settled: its client's stream may go on.
    GraphClosed { ticket: TicketId },
    /// The worker is registered and known to everybody.
    WorkerAdded { worker: WorkerId },
    /// The worker is gone from the scheduler; its stream should be closed after what was sent.
    /// `close`: it was told to close, or its connection is lost. Otherwise the connection is the worker's to end.
    WorkerRemoved { worker: WorkerId, address: Text, expected: bool, close: bool },
    /// The worker has been silent for longer than its TTL: restart it through its nanny.
    WorkerSilent { worker: WorkerId },
    /// Every key of the retiring worker has a copy elsewhere, or it can't be: no recipient.
    Retired { worker: WorkerId, moved: bool },
    /// Publish an event on these topics; the driver adds the time.
    Log { topics: Vec<Text>, message: Value },
    /// Something a person should see in the log.
    Warn { text: Text },
    /// Idle for longer than `idle-timeout`: the scheduler should close.
    IdleTimeout,
}

/// A message for a worker's stream. Exactly these fields go over the wire.
///
/// Source: `distributed/worker_state_machine.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// `compute-task`.
    Compute(Box<Compute>),
    /// `free-keys`.
    FreeKeys { keys: Vec<Key> },
    /// `remove-replicas`.
    RemoveReplicas { keys: Vec<Key> },
    /// `acquire-replicas`.
    AcquireReplicas { data: Located },
    /// `steal-request`.
    StealRequest { key: Key, stimulus: Text },
    /// `refresh-who-has`.
    RefreshWhoHas { data: Located },
    /// `worker-status-change`.
    Status { status: WorkerStatus },
    /// `remove-worker`: this peer is gone.
    RemoveWorker { address: Text },
    /// `close`.
    Close { reason: Text },
    /// `shuffle-fail`.
    ShuffleFail { id: Text, run_id: RunId, message: Text },
}

/// `compute-task`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    pub key: Key,
    /// The number of this `compute-task`; comes back with its result.
    pub run_id: RunId,
    /// Smaller runs first; compared element by element.
    pub priority: Priority,
    /// Where the inputs are and how big.
    pub inputs: Located,
    /// The `Pickled` frames of the run spec.
    pub run_spec: Arc<Opaque>,
    /// Annotations as the worker gets them.
    pub annotations: Option<Arc<Annotations>>,
    /// The task makes an actor.
    pub actor: bool,
}

/// The priority tuple of a task: negated user priority, generation, place in its graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Priority {
    /// Negated user priority.
    pub user: f64,
    /// Generation; with a fraction for tasks submitted by tasks.
    pub generation: f64,
    /// Place in the graph.
    pub order: f64,
}

/// Keys with their sizes and holders, flat: `holders` of key i are the next `count` addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Located {
    /// Key, size in bytes, number of holders.
    pub keys: Vec<(Key, i64, u32)>,
    /// Addresses, in the order of `keys`.
    pub holders: Vec<Text>,
}

impl Located {
    /// Each key with its size and the addresses of its holders.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, i64, &[Text])> {
        let mut at = 0;
        self.keys.iter().map(move |(key, nbytes, count)| {
            let from = at;
            at += *count as usize;
            (key, *nbytes, self.holders.get(from..at).unwrap_or_default())
        })
    }
}

/// A message for a client's stream. Source: `distributed/client.py`, `_stream_handlers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// `key-in-memory`; without a type when it was so already.
    KeyInMemory { key: Key, type_pickle: Option<Bytes> },
    /// `task-erred`.
    TaskErred { key: Key, failure: Arc<Failure> },
    /// `lost-data`.
    LostData { key: Key },
    /// `task-retried`.
    TaskRetried { key: Key },
    /// `cancelled-keys`.
    CancelledKeys { keys: Vec<Key>, reason: Value, msg: Value },
    /// `restart`.
    Restart,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Value(Value),
    Keys(Vec<Key>),
    /// The worker is registered under this id.
    Worker(WorkerId),
    /// The worker can't register, and why (Dask's words: `name taken, x`).
    Refused(Text),
    /// The shuffle's run.
    Shuffle(Box<ShuffleRun>),
    /// All inputs of the shuffle are in: tell these workers `shuffle_inputs_done`.
    Participants(Vec<Text>),
    /// An exception for the caller.
    Error(PyError),
}

/// One run of a P2P shuffle. Source: `distributed/shuffle/_core.py`, `ShuffleRunSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShuffleRun {
    /// Grows with every run of any shuffle.
    pub run_id: RunId,
    pub spec: Arc<ShuffleSpec>,
    /// Partition (an index, or one index per axis) to worker address.
    pub worker_for: Vec<(Vec<i64>, Text)>,
}
