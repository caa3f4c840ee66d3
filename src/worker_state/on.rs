//! What the scheduler's orders about tasks, and the ends of runs, make the machine do.

use super::effect::{WorkerEffect, WorkerMessage};
use super::event::{ComputeTask, Outcome};
use super::machine::WorkerMachine;
use super::phase::{TaskPhase, TaskTarget};
use super::task::{Goal, Job, TaskRef, ValueSource, Was, WorkerTaskState};
use crate::base::{Key, RunId};

impl WorkerMachine {
    /// As `_handle_compute_task`.
    pub(super) fn on_compute(&mut self, compute: &ComputeTask, out: &mut Vec<WorkerEffect>) {
        let id = self.tasks.ensure(&compute.key);
        let task = &mut self.tasks[id];
        task.run = compute.run;
        match task.state {
            WorkerTaskState::Waiting { .. }
            | WorkerTaskState::Ready
            | WorkerTaskState::Constrained
            | WorkerTaskState::Pushed { .. }
            | WorkerTaskState::Executing { .. }
            | WorkerTaskState::LongRunning { .. } => {}
            WorkerTaskState::Memory { size_bytes } => {
                let key = compute.key.clone();
                Self::send(WorkerMessage::Finished { key, run: compute.run, size_bytes }, out);
            }
            WorkerTaskState::Released
            | WorkerTaskState::Fetch { .. }
            | WorkerTaskState::Flight { .. }
            | WorkerTaskState::Missing
            | WorkerTaskState::Error
            | WorkerTaskState::Cancelled { .. }
            | WorkerTaskState::Resumed { .. } => self.accept(id, compute),
        }
    }

    fn accept(&mut self, id: TaskRef, compute: &ComputeTask) {
        self.want(id, Goal::Waiting);
        let rank = compute.rank.with_generation(self.generation);
        self.generation -= 1;
        let prefix = match compute.may_wait_in_slot && self.config.push_ahead {
            true => self.durations.prefix(&compute.key),
            false => None,
        };
        let task = &mut self.tasks[id];
        task.rank = Some(rank);
        task.may_wait_in_slot = compute.may_wait_in_slot && compute.resources.is_empty();
        task.prefix = prefix;
        // A run that goes on gives back at its end what it took at its start.
        if task.state.job().is_none() {
            task.resources.clone_from(&compute.resources);
        }
        for input in &compute.inputs {
            let dependency = self.tasks.ensure(&input.key);
            let entry = &mut self.tasks[dependency];
            entry.rank.get_or_insert(rank);
            if entry.state.phase() != TaskPhase::Memory {
                entry.size_bytes = Some(input.size_bytes);
            }
            entry.dependents.insert(id);
            self.tasks[id].dependencies.insert(dependency);
        }
        for input in &compute.inputs {
            if let Some(dependency) = self.tasks.find(&input.key) {
                self.update_holders(dependency, &input.holders);
            }
        }
    }

