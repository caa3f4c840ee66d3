//! What the scheduler knows of workers and clients.

use std::collections::VecDeque;

use super::event::{WorkerHello, WorkerStatus};
use super::task::PrefixAt;
use crate::base::{Now, SeededMap, SeededSet, TaskId, Text};

/// Levels of the stealable sets. Source: `distributed/stealing.py`.
pub(super) const STEAL_LEVELS: usize = 15;

/// One registered worker. Source: `distributed/scheduler.py`, `WorkerState`.
#[derive(Debug)]
pub(super) struct RegisteredWorker {
    pub(super) hello: WorkerHello,
    pub(super) status: WorkerStatus,
    /// It is no part of the cluster any more, and about to be forgotten. Workers that say `closed` still are: they go
    /// when their connection ends.
    pub(super) removed: bool,
    /// Its machine is silent; this would be its status otherwise.
    pub(super) silent: Option<WorkerStatus>,
    /// Unit: bytes.
    pub(super) nbytes: i64,
    pub(super) has_what: SeededSet<TaskId>,
    pub(super) processing: SeededSet<TaskId>,
    pub(super) long_running: SeededSet<TaskId>,
    pub(super) actors: SeededSet<TaskId>,
    /// Inputs it still lacks, and how many of its tasks want each.
    pub(super) needs_what: SeededMap<TaskId, u32>,
    /// Bytes of those inputs, each counted once.
    pub(super) network_bytes: i64,
    /// Processing tasks by prefix, long-running ones not counted.
    pub(super) prefix_counts: Vec<(PrefixAt, u32)>,
    pub(super) used_resources: Vec<(Text, f64)>,
    pub(super) last_seen: Now,
    /// Place in `Scheduler::idle`.
    pub(super) idle_at: Option<usize>,
    /// Its entry in `Scheduler::open_slots`.
    pub(super) slot_load: Option<u64>,
    /// Its entry in `Scheduler::by_load`.
    pub(super) load: Option<u64>,
    pub(super) saturated: bool,
    pub(super) stealable: [SeededSet<TaskId>; STEAL_LEVELS],
    /// Occupancy that is about to arrive by stealing (or leave). Unit: seconds.
    pub(super) in_flight_secs: f64,
    pub(super) in_flight_tasks: i64,
    pub(super) memory: WorkerMemory,
}

/// Memory as told by heartbeats. Unit: bytes.
#[derive(Debug, Default)]
pub(super) struct WorkerMemory {
    pub(super) process: u64,
    pub(super) spilled_memory: u64,
    pub(super) spilled_disk: u64,
    /// Unmanaged memory at each of the last heartbeats.
    pub(super) unmanaged: VecDeque<(Now, u64)>,
    /// The smallest of these: what has been there for a while.
    pub(super) unmanaged_old: u64,
}

impl RegisteredWorker {
    pub(super) fn new(hello: WorkerHello, now: Now) -> Self {
        let used_resources = hello.resources.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        Self {
            status: hello.status,
            removed: false,
            silent: None,
            hello,
            nbytes: 0,
            has_what: SeededSet::default(),
            processing: SeededSet::default(),
            long_running: SeededSet::default(),
            actors: SeededSet::default(),
            needs_what: SeededMap::default(),
            network_bytes: 0,
            prefix_counts: Vec::new(),
            used_resources,
            last_seen: now,
            idle_at: None,
            slot_load: None,
            load: None,
            saturated: false,
            stealable: Default::default(),
            in_flight_secs: 0.0,
            in_flight_tasks: 0,
            memory: WorkerMemory::default(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.status == WorkerStatus::Running
    }

    pub(super) fn nthreads(&self) -> f64 {
        f64::from(self.hello.nthreads.max(1))
    }

    /// Unit: bytes.
    pub(super) fn managed(&self) -> u64 {
        let in_memory = u64::try_from(self.nbytes).unwrap_or(0).saturating_sub(self.memory.spilled_memory);
        in_memory.min(self.memory.process)
    }
}

/// A client, real or pseudo. Source: `distributed/scheduler.py`, `ClientState`.
#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) name: Text,
    pub(super) wants_what: SeededSet<TaskId>,
}
