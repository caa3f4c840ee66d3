//! What a look at a running scheduler brings home: plain data, made between two steps, shown by `feed`.
//!
//! Data only. Long lists are shared or bounded, so that a look costs the scheduler little.

use std::sync::Arc;

use crate::base::{Text, Value};
use crate::cluster::records::computations::Computation;
use crate::cluster::records::failures::FailureCause;
use crate::cluster::records::timeline::{Lane, RectChunk};
use crate::cluster::records::worker_metrics::Speed;
use crate::sched::coord::CoordView;
use crate::sched::{Counts, MemoryView, StealTotal};

/// Which parts a look should bring. What is not asked for is not made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotParts {
    pub workers: bool,
    pub prefixes: bool,
    /// At most this number of groups.
    pub groups: Option<usize>,
    /// The task graph, if it has at most this number of tasks.
    pub graph: Option<usize>,
    /// Rectangles from this number on; and the threads from this index on.
    pub rects: Option<(u64, usize)>,
    /// Events of this topic from this number on.
    pub events: Option<(Text, u64)>,
    /// Events of stealing from this number on.
    pub stealing: Option<u64>,
    /// Log lines from this number on.
    pub logs: Option<u64>,
    /// Bandwidth by type and pair.
    pub bandwidth: bool,
    /// Fine performance metrics.
    pub fine: bool,
    /// Exceptions by cause.
    pub exceptions: bool,
    pub shuffle: bool,
    /// Locks, queues and the like.
    pub coordination: bool,
    pub clients: bool,
    pub computations: bool,
}

/// What there is always.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Unit: seconds since the epoch.
    pub at_secs: f64,
    /// When the scheduler began. Unit: seconds since the epoch.
    pub started_secs: f64,
    /// The announced address of the scheduler.
    pub address: Text,
    pub id: Text,
    /// Tasks and workers counted.
    pub counts: Counts,
    /// Workers that pause, and those being retired.
    pub paused: usize,
    /// See [`Totals::paused`].
    pub retiring: usize,
    /// Number of machines with workers.
    pub hosts: usize,
    /// Number of clients with a stream.
    pub clients: usize,
    /// How many workers the work wants.
    pub desired_workers: usize,
    /// Tasks that came to memory since the start.
    pub done: u64,
    /// Tasks that came to erred since the start.
    pub erred: u64,
    /// Number of seceded tasks that still run.
    pub long_running: usize,
    /// Expected work. Unit: thread seconds.
    pub occupancy_secs: f64,
    /// Smoothed over all transfers. Unit: bytes per second.
    pub bandwidth: f64,
    /// Graphs that are being read now.
    pub open_graphs: usize,
    /// Messages that wait for the scheduler.
    pub inbox: usize,
    /// Tasks that have restrictions which no worker meets, or wait for any worker.
    pub no_worker: usize,
}

#[derive(Clone, Debug)]
pub struct WorkerSnapshot {
    pub address: Text,
    /// The worker's name as people read it.
    pub name: Text,
    /// Host part of the address.
    pub host: Text,
    /// Address of its nanny.
    pub nanny: Option<Text>,
    /// Whose worker it is: `rask` or `stock`.
    pub engine: &'static str,
    /// Task slots.
    pub nthreads: u32,
    /// Unit: bytes; 0: no limit.
    pub memory_limit: u64,
    /// Dask's name of its status.
    pub status: &'static str,
    /// Total supply of resources.
    pub resources: Vec<(Text, f64)>,
    /// Size and number of the keys it holds.
    pub nbytes: i64,
    /// See [`WorkerSnapshot::nbytes`].
    pub nkeys: usize,
    /// Tasks sent to it and not finished; of these, seceded.
    pub processing: usize,
    /// See [`WorkerSnapshot::processing`].
    pub long_running: usize,
    /// Unit: thread seconds.
    pub occupancy_secs: f64,
    pub memory: MemoryView,
    /// `metrics` of its last heartbeat.
    pub metrics: Arc<Value>,
    /// Ports of its services.
    pub services: Value,
    /// The worker's folder for spilled data.
    pub local_directory: Value,
    /// Unit: seconds since the epoch.
    pub last_seen_secs: f64,
}

