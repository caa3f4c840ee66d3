//! Moves to `released`, `erred` and `forgotten`: where tasks come to rest without a result.
//!
//! Source: `distributed/scheduler.py`, the `_transition_x_released`, `_propagate_erred` and `_propagate_forgotten`
//! families.

use std::sync::Arc;

use super::Scheduler;
use super::effect::{ToClient, ToWorker};
use super::task::{StateName, TaskState};
use super::transition::ErredCause;
use crate::base::{Failure, PyError, TaskId, Value};

impl Scheduler {
    // ---- into released ---------------------------------------------------------------------------------------

    pub(super) fn waiting_released(&mut self, task: TaskId) {
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            self.stop_waiting_for(task, dependency);
        }
        self.set_state(task, TaskState::Released);
        let entry = &mut self.tasks[task];
        if entry.lost_dependencies {
            self.recommend(task, StateName::Forgotten);
        } else if entry.is_needed() {
            // A failed input may have been overtaken by the news that nobody asked for this task any more.
            let blamed = entry.blame().is_some();
            self.recommend(task, if blamed { StateName::Erred } else { StateName::Waiting });
        } else {
            entry.waiters.clear();
        }
    }

    pub(super) fn propagate_released(&mut self, task: TaskId) {
        self.set_state(task, TaskState::Released);
        let entry = &self.tasks[task];
        if !entry.lost_dependencies && entry.is_needed() {
            self.recommend(task, StateName::Waiting);
            return;
        }
        if entry.lost_dependencies {
            self.recommend(task, StateName::Forgotten);
        }
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            self.stop_waiting_for(task, dependency);
        }
        self.tasks[task].waiters.clear();
    }

    pub(super) fn memory_released(&mut self, task: TaskId) {
        if self.tasks[task].actor {
            for at in 0..self.tasks[task].who_has().len() {
                let worker = self.tasks[task].who_has()[at];
                self.workers[worker].actors.remove(&task);
            }
            if !self.tasks[task].who_wants.is_empty() {
                self.recommend(task, StateName::Erred);
                return;
            }
        }
        self.free_replicas(task);
        self.set_state(task, TaskState::Released);
        self.send_wanters(task, |key| ToClient::LostData { key: key.clone() });
        let entry = &self.tasks[task];
        if entry.run_spec.is_none() || entry.lost_dependencies {
            self.recommend(task, StateName::Forgotten);
        } else if entry.is_needed() {
            self.recommend(task, StateName::Waiting);
        }
        let waiters = std::mem::take(&mut self.tasks[task].waiters);
        for waiter in waiters.iter() {
            match &mut self.tasks[waiter].state {
                TaskState::NoWorker { .. } | TaskState::Processing { .. } | TaskState::Queued { .. } => {
                    self.recommend(waiter, StateName::Waiting);
                }
                TaskState::Waiting { missing } => {
                    missing.insert(task);
                }
                TaskState::Released | TaskState::Memory { .. } | TaskState::Erred | TaskState::Forgotten => {}
            }
        }
        self.tasks[task].waiters = waiters;
    }

    /// Tells the holders to drop a result, and forgets that they have it.
    fn free_replicas(&mut self, task: TaskId) {
        for at in 0..self.tasks[task].who_has().len() {
            let worker = self.tasks[task].who_has()[at];
            if self.is_registered(worker) {
                let keys = vec![self.tasks[task].key.clone()];
                self.send_worker(worker, ToWorker::FreeKeys { keys });
            }
        }
        self.remove_all_replicas(task);
    }

    pub(super) fn erred_released(&mut self, task: TaskId) {
        let dependents = std::mem::take(&mut self.tasks[task].dependents);
        for dependent in dependents.iter() {
            if self.tasks[dependent].state.name() == StateName::Erred {
                self.recommend(dependent, StateName::Waiting);
            }
        }
        self.tasks[task].dependents = dependents;
        let rare = self.tasks[task].rare_mut();
        rare.failure = None;
        rare.blame = None;
        let erred_on = std::mem::take(&mut rare.erred_on);
        for worker in erred_on {
            if self.is_registered(worker) {
                let keys = vec![self.tasks[task].key.clone()];
                self.send_worker(worker, ToWorker::FreeKeys { keys });
            }
        }
        self.send_wanters(task, |key| ToClient::TaskRetried { key: key.clone() });
        self.set_state(task, TaskState::Released);
    }

    // ---- into erred ------------------------------------------------------------------------------------------

    pub(super) fn released_erred(&mut self, task: TaskId) {
        if self.failure_of(task).is_none() {
            // What it was to fail for is being tried again by now: whoever waits for it goes on waiting.
            self.tasks[task].waiters = self.waiting_dependents(task);
            self.unsettled.push(task);
            return;
        }
        let dependents = std::mem::take(&mut self.tasks[task].dependents);
        for dependent in dependents.iter() {
            if self.tasks[dependent].who_has().is_empty() {
                self.inherit_blame(dependent, task);
                self.recommend(dependent, StateName::Erred);
                self.unsettled.push(dependent);
            }
        }
        self.tasks[task].dependents = dependents;
        self.set_state(task, TaskState::Erred);
        self.tasks[task].waiters.clear();
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            self.stop_waiting_for(task, dependency);
        }
        self.report_erred(task);
        self.fire_and_forget_done(task);
    }

    /// From `processing`, `queued`, `no-worker` (and `memory`, for actors).
    ///
    /// Source: `distributed/scheduler.py`, `_propagate_erred`.
    pub(super) fn enter_erred(&mut self, task: TaskId, cause: ErredCause) {
        match self.tasks[task].state {
            TaskState::Processing { on, .. } => {
                if let Some(worker) = self.workers.get_mut(on) {
                    worker.actors.remove(&task);
                }
                // A worker that did not report this failure would run the task all the same, perhaps without its
                // inputs, and keep it for ever.
                let unaware = self.leave_processing(task).filter(|on| cause.worker != Some(*on));
                if let Some(worker) = unaware {
                    self.free_keys(worker, vec![self.tasks[task].key.clone()]);
                }
            }
            TaskState::Queued { .. } => self.leave_queued(task),
            TaskState::NoWorker { .. } => self.leave_no_worker(task),
            TaskState::Released
            | TaskState::Waiting { .. }
            | TaskState::Memory { .. }
            | TaskState::Erred
            | TaskState::Forgotten => {}
        }
        self.set_state(task, TaskState::Erred);
        let rare = self.tasks[task].rare_mut();
        rare.erred_on.extend(cause.worker);
        if cause.failure.is_some() {
            rare.failure = cause.failure;
            rare.blame = Some(task);
        }
        rare.blame.get_or_insert(task);
        let waiters = std::mem::take(&mut self.tasks[task].waiters);
        for waiter in waiters.iter() {
            self.inherit_blame(waiter, task);
            self.recommend(waiter, StateName::Erred);
            self.unsettled.push(waiter);
        }
        self.release_dependencies(task);
        self.report_erred(task);
        self.fire_and_forget_done(task);
        self.shuffle_barrier_moved(task);
    }

    pub(super) fn memory_erred(&mut self, task: TaskId) {
        self.free_replicas(task);
        let failure = Arc::new(Failure::Raised(PyError::builtin("RuntimeError", "Worker holding Actor was lost")));
        let rare = self.tasks[task].rare_mut();
        rare.failure = Some(failure.clone());
        rare.blame = Some(task);
        let dependents = std::mem::take(&mut self.tasks[task].dependents);
        for dependent in dependents.iter() {
            if self.tasks[dependent].who_has().is_empty() {
                self.inherit_blame(dependent, task);
                self.recommend(dependent, StateName::Erred);
            }
        }
        self.tasks[task].dependents = dependents;
        self.enter_erred(task, ErredCause { worker: None, failure: Some(failure) });
    }

    /// Makes what `input` failed for the reason why `task` can't be computed. Each keeps the failure for itself: the
    /// task that is to blame may be gone, or tried again by now.
    pub(super) fn inherit_blame(&mut self, task: TaskId, input: TaskId) {
        let Some(failure) = self.failure_of(input).cloned() else { return };
        let blame = self.tasks[input].blame().filter(|&id| self.tasks.get(id).is_some());
        let rare = self.tasks[task].rare_mut();
        rare.blame = Some(blame.unwrap_or(input));
        rare.failure = Some(failure);
    }

    /// The failure of a task, or of the task that it failed for.
    pub(super) fn failure_of(&self, task: TaskId) -> Option<&Arc<Failure>> {
        self.tasks[task].rare.as_ref()?.failure.as_ref()
    }

    fn report_erred(&mut self, task: TaskId) {
        let Some(failure) = self.failure_of(task).cloned() else { return };
        self.send_wanters(task, |key| ToClient::TaskErred { key: key.clone(), failure: failure.clone() });
    }

    // ---- into forgotten --------------------------------------------------------------------------------------

    pub(super) fn enter_forgotten(&mut self, task: TaskId) {
        for at in 0..self.tasks[task].who_has().len() {
            let worker = self.tasks[task].who_has()[at];
            self.workers[worker].actors.remove(&task);
        }
        self.free_replicas(task);
        self.set_state(task, TaskState::Forgotten);
        let dependents = std::mem::take(&mut self.tasks[task].dependents);
        for dependent in dependents.iter() {
            self.lose_dependency(dependent, task);
        }
        self.tasks[task].waiters.clear();
        let dependencies = std::mem::take(&mut self.tasks[task].dependencies);
        for &dependency in &dependencies {
            let entry = &mut self.tasks[dependency];
            entry.dependents.remove(task);
            entry.waiters.remove(task);
            if entry.is_of_no_use() {
                self.recommend(dependency, StateName::Forgotten);
            }
        }
        self.send_wanters(task, |key| ToClient::CancelledKeys {
            keys: vec![key.clone()],
            reason: Value::str("already forgotten"),
            msg: Value::Nil,
        });
        self.remove_task(task);
    }

    fn lose_dependency(&mut self, dependent: TaskId, lost: TaskId) {
        if let Some(worker) = self.tasks[dependent].processing_on() {
            // Its edge goes, so the input it was waiting for must be uncounted here.
            self.unneed_input(worker, lost);
        }
        let entry = &mut self.tasks[dependent];
        entry.lost_dependencies = true;
        entry.dependencies.retain(|&id| id != lost);
        if let TaskState::Waiting { missing } = &mut entry.state {
            missing.remove(lost);
        }
        match entry.state.name() {
            StateName::Memory | StateName::Erred | StateName::Forgotten => {}
            StateName::Released
            | StateName::Waiting
            | StateName::Queued
            | StateName::NoWorker
            | StateName::Processing => self.recommend(dependent, StateName::Forgotten),
        }
    }

    fn remove_task(&mut self, task: TaskId) {
        if let Some(at) = self.tasks[task].rec_at {
            // The entry stays in place so that others keep theirs; a stale id moves nothing.
            self.recs[at.index()].1 = StateName::Forgotten;
        }
        let Some(entry) = self.tasks.remove(task) else { return };
        self.by_key.remove(&entry.key);
        for client in entry.who_wants {
            self.clients[client].wants_what.remove(&task);
        }
        let prefix = self.groups[entry.group as usize].prefix;
        if entry.nbytes > 0 {
            self.prefixes[prefix as usize].nbytes_total -= entry.nbytes;
        }
        self.shuffle_task_forgotten(entry.rare.as_deref());
        self.drop_group_if_empty(entry.group);
    }
}
