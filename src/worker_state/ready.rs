//! Which task runs next, in which slot, and what it occupies.

use super::effect::WorkerEffect;
use super::machine::WorkerMachine;
use super::phase::{TaskPhase, TaskTarget};
use super::rank::TaskPriority;
use super::task::{Goal, Job, TaskRef, Was, WorkerTaskState};

impl WorkerMachine {
    pub(super) fn rank_of(&self, id: TaskRef) -> TaskPriority {
        self.tasks[id].rank.unwrap_or(TaskPriority::REPLICA)
    }

    /// Gives free slots to the tasks that come first. As `_ensure_computing`.
    pub(super) fn ensure_computing(&mut self) {
        while self.running
            && let Some(&slot) = self.free_slots.first()
            && let Some(id) = self.next_ready()
        {
            self.acquire_resources(id);
            self.free_slots.remove(&slot);
            self.slots[slot as usize].running = Some(id);
            self.want(id, Goal::Executing { slot });
        }
    }

    /// As `_next_ready_task`.
    fn next_ready(&mut self) -> Option<TaskRef> {
        let ready = self.ready.first().copied();
        let constrained = self.constrained.first().copied();
        let (queue, place) = match (ready, constrained) {
            (Some(ready), Some(held)) if held.0 < ready.0 && self.resources_suffice(held.1) => {
                (&mut self.constrained, held)
            }
            (Some(ready), _) => (&mut self.ready, ready),
            (None, Some(held)) if self.resources_suffice(held.1) => (&mut self.constrained, held),
            (None, _) => return None,
        };
        queue.remove(&place);
        Some(place.1)
    }

    fn resources_suffice(&self, id: TaskRef) -> bool {
        let available = |name| self.resources.get(name).map_or(0.0, |(_, available)| *available);
        self.tasks[id].resources.iter().all(|(name, needed)| available(name) >= *needed)
    }

    fn acquire_resources(&mut self, id: TaskRef) {
        for (name, needed) in &self.tasks[id].resources {
            if let Some((_, available)) = self.resources.get_mut(name) {
                *available -= needed;
            }
        }
    }

    fn release_resources(&mut self, id: TaskRef) {
        for (name, needed) in &self.tasks[id].resources {
            if let Some((_, available)) = self.resources.get_mut(name) {
                *available += needed;
            }
        }
    }

    /// Totals set anew; what runs keeps what it has. Source: `distributed/worker.py`, `set_resources`.
    pub(super) fn on_resources(&mut self, totals: Vec<(crate::base::Text, f64)>) {
        for (name, total) in totals {
            let entry = self.resources.entry(name).or_insert((0.0, 0.0));
            *entry = (total, entry.1 + total - entry.0);
        }
        self.ensure_computing();
    }

    /// Puts a task whose inputs are here in its queue.
    pub(super) fn enter_ready(&mut self, id: TaskRef) {
        let place = (self.rank_of(id), id);
        if self.tasks[id].resources.is_empty() {
            self.ready.insert(place);
            self.set_state(id, WorkerTaskState::Ready);
        } else {
            self.constrained.insert(place);
            self.set_state(id, WorkerTaskState::Constrained);
        }
    }

    pub(super) fn leave_ready(&mut self, id: TaskRef) {
        let place = (self.rank_of(id), id);
        match self.phase(id) {
            TaskPhase::Ready => self.ready.remove(&place),
            TaskPhase::Constrained => self.constrained.remove(&place),
            TaskPhase::Released
            | TaskPhase::Fetch
            | TaskPhase::Flight
            | TaskPhase::Missing
            | TaskPhase::Waiting
            | TaskPhase::Pushed
            | TaskPhase::Executing
            | TaskPhase::LongRunning
            | TaskPhase::Memory
            | TaskPhase::Error
            | TaskPhase::Cancelled
            | TaskPhase::Resumed => false,
        };
    }

    /// As `_transition_ready_executing`.
    pub(super) fn enter_executing(&mut self, id: TaskRef, slot: u32, out: &mut Vec<WorkerEffect>) {
        let job = Job { slot, run: self.tasks[id].run };
        self.set_state(id, WorkerTaskState::Executing { job });
        self.slots[slot as usize].since = self.now;
        self.hand_over(id, job, out);
    }

    pub(super) fn hand_over(&self, id: TaskRef, job: Job, out: &mut Vec<WorkerEffect>) {
        let task = &self.tasks[id];
        let inputs = task.dependencies.iter().map(|dependency| self.tasks[*dependency].key.clone()).collect();
        let answers_first = self.durations.expected_us(task.prefix).is_none();
        out.push(WorkerEffect::Push { slot: job.slot, key: task.key.clone(), run: job.run, inputs, answers_first });
    }

    /// The run no longer counts among the running ones: it ended, seceded or was taken back. The next in its slot's
    /// queue begins.
    pub(super) fn leave_slot(&mut self, id: TaskRef, slot: u32, out: &mut Vec<WorkerEffect>) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        if entry.rejoined == Some(id) {
            entry.rejoined = None;
        } else if entry.running == Some(id) {
            entry.running = None;
        } else if let Some(at) = entry.queue.iter().position(|(other, _)| *other == id) {
            if let Some((_, expected_us)) = entry.queue.remove(at) {
                entry.queued_us -= expected_us;
            }
            return;
        } else {
            return;
        }
        if entry.running.is_none() && entry.rejoined.is_none() {
            self.begin_next(slot, out);
        }
    }

    fn begin_next(&mut self, slot: u32, out: &mut Vec<WorkerEffect>) {
        let entry = &mut self.slots[slot as usize];
        let Some((id, expected_us)) = entry.queue.pop_front() else {
            self.free_slots.insert(slot);
            return;
        };
        entry.running = Some(id);
        entry.since = self.now;
        entry.queued_us -= expected_us;
        let Some(job) = self.tasks[id].state.job() else { return };
        let state = self.tasks[id].state.with_under_way(Was::Executing { job });
        if self.phase(id) == TaskPhase::Pushed {
            self.tell(self.tasks[id].key.clone(), TaskPhase::Ready, TaskTarget::Executing, out);
        }
        self.set_state(id, state);
    }

    /// A run ended: its slot and its resources are free for others. As `_execute_done_common`.
    pub(super) fn end_run(&mut self, id: TaskRef, job: Job, out: &mut Vec<WorkerEffect>) {
        self.tasks[id].done = true;
        self.give_back(id, job, out);
        self.ensure_computing();
    }

    /// Resources are held by what occupies or occupied a slot, not by what waits in its queue.
    pub(super) fn give_back(&mut self, id: TaskRef, job: Job, out: &mut Vec<WorkerEffect>) {
        self.release_resources(id);
        self.leave_slot(id, job.slot, out);
    }
}
