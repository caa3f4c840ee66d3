//! The stream operations as types.

use bytes::Bytes;

use crate::base::{Key, StartStop, Text, Value};
use crate::wire::error::WireError;

/// One item of a stream message.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamItem {
    /// The item's own `client` field; it wins over the connection's.
    pub client: Option<Text>,
    /// The item's own `worker` field; it wins over the connection's.
    pub worker: Option<Text>,
    /// What it says.
    pub op: StreamOp,
}

/// A stream operation. Source: `distributed/scheduler.py`, `Scheduler.__init__`, and the extensions.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamOp {
    // ---- workers
    /// `task-finished`.
    TaskFinished(Box<TaskFinished>),
    /// `task-erred`.
    TaskErred(Box<TaskErred>),
    /// `release-worker-data`: the worker dropped its copy.
    ReleaseWorkerData { key: Key },
    /// `add-keys`: the worker now has copies.
    AddKeys { keys: Vec<Key> },
    /// `long-running`: the task seceded. Unit: seconds.
    LongRunning { key: Key, run_id: Option<i64>, compute_duration: Option<f64> },
    /// `reschedule`.
    Reschedule { key: Key },
    /// `steal-response`. `state` is nil when the worker does not know the key.
    StealResponse { key: Key, state: Option<Text>, stimulus: Text },
    /// `request-refresh-who-has`.
    RequestRefreshWhoHas { keys: Vec<Key> },
    /// `worker-status-change`.
    WorkerStatusChange { status: Text },
    /// `log-event`; `topic` is text or a list of texts.
    LogEvent { topic: Value, msg: Value },
    /// `keep-alive`.
    KeepAlive,
    // ---- both
    /// `close-stream`: the stream ends, what follows in the batch is dropped.
    CloseStream,
    // ---- clients
    /// `update-graph`.
    UpdateGraph(Box<UpdateGraph>),
    /// `client-desires-keys`.
    ClientDesiresKeys { keys: Vec<Key> },
    /// `client-releases-keys`.
    ClientReleasesKeys { keys: Vec<Key> },
    /// `cancel-keys`.
    CancelKeys { keys: Vec<Key>, force: bool, reason: Value, msg: Value },
    /// `heartbeat-client`.
    HeartbeatClient,
    /// `close-client`.
    CloseClient,
    /// `report-key`.
    ReportKey { key: Key },
    /// `update-data`.
    UpdateData { who_has: Vec<(Key, Vec<Text>)>, nbytes: Vec<(Key, i64)> },
    /// `subscribe-topic`.
    SubscribeTopic { topic: Text },
    /// `unsubscribe-topic`.
    UnsubscribeTopic { topic: Text },
    /// `publish_flush_batched_send`.
    PublishFlush { uid: Value },
    /// `queue-future-release`. Any key can be a name here and below.
    QueueFutureRelease { name: Key, key: Key },
    /// `queue_release`.
    QueueRelease { name: Key },
    /// `variable-future-received-confirm`.
    VariableFutureConfirm { name: Key, key: Key, token: Text },
    /// `variable_delete`.
    VariableDelete { name: Key },
    // ---- neither
    /// No operation that we know.
    Unknown { op: Text, fields: Value },
    /// A known operation whose fields are malformed; the rest of the batch is fine.
    Malformed { op: Text, error: WireError },
}

/// `task-finished`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFinished {
    /// What was computed.
    pub key: Key,
    /// Which sending of it; -1 when the worker did not say.
    pub run_id: i64,
    /// None when unknown. Unit: bytes.
    pub nbytes: Option<i64>,
    /// Pickled class of the result; empty when missing.
    pub type_pickle: Bytes,
    /// Name of the class.
    pub typename: Text,
    /// Usually nil or an empty map.
    pub metadata: Value,
    /// What it spent its time on.
    pub startstops: Vec<StartStop>,
    /// The thread that ran it, as the worker names it; 0 when it did not say.
    pub thread: i64,
}

/// `task-erred`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskErred {
    /// What failed.
    pub key: Key,
    /// Which sending of it; -1 when the worker did not say.
    pub run_id: i64,
    /// The pickled exception: bytes or a `Serialized`.
    pub exception: Value,
    /// The pickled traceback, or nil.
    pub traceback: Value,
    /// `repr` of the exception.
    pub exception_text: Text,
    /// The formatted traceback.
    pub traceback_text: Text,
    /// What it spent its time on.
    pub startstops: Vec<StartStop>,
    /// The thread that ran it, as the worker names it; 0 when it did not say.
    pub thread: i64,
}

/// `update-graph`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateGraph {
    /// The pickled expression, a `Serialized`.
    pub expr_ser: Value,
    /// What the client wants.
    pub keys: Vec<Key>,
    /// Sent by submit and map, nil for collections.
    pub internal_priority: Option<Vec<(Key, f64)>>,
    /// The task that submits, for clients inside tasks.
    pub submitting_task: Option<Key>,
    /// Text such as `100 ms`, or seconds.
    pub fifo_timeout: Value,
    /// Truth value, list of keys, or nil.
    pub actors: Value,
    /// For people only.
    pub code: Value,
    /// A `Pickled` dict.
    pub annotations: Value,
    /// A `Pickled` dict.
    pub span_metadata: Value,
    /// The text of the item's `stimulus_id`, if it has one.
    pub stimulus: Option<Text>,
}
