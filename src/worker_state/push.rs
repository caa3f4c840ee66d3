//! Handing short tasks to slots before these are free, and taking them back.
//!
//! A round trip to the executor costs about 60 us; behind 2 ms of expected work it is below 3 %. What is expected comes
//! from the last runs of tasks of the same prefix.

use super::duration::SHORT_US;
use super::effect::WorkerEffect;
use super::machine::WorkerMachine;
use super::task::{Goal, Job, TaskRef, Was, WorkerTaskState};
use crate::base::{Key, Now};

/// Most expected work behind the run that occupies a slot. Unit: microseconds.
const QUEUE_US: u64 = SHORT_US;
/// Most runs behind it: an executor's batch of answers has diminishing returns beyond.
const QUEUE_MAX: usize = 64;
/// A run that takes this many times what was expected keeps others waiting: they are taken back.
const OVERDUE_TIMES: u64 = 4;
/// Not before this: a busy machine delays everything a little. Unit: microseconds.
const OVERDUE_MIN_US: u64 = 5_000;

impl WorkerMachine {
    /// Fills the queues of slots in order of priority, evenly by expected time.
    pub(super) fn push_ahead(&mut self, out: &mut Vec<WorkerEffect>) {
        if !self.config.push_ahead || !self.running {
            return;
        }
        while let Some(&(rank, id)) = self.ready.first() {
            let task = &self.tasks[id];
            let Some(expected_us) = self.durations.expected_us(task.prefix).filter(|_| task.may_wait_in_slot) else {
                return;
            };
            let Some(slot) = self.slot_with_room(expected_us) else { return };
            let job = Job { slot, run: task.run };
            self.ready.remove(&(rank, id));
            let entry = &mut self.slots[slot as usize];
            entry.queue.push_back((id, expected_us));
            entry.queued_us += expected_us;
            self.set_state(id, WorkerTaskState::Pushed { job });
            self.hand_over(id, job, out);
        }
    }

    /// The slot with the least work in its queue, behind a run that is expected to be short.
    fn slot_with_room(&self, expected_us: u64) -> Option<u32> {
        let fits = |slot: &super::machine::ThreadSlot| {
            let short = slot.running.is_some_and(|id| self.durations.expected_us(self.tasks[id].prefix).is_some());
            let room = slot.queue.len() < QUEUE_MAX && slot.queued_us + expected_us <= QUEUE_US;
            short && room && !slot.recalling && slot.rejoined.is_none()
        };
        let slots = (0u32..).zip(&self.slots).filter(|(_, slot)| fits(slot));
        slots.min_by_key(|(at, slot)| (slot.queued_us, *at)).map(|(at, _)| at)
    }

    pub(super) fn recall(&mut self, slot: u32, out: &mut Vec<WorkerEffect>) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        if !entry.recalling {
            entry.recalling = true;
            out.push(WorkerEffect::Recall { slot });
        }
    }

    /// Takes back whatever has not begun, in all slots.
    pub(super) fn recall_all(&mut self, out: &mut Vec<WorkerEffect>) {
        for slot in 0..self.config.slots {
            if !self.slots[slot as usize].queue.is_empty() {
                self.recall(slot, out);
            }
        }
    }

    /// When a slot's run will have taken so long that those behind it should go elsewhere.
    fn overdue_at(&self, slot: u32) -> Option<Now> {
        let entry = &self.slots[slot as usize];
        let head = entry.running.filter(|_| !entry.queue.is_empty() && !entry.recalling)?;
        let expected_us = self.durations.expected_us(self.tasks[head].prefix).unwrap_or(0);
        Some(entry.since.plus_us((expected_us * OVERDUE_TIMES).max(OVERDUE_MIN_US)))
    }

    pub(super) fn next_overdue(&self) -> Option<Now> {
        (0..self.config.slots).filter_map(|slot| self.overdue_at(slot)).min()
    }

    pub(super) fn recall_overdue(&mut self, out: &mut Vec<WorkerEffect>) {
        for slot in 0..self.config.slots {
            if self.overdue_at(slot).is_some_and(|at| at <= self.now) {
                self.recall(slot, out);
            }
        }
    }

    /// The executor gave these back: they can run elsewhere, be released or be fetched, as was asked meanwhile.
    pub(super) fn on_recalled(&mut self, slot: u32, keys: &[Key], out: &mut Vec<WorkerEffect>) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        entry.recalling = false;
        let steals = std::mem::take(&mut entry.steals);
        let taken: Vec<TaskRef> = keys.iter().filter_map(|key| self.tasks.find(key)).collect();
        // From the back, so that none of them seems to begin when the one before it leaves.
        for id in taken.into_iter().rev() {
            self.take_back(id, slot, out);
        }
        for (key, stimulus) in steals {
            self.on_steal_request(key, stimulus, out);
        }
        self.ensure_computing();
    }

    fn take_back(&mut self, id: TaskRef, slot: u32, out: &mut Vec<WorkerEffect>) {
        let Some(was @ (Was::Pushed { job } | Was::Executing { job })) = self.tasks[id].state.under_way() else {
            return;
        };
        if job.slot != slot {
            return;
        }
        match was {
            Was::Executing { .. } => self.give_back(id, job, out),
            Was::Pushed { .. } | Was::LongRunning { .. } | Was::Flight { .. } => self.leave_slot(id, slot, out),
        }
        match self.tasks[id].state {
            WorkerTaskState::Cancelled { .. } => {
                self.tasks[id].done = true;
                self.want(id, Goal::Released);
            }
            WorkerTaskState::Resumed { .. } => {
                self.tasks[id].done = true;
                self.want(id, Goal::Rescheduled);
            }
            WorkerTaskState::Pushed { .. } | WorkerTaskState::Executing { .. } => self.enter_ready(id),
            WorkerTaskState::Released
            | WorkerTaskState::Fetch { .. }
            | WorkerTaskState::Flight { .. }
            | WorkerTaskState::Missing
            | WorkerTaskState::Waiting { .. }
            | WorkerTaskState::Ready
            | WorkerTaskState::Constrained
            | WorkerTaskState::LongRunning { .. }
            | WorkerTaskState::Memory { .. }
            | WorkerTaskState::Error => {}
        }
    }
}
