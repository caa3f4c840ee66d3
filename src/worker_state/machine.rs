//! The state of one Dask worker: what the rules in the other files read and change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::duration::Durations;
use super::effect::{WorkerEffect, WorkerMessage};
use super::peer::PeerTable;
use super::phase::{TaskPhase, TaskTarget};
use super::rank::TaskPriority;
use super::story::{MoveStory, WorkerStoryLine};
use super::task::{Goal, TaskRef, Tasks, WorkerTaskState};
use crate::base::{Key, Now, Rng, Text};

/// What a worker is, and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineConfig {
    /// The worker's own address: never asked for a value, and tells which peers are on the same machine.
    pub address: Text,
    /// Threads that run tasks.
    pub slots: u32,
    /// Named amounts of which runs may occupy a part.
    pub resources: Vec<(Text, f64)>,
    /// Most transfers to this worker at once, once they carry [`Self::throttle_from_bytes`].
    /// Setting: `distributed.worker.connections.outgoing`.
    pub incoming_count_max: u32,
    /// Most bytes under way to this worker. Setting: `distributed.worker.memory.transfer`.
    pub incoming_bytes_max: u64,
    /// Most bytes asked of a peer in one message. Setting: `distributed.worker.transfer.message-bytes-limit`.
    pub message_bytes_max: u64,
    /// Below this the count of transfers is not limited: small ones cost little.
    /// Source: `distributed/worker_state_machine.py`, `transfer_incoming_bytes_throttle_threshold`.
    pub throttle_from_bytes: u64,
    /// Assumed size of a value whose size nobody told. Setting: `distributed.scheduler.default-data-size`.
    pub default_size_bytes: u64,
    /// A peer that was busy is asked again after this long. Unit: microseconds.
    /// Source: `distributed/worker.py`, `retry_busy_worker_later`.
    pub busy_retry_us: u64,
    /// The scheduler is asked this often where missing values are. Unit: microseconds.
    /// Source: `distributed/worker.py`, `find_missing`.
    pub missing_every_us: u64,
    /// Most lines of the story.
    pub story_length: usize,
    /// Chooses among peers that are equally good; without it the lower address is asked.
    pub seed: Option<u64>,
    /// Whether short tasks are handed to slots before these are free.
    pub push_ahead: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            address: Text::from(""),
            slots: 1,
            resources: Vec::new(),
            incoming_count_max: 50,
            incoming_bytes_max: u64::MAX,
            message_bytes_max: 50_000_000,
            throttle_from_bytes: 10_000_000,
            default_size_bytes: 1024,
            busy_retry_us: 150_000,
            missing_every_us: 1_000_000,
            story_length: 1000,
            seed: Some(0),
            push_ahead: true,
        }
    }
}

/// A thread of the executor, with the runs that were handed to it.
#[derive(Debug, Default)]
pub(super) struct ThreadSlot {
    /// The run that occupies it.
    pub(super) running: Option<TaskRef>,
    /// Since when, as far as is known here.
    pub(super) since: Now,
    /// Runs behind it, in order, and what each is expected to take in microseconds.
    pub(super) queue: VecDeque<(TaskRef, u64)>,
    /// The sum of these. Unit: microseconds.
    pub(super) queued_us: u64,
    /// A recall is on its way.
    pub(super) recalling: bool,
    /// Steal requests that the recall will answer.
    pub(super) steals: Vec<(Key, Text)>,
    /// A task that had seceded and came back to this thread.
    pub(super) rejoined: Option<TaskRef>,
}

/// A state machine for the tasks of one Dask worker. Source: `distributed/worker_state_machine.py`, `WorkerState`.
#[derive(Debug)]
pub struct WorkerMachine {
    pub(super) config: MachineConfig,
    pub(super) now: Now,
    /// Starts runs and transfers.
    pub(super) running: bool,
    /// A rule was broken: nothing is done any more.
    pub(super) closed: bool,
    pub(super) subscribed: bool,
    pub(super) tasks: Tasks,
    /// Tasks with a goal, the next one last.
    pub(super) todo: Vec<TaskRef>,
    /// Goals that a move has set, until they are put in `todo`.
    pub(super) recs: Vec<(TaskRef, Goal)>,
    /// Counts `compute-task` messages downwards. See [`super::rank::TaskPriority::with_generation`].
    pub(super) generation: i64,

