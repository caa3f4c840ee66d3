//! One task of a worker, and the arena of all of them.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use super::phase::{TaskPhase, TaskTarget};
use super::rank::TaskPriority;
use crate::base::{Key, RunId, SeededMap, Text};

/// Names a task in the arena. Ordered by creation, so that walks over sets of tasks go the same way each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskRef {
    serial: u32,
    place: u32,
}

/// Names a peer in [`super::peer::PeerTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerRef(pub(super) u32);

/// A run that was handed to the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) slot: u32,
    /// The number that the executor knows; a repeated `compute-task` renews the task's number, not this one.
    pub(super) run: RunId,
}

/// What goes on although the task was cancelled meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    Flight { from: PeerRef },
    Pushed { job: Job },
    Executing { job: Job },
    LongRunning { job: Job },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum WorkerTaskState {
    Released,
    /// Waits in the queue of each peer that holds it, under this rank.
    Fetch {
        rank: TaskPriority,
    },
    Flight {
        from: PeerRef,
    },
    Missing,
    Waiting {
        missing: BTreeSet<TaskRef>,
    },
    Ready,
    Constrained,
    Pushed {
        job: Job,
    },
    Executing {
        job: Job,
    },
    LongRunning {
        job: Job,
    },
    Memory {
        size_bytes: u64,
    },
    Error,
    Cancelled {
        was: Was,
    },
    /// After a transfer the task is run, after a run it is fetched.
    Resumed {
        was: Was,
    },
}

impl WorkerTaskState {
    pub(super) const fn phase(&self) -> TaskPhase {
        match self {
            Self::Released => TaskPhase::Released,
            Self::Fetch { .. } => TaskPhase::Fetch,
            Self::Flight { .. } => TaskPhase::Flight,
            Self::Missing => TaskPhase::Missing,
            Self::Waiting { .. } => TaskPhase::Waiting,
            Self::Ready => TaskPhase::Ready,
            Self::Constrained => TaskPhase::Constrained,
            Self::Pushed { .. } => TaskPhase::Pushed,
            Self::Executing { .. } => TaskPhase::Executing,
            Self::LongRunning { .. } => TaskPhase::LongRunning,
            Self::Memory { .. } => TaskPhase::Memory,
            Self::Error => TaskPhase::Error,
            Self::Cancelled { .. } => TaskPhase::Cancelled,
            Self::Resumed { .. } => TaskPhase::Resumed,
        }
    }

    /// The run or transfer under way, cancelled or not.
    pub(super) const fn under_way(&self) -> Option<Was> {
        Some(match self {
            Self::Flight { from } => Was::Flight { from: *from },
            Self::Pushed { job } => Was::Pushed { job: *job },
            Self::Executing { job } => Was::Executing { job: *job },
            Self::LongRunning { job } => Was::LongRunning { job: *job },
            Self::Cancelled { was } | Self::Resumed { was } => *was,
            Self::Released
            | Self::Fetch { .. }
            | Self::Missing
            | Self::Waiting { .. }
            | Self::Ready
            | Self::Constrained
            | Self::Memory { .. }
            | Self::Error => return None,
        })
    }

    /// The run that the executor has, cancelled or not.
    pub(super) const fn job(&self) -> Option<Job> {
        match self.under_way() {
            Some(Was::Pushed { job } | Was::Executing { job } | Was::LongRunning { job }) => Some(job),
            Some(Was::Flight { .. }) | None => None,
        }
    }

    /// The same, with another run or transfer under way.
    pub(super) fn with_under_way(&self, was: Was) -> Self {
        match self {
            Self::Cancelled { .. } => Self::Cancelled { was },
            Self::Resumed { .. } => Self::Resumed { was },
            Self::Released
            | Self::Fetch { .. }
            | Self::Flight { .. }
            | Self::Missing
            | Self::Waiting { .. }
            | Self::Ready
            | Self::Constrained
            | Self::Pushed { .. }
            | Self::Executing { .. }
            | Self::LongRunning { .. }
            | Self::Memory { .. }
            | Self::Error => was.state(),
        }
    }
}

impl Was {
    /// The state of a task that nobody cancelled.
    pub(super) const fn state(self) -> WorkerTaskState {
        match self {
            Self::Flight { from } => WorkerTaskState::Flight { from },
            Self::Pushed { job } => WorkerTaskState::Pushed { job },
            Self::Executing { job } => WorkerTaskState::Executing { job },
            Self::LongRunning { job } => WorkerTaskState::LongRunning { job },
        }
    }
}

/// What a task is to become, with what that needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    Released,
    Fetch,
    Flight { from: PeerRef },
    Missing,
    Waiting,
    Ready,
    Constrained,
    Executing { slot: u32 },
    LongRunning { compute_secs: f64 },
    Memory { source: ValueSource, size_bytes: u64 },
    Error { run: RunId },
    Rescheduled,
    Forgotten,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ValueSource {
    /// A run or a transfer; the number is the run's, or the task's latest.
    Work { run: RunId },
    /// A client.
    Scatter,
}

