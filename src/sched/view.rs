//! What may be read of a scheduler from outside. Reads never change anything.

use std::sync::Arc;

use super::Scheduler;
use super::effect::Priority;
use super::event::WorkerStatus;
use crate::base::{ClientId, Failure, Key, Opaque, Text, Value, WorkerId};

/// A worker as seen from outside.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// Its id.
    pub id: WorkerId,
    /// Its address.
    pub address: &'a Text,
    /// Text or number.
    pub name: &'a Value,
    /// Host part of the address.
    pub host: &'a Text,
    /// Its nanny's address.
    pub nanny: Option<&'a Text>,
    /// Its process.
    pub server_id: &'a Text,
    /// Task slots.
    pub nthreads: u32,
    /// Unit: bytes; 0: no limit.
    pub memory_limit: u64,
    /// Where it is in its life.
    pub status: WorkerStatus,
    /// Total supply of resources.
    pub resources: &'a [(Text, f64)],
    /// Size of the keys it holds. Unit: bytes.
    pub nbytes: i64,
    /// Number of keys it holds.
    pub nkeys: usize,
    /// Tasks sent to it and not finished.
    pub processing: usize,
    /// Of these, seceded.
    pub long_running: usize,
    /// Expected time to finish them. Unit: thread seconds.
    pub occupancy: f64,
    /// Memory parts. Unit: bytes.
    pub memory: MemoryView,
}

/// Source: `distributed/scheduler.py`, `MemoryState`. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryView {
    /// Resident memory.
    pub process: u64,
    /// Managed data in memory.
    pub managed: u64,
    /// Managed data on disk.
    pub spilled: u64,
    /// Unmanaged memory that has been there for a while.
    pub unmanaged_old: u64,
}

impl MemoryView {
    /// Unmanaged memory that came lately.
    pub const fn unmanaged_recent(&self) -> u64 {
        self.process.saturating_sub(self.managed).saturating_sub(self.unmanaged_old)
    }
    /// What will stay when recent unmanaged memory is gone.
    pub const fn optimistic(&self) -> u64 {
        self.managed.saturating_add(self.unmanaged_old)
    }
}

/// A task as seen from outside.
#[derive(Clone, Debug)]
pub struct TaskView<'a> {
    /// Its key.
    pub key: &'a Key,
    /// Dask's name of its state.
    pub state: &'static str,
    /// Size of its result; -1 when unknown. Unit: bytes.
    pub nbytes: i64,
    /// Name of the result's class.
    pub typename: Option<&'a Text>,
    /// Workers with a copy.
    pub holders: &'a [WorkerId],
    /// Worker that has been told to run it.
    pub processing_on: Option<WorkerId>,
    /// None before its graph gave it one.
    pub priority: Option<Priority>,
    /// Run spec frames.
    pub run_spec: Option<&'a Arc<Opaque>>,
    /// How it failed, when erred (the blamed task's failure).
    pub failure: Option<&'a Failure>,
    /// The task whose failure it is.
    pub blame: Option<&'a Key>,
    /// Group name.
    pub group: &'a Text,
    /// Prefix name.
    pub prefix: &'a Text,
    /// It is an actor.
    pub actor: bool,
    /// What the task noted about itself; nil when nothing.
    pub metadata: &'a Value,
}

/// Numbers for `counts.json` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All tasks.
    pub tasks: usize,
    /// By state: released, waiting, queued, no-worker, processing, memory, erred.
    pub by_state: [usize; 7],
    /// Bytes held by workers.
    pub bytes: i64,
    /// Clients, pseudo clients included.
    pub clients: usize,
    /// Workers.
    pub workers: usize,
    /// Threads of all workers.
    pub threads: u64,
    /// Workers that could take more.
    pub idle: usize,
    /// Workers with a backlog.
    pub saturated: usize,
    /// Transitions since start.
    pub transitions: u64,
}

/// Names of the states counted in [`Counts::by_state`], in its order.
pub const STATE_NAMES: [&str; 7] = ["released", "waiting", "queued", "no-worker", "processing", "memory", "erred"];

/// One line of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct StoryLine {
    /// The task.
    pub key: Key,
    /// State before.
    pub start: &'static str,
    /// State after.
    pub finish: &'static str,
    /// What set it off: kind and number of the step.
    pub stimulus: (&'static str, u64),
    /// When. Unit: microseconds since the scheduler was made.
    pub at_us: u64,
}