    pub(super) ready: BTreeSet<(TaskPriority, TaskRef)>,
    pub(super) constrained: BTreeSet<(TaskPriority, TaskRef)>,
    pub(super) slots: Vec<ThreadSlot>,
    /// Slots that nothing occupies.
    pub(super) free_slots: BTreeSet<u32>,
    /// Total and available amounts.
    pub(super) resources: BTreeMap<Text, (f64, f64)>,
    pub(super) durations: Durations,

    pub(super) peers: PeerTable,
    pub(super) missing: BTreeSet<TaskRef>,
    pub(super) ask_missing_at: Option<Now>,
    /// Bytes and number of transfers under way.
    pub(super) incoming_bytes: u64,
    pub(super) incoming_count: u32,
    pub(super) rng: Option<Rng>,
    /// Bytes of all values held.
    pub(super) held_bytes: u64,
    pub(super) story: MoveStory,
}

impl WorkerMachine {
    /// A worker that knows no task.
    pub fn new(config: MachineConfig) -> Self {
        Self {
            now: Now(0),
            running: true,
            closed: false,
            subscribed: false,
            tasks: Tasks::default(),
            todo: Vec::new(),
            recs: Vec::new(),
            generation: 0,
            ready: BTreeSet::new(),
            constrained: BTreeSet::new(),
            slots: (0..config.slots).map(|_| ThreadSlot::default()).collect(),
            free_slots: (0..config.slots).collect(),
            resources: config.resources.iter().map(|(name, total)| (name.clone(), (*total, *total))).collect(),
            durations: Durations::default(),
            peers: PeerTable::new(&config.address),
            missing: BTreeSet::new(),
            ask_missing_at: None,
            incoming_bytes: 0,
            incoming_count: 0,
            rng: config.seed.map(Rng::new),
            held_bytes: 0,
            story: MoveStory::new(config.story_length),
            config,
        }
    }

    /// Sets a goal, which is pursued before those set earlier.
    pub(super) fn want(&mut self, id: TaskRef, goal: Goal) {
        self.recs.push((id, goal));
    }

    pub(super) fn send(message: WorkerMessage, out: &mut Vec<WorkerEffect>) {
        out.push(WorkerEffect::ToScheduler(message));
    }

    pub(super) fn phase(&self, id: TaskRef) -> TaskPhase {
        self.tasks[id].state.phase()
    }

    /// Changes a state, and the sets that follow from it.
    pub(super) fn set_state(&mut self, id: TaskRef, state: WorkerTaskState) {
        if state == WorkerTaskState::Missing {
            self.missing.insert(id);
        }
        let before = self.tasks.set_state(id, state);
        if before == WorkerTaskState::Missing && self.phase(id) != TaskPhase::Missing {
            self.missing.remove(&id);
        }
    }

    /// Size of a value, or what is assumed.
    pub(super) fn size_of(&self, id: TaskRef) -> u64 {
        self.tasks[id].size_bytes.unwrap_or(self.config.default_size_bytes)
    }

    /// The moves of tasks that are still remembered, oldest first.
    pub fn story(&self) -> impl Iterator<Item = &(Key, WorkerStoryLine)> {
        self.story.moves()
    }

    pub(super) fn tell(&mut self, key: Key, start: TaskPhase, target: TaskTarget, out: &mut Vec<WorkerEffect>) {
        if self.subscribed {
            out.push(WorkerEffect::Transition { key: key.clone(), start, finish: target });
        }
        self.story.add(key, WorkerStoryLine { start, target, at: self.now });
    }
}
