//! Everything that can happen to a scheduler. The driver makes these from messages, timers and its own jobs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::coord::CoordRequest;
use crate::base::{CallId, ClientId, Failure, GraphPart, Key, RunId, Text, TicketId, Value, WorkerId};

pub use crate::base::{Action, StartStop};

/// News for [`super::Scheduler::step`]. Stale or unknown ids are normal and never trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A client opened its stream, or a pseudo client is about to want something. Known names are fine.
    ClientAdded { name: Text },
    /// A client's stream ended: everything it wanted is released.
    ClientRemoved { client: ClientId },
    /// `client-desires-keys`. Unknown keys are ignored; keys at rest are reported at once.
    ClientDesires { client: ClientId, keys: Vec<Key> },
    /// `client-releases-keys`.
    ClientReleases { client: ClientId, keys: Vec<Key> },
    /// `cancel-keys`; `reason` and `msg` travel on to every client.
    CancelKeys { client: ClientId, keys: Vec<Key>, force: bool, reason: Value, msg: Value },
    /// `report-key`: say again how this key stands.
    ReportKey { client: ClientId, key: Key },
    /// `retry`. Answered with [`super::Answer::Keys`].
    Retry { call: CallId, client: ClientId, keys: Vec<Key> },
    /// `restart`: forget every task, keep workers; every client is told. Restarting processes is the driver's job.
    Restart,

    /// `update-graph` arrived; its tasks follow as [`Event::GraphPart`]. Nothing is created yet.
    GraphOpened { ticket: TicketId, graph: Box<GraphOpen> },
    /// The next part of a graph, at most `Limits::graph_part_tasks` tasks, which start to run at once.
    GraphPart { ticket: TicketId, part: GraphPart, last: bool },
    /// The graph could not be read: its keys are reported as erred to its client, and what came of it is released.
    GraphFailed { ticket: TicketId, failure: Failure },

    /// `register-worker`. Answered with [`super::Answer::Worker`] or [`super::Answer::Refused`].
    AddWorker { call: CallId, worker: Box<WorkerHello> },
    /// A worker is gone: stream ended, `unregister`, retired, timed out.
    RemoveWorker { worker: WorkerId, expected: bool, close: bool, reason: Text },
    /// `worker-status-change`.
    WorkerStatus { worker: WorkerId, status: WorkerStatus },
    /// The machine of a worker is silent, or was heard again. Its data is kept on the books, its tasks go elsewhere.
    WorkerSilent { worker: WorkerId, silent: bool },
    /// The part of `heartbeat_worker` that scheduling needs.
    Heartbeat { worker: WorkerId, beat: Box<Heartbeat> },
    /// `set_resources`: total supply of each named resource.
    SetResources { worker: WorkerId, resources: Vec<(Text, f64)> },

    /// `task-finished`.
    TaskFinished { worker: WorkerId, done: Finished },
    /// `task-erred`.
    TaskErred { worker: WorkerId, erred: Box<Erred> },
    /// `release-worker-data`: the worker no longer holds this key.
    ReleaseWorkerData { worker: WorkerId, key: Key },
    /// `add-keys`: the worker fetched copies of these keys.
    AddKeys { worker: WorkerId, keys: Vec<Key> },
    /// `long-running`: the task seceded from the worker's threads.
    LongRunning { worker: WorkerId, key: Key, run_id: RunId, compute_secs: Option<f64> },
    /// `reschedule`: the task asked to be placed anew.
    Reschedule { worker: WorkerId, key: Key },
    /// `request-refresh-who-has`.
    RefreshWhoHas { worker: WorkerId, keys: Vec<Key> },
    /// `steal-response`; `state` is the victim's state of the task, none when it does not know it.
    StealResponse { worker: WorkerId, key: Key, state: Option<Text>, stimulus: Text },

    /// Data that was placed on workers from outside (`scatter`, `update_data`): becomes tasks in memory.
    UpdateData { client: Option<ClientId>, data: Vec<PlacedData> },
    /// Copies that the driver made (`replicate`, `rebalance`): no message follows from the worker.
    AddReplicas { worker: WorkerId, keys: Vec<Key> },
    /// Copies that the driver had deleted from this worker.
    DropReplicas { worker: WorkerId, keys: Vec<Key> },
    /// `set_restrictions`: pin tasks to workers (names or addresses); an empty list lifts the pin.
    SetRestrictions { restrictions: Vec<(Key, Vec<Text>)> },
    /// Move unique data off these workers and stop giving them work. [`super::Effect::Retired`] says when done.
    Retire { workers: Vec<WorkerId> },
    /// Give up retiring: the worker goes back to `running`.
    RetireAborted { worker: WorkerId },

    /// A request to locks, queues, variables and the like. Answered now or later.
    Coord { call: CallId, client: Option<ClientId>, request: CoordRequest },
    /// The asker of a waiting call is gone; forget it.
    CallAbandoned { call: CallId },
    /// P2P shuffle requests. Answered with [`super::Answer::Shuffle`], [`super::Answer::Participants`],
    /// [`super::Answer::Value`] or [`super::Answer::Error`].
    Shuffle { call: CallId, request: ShuffleRequest },
    /// Turn the active memory manager on or off, or run it once (`amm_handler`).
    Amm { action: AmmAction },

    /// A deadline passed; see [`super::Scheduler::next_deadline`].
    Tick,
}

