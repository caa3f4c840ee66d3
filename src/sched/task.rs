//! A task and its states; groups and prefixes, which tasks are counted by.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::arena::IdSet;
use super::effect::Priority;
use crate::base::{
    Annotations, ClientId, Failure, Key, Now, Opaque, RunId, ShuffleSpec, TaskId, Text, Value, WorkerId,
};

/// A state without what is true in it: where a recommendation points to, and what tasks are counted by.
///
/// Source: `distributed/scheduler.py`, `TaskStateState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateName {
    Released,
    Waiting,
    Queued,
    NoWorker,
    Processing,
    Memory,
    Erred,
    Forgotten,
}

impl StateName {
    pub(super) const fn as_str(self) -> &'static str {
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

/// How a task stands, with what is true in that state alone.
///
/// How a task failed is not here: a task inherits a failure before it comes to `erred`, see [`Rare::failure`].
#[derive(Debug)]
pub(super) enum TaskState {
    Released,
    /// `missing`: the inputs that have no replica yet. Empty only while the task is on its way to `processing`.
    Waiting {
        missing: IdSet,
    },
    /// `seq`: its place among tasks of equal priority.
    Queued {
        seq: u64,
    },
    NoWorker {
        since: Now,
    },
    /// `steal_level`: in which of its worker's stealable sets it is, if in any.
    Processing {
        on: WorkerId,
        steal_level: Option<u8>,
    },
    /// Empty only while the task is on its way out of `memory`.
    Memory {
        replicas: Vec<WorkerId>,
    },
    Erred,
    Forgotten,
}

impl TaskState {
    pub(super) const fn name(&self) -> StateName {
        match self {
            Self::Released => StateName::Released,
            Self::Waiting { .. } => StateName::Waiting,
            Self::Queued { .. } => StateName::Queued,
            Self::NoWorker { .. } => StateName::NoWorker,
            Self::Processing { .. } => StateName::Processing,
            Self::Memory { .. } => StateName::Memory,
            Self::Erred => StateName::Erred,
            Self::Forgotten => StateName::Forgotten,
        }
    }
}

/// A place in the list of recommendations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecAt(NonZeroU32);

impl RecAt {
    pub(super) fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("each task has one recommendation at most, and tasks are fewer than 2^32"))
    }

    pub(super) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

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
    /// Where its pending recommendation is.
    pub(super) rec_at: Option<RecAt>,
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
    pub(super) who_wants: Vec<ClientId>,
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
            rec_at: None,
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
            who_wants: Vec::new(),
            rare: None,
        }
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Workers with a copy of the result.
    pub(super) fn who_has(&self) -> &[WorkerId] {
        if let TaskState::Memory { replicas } = &self.state { replicas } else { &[] }
    }

    /// The worker that was told to run it.
    pub(super) const fn processing_on(&self) -> Option<WorkerId> {
        if let TaskState::Processing { on, .. } = self.state { Some(on) } else { None }
    }

    /// In which of its worker's stealable sets it is.
    pub(super) const fn steal_level(&self) -> Option<u8> {
        if let TaskState::Processing { steal_level, .. } = self.state { steal_level } else { None }
    }

    /// The inputs that it waits for.
    pub(super) const fn waiting_on(&self) -> Option<&IdSet> {
        if let TaskState::Waiting { missing } = &self.state { Some(missing) } else { None }
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

/// Tasks that one call of a collection method made. Source: `distributed/scheduler.py`, `TaskGroup`.
#[derive(Debug)]
pub(super) struct TaskGroup {
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

/// Tasks of one name: what durations are learnt by. Source: `distributed/scheduler.py`, `TaskPrefix`.
#[derive(Debug)]
pub(super) struct TaskPrefix {
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

#[cfg(test)]
mod tests {
    use super::Task;

    /// Goal: no field slips in that costs memory for every task; a cluster may know millions.
    /// Method: the size when this was last looked at, on the 64-bit machines that rask is built for.
    #[test]
    fn a_task_takes_no_more_memory_than_it_did() {
        assert_eq!(
            size_of::<Task>(),
            272,
            "what few tasks need belongs into `Rare`, what one state needs into that state"
        );
    }
}
