//! Answers to other workers' wish for this worker's tasks, and the scheduler's wish to take one back.

use super::effect::{WorkerEffect, WorkerMessage};
use super::machine::WorkerMachine;
use super::phase::TaskPhase;
use super::task::{Goal, WorkerTaskState};
use crate::base::{Key, Text};

/// What can be given away: nothing runs for it yet.
const fn idle(phase: TaskPhase) -> bool {
    match phase {
        TaskPhase::Waiting | TaskPhase::Ready | TaskPhase::Constrained => true,
        TaskPhase::Released
        | TaskPhase::Fetch
        | TaskPhase::Flight
        | TaskPhase::Missing
        | TaskPhase::Pushed
        | TaskPhase::Executing
        | TaskPhase::LongRunning
        | TaskPhase::Memory
        | TaskPhase::Error
        | TaskPhase::Cancelled
        | TaskPhase::Resumed => false,
    }
}

impl WorkerMachine {
    /// What has not begun is given away. Whether something in a slot's queue has begun only its recall can tell: the
    /// answer waits for it. As `_handle_steal_request`.
    pub(super) fn on_steal_request(&mut self, key: Key, stimulus: Text, out: &mut Vec<WorkerEffect>) {
        let id = self.tasks.find(&key);
        if let Some(WorkerTaskState::Pushed { job }) = id.map(|id| &self.tasks[id].state) {
            let slot = job.slot;
            self.slots[slot as usize].steals.push((key, stimulus));
            return self.recall(slot, out);
        }
        let state = id.map(|id| self.phase(id));
        Self::send(WorkerMessage::StealResponse { key, state, stimulus }, out);
        if let Some(id) = id.filter(|id| idle(self.phase(*id))) {
            self.want(id, Goal::Released);
        }
    }

    /// As `_handle_cancel_compute`.
    pub(super) fn on_cancel_compute(&mut self, key: &Key) {
        if let Some(id) = self.tasks.find(key).filter(|id| idle(self.phase(*id))) {
            self.want(id, Goal::Released);
        }
    }
}