/// One prefix. See [`crate::sched::PrefixView`].
#[derive(Clone, Debug)]
pub struct PrefixSnapshot {
    pub name: Text,
    /// Tasks by state, in the order of [`crate::sched::STATE_NAMES`].
    pub states: [usize; 7],
    /// Tasks that came into each state since the start.
    pub totals: [u64; 7],
    /// Average run. Unit: seconds.
    pub duration_secs: Option<f64>,
    /// Bytes its results in memory take.
    pub nbytes: i64,
    /// Seconds spent by action: compute, transfer, disk-read, disk-write, deserialize, other.
    pub spent_secs: [f64; 6],
    /// Deaths of workers it was involved in.
    pub suspicious: u64,
}

#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    pub name: Text,
    /// Index and name of its prefix.
    pub prefix: (u32, Text),
    /// Tasks by state, in the order of [`crate::sched::STATE_NAMES`].
    pub states: [u32; 7],
    pub forgotten: u32,
    /// All tasks ever.
    pub total: u32,
    /// Groups it depends on.
    pub dependencies: Vec<Text>,
}

/// One task of the graph.
#[derive(Clone, Debug)]
pub struct NodeSnapshot {
    /// The task's place; reused after the task is forgotten.
    pub slot: u32,
    pub key: String,
    /// Index of its prefix.
    pub prefix: u32,
    /// Dask's name of its state.
    pub state: &'static str,
    /// Places of what it depends on.
    pub dependencies: Vec<u32>,
}

/// Rectangles of the task stream.
#[derive(Clone, Debug, Default)]
pub struct TimelineWindow {
    /// Whole chunks: the first may begin before what was asked for.
    pub chunks: Vec<Arc<RectChunk>>,
    /// Numbers of the oldest that is kept and of the next that comes.
    pub first: u64,
    /// See [`TimelineWindow::first`].
    pub next: u64,
    /// Threads from the asked index on.
    pub lanes: Vec<Lane>,
    /// Names of all prefixes, in order of their index.
    pub prefixes: Vec<Text>,
}

/// An event or log line: its number, when (seconds since the epoch), and what.
pub type Numbered<T> = (u64, f64, T);

#[derive(Clone, Debug)]
pub struct ClientSnapshot {
    pub name: Text,
    /// How many keys it wants.
    pub wants: usize,
    /// None for one without a stream, such as a queue's or `fire-and-forget`.
    pub last_seen_secs: Option<f64>,
    /// As it told them.
    pub versions: Value,
}

/// One shuffle that runs.
#[derive(Clone, Debug)]
pub struct ShuffleSnapshot {
    pub id: Text,
    pub run_id: i64,
    /// Workers with output partitions.
    pub workers: usize,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Always there.
    pub totals: Totals,
    /// By address.
    pub workers: Vec<WorkerSnapshot>,
    /// By index.
    pub prefixes: Vec<PrefixSnapshot>,
    /// Newest first.
    pub groups: Vec<GroupSnapshot>,
    /// None: not asked for, or too many tasks.
    pub graph: Option<Vec<NodeSnapshot>>,
    pub stream: Option<TimelineWindow>,
    /// Events of the topic.
    pub events: Vec<Numbered<Value>>,
    pub stealing: Vec<Numbered<Value>>,
    pub steal_totals: Vec<StealTotal>,
    /// Level and text.
    pub logs: Vec<Numbered<(Text, Text)>>,
    /// By name of the type.
    pub bandwidth_types: Vec<(Text, Speed)>,
    /// From (who received), to (who sent).
    pub bandwidth_pairs: Vec<((Text, Text), Speed)>,
    /// Sums by labels, joined by a vertical bar.
    pub fine: Vec<(String, f64)>,
    /// Each under a number that stays.
    pub exceptions: Vec<(u64, FailureCause)>,
    /// Shuffles that run.
    pub shuffles: Vec<ShuffleSnapshot>,
    /// By shuffle and worker, as the worker told it.
    pub shuffle_workers: Vec<((String, Text), Value)>,
    /// Locks, queues and the like.
    pub coordination: Vec<CoordView>,
    pub clients: Vec<ClientSnapshot>,
    /// Computations, oldest first.
    pub computations: Vec<Computation>,
}
