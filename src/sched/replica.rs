//! Copies of results: who holds what; the active memory manager, which makes and drops copies; retiring workers.
//!
//! Source: `distributed/active_memory_manager.py`; `add_replica`, `remove_replica` of `distributed/scheduler.py`.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::config::MemoryMeasure;
use super::effect::{Effect, ToWorker};
use super::event::{AmmAction, WorkerStatus};
use super::task::{StateName, TaskState};
use crate::base::{TaskId, WorkerId};

/// From this number of waiters on, each counts as wanting a copy of its own.
const WAITERS_COUNTED: usize = 20;

/// What one run has decided so far.
#[derive(Default)]
struct Plan {
    replicate: BTreeMap<TaskId, BTreeSet<WorkerId>>,
    drop: BTreeMap<TaskId, BTreeSet<WorkerId>>,
    /// Memory of each worker, decisions counted. Unit: bytes.
    memory: BTreeMap<WorkerId, i64>,
}

impl Plan {
    fn replicas(&self, task: TaskId) -> usize {
        self.replicate.get(&task).map_or(0, BTreeSet::len)
    }
    fn drops(&self, task: TaskId) -> usize {
        self.drop.get(&task).map_or(0, BTreeSet::len)
    }
}

impl Scheduler {
    /// A worker holds a copy of a task in memory.
    pub(super) fn add_replica(&mut self, task: TaskId, worker: WorkerId) {
        if !self.workers[worker].has_what.insert(task) {
            return;
        }
        let size = self.size_of(task);
        if self.workers[worker].needs_what.remove(&task).is_some() {
            self.forget_network(worker, size);
        }
        self.workers[worker].nbytes += size;
        let TaskState::Memory { replicas } = &mut self.tasks[task].state else { return };
        replicas.push(worker);
        if replicas.len() == 2 {
            self.replicated.insert(task);
            self.wake_amm();
        }
    }

    /// A worker no longer holds a copy.
    pub(super) fn remove_replica(&mut self, task: TaskId, worker: WorkerId) {
        let size = self.size_of(task);
        if let Some(entry) = self.workers.get_mut(worker)
            && entry.has_what.remove(&task)
        {
            entry.nbytes -= size;
        }
        let TaskState::Memory { replicas } = &mut self.tasks[task].state else { return };
        replicas.retain(|&id| id != worker);
        if replicas.len() < 2 {
            self.replicated.remove(&task);
        }
    }

    pub(super) fn remove_all_replicas(&mut self, task: TaskId) {
        let size = self.size_of(task);
        let TaskState::Memory { replicas } = &mut self.tasks[task].state else { return };
        for worker in std::mem::take(replicas) {
            if let Some(entry) = self.workers.get_mut(worker)
                && entry.has_what.remove(&task)
            {
                entry.nbytes -= size;
            }
        }
        self.replicated.remove(&task);
    }

    // ---- running the manager ---------------------------------------------------------------------------------

    pub(super) fn on_amm(&mut self, action: AmmAction) {
        match action {
            AmmAction::Start => {
                self.amm.running = true;
                self.wake_amm();
            }
            AmmAction::Stop => {
                self.amm.running = false;
                if self.amm.retiring.is_empty() {
                    self.amm.next = None;
                }
            }
            AmmAction::RunOnce => self.run_amm(true),
        }
    }

    /// Sets the timer if there is anything to manage.
    pub(super) fn wake_amm(&mut self) {
        let work = (self.amm.running && !self.replicated.is_empty()) || !self.amm.retiring.is_empty();
        if work && self.amm.next.is_none() {
            self.amm.next = Some(self.now.plus_secs(self.config.amm_interval_secs));
        }
    }

    /// One run of all policies; `reduce`: also when the manager is stopped.
    ///
    /// Source: `distributed/active_memory_manager.py`, `run_once`.
    pub(super) fn run_amm(&mut self, reduce: bool) {
        self.amm.next = None;
        let mut plan =
            Plan { memory: self.by_address.values().map(|&id| (id, self.measure(id))).collect(), ..Plan::default() };
        if self.config.amm_reduce_replicas && (self.amm.running || reduce) {
            self.plan_reduction(&mut plan);
        }
        let settled: Vec<(WorkerId, bool)> = self
            .amm
            .retiring
            .clone()
            .into_iter()
            .filter_map(|worker| self.plan_retirement(worker, &mut plan).map(|moved| (worker, moved)))
            .collect();
        self.enact(plan);
        for (worker, moved) in settled {
            self.amm.retiring.remove(&worker);
            self.out.push(Effect::Retired { worker, moved });
        }
        self.wake_amm();
    }

