//! What happens when a task moves from one state to another. Which move it is says the table in `transition.rs`.

use std::collections::BTreeSet;

use super::effect::{WorkerEffect, WorkerMessage};
use super::machine::WorkerMachine;
use super::phase::TaskPhase;
use super::task::{Goal, TaskRef, ValueSource, Was, WorkerTaskState};
use crate::base::RunId;

/// How the scheduler hears of a value.
enum News {
    None,
    AddKeys,
    Finished { run: RunId },
}

impl WorkerMachine {
    /// Clears what belongs to an errand that is over. As `_purge_state`.
    fn purge(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        self.leave_ready(id);
        while let Some(holder) = self.tasks[id].holders.last() {
            let peer = holder.peer;
            self.remove_holder(id, peer);
        }
        let dependencies = std::mem::take(&mut self.tasks[id].dependencies);
        for dependency in &dependencies {
            self.tasks[*dependency].waiters.remove(&id);
        }
        let task = &mut self.tasks[id];
        task.dependencies = dependencies;
        task.size_bytes = None;
        task.done = false;
        if task.state.phase() == TaskPhase::Memory {
            out.push(WorkerEffect::Drop { key: task.key.clone() });
        }
    }

    /// As `_transition_generic_released`.
    pub(super) fn release(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        self.purge(id, out);
        let dependencies = std::mem::take(&mut self.tasks[id].dependencies);
        for dependency in &dependencies {
            let entry = &self.tasks[*dependency];
            if entry.waiters.is_empty() && releasable(entry.state.phase()) {
                self.want(*dependency, Goal::Released);
            }
        }
        self.tasks[id].dependencies = dependencies;
        self.set_state(id, WorkerTaskState::Released);
        if self.tasks[id].dependents.is_empty() {
            self.want(id, Goal::Forgotten);
        }
    }

    /// As `_transition_memory_released`.
    pub(super) fn release_value(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        if let WorkerTaskState::Memory { size_bytes } = self.tasks[id].state {
            self.held_bytes -= size_bytes;
        }
        self.release(id, out);
        Self::send(WorkerMessage::ReleaseData { key: self.tasks[id].key.clone() }, out);
    }

    /// As `_transition_released_forgotten`.
    pub(super) fn forget(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        self.purge(id, out);
        let dependencies = std::mem::take(&mut self.tasks[id].dependencies);
        for dependency in dependencies {
            let entry = &mut self.tasks[dependency];
            entry.dependents.remove(&id);
            if entry.state == WorkerTaskState::Released && entry.dependents.is_empty() {
                self.want(dependency, Goal::Forgotten);
            }
        }
        out.push(WorkerEffect::Forgotten { key: self.tasks[id].key.clone() });
        self.tasks.remove(id);
    }

    /// As `_transition_released_waiting`.
    pub(super) fn enter_waiting(&mut self, id: TaskRef) {
        let dependencies = std::mem::take(&mut self.tasks[id].dependencies);
        let mut missing = BTreeSet::new();
        for dependency in &dependencies {
            let entry = &mut self.tasks[*dependency];
            if entry.state.phase() != TaskPhase::Memory {
                missing.insert(*dependency);
                entry.waiters.insert(id);
                self.want(*dependency, Goal::Fetch);
            }
        }
        self.tasks[id].dependencies = dependencies;
        if missing.is_empty() {
            self.want(id, Goal::Ready);
        }
        self.set_state(id, WorkerTaskState::Waiting { missing });
    }

    /// As `_transition_missing_waiting`.
    pub(super) fn compute_missing(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        self.purge(id, out);
        self.enter_waiting(id);
    }

    /// As `_transition_waiting_ready`, `_transition_waiting_constrained`.
    pub(super) fn inputs_are_here(&mut self, id: TaskRef, goal: Goal) {
        if goal == Goal::Ready && !self.tasks[id].resources.is_empty() {
            return self.want(id, Goal::Constrained);
        }
        self.enter_ready(id);
        self.ensure_computing();
    }

    /// As `_transition_generic_missing`.
    pub(super) fn enter_missing(&mut self, id: TaskRef) {
        self.tasks[id].done = false;
        self.set_state(id, WorkerTaskState::Missing);
    }