/// What `update-graph` says besides the tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphOpen {
    pub client: ClientId,
    /// The keys it wants.
    pub keys: Vec<Key>,
    /// The task that submits, for clients inside tasks.
    pub submitting_task: Option<Key>,
    /// Two submissions closer than this share a generation. Unit: seconds.
    pub fifo_timeout_secs: f64,
    /// Which of `keys` are actors.
    pub actors: Actors,
}

/// The `actors` field of `update-graph`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Actors {
    /// No task is an actor.
    #[default]
    None,
    /// All wanted keys are.
    All,
    /// The tasks of these keys are.
    Keys(Vec<Key>),
}

/// `register-worker`, the part that scheduling needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// Contact address, normalised.
    pub address: Text,
    /// Its name as sent: text or number.
    pub name: Value,
    /// The process, so that a comeback under the same address is told apart.
    pub server_id: Text,
    /// Host part of the address.
    pub host: Text,
    /// Address of its nanny, if it has one.
    pub nanny: Option<Text>,
    /// Task slots.
    pub nthreads: u32,
    /// Unit: bytes; 0: no limit.
    pub memory_limit: u64,
    /// Usually `init`; no task is sent before `running`.
    pub status: WorkerStatus,
    /// Total supply of each named resource.
    pub resources: Vec<(Text, f64)>,
    /// What runs its tasks.
    pub engine: WorkerEngine,
}

/// What runs a worker's tasks: tells how many short ones it gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerEngine {
    /// Dask's worker.
    #[default]
    Stock,
    /// Rask's own.
    Rask,
}

impl WorkerEngine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Stock, Self::Rask];

    /// By the name that a worker gives in `extra`; Dask's gives none.
    pub fn from_name(name: &str) -> Self {
        if name == Self::Rask.name() { Self::Rask } else { Self::Stock }
    }

    /// As settings, flags and pages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Rask => "rask",
        }
    }
}

/// Source: `distributed/core.py`, `Status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerStatus {
    /// Registered, plugins still starting.
    #[default]
    Init,
    /// Takes work.
    Running,
    /// Over its memory threshold: keeps its tasks, takes no new ones.
    Paused,
    /// Being retired.
    ClosingGracefully,
    /// On its way out.
    Closing,
    Closed,
}

impl WorkerStatus {
    /// Dask's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ClosingGracefully => "closing_gracefully",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// From Dask's name; none for a name that is not a worker's.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Init, Self::Running, Self::Paused, Self::ClosingGracefully, Self::Closing, Self::Closed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// `heartbeat_worker`, the part that scheduling needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Seconds that each running task has taken so far.
    pub executing: Vec<(Key, f64)>,
    /// Measured bandwidth. Unit: bytes per second.
    pub bandwidth: Option<f64>,
    /// Resident memory of the process. Unit: bytes.
    pub memory: u64,
    /// Of the managed data, what is on disk: its size in memory. Unit: bytes.
    pub spilled_memory: u64,
    /// The same, its size on disk. Unit: bytes.
    pub spilled_disk: u64,
    /// Memory that is managed according to the worker (`managed_bytes`). Unit: bytes.
    pub managed: u64,
}

/// `task-finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub key: Key,
    /// The number of the `compute-task` that this is about.
    pub run_id: RunId,
    /// Size of the result; none when unknown. Unit: bytes.
    pub nbytes: Option<i64>,
    /// Pickled class of the result; clients get it unchanged.
    pub type_pickle: Bytes,
    /// Name of the class.
    pub typename: Text,
    /// What the task noted with `set_metadata`-like calls; usually nil or empty.
    pub metadata: Value,
    /// What it spent its time on.
    pub startstops: Vec<StartStop>,
}

/// `task-erred`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Erred {
    pub key: Key,
    /// The number of the `compute-task` that this is about.
    pub run_id: RunId,
    pub failure: Failure,
}

/// One key of [`Event::UpdateData`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedData {
    pub key: Key,
    /// Who holds it; unknown workers are skipped.
    pub holders: Vec<WorkerId>,
    /// Unit: bytes.
    pub nbytes: i64,
}

/// A worker's P2P request. Source: `distributed/shuffle/_scheduler_plugin.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ShuffleRequest {
    /// `shuffle_get_or_create`, called by a transfer task.
    GetOrCreate { id: Text, key: Key, worker: Text },
    /// `shuffle_get`.
    Get { id: Text, worker: Text },
    /// `shuffle_barrier`. Answered with the participants to tell that all inputs are in.
    Barrier { id: Text, run_id: RunId, consistent: bool },
    /// `shuffle_restrict_task`: this output must run where its partition is.
    Restrict { id: Text, run_id: RunId, key: Key, worker: Text },
}

/// `amm_handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AmmAction {
    /// Run periodically.
    Start,
    /// Stop running.
    Stop,
    /// Run now, once.
    RunOnce,
}
