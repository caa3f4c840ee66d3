//! Moves between task states, and the loop that runs them to rest.
//!
//! A transition recommends further ones; the last recommended is taken first, and a recommendation for a task that
//! has one already only changes its target: urgent tasks go first, and a later `released` overtakes nothing.
//! Source: `distributed/scheduler.py`, `_transition`, `_transitions` and the `_transition_x_y` methods.

use std::sync::Arc;

use bytes::Bytes;

use super::Scheduler;
use super::arena::IdSet;
use super::effect::{Compute, Located, ToClient, ToWorker};
use super::event::Finished;
use super::task::{RecAt, StateName, TaskState};
use crate::base::{Failure, Key, PyError, TaskId, WorkerId};

/// Why a task came into `erred`.
#[derive(Debug, Default)]
pub(super) struct ErredCause {
    /// Where it failed.
    pub(super) worker: Option<WorkerId>,
    /// The failure; none when it is inherited from the blamed task.
    pub(super) failure: Option<Arc<Failure>>,
}

/// How a task gets from one state to another.
enum Way {
    /// It is there.
    Stay,
    /// This does it.
    Direct(fn(&mut Scheduler, TaskId)),
    /// To `released`, and on to where that recommends, else to the target.
    ThroughReleased,
    /// Nothing recommends it.
    Never,
}

/// The table of all transitions.
const fn way(from: StateName, to: StateName) -> Way {
    use StateName as S;
    match (from, to) {
        (S::Released, S::Released)
        | (S::Waiting, S::Waiting)
        | (S::Queued, S::Queued)
        | (S::NoWorker, S::NoWorker)
        | (S::Processing, S::Processing)
        | (S::Memory, S::Memory)
        | (S::Erred, S::Erred)
        | (S::Forgotten, S::Forgotten) => Way::Stay,

        (S::Released, S::Waiting) => Way::Direct(Scheduler::released_waiting),
        (S::Released, S::Erred) => Way::Direct(Scheduler::released_erred),
        (S::Released | S::Memory, S::Forgotten) => Way::Direct(Scheduler::enter_forgotten),
        (S::Waiting, S::Released) => Way::Direct(Scheduler::waiting_released),
        (S::Waiting, S::Queued) => Way::Direct(Scheduler::enter_queued),
        (S::Waiting, S::NoWorker) => Way::Direct(Scheduler::enter_no_worker),
        (S::Waiting, S::Processing) => Way::Direct(Scheduler::waiting_processing),
        // The run that ended belongs to data that is being recomputed: the free-keys is under way.
        (S::Waiting, S::Memory) => Way::Direct(|_, _| {}),
        (S::Queued, S::Released) => Way::Direct(Scheduler::queued_released),
        (S::Queued, S::Processing) => Way::Direct(Scheduler::queued_processing),
        (S::NoWorker, S::Released) => Way::Direct(Scheduler::no_worker_released),
        (S::NoWorker, S::Processing) => Way::Direct(Scheduler::no_worker_processing),
        (S::Queued | S::NoWorker | S::Processing, S::Erred) => {
            Way::Direct(|scheduler, task| scheduler.enter_erred(task, ErredCause::default()))
        }
        (S::Processing, S::Released) => Way::Direct(Scheduler::processing_released),
        (S::Memory, S::Released) => Way::Direct(Scheduler::memory_released),
        (S::Memory, S::Erred) => Way::Direct(Scheduler::memory_erred),
        (S::Erred, S::Released) => Way::Direct(Scheduler::erred_released),

        (S::Waiting, S::Erred | S::Forgotten)
        | (S::Queued, S::Waiting | S::NoWorker | S::Memory | S::Forgotten)
        | (S::NoWorker, S::Waiting | S::Queued | S::Memory | S::Forgotten)
        | (S::Processing, S::Waiting | S::Queued | S::NoWorker | S::Memory | S::Forgotten)
        | (S::Memory, S::Waiting | S::Queued | S::NoWorker | S::Processing)
        | (S::Erred, S::Waiting | S::Queued | S::NoWorker | S::Processing | S::Memory | S::Forgotten) => {
            Way::ThroughReleased
        }

        (S::Released, S::Queued | S::NoWorker | S::Processing | S::Memory)
        | (S::Forgotten, S::Released | S::Waiting | S::Queued | S::NoWorker | S::Processing | S::Memory | S::Erred) => {
            Way::Never
        }
    }
}

