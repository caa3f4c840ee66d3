//! A task and its states; groups and prefixes, which tasks are counted by.

use std::sync::Arc;

use super::arena::IdSet;
use super::effect::Priority;
use crate::base::{
    Annotations, ClientId, Failure, Key, Now, Opaque, RunId, ShuffleSpec, TaskId, Text, Value, WorkerId,
};

/// Source: `distributed/scheduler.py`, `TaskStateState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Released,
    Waiting,
    Queued,
    NoWorker,
    Processing,
    Memory,
    Erred,
    Forgotten,
}

impl TaskState {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::NoWorker => "no-worker",
            Self::Processing => "processing",
            Self::Memory => "memory",
            Self::Erred => "erred",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Index into the list of groups.
pub(super) type GroupAt = u32;
/// Index into the list of prefixes.
pub(super) type PrefixAt = u32;

/// No place in the list of recommendations.
pub(super) const NO_REC: u32 = u32::MAX;
/// Not stealable.
pub(super) const NO_LEVEL: u8 = u8::MAX;

/// One task. Fields that few tasks need are in [`Rare`].
#[derive(Debug)]
pub(super) struct Task {
    pub(super) key: Key,
    pub(super) group: GroupAt,
    pub(super) state: TaskState,
    pub(super) actor: bool,
    pub(super) data_producer: bool,
    /// False: placed at once even when workers are full (P2P outputs).
    pub(super) queueable: bool,
    /// A dependency was forgotten: can't run any more.
    pub(super) lost_dependencies: bool,
    /// Level of its victim's stealable sets, or [`NO_LEVEL`].
    pub(super) steal_level: u8,
    /// Where its pending recommendation is, or [`NO_REC`].
    pub(super) rec_at: u32,
    pub(super) retries: u32,
    pub(super) suspicious: u32,
    pub(super) priority: Option<Priority>,
    pub(super) run_id: RunId,
    /// Unit: bytes; -1: unknown.
    pub(super) nbytes: i64,
    pub(super) run_spec: Option<Arc<Opaque>>,
    pub(super) annotations: Option<Arc<Annotations>>,
    pub(super) typename: Option<Text>,
    pub(super) dependencies: Vec<TaskId>,
    pub(super) dependents: IdSet,
    pub(super) waiters: IdSet,
    pub(super) waiting_on: IdSet,
    pub(super) who_wants: Vec<ClientId>,
    pub(super) who_has: Vec<WorkerId>,
    pub(super) processing_on: Option<WorkerId>,
    /// When it came into `no-worker`.
    pub(super) unrunnable_since: Now,
    /// Its place among equals in the queue.
    pub(super) queue_seq: u64,
    pub(super) rare: Option<Box<Rare>>,
}

/// What only some tasks have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) failure: Option<Arc<Failure>>,
    /// The task whose failure this is.
    pub(super) blame: Option<TaskId>,
    pub(super) erred_on: Vec<WorkerId>,
    pub(super) worker_restrictions: Vec<Text>,
    pub(super) host_restrictions: Vec<Text>,
    pub(super) resources: Vec<(Text, f64)>,
    pub(super) loose: bool,
    pub(super) metadata: Value,
    pub(super) shuffle: Option<Arc<ShuffleSpec>>,
    /// Worker restrictions before a shuffle pinned it.
    pub(super) unpinned: Option<Vec<Text>>,
}

impl Task {
    pub(super) fn new(key: Key, group: GroupAt) -> Self {
        Self {
            key,
            group,
            state: TaskState::Released,
            actor: false,
            data_producer: false,
            queueable: true,
            lost_dependencies: false,
            steal_level: NO_LEVEL,
            rec_at: NO_REC,
            retries: 0,
            suspicious: 0,
            priority: None,
            run_id: 0,
            nbytes: -1,
            run_spec: None,
            annotations: None,
            typename: None,
            dependencies: Vec::new(),
            dependents: IdSet::default(),
            waiters: IdSet::default(),
            waiting_on: IdSet::default(),
            who_wants: Vec::new(),
            who_has: Vec::new(),
            processing_on: None,
            unrunnable_since: Now(0),
            queue_seq: 0,
            rare: None,
        }
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn blame(&self) -> Option<TaskId> {
        self.rare.as_ref()?.blame
    }

    /// Is it wanted by anybody, task or client?
    pub(super) fn is_needed(&self) -> bool {
        !self.waiters.is_empty() || !self.who_wants.is_empty()
    }

    /// Can nobody ever need it again, unless a graph names it?
    pub(super) fn is_of_no_use(&self) -> bool {
        self.dependents.is_empty() && self.who_wants.is_empty()
    }

    pub(super) fn is_restricted(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| {
            !rare.worker_restrictions.is_empty() || !rare.host_restrictions.is_empty() || !rare.resources.is_empty()
        })
    }

    /// The order among runnable tasks; tasks without a priority come last.
    pub(super) fn rank(&self) -> Rank {
        self.priority.map_or(Rank([u64::MAX; 3]), |p| Rank([p.user, p.generation, p.order].map(sortable)))
    }
}

/// A priority as numbers that compare the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(pub(super) [u64; 3]);

/// Bits of a float such that unsigned comparison is numeric comparison.
fn sortable(number: f64) -> u64 {
    // Adding zero turns -0.0 into 0.0, which Python holds equal.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// How many states are counted; `forgotten` is the last.
pub(super) const STATES: usize = 8;

/// Tasks that one call of a collection method made. Source: `TaskGroup`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Text,
    pub(super) prefix: PrefixAt,
    pub(super) states: [u32; STATES],
    /// All tasks ever, forgotten ones included, as Dask's `len(group)`.
    pub(super) len: u32,
    /// Groups its tasks depend on, each with the number of its slot's reuse at that time.
    pub(super) dependencies: Vec<(GroupAt, u32)>,
    pub(super) last_worker: Option<WorkerId>,
    pub(super) last_worker_tasks_left: i64,
    /// How often the slot was used before.
    pub(super) generation: u32,
}

/// Tasks of one name: what durations are learnt by. Source: `TaskPrefix`.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) name: Text,
    pub(super) states: [usize; STATES],
    /// Tasks that came into each state since start.
    pub(super) state_totals: [u64; STATES],
    /// Average compute time. Unit: seconds; negative: unknown.
    pub(super) duration: f64,
    /// Longest of the running ones. Unit: seconds; negative: none.
    pub(super) max_exec: f64,
    /// By [`super::Action`].
    pub(super) spent: [f64; 6],
    pub(super) nbytes_total: i64,
    /// Of the results in memory only.
    pub(super) nbytes_memory: i64,
    pub(super) suspicious: u64,
    /// Sent to workers and not finished, long-running ones not counted.
    pub(super) processing: u32,
    /// Place in `Scheduler::active_prefixes`.
    pub(super) active_at: Option<usize>,
    /// Never worth moving: known to take no more than a millisecond.
    pub(super) fast: bool,
    /// Tasks whose place in the stealable sets was guessed for want of a duration.
    pub(super) unknown: Vec<TaskId>,
}