    fn measure(&self, id: WorkerId) -> i64 {
        let worker = &self.workers[id];
        let bytes = match self.config.amm_measure {
            MemoryMeasure::Process => worker.memory.process,
            MemoryMeasure::Optimistic => worker.managed().saturating_add(worker.memory.unmanaged_old),
            MemoryMeasure::Managed => worker.managed(),
            MemoryMeasure::ManagedTotal => worker.managed().saturating_add(worker.memory.spilled_disk),
        };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// Source: `distributed/active_memory_manager.py`, `ReduceReplicas`.
    fn plan_reduction(&self, plan: &mut Plan) {
        for &task in &self.replicated {
            let entry = &self.tasks[task];
            // A worker does not reach every holder: one of these copies may be there for it.
            if !entry.waiters.is_empty() && self.asked_again.is_sought(task, self.now) {
                continue;
            }
            let mut wanted = entry.waiters.len();
            if wanted > 1 && wanted < WAITERS_COUNTED {
                // Waiters on one worker share a copy; those not yet placed count each.
                let places: BTreeSet<_> = entry
                    .waiters
                    .iter()
                    .map(|id| self.tasks[id].processing_on().map_or((Some(id), None), |worker| (None, Some(worker))))
                    .collect();
                wanted = places.len();
            }
            let keep = wanted.max(1);
            let have = entry.who_has().len() + plan.replicas(task) - plan.drops(task);
            for _ in keep..have {
                self.plan_drop(task, None, plan);
            }
        }
    }

    /// Source: `distributed/active_memory_manager.py`, `RetireWorker`. Some: the worker is done with, its data moved
    /// or not movable.
    fn plan_retirement(&mut self, worker: WorkerId, plan: &mut Plan) -> Option<bool> {
        let Some(entry) = self.workers.get(worker) else { return Some(true) };
        if !entry.actors.is_empty() {
            let text = format!("Worker {} holds actors, which can't be moved: it is not retired", entry.hello.address);
            self.warn(text);
            return Some(false);
        }
        let (mut unique, mut stuck) = (0usize, 0usize);
        let mut held: Vec<TaskId> = entry.has_what.iter().copied().collect();
        held.sort_unstable();
        for task in held {
            let entry = &self.tasks[task];
            if entry.actor {
                continue;
            }
            if entry.who_has().len() > 1
                && (self.plan_drop(task, Some(worker), plan)
                    || entry.who_has().iter().any(|id| self.running.contains(id)))
            {
                continue;
            }
            unique += 1;
            if plan.replicas(task) == 0 && !self.plan_replica(task, plan) {
                stuck += 1;
            }
        }
        if stuck > 0 {
            let address = self.workers[worker].hello.address.clone();
            self.warn(format!("Worker {address} is not retired: no other worker can take {stuck} of its keys"));
            return Some(false);
        }
        (unique == 0).then_some(true)
    }

    /// Source: `distributed/active_memory_manager.py`, `_find_recipient`.
    fn plan_replica(&self, task: TaskId, plan: &mut Plan) -> bool {
        let entry = &self.tasks[task];
        if entry.state.name() != StateName::Memory || entry.actor {
            return false;
        }
        let pending = plan.replicate.get(&task);
        let recipient = self
            .running
            .iter()
            .filter(|id| !entry.who_has().contains(id) && pending.is_none_or(|pending| !pending.contains(id)))
            .min_by_key(|id| plan.memory.get(id).copied().unwrap_or(0))
            .copied();
        let Some(recipient) = recipient else { return false };
        plan.replicate.entry(task).or_default().insert(recipient);
        *plan.memory.entry(recipient).or_insert(0) += self.size_of(task);
        true
    }

    /// Drops a copy, on `only` if given; never the last one, never one that a running task needs, and never the only one
    /// on a running worker while tasks on workers that are paused or retire need theirs: such a worker could never
    /// retire, as each of its copies elsewhere would be dropped again.
    /// Source: `distributed/active_memory_manager.py`, `_find_dropper`.
    fn plan_drop(&self, task: TaskId, only: Option<WorkerId>, plan: &mut Plan) -> bool {
        let entry = &self.tasks[task];
        if entry.who_has().len() < 2 + plan.drops(task) || entry.actor {
            return false;
        }
        let needed: BTreeSet<WorkerId> = entry.waiters.iter().filter_map(|id| self.tasks[id].processing_on()).collect();
        let pending = plan.drop.get(&task);
        let asked = |id: &&WorkerId| {
            only.is_none_or(|only| only == **id) && pending.is_none_or(|pending| !pending.contains(id))
        };
        let (busy, free): (Vec<WorkerId>, Vec<WorkerId>) =
            entry.who_has().iter().filter(asked).partition(|id| needed.contains(id));
        let memory = |id: &WorkerId| plan.memory.get(id).copied().unwrap_or(0);
        let Some(dropper) = free.iter().max_by_key(|id| (!self.running.contains(id), memory(id), **id)).copied() else {
            return false;
        };
        let others_leave = !busy.is_empty() && !busy.iter().any(|id| self.running.contains(id));
        if free.len() == 1 && self.running.contains(&dropper) && others_leave {
            return false;
        }
        plan.drop.entry(task).or_default().insert(dropper);
        let memory = plan.memory.entry(dropper).or_insert(0);
        *memory = (*memory - self.size_of(task)).max(0);
        true
    }

    fn enact(&mut self, plan: Plan) {
        let mut fetch: BTreeMap<WorkerId, Vec<TaskId>> = BTreeMap::new();
        for (task, workers) in plan.replicate {
            for worker in workers {
                fetch.entry(worker).or_default().push(task);
            }
        }
        let mut drop: BTreeMap<WorkerId, Vec<TaskId>> = BTreeMap::new();
        for (task, workers) in plan.drop {
            for worker in workers {
                drop.entry(worker).or_default().push(task);
            }
        }
        for (worker, tasks) in fetch {
            let data = self.locate(&tasks);
            self.send_worker(worker, ToWorker::AcquireReplicas { data });
        }
        for (worker, tasks) in drop {
            let keys = tasks.iter().map(|&task| self.tasks[task].key.clone()).collect();
            for task in tasks {
                // Taken off the books at once; a worker that refuses says `add-keys`.
                self.remove_replica(task, worker);
            }
            self.send_worker(worker, ToWorker::RemoveReplicas { keys });
        }
    }

    // ---- retiring --------------------------------------------------------------------------------------------

    pub(super) fn on_retire(&mut self, workers: Vec<WorkerId>) {
        for worker in workers {
            if !self.is_registered(worker) {
                self.out.push(Effect::Retired { worker, moved: true });
                continue;
            }
            if self.amm.retiring.insert(worker) {
                self.on_worker_status(worker, WorkerStatus::ClosingGracefully);
                self.send_worker(worker, ToWorker::Status { status: WorkerStatus::ClosingGracefully });
            }
        }
        self.run_amm(false);
    }

    pub(super) fn on_retire_aborted(&mut self, worker: WorkerId) {
        self.amm.retiring.remove(&worker);
        if self.is_registered(worker) {
            self.send_worker(worker, ToWorker::Status { status: WorkerStatus::Running });
            self.on_worker_status(worker, WorkerStatus::Running);
        }
    }

    /// Does a retiring worker have nothing left that is only there?
    ///
    /// Source: `distributed/active_memory_manager.py`, `RetireWorker.done`.
    pub(super) fn check_retired(&mut self) {
        let emptied: Vec<WorkerId> = self
            .amm
            .retiring
            .iter()
            .copied()
            .filter(|&id| {
                self.workers
                    .get(id)
                    .is_none_or(|worker| worker.has_what.iter().all(|&task| self.tasks[task].who_has().len() > 1))
            })
            .collect();
        for worker in emptied {
            self.amm.retiring.remove(&worker);
            self.out.push(Effect::Retired { worker, moved: true });
        }
    }
}