    /// As `_transition_fetch_flight`.
    pub(super) fn enter_flight(&mut self, id: TaskRef, goal: Goal) {
        if let Goal::Flight { from } = goal {
            self.tasks[id].done = false;
            self.set_state(id, WorkerTaskState::Flight { from });
        }
    }

    /// As `_transition_generic_error`.
    pub(super) fn enter_error(&mut self, id: TaskRef, goal: Goal, out: &mut Vec<WorkerEffect>) {
        let Goal::Error { run } = goal else { return };
        self.set_state(id, WorkerTaskState::Error);
        Self::send(WorkerMessage::Erred { key: self.tasks[id].key.clone(), run }, out);
    }

    // ---- values ----------------------------------------------------------------------------------------------------

    /// As `_transition_executing_memory`, `_transition_flight_memory`, `_transition_released_memory`.
    pub(super) fn value_is_here(&mut self, id: TaskRef, goal: Goal, out: &mut Vec<WorkerEffect>) {
        let Goal::Memory { source, size_bytes } = goal else { return };
        let news = match (source, self.phase(id)) {
            (_, TaskPhase::Flight) => News::AddKeys,
            (ValueSource::Work { run }, TaskPhase::Executing | TaskPhase::LongRunning) => News::Finished { run },
            (ValueSource::Work { .. } | ValueSource::Scatter, _) => News::None,
        };
        self.enter_memory(id, size_bytes, news, out);
    }

    /// The scheduler expects what was asked for last, which is the opposite of what just ended.
    /// As `_transition_resumed_memory`.
    pub(super) fn resumed_value_is_here(&mut self, id: TaskRef, goal: Goal, out: &mut Vec<WorkerEffect>) {
        let Goal::Memory { source: ValueSource::Work { run }, size_bytes } = goal else { return };
        let news = match self.tasks[id].state.under_way() {
            Some(Was::Flight { .. }) => News::Finished { run },
            Some(Was::Pushed { .. } | Was::Executing { .. } | Was::LongRunning { .. }) | None => News::AddKeys,
        };
        self.enter_memory(id, size_bytes, news, out);
    }

    /// As `_transition_to_memory`.
    fn enter_memory(&mut self, id: TaskRef, size_bytes: u64, news: News, out: &mut Vec<WorkerEffect>) {
        let size_bytes = *self.tasks[id].size_bytes.get_or_insert(size_bytes);
        self.held_bytes += size_bytes;
        self.set_state(id, WorkerTaskState::Memory { size_bytes });
        let dependents = std::mem::take(&mut self.tasks[id].dependents);
        for dependent in &dependents {
            if let WorkerTaskState::Waiting { missing } = &mut self.tasks[*dependent].state {
                missing.remove(&id);
                if missing.is_empty() {
                    self.want(*dependent, Goal::Ready);
                }
            }
        }
        let task = &mut self.tasks[id];
        task.dependents = dependents;
        let key = task.key.clone();
        match news {
            News::None => {}
            News::AddKeys => Self::send(WorkerMessage::AddKeys { keys: vec![key] }, out),
            News::Finished { run } => Self::send(WorkerMessage::Finished { key, run, size_bytes }, out),
        }
    }

    // ---- runs and transfers that cannot be stopped -------------------------------------------------------------------

    /// What is under way goes on, but nobody wants the value. What is in a slot's queue may come back.
    /// As `_transition_executing_released`, `_transition_flight_released`, `_transition_resumed_released`.
    pub(super) fn cancel(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        let Some(was) = self.tasks[id].state.under_way() else { return };
        self.set_state(id, WorkerTaskState::Cancelled { was });
        if let Was::Pushed { job } = was {
            self.recall(job.slot, out);
        }
    }

    /// As `_transition_cancelled_released`.
    pub(super) fn release_cancelled(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        if self.tasks[id].done {
            self.release(id, out);
        }
    }

    /// As `_transition_cancelled_fetch`.
    pub(super) fn fetch_cancelled(&mut self, id: TaskRef) {
        match self.tasks[id].state.under_way() {
            Some(Was::Flight { .. }) if self.tasks[id].done => self.want(id, Goal::Released),
            Some(was @ Was::Flight { .. }) => self.set_state(id, was.state()),
            Some(was @ (Was::Pushed { .. } | Was::Executing { .. } | Was::LongRunning { .. })) => {
                self.set_state(id, WorkerTaskState::Resumed { was });
            }
            None => {}
        }
    }