impl Scheduler {
    /// Wants `task` to go to `target` before this step ends.
    pub(super) fn recommend(&mut self, task: TaskId, target: StateName) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if let Some(at) = entry.rec_at {
            self.recs[at.index()].1 = target;
        } else {
            entry.rec_at = Some(RecAt::new(self.recs.len()));
            self.recs.push((task, target));
        }
    }

    fn recommended(&self, task: TaskId) -> Option<StateName> {
        self.tasks.get(task)?.rec_at.map(|at| self.recs[at.index()].1)
    }

    /// Runs recommendations until none is left, and no task that somebody needs is left in `released`.
    pub(super) fn run_transitions(&mut self) {
        let mut picked_up = Vec::new();
        loop {
            while let Some((task, target)) = self.recs.pop() {
                if let Some(entry) = self.tasks.get_mut(task) {
                    entry.rec_at = None;
                    self.transition(task, target);
                }
            }
            self.resume_unsettled(&mut picked_up);
            if self.recs.is_empty() {
                return;
            }
        }
    }

    /// A cascade that crosses itself (a retry below several failures) can take back what it had asked for: tasks that
    /// came to rest in `released` while somebody needs them are asked for again, those that wait for nobody are let go.
    fn resume_unsettled(&mut self, picked_up: &mut Vec<(TaskId, StateName)>) {
        for task in std::mem::take(&mut self.unsettled) {
            let Some(entry) = self.tasks.get(task) else { continue };
            let better = match entry.state.name() {
                StateName::Released if entry.is_needed() && !entry.lost_dependencies => StateName::Waiting,
                // It was to be forgotten until something asked for it again in vain.
                StateName::Released if entry.is_of_no_use() => StateName::Forgotten,
                StateName::Waiting if !entry.is_needed() => StateName::Released,
                // The news that an input failed was overtaken by a wish to try again.
                StateName::Waiting if self.failed_dependency(task).is_some() => StateName::Erred,
                StateName::Released
                | StateName::Waiting
                | StateName::Queued
                | StateName::NoWorker
                | StateName::Processing
                | StateName::Memory
                | StateName::Erred
                | StateName::Forgotten => continue,
            };
            if !picked_up.contains(&(task, better)) {
                picked_up.push((task, better));
                if let Some(input) = self.failed_dependency(task).filter(|_| better == StateName::Erred) {
                    self.inherit_blame(task, input);
                }
                self.recommend(task, better);
            }
        }
    }

    /// Moves one task. An unknown task, or one that is there already, stays unchanged.
    pub(super) fn transition(&mut self, task: TaskId, target: StateName) {
        let Some(entry) = self.tasks.get(task) else { return };
        let start = entry.state.name();
        if start == target {
            return;
        }
        let key = entry.key.clone();
        let recs_before = self.recs.len();
        self.transitions += 1;
        match way(start, target) {
            Way::Stay => {}
            Way::Direct(handler) => {
                handler(self, task);
                let finish = self.tasks.get(task).map_or(StateName::Forgotten, |entry| entry.state.name());
                self.tell(key, start, finish, recs_before);
                if finish == StateName::Released || finish == StateName::Erred {
                    self.shuffle_barrier_moved(task);
                }
            }
            Way::ThroughReleased => {
                self.transition(task, StateName::Released);
                let onward = self.recommended(task).unwrap_or(target);
                if self.tasks.get(task).is_some_and(|entry| entry.state.name() == StateName::Released) {
                    self.transition(task, onward);
                }
            }
            Way::Never => unreachable!("no transition from {} to {} for {key}", start.as_str(), target.as_str()),
        }
    }

    /// Moves a task to `erred` for a reason that is known where it is called.
    pub(super) fn fail(&mut self, task: TaskId, cause: ErredCause) {
        let (key, start) = (self.tasks[task].key.clone(), self.tasks[task].state.name());
        let recs_before = self.recs.len();
        self.transitions += 1;
        self.enter_erred(task, cause);
        self.tell(key, start, StateName::Erred, recs_before);
        self.shuffle_task_erred(task);
    }

    // ---- into waiting ----------------------------------------------------------------------------------------

    fn released_waiting(&mut self, task: TaskId) {
        if self.tasks[task].lost_dependencies || self.tasks[task].run_spec.is_none() {
            self.recommend(task, StateName::Forgotten);
            return;
        }
        if !self.is_asked_for(task) {
            self.unsettled.push(task);
            return self.stop_dependencies(task);
        }
        if let Some(dependency) = self.failed_dependency(task) {
            self.inherit_blame(task, dependency);
            self.recommend(task, StateName::Erred);
            return self.stop_dependencies(task);
        }
        let mut missing = IdSet::default();
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            let entry = &mut self.tasks[dependency];
            let is_missing = entry.who_has().is_empty();
            if entry.state.name() == StateName::Released {
                self.recommend(dependency, StateName::Waiting);
            } else {
                entry.waiters.insert(task);
            }
            if is_missing {
                missing.insert(dependency);
            }
        }
        if missing.is_empty() {
            self.recommend(task, StateName::Processing);
        }
        self.set_state(task, TaskState::Waiting { missing });
        self.unsettled.push(task);
        self.tasks[task].waiters = self.waiting_dependents(task);
    }

    /// Does anyone still want it? Whoever asked may have erred between asking and now.
    fn is_asked_for(&self, task: TaskId) -> bool {
        let entry = &self.tasks[task];
        let waits = |id: TaskId| {
            self.tasks[id].state.name() == StateName::Waiting || self.recommended(id) == Some(StateName::Waiting)
        };
        entry.is_needed() || entry.dependents.iter().any(waits)
    }

    pub(super) fn waiting_dependents(&self, task: TaskId) -> IdSet {
        self.tasks[task].dependents.iter().filter(|&id| self.tasks[id].state.name() == StateName::Waiting).collect()
    }

    /// Inputs that were started for a task that nobody asks for any more.
    fn stop_dependencies(&mut self, task: TaskId) {
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            let started = match self.tasks[dependency].state.name() {
                StateName::Waiting | StateName::Queued | StateName::NoWorker | StateName::Processing => true,
                StateName::Released | StateName::Memory | StateName::Erred | StateName::Forgotten => false,
            };
            if started && !self.is_asked_for(dependency) {
                self.recommend(dependency, StateName::Released);
            }
        }
    }

    /// An input that erred and is not about to be tried again: waiting for it would be for ever.
    fn failed_dependency(&self, task: TaskId) -> Option<TaskId> {
        let stays = |id: TaskId| matches!(self.recommended(id), None | Some(StateName::Erred));
        self.tasks[task]
            .dependencies
            .iter()
            .copied()
            .find(|&id| self.tasks[id].state.name() == StateName::Erred && stays(id))
    }

    // ---- into processing -------------------------------------------------------------------------------------

    fn waiting_processing(&mut self, task: TaskId) {
        if self.is_rootish(task) {
            if self.config.worker_saturation.is_infinite() || !self.tasks[task].queueable {
                match self.place_with_siblings(task) {
                    Some(worker) => self.enter_processing(task, worker),
                    None => self.recommend(task, StateName::NoWorker),
                }
            } else {
                match self.place_in_open_slot() {
                    Some(worker) => self.enter_processing(task, worker),
                    None => self.recommend(task, StateName::Queued),
                }
            }
            return;
        }
        match self.place(task) {
            Some(worker) => self.enter_processing(task, worker),
            None => self.recommend(task, StateName::NoWorker),
        }
    }

    fn queued_released(&mut self, task: TaskId) {
        self.leave_queued(task);
        self.propagate_released(task);
    }

    fn no_worker_released(&mut self, task: TaskId) {
        self.leave_no_worker(task);
        self.propagate_released(task);
    }

    fn queued_processing(&mut self, task: TaskId) {
        if let Some(worker) = self.place_queued(task) {
            self.leave_queued(task);
            self.enter_processing(task, worker);
        }
    }

    fn no_worker_processing(&mut self, task: TaskId) {
        if let Some(worker) = self.place(task) {
            self.leave_no_worker(task);
            self.enter_processing(task, worker);
        }
    }

    fn enter_processing(&mut self, task: TaskId, worker: WorkerId) {
        self.set_state(task, TaskState::Processing { on: worker, steal_level: None });
        self.assign(task, worker);
        self.n_tasks += 1;
        if self.tasks[task].actor {
            self.workers[worker].actors.insert(task);
        }
        if let Some(failure) = self.does_not_fit(task, worker) {
            let cause = ErredCause { worker: Some(worker), failure: Some(Arc::new(failure)) };
            return self.fail(task, cause);
        }
        self.send_compute(task, worker);
    }

    /// Books a task on a worker: counts, resources, inputs to fetch, stealable sets.
    pub(super) fn assign(&mut self, task: TaskId, worker: WorkerId) {
        let prefix = self.prefix_at(task);
        self.count_processing(worker, prefix);
        self.workers[worker].processing.insert(task);
        for at in 0..self.tasks[task].dependencies.len() {
            let input = self.tasks[task].dependencies[at];
            if !self.tasks[input].who_has().contains(&worker) {
                self.need_input(worker, input);
            }
        }
        self.use_resources(task, worker, 1.0);
        self.check_idle_saturated(worker);
        self.make_stealable(task);
    }

    /// Undoes [`Self::assign`].
    pub(super) fn unassign(&mut self, task: TaskId, worker: WorkerId) {
        self.make_unstealable(task, worker);
        let prefix = self.prefix_at(task);
        let Some(entry) = self.workers.get_mut(worker) else { return };
        entry.processing.remove(&task);
        if entry.long_running.remove(&task) {
            self.long_running -= 1;
        } else {
            self.uncount_processing(worker, prefix);
        }
        for at in 0..self.tasks[task].dependencies.len() {
            let input = self.tasks[task].dependencies[at];
            self.unneed_input(worker, input);
        }
        self.use_resources(task, worker, -1.0);
        self.check_idle_saturated(worker);
    }

    fn use_resources(&mut self, task: TaskId, worker: WorkerId, sign: f64) {
        let Some(rare) = &self.tasks[task].rare else { return };
        for (name, amount) in &rare.resources {
            if let Some((_, used)) = self.workers[worker].used_resources.iter_mut().find(|(other, _)| other == name) {
                *used += sign * amount;
            }
        }
    }

    /// A crude guard against tasks whose inputs alone are more than the worker's memory.
    fn does_not_fit(&self, task: TaskId, worker: WorkerId) -> Option<Failure> {
        let limit = self.workers[worker].hello.memory_limit;
        if limit == 0 || !self.config.memory_guard {
            return None;
        }
        let entry = &self.tasks[task];
        let need: i64 = entry.dependencies.iter().map(|&input| self.tasks[input].nbytes).sum();
        if u64::try_from(need).is_ok_and(|need| need <= limit) || need <= 0 {
            return None;
        }
        let hint = if entry.dependents.is_empty() {
            " Did you call compute() on a huge collection? Reduce or slice it first, or write it to storage."
        } else {
            ""
        };
        let text = format!(
            "Task {:?} has {} worth of input dependencies, but worker {} has memory_limit set to {}.{hint}",
            entry.key,
            human_bytes(need as u64),
            self.workers[worker].hello.address,
            human_bytes(limit)
        );
        Some(Failure::Raised(PyError::builtin("MemoryError", text)))
    }

    /// Sends `compute-task` under a new run number.
    pub(super) fn send_compute(&mut self, task: TaskId, worker: WorkerId) {
        self.run_id += 1;
        let inputs = self.locate(&self.tasks[task].dependencies);
        let entry = &mut self.tasks[task];
        entry.run_id = self.run_id;
        let Some(run_spec) = entry.run_spec.clone() else {
            unreachable!("a task without a run spec never leaves released: {}", entry.key)
        };
        let message = Compute {
            key: entry.key.clone(),
            run_id: entry.run_id,
            priority: entry.priority.unwrap_or_default(),
            inputs,
            run_spec,
            annotations: entry.annotations.clone(),
            actor: entry.actor,
        };
        self.send_worker(worker, ToWorker::Compute(Box::new(message)));
    }

    /// Where these tasks' results are and how big they are.
    pub(super) fn locate(&self, tasks: &[TaskId]) -> Located {
        let mut located = Located { keys: Vec::with_capacity(tasks.len()), holders: Vec::with_capacity(tasks.len()) };
        for &task in tasks {
            let entry = &self.tasks[task];
            located.keys.push((entry.key.clone(), entry.nbytes, entry.who_has().len() as u32));
            located.holders.extend(entry.who_has().iter().map(|&id| self.workers[id].hello.address.clone()));
        }
        located
    }

    /// Takes a task off its worker, which may be gone already.
    pub(super) fn leave_processing(&mut self, task: TaskId) -> Option<WorkerId> {
        let worker = self.tasks[task].processing_on()?;
        self.forget_steal(task);
        self.unassign(task, worker);
        self.is_registered(worker).then_some(worker)
    }

    fn processing_released(&mut self, task: TaskId) {
        if let Some(worker) = self.leave_processing(task) {
            let keys = vec![self.tasks[task].key.clone()];
            self.send_worker(worker, ToWorker::FreeKeys { keys });
        }
        self.propagate_released(task);
    }

    // ---- into memory -----------------------------------------------------------------------------------------

    /// A run ended well on the worker that was told to do it.
    pub(super) fn processing_memory(&mut self, task: TaskId, worker: WorkerId, done: Finished) {
        self.transitions += 1;
        let prefix = self.prefix_at(task);
        self.add_durations(prefix, &done.startstops);
        if let Some(nbytes) = done.nbytes {
            self.set_nbytes(task, nbytes);
        }
        self.leave_processing(task);
        self.set_state(task, TaskState::Memory { replicas: Vec::new() });
        self.add_replica(task, worker);
        let typename = self.intern_typename(done.typename);
        self.tasks[task].typename = Some(typename);
        let recs_before = self.recs.len();
        self.wake_dependents(task);
        self.release_dependencies(task);
        if self.tasks[task].is_needed() {
            self.report_in_memory(task, &done.type_pickle);
        } else {
            self.recommend(task, StateName::Released);
        }
        self.fire_and_forget_done(task);
        self.relevel_unknown(prefix);
        self.tell(done.key, StateName::Processing, StateName::Memory, recs_before);
    }

    fn report_in_memory(&mut self, task: TaskId, type_pickle: &Bytes) {
        self.send_wanters(task, |key| ToClient::KeyInMemory {
            key: key.clone(),
            type_pickle: Some(type_pickle.clone()),
        });
    }

    /// Dependents that waited for this result alone can run, the most urgent first.
    pub(super) fn wake_dependents(&mut self, task: TaskId) {
        let mut ready = Vec::new();
        let dependents = std::mem::take(&mut self.tasks[task].dependents);
        for dependent in dependents.iter() {
            let entry = &mut self.tasks[dependent];
            if let TaskState::Waiting { missing } = &mut entry.state
                && missing.remove(task)
                && missing.is_empty()
            {
                ready.push((entry.rank(), dependent));
            }
        }
        self.tasks[task].dependents = dependents;
        ready.sort_unstable_by(|a, b| b.cmp(a));
        for (_, dependent) in ready {
            self.recommend(dependent, StateName::Processing);
        }
    }

    /// This task needs its inputs no longer.
    pub(super) fn release_dependencies(&mut self, task: TaskId) {
        for at in 0..self.tasks[task].dependencies.len() {
            let dependency = self.tasks[task].dependencies[at];
            self.stop_waiting_for(task, dependency);
        }
    }

    /// `task` needs this input no longer. An input that erred keeps its failure until somebody retries it: released,
    /// it would call back all that failed with it.
    pub(super) fn stop_waiting_for(&mut self, task: TaskId, dependency: TaskId) {
        let entry = &mut self.tasks[dependency];
        entry.waiters.remove(task);
        if entry.is_needed() {
            return;
        }
        match entry.state.name() {
            StateName::Waiting
            | StateName::Queued
            | StateName::NoWorker
            | StateName::Processing
            | StateName::Memory => self.recommend(dependency, StateName::Released),
            StateName::Released | StateName::Erred | StateName::Forgotten => {}
        }
    }

    pub(super) fn fire_and_forget_done(&mut self, task: TaskId) {
        let client = self.fire_and_forget;
        if self.clients[client].wants_what.contains(&task) {
            self.release_for_client(client, task);
        }
    }

    /// The task of that key.
    pub(super) fn find(&self, key: &Key) -> Option<TaskId> {
        self.by_key.get(key).copied()
    }
}

/// `1.50 GiB`, as Dask prints sizes.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("kiB", 10)];
    for (unit, shift) in UNITS {
        let whole = (1u64 << shift) as f64;
        if bytes as f64 >= whole * 0.9 {
            return format!("{:.2} {unit}", bytes as f64 / whole);
        }
    }
    format!("{bytes} B")
}