/// Totals of one prefix, for durations, metrics and pages.
#[derive(Clone, Debug)]
pub struct PrefixView<'a> {
    /// Its name.
    pub name: &'a Text,
    /// Tasks by state, in the order of [`STATE_NAMES`].
    pub states: [usize; 7],
    /// Average compute time; none when unknown. Unit: seconds.
    pub duration_secs: Option<f64>,
    /// Bytes its results take.
    pub nbytes_total: i64,
    /// Seconds spent, by action: compute, transfer, disk-read, disk-write, deserialize, other.
    pub spent_secs: [f64; 6],
    /// Deaths of workers it was involved in.
    pub suspicious: u64,
    /// Tasks that came into each state since start, same order as `states`.
    pub state_totals: [u64; 7],
}

impl Scheduler {
    /// The client of that name.
    pub fn client_id(&self, _name: &str) -> Option<ClientId> {
        None
    }
    /// Every client, pseudo clients included.
    pub fn clients(&self) -> Vec<(ClientId, Text)> {
        Vec::new()
    }
    /// Names of the clients that want this key.
    pub fn who_wants(&self, _key: &Key) -> Vec<Text> {
        Vec::new()
    }
    /// The worker at that address.
    pub fn worker_by_address(&self, _address: &str) -> Option<WorkerId> {
        None
    }
    /// The worker meant by an address, a name, or `host:port` without scheme.
    pub fn worker_by_alias(&self, _alias: &Value) -> Option<WorkerId> {
        None
    }
    /// Workers meant by addresses, names or hosts; a host means all its workers. Source: `workers_list`.
    pub fn workers_by_alias(&self, _aliases: &[Value]) -> Vec<WorkerId> {
        Vec::new()
    }
    /// One worker.
    pub fn worker(&self, _id: WorkerId) -> Option<WorkerView<'_>> {
        None
    }
    /// All workers, in the order they came.
    pub fn workers(&self) -> Vec<WorkerView<'_>> {
        Vec::new()
    }
    /// Keys a worker holds, in the order it got them.
    pub fn has_what(&self, _id: WorkerId) -> Vec<Key> {
        Vec::new()
    }
    /// Keys a worker was told to compute.
    pub fn processing(&self, _id: WorkerId) -> Vec<Key> {
        Vec::new()
    }
    /// One task.
    pub fn task(&self, _key: &Key) -> Option<TaskView<'_>> {
        None
    }
    /// All tasks, in no particular order.
    pub fn tasks(&self) -> Vec<TaskView<'_>> {
        Vec::new()
    }
    /// Keys a task needs and keys that need it.
    pub fn edges(&self, _key: &Key) -> (Vec<Key>, Vec<Key>) {
        (Vec::new(), Vec::new())
    }
    /// The keys this one waits for that are processing now, itself included (`get_call_stack`).
    pub fn processing_below(&self, _keys: &[Key]) -> Vec<Key> {
        Vec::new()
    }
    /// Totals.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
    /// Totals by prefix.
    pub fn prefixes(&self) -> Vec<PrefixView<'_>> {
        Vec::new()
    }
    /// Transitions of tasks or stimuli that are named here, oldest first; all when empty.
    pub fn story(&self, _keys: &[Key]) -> Vec<StoryLine> {
        Vec::new()
    }
    /// How many workers the present work wants. Source: `adaptive_target`.
    pub fn adaptive_target(&self, _target_duration_secs: f64) -> usize {
        0
    }
    /// Workers that can go, best first. `ratio`: `memory_ratio`. Source: `workers_to_close`.
    pub fn workers_to_close(&self, _wish: &CloseWish) -> Vec<WorkerId> {
        Vec::new()
    }
    /// Since when nothing happens; none when something does. Unit: microseconds since creation.
    pub fn idle_since_us(&self) -> Option<u64> {
        None
    }
    /// Is the active memory manager running?
    pub fn amm_running(&self) -> bool {
        false
    }
    /// Did the last [`super::Event::TaskFinished`] or [`super::Event::TaskErred`] count (rather than being old news)?
    pub fn run_counted(&self) -> bool {
        false
    }
    /// Semaphores: name, max leases, taken, waiting.
    pub fn semaphores(&self) -> Vec<(Key, i64, usize, usize)> {
        Vec::new()
    }
    /// Scheduler-wide bandwidth. Unit: bytes per second.
    pub fn bandwidth(&self) -> f64 {
        0.0
    }
    /// Active P2P shuffles: id, run number, participants.
    pub fn shuffles(&self) -> Vec<(Text, i64, Vec<Text>)> {
        Vec::new()
    }
}

/// Arguments of `workers_to_close`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloseWish {
    /// How many; none: by memory.
    pub n: Option<usize>,
    /// Keep this many.
    pub minimum: Option<usize>,
    /// End with this many.
    pub target: Option<usize>,
    /// Keep so many times the memory that data takes; none: 2.
    pub memory_ratio: Option<f64>,
}