    /// As `_transition_cancelled_waiting`.
    pub(super) fn compute_cancelled(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        match self.tasks[id].state.under_way() {
            Some(was @ Was::Flight { .. }) => self.set_state(id, WorkerTaskState::Resumed { was }),
            Some(was @ (Was::Pushed { .. } | Was::Executing { .. })) => self.set_state(id, was.state()),
            Some(was @ Was::LongRunning { .. }) => {
                self.set_state(id, was.state());
                // Perhaps for the second time: it may have been told before the cancellation.
                let task = &self.tasks[id];
                let message = WorkerMessage::LongRunning { key: task.key.clone(), run: task.run, compute_secs: None };
                Self::send(message, out);
            }
            None => {}
        }
    }

    /// The first errand ended without a value, so the other one begins.
    /// As `_transition_resumed_error`, `_transition_resumed_rescheduled`.
    pub(super) fn go_on_resumed(&mut self, id: TaskRef) {
        let next = match self.tasks[id].state.under_way() {
            Some(Was::Flight { .. }) => Goal::Waiting,
            Some(Was::Pushed { .. } | Was::Executing { .. } | Was::LongRunning { .. }) | None => Goal::Fetch,
        };
        self.tasks[id].done = false;
        self.set_state(id, WorkerTaskState::Released);
        self.want(id, next);
    }

    /// As `_transition_resumed_fetch`.
    pub(super) fn fetch_resumed(&mut self, id: TaskRef) {
        match self.tasks[id].state.under_way() {
            Some(Was::Flight { .. }) if self.tasks[id].done => self.go_on_resumed(id),
            Some(was @ Was::Flight { .. }) => self.set_state(id, was.state()),
            Some(Was::Pushed { .. } | Was::Executing { .. } | Was::LongRunning { .. }) | None => {}
        }
    }

    /// A transfer ended without this value. As `_transition_flight_fetch`.
    pub(super) fn fetch_again(&mut self, id: TaskRef) {
        if self.tasks[id].done {
            self.enter_fetch(id);
        }
    }

    /// As `_transition_missing_fetch`.
    pub(super) fn fetch_missing(&mut self, id: TaskRef) {
        if !self.tasks[id].holders.is_empty() {
            self.enter_fetch(id);
        }
    }

    /// As `_transition_executing_rescheduled`.
    pub(super) fn reschedule(&mut self, id: TaskRef, out: &mut Vec<WorkerEffect>) {
        Self::send(WorkerMessage::Reschedule { key: self.tasks[id].key.clone() }, out);
        self.release(id, out);
    }

    /// The run no longer occupies its slot. The scheduler hears of it only if it knows of the run.
    /// As `_transition_executing_long_running`, `_transition_cancelled_or_resumed_long_running`.
    pub(super) fn secede(&mut self, id: TaskRef, goal: Goal, out: &mut Vec<WorkerEffect>) {
        let Goal::LongRunning { compute_secs } = goal else { return };
        let Some(job) = self.tasks[id].state.job() else { return };
        let told = self.phase(id) == TaskPhase::Executing;
        let state = self.tasks[id].state.with_under_way(Was::LongRunning { job });
        self.set_state(id, state);
        if told {
            let task = &self.tasks[id];
            let compute_secs = Some(compute_secs);
            Self::send(WorkerMessage::LongRunning { key: task.key.clone(), run: task.run, compute_secs }, out);
        }
        self.leave_slot(id, job.slot, out);
        self.ensure_computing();
    }
}

/// Whether a value that nobody waits for is let go when a task that used it is released.
const fn releasable(phase: TaskPhase) -> bool {
    match phase {
        TaskPhase::Waiting
        | TaskPhase::Ready
        | TaskPhase::Constrained
        | TaskPhase::Pushed
        | TaskPhase::Executing
        | TaskPhase::LongRunning
        | TaskPhase::Memory => false,
        TaskPhase::Released
        | TaskPhase::Fetch
        | TaskPhase::Flight
        | TaskPhase::Missing
        | TaskPhase::Error
        | TaskPhase::Cancelled
        | TaskPhase::Resumed => true,
    }
}