impl Goal {
    pub(super) const fn target(self) -> TaskTarget {
        match self {
            Self::Released => TaskTarget::Released,
            Self::Fetch => TaskTarget::Fetch,
            Self::Flight { .. } => TaskTarget::Flight,
            Self::Missing => TaskTarget::Missing,
            Self::Waiting => TaskTarget::Waiting,
            Self::Ready => TaskTarget::Ready,
            Self::Constrained => TaskTarget::Constrained,
            Self::Executing { .. } => TaskTarget::Executing,
            Self::LongRunning { .. } => TaskTarget::LongRunning,
            Self::Memory { .. } => TaskTarget::Memory,
            Self::Error { .. } => TaskTarget::Error,
            Self::Rescheduled => TaskTarget::Rescheduled,
            Self::Forgotten => TaskTarget::Forgotten,
        }
    }
}

/// A peer that holds a value, and since when we know: of equal priorities, the oldest is asked for first.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldBy {
    pub(super) peer: PeerRef,
    pub(super) turn: u64,
}

/// One task. Fields that outlive a single state are here, all others in [`WorkerTaskState`].
#[derive(Debug)]
pub(super) struct WorkerTask {
    pub(super) key: Key,
    pub(super) state: WorkerTaskState,
    /// What the current step is still to do with it.
    pub(super) goal: Option<Goal>,
    /// Its run or transfer ended in this step. False between steps for everything that is under way.
    pub(super) done: bool,
    /// The latest number from the scheduler; negative if it was never to be run here.
    pub(super) run: RunId,
    pub(super) rank: Option<TaskPriority>,
    pub(super) dependencies: BTreeSet<TaskRef>,
    pub(super) dependents: BTreeSet<TaskRef>,
    /// Dependents that asked for this value and were not released since.
    pub(super) waiters: BTreeSet<TaskRef>,
    pub(super) holders: Vec<HeldBy>,
    /// The size of the value, held or not, if known.
    pub(super) size_bytes: Option<u64>,
    pub(super) resources: Vec<(Text, f64)>,
    pub(super) may_wait_in_slot: bool,
    /// Index of its prefix among the durations.
    pub(super) prefix: Option<u32>,
}

/// Tasks by reference and by key, with how many are in each state.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    places: Vec<(u32, Option<Box<WorkerTask>>)>,
    free: Vec<u32>,
    by_key: SeededMap<Key, TaskRef>,
    created: u32,
    counts: [u32; TaskPhase::COUNT],
}

impl Tasks {
    pub(super) fn find(&self, key: &Key) -> Option<TaskRef> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: TaskRef) -> Option<&WorkerTask> {
        self.places.get(id.place as usize).filter(|place| place.0 == id.serial)?.1.as_deref()
    }

    /// The task with this key, made if it is unknown.
    pub(super) fn ensure(&mut self, key: &Key) -> TaskRef {
        if let Some(id) = self.find(key) {
            return id;
        }
        let task = Box::new(WorkerTask {
            key: key.clone(),
            state: WorkerTaskState::Released,
            goal: None,
            done: false,
            run: -1,
            rank: None,
            dependencies: BTreeSet::new(),
            dependents: BTreeSet::new(),
            waiters: BTreeSet::new(),
            holders: Vec::new(),
            size_bytes: None,
            resources: Vec::new(),
            may_wait_in_slot: false,
            prefix: None,
        });
        self.created = self.created.wrapping_add(1);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 tasks fit in memory")
        });
        self.places[place as usize] = (self.created, Some(task));
        let id = TaskRef { serial: self.created, place };
        self.by_key.insert(key.clone(), id);
        self.counts[TaskPhase::Released as usize] += 1;
        id
    }

    pub(super) fn remove(&mut self, id: TaskRef) {
        let Some(place) = self.places.get_mut(id.place as usize).filter(|place| place.0 == id.serial) else { return };
        let Some(task) = place.1.take() else { return };
        self.free.push(id.place);
        self.by_key.remove(&task.key);
        self.counts[task.state.phase() as usize] -= 1;
    }

    /// The one way to change a state: keeps the counts. Returns the state before.
    pub(super) fn set_state(&mut self, id: TaskRef, state: WorkerTaskState) -> WorkerTaskState {
        let phase = state.phase();
        let before = std::mem::replace(&mut self[id].state, state);
        self.counts[before.phase() as usize] -= 1;
        self.counts[phase as usize] += 1;
        before
    }

    pub(super) const fn count(&self, phase: TaskPhase) -> u32 {
        self.counts[phase as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskRef, &WorkerTask)> {
        (0u32..)
            .zip(&self.places)
            .filter_map(|(place, (serial, task))| Some((TaskRef { serial: *serial, place }, task.as_deref()?)))
    }
}

impl Index<TaskRef> for Tasks {
    type Output = WorkerTask;
    fn index(&self, id: TaskRef) -> &WorkerTask {
        self.get(id).expect("references between tasks are dropped before the task is")
    }
}

impl IndexMut<TaskRef> for Tasks {
    fn index_mut(&mut self, id: TaskRef) -> &mut WorkerTask {
        let place = self.places.get_mut(id.place as usize).filter(|place| place.0 == id.serial);
        place.and_then(|place| place.1.as_deref_mut()).expect("references between tasks are dropped before the task is")
    }
}