    /// As `_handle_free_keys`.
    pub(super) fn on_free_keys(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(id) = self.tasks.find(key) {
                self.want(id, Goal::Released);
            }
        }
    }

    /// What a running task reads must not go: the scheduler broke a rule. As `_handle_remove_replicas`.
    pub(super) fn on_remove_replicas(&mut self, keys: &[Key], out: &mut Vec<WorkerEffect>) {
        for key in keys {
            let Some(id) = self.tasks.find(key).filter(|id| self.phase(*id) == TaskPhase::Memory) else { continue };
            let runs = |id: &&TaskRef| matches!(self.phase(**id), TaskPhase::Executing | TaskPhase::LongRunning);
            if let Some(dependent) = self.tasks[id].dependents.iter().find(runs) {
                let reader = &self.tasks[*dependent].key;
                return self.close(format!("told to remove the replica of {key} while {reader} runs"), out);
            }
            self.want(id, Goal::Released);
        }
    }

    /// Values that are not there any more. Who reads them is told when it asks.
    pub(super) fn on_lost(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(id) = self.tasks.find(key).filter(|id| self.phase(*id) == TaskPhase::Memory) {
                self.want(id, Goal::Released);
            }
        }
    }

    /// Paused: what runs goes on, what waits in slots comes back. As `_handle_pause`, `_handle_unpause`.
    pub(super) fn on_set_running(&mut self, running: bool, out: &mut Vec<WorkerEffect>) {
        self.running = running;
        if running {
            self.ensure_computing();
        } else {
            self.recall_all(out);
        }
    }

    // ---- the executor ------------------------------------------------------------------------------------------------

    /// The run with this number that the executor has; none if the news is old.
    fn job_of(&self, key: &Key, run: RunId) -> Option<(TaskRef, Job)> {
        let id = self.tasks.find(key)?;
        let job = self.tasks[id].state.job().filter(|job| job.run == run)?;
        Some((id, job))
    }

    /// News of a run that was thought to wait: it began.
    fn begin(&mut self, id: TaskRef, job: Job, out: &mut Vec<WorkerEffect>) {
        let Some(Was::Pushed { .. }) = self.tasks[id].state.under_way() else { return };
        self.leave_slot(id, job.slot, out);
        let state = self.tasks[id].state.with_under_way(Was::Executing { job });
        if self.phase(id) == TaskPhase::Pushed {
            self.tell(self.tasks[id].key.clone(), TaskPhase::Ready, TaskTarget::Executing, out);
        }
        self.set_state(id, state);
    }

    /// As `_handle_execute_success`, `_handle_execute_failure`, `_handle_reschedule`.
    pub(super) fn on_ended(&mut self, key: &Key, run: RunId, outcome: Outcome, out: &mut Vec<WorkerEffect>) {
        let Some((id, job)) = self.job_of(key, run) else { return };
        self.begin(id, job, out);
        if let Outcome::Success { duration_us, size_bytes } = outcome {
            self.durations.note(self.tasks[id].prefix, duration_us, size_bytes);
        }
        self.end_run(id, job, out);
        let goal = match outcome {
            Outcome::Success { size_bytes, .. } => {
                self.tasks[id].size_bytes = Some(size_bytes);
                Goal::Memory { source: ValueSource::Work { run }, size_bytes }
            }
            Outcome::Failure => Goal::Error { run },
            Outcome::Reschedule => Goal::Rescheduled,
        };
        self.want(id, goal);
    }

    /// As `_handle_secede`.
    pub(super) fn on_seceded(&mut self, key: &Key, run: RunId, compute_secs: f64, out: &mut Vec<WorkerEffect>) {
        let Some((id, job)) = self.job_of(key, run) else { return };
        self.begin(id, job, out);
        self.want(id, Goal::LongRunning { compute_secs });
    }

    /// The thread is the task's until that ends: what was handed to the slot comes back.
    pub(super) fn on_rejoined(&mut self, key: &Key, slot: u32, out: &mut Vec<WorkerEffect>) {
        let Some(id) = self.tasks.find(key) else { return };
        let Some(Was::LongRunning { job }) = self.tasks[id].state.under_way() else { return };
        let Some(entry) = self.slots.get_mut(slot as usize).filter(|entry| entry.rejoined.is_none()) else { return };
        entry.rejoined = Some(id);
        self.free_slots.remove(&slot);
        if entry.running.is_some() {
            self.recall(slot, out);
        }
        // Its end frees the slot that it has now.
        let state = self.tasks[id].state.with_under_way(Was::LongRunning { job: Job { slot, ..job } });
        self.set_state(id, state);
    }

    /// As `_handle_update_data`. What is being computed here is not taken from a client, too: the value of the run
    /// counts, and Dask fails here.
    pub(super) fn on_scattered(&mut self, values: &[(Key, u64)], out: &mut Vec<WorkerEffect>) {
        for (key, size_bytes) in values {
            let id = self.tasks.ensure(key);
            let goal = Goal::Memory { source: ValueSource::Scatter, size_bytes: *size_bytes };
            match self.tasks[id].state {
                WorkerTaskState::Released
                | WorkerTaskState::Fetch { .. }
                | WorkerTaskState::Flight { .. }
                | WorkerTaskState::Missing
                | WorkerTaskState::Waiting { .. }
                | WorkerTaskState::Ready
                | WorkerTaskState::Constrained
                | WorkerTaskState::Memory { .. }
                | WorkerTaskState::Error => self.want(id, goal),
                WorkerTaskState::Cancelled { .. } => {
                    self.want(id, goal);
                    out.push(WorkerEffect::Drop { key: key.clone() });
                }
                WorkerTaskState::Pushed { .. }
                | WorkerTaskState::Executing { .. }
                | WorkerTaskState::LongRunning { .. }
                | WorkerTaskState::Resumed { .. } => out.push(WorkerEffect::Drop { key: key.clone() }),
            }
        }
    }
}
