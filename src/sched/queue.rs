//! Tasks held back on the scheduler, tasks without a worker, and which workers have room.
//!
//! Source: `distributed/scheduler.py`, `check_idle_saturated`, `stimulus_queue_slots_maybe_opened`,
//! `bulk_schedule_unrunnable_after_adding_worker`.

use std::collections::BTreeSet;

use super::Scheduler;
use super::effect::Priority;
use super::event::WorkerEngine;
use super::task::{StateName, TaskState};
use super::worker::RegisteredWorker;
use crate::base::{TaskId, WorkerId};

/// A backlog of less than this is nothing to share out. Unit: seconds.
const SATURATED_SECS: f64 = 0.4;
/// And it must be this many times the average worker's.
const SATURATED_FACTOR: f64 = 1.9;

/// How long a worker's supply of short tasks lasts. A stock worker reports what it did every 2 ms, and its next tasks
/// take a while to come: a worker that runs dry in between waits, and gets each task in a message of its own.
///
/// Unit: seconds.
const SUPPLY_SECS: f64 = 0.005;
/// What a task costs a worker besides its own time.
const fn task_overhead_secs(engine: WorkerEngine) -> f64 {
    match engine {
        WorkerEngine::Stock => 0.000_5,
        WorkerEngine::Rask => 0.000_03,
    }
}
/// Most bytes of results that a thread may make out of its supply, because tasks are held back for the sake of memory.
///
/// Unit: bytes.
const SUPPLY_BYTES: f64 = (1 << 20) as f64;
/// A supply is renewed when no more than this share of it is left.
const SUPPLY_RENEW: f64 = 0.5;

impl Scheduler {
    pub(super) fn enter_queued(&mut self, task: TaskId) {
        self.queue_seq += 1;
        let seq = self.queue_seq;
        self.set_state(task, TaskState::Queued { seq });
        self.queued.insert((self.tasks[task].rank(), seq, task));
        self.refresh_no_workers_since();
    }

    pub(super) fn leave_queued(&mut self, task: TaskId) {
        let entry = &self.tasks[task];
        if let TaskState::Queued { seq } = entry.state {
            self.queued.remove(&(entry.rank(), seq, task));
        }
    }

    /// A task that had no priority gets one. It may be in the queue, which is sorted by priority.
    pub(super) fn give_priority(&mut self, task: TaskId, priority: Priority) {
        let entry = &mut self.tasks[task];
        let old = entry.rank();
        entry.priority = Some(priority);
        if let TaskState::Queued { seq } = entry.state {
            let new = entry.rank();
            self.queued.remove(&(old, seq, task));
            self.queued.insert((new, seq, task));
        }
    }

    pub(super) fn enter_no_worker(&mut self, task: TaskId) {
        self.set_state(task, TaskState::NoWorker { since: self.now });
        self.unrunnable.insert((self.now, task));
        self.refresh_no_workers_since();
    }

    pub(super) fn leave_no_worker(&mut self, task: TaskId) {
        if let TaskState::NoWorker { since } = self.tasks[task].state {
            self.unrunnable.remove(&(since, task));
        }
    }

    /// Sends held-back tasks as long as workers have room. Call when a stimulus has run to rest.
    pub(super) fn fill_open_slots(&mut self) {
        while let Some(&(_, _, task)) = self.queued.first() {
            self.transition(task, StateName::Processing);
            self.run_transitions();
            if self.tasks.get(task).is_some_and(|entry| entry.state.name() == StateName::Queued) {
                break;
            }
        }
        self.supplied = None;
    }

    /// Where a task that was held back may go now: an open slot, or a worker that has used up its supply of short
    /// tasks, which is then given a whole supply.
    pub(super) fn place_queued(&mut self, task: TaskId) -> Option<WorkerId> {
        self.place_in_open_slot().or_else(|| {
            let has_room = |id: &WorkerId| {
                let Some(worker) = self.workers.get(*id) else { return false };
                let supply = self.supply(task, worker.hello.engine);
                worker.load.is_some_and(|load| supply.is_some_and(|supply| f64::from_bits(load) < supply))
            };
            self.supplied = self.supplied.filter(has_room).or_else(|| self.lacks_supply(task));
            self.supplied
        })
    }

    /// May a task that was held back go somewhere?
    pub(super) fn has_place(&self, task: TaskId) -> bool {
        !self.open_slots.is_empty() || self.lacks_supply(task).is_some()
    }

    /// The worker of either engine that has least, if it has used up its supply of such tasks.
    fn lacks_supply(&self, task: TaskId) -> Option<WorkerId> {
        WorkerEngine::ALL.into_iter().find_map(|engine| {
            let (load, id) = self.by_load[engine as usize].first()?;
            let supply = self.supply(task, engine)?;
            (f64::from_bits(*load) < supply * SUPPLY_RENEW).then_some(*id)
        })
    }

    /// Tasks per thread that a worker may have of this kind, if that is more than `worker-saturation` says. Only for
    /// tasks that are known to be short and to have small results.
    fn supply(&self, task: TaskId, engine: WorkerEngine) -> Option<f64> {
        if self.config.worker_saturation <= 1.0 {
            return None;
        }
        let prefix = &self.prefixes[self.prefix_at(task) as usize];
        if prefix.duration < 0.0 {
            return None;
        }
        let held = prefix.states[StateName::Memory as usize].max(1);
        let result_bytes = (prefix.nbytes_total as f64 / held as f64).max(1.0);
        let tasks = (SUPPLY_SECS / (prefix.duration + task_overhead_secs(engine))).min(SUPPLY_BYTES / result_bytes);
        (tasks > self.config.worker_saturation.ceil()).then_some(tasks)
    }

    /// A worker came or woke up: what it can run goes, the most urgent first.
    pub(super) fn schedule_unrunnable(&mut self, worker: WorkerId) {
        let mut runnable: Vec<_> = self
            .unrunnable
            .iter()
            .filter(|&&(_, task)| {
                self.valid_workers(task).is_none_or(|valid| valid.contains(&worker) || self.is_loose(task))
            })
            .map(|&(_, task)| (self.tasks[task].rank(), task))
            .collect();
        runnable.sort_unstable_by(|a, b| b.cmp(a));
        for (_, task) in runnable {
            self.recommend(task, StateName::Processing);
        }
        self.run_transitions();
    }

    /// Files a worker under idle, saturated, with room; after every change of its load.
    pub(super) fn check_idle_saturated(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let occupancy = self.occupancy(worker);
        self.check_idle_saturated_at(id, occupancy);
    }

    pub(super) fn check_idle_saturated_at(&mut self, id: WorkerId, occupancy: f64) {
        let Some(worker) = self.workers.get(id) else { return };
        if !worker.is_running() {
            self.unfile(id);
            return;
        }
        let processing = worker.processing.len() as f64;
        let nthreads = worker.nthreads();
        let mean = self.total_occupancy() / self.total_nthreads.max(1) as f64;
        let idle = self.is_unoccupied(worker, occupancy, worker.processing.len() as i64);
        let pending = occupancy * (processing - nthreads) / (processing * nthreads).max(1.0);
        let saturated = !idle && processing > nthreads && pending > SATURATED_SECS && pending > SATURATED_FACTOR * mean;
        let slot = self.has_open_slot(worker).then(|| (processing / nthreads).to_bits());
        let counted = (worker.processing.len() - worker.long_running.len()) as f64;
        let load = self.config.worker_saturation.is_finite().then(|| (counted / nthreads).to_bits());
        self.set_idle(id, idle);
        self.set_saturated(id, saturated);
        self.set_open_slot(id, slot);
        self.set_load(id, load);
    }

    /// Takes a worker that is not running out of all lists.
    pub(super) fn unfile(&mut self, id: WorkerId) {
        self.set_idle(id, false);
        self.set_saturated(id, false);
        self.set_open_slot(id, None);
        self.set_load(id, None);
    }

    pub(super) fn is_unoccupied(&self, worker: &RegisteredWorker, occupancy: f64, processing: i64) -> bool {
        let mean = self.total_occupancy() / self.total_nthreads.max(1) as f64;
        processing < i64::from(worker.hello.nthreads) || occupancy < worker.nthreads() * mean / 2.0
    }

    /// Source: `distributed/scheduler.py`, `_worker_full`, `_task_slots_available`.
    fn has_open_slot(&self, worker: &RegisteredWorker) -> bool {
        if self.config.worker_saturation.is_infinite() {
            return true;
        }
        let slots = (self.config.worker_saturation * worker.nthreads()).ceil().max(1.0);
        ((worker.processing.len() - worker.long_running.len()) as f64) < slots
    }

    fn set_idle(&mut self, id: WorkerId, idle: bool) {
        match (self.workers[id].idle_at, idle) {
            (None, true) => {
                self.workers[id].idle_at = Some(self.idle.len());
                self.idle.push(id);
            }
            (Some(at), false) => {
                self.workers[id].idle_at = None;
                self.idle.swap_remove(at);
                if let Some(&moved) = self.idle.get(at) {
                    self.workers[moved].idle_at = Some(at);
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn set_saturated(&mut self, id: WorkerId, saturated: bool) {
        if std::mem::replace(&mut self.workers[id].saturated, saturated) != saturated {
            if saturated {
                self.saturated.insert(id);
            } else {
                self.saturated.remove(&id);
            }
        }
    }

    fn set_open_slot(&mut self, id: WorkerId, load: Option<u64>) {
        set_place(&mut self.open_slots, id, &mut self.workers[id].slot_load, load);
    }

    fn set_load(&mut self, id: WorkerId, load: Option<u64>) {
        let worker = &mut self.workers[id];
        set_place(&mut self.by_load[worker.hello.engine as usize], id, &mut worker.load, load);
    }

    /// Source: `distributed/scheduler.py`, `_refresh_no_workers_since`.
    pub(super) fn refresh_no_workers_since(&mut self) {
        if !self.running.is_empty() || (self.queued.is_empty() && self.unrunnable.is_empty()) {
            self.no_workers_since = None;
        } else if self.no_workers_since.is_none() {
            self.no_workers_since = Some(self.now);
        }
    }
}

/// Moves a worker to another place in a set by load, or takes it out. `place`: where it stands.
fn set_place(set: &mut BTreeSet<(u64, WorkerId)>, id: WorkerId, place: &mut Option<u64>, load: Option<u64>) {
    let old = std::mem::replace(place, load);
    if old == load {
        return;
    }
    if let Some(old) = old {
        set.remove(&(old, id));
    }
    if let Some(load) = load {
        set.insert((load, id));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{GraphPart, GraphTask, Key, Now, Opaque};
    use crate::sched::{Actors, Event, GraphOpen, SchedConfig};

    /// Goal: a task that waits in the queue without a priority, since its client left it out of `internal_priority`,
    /// and gets one from a later graph, leaves the queue as any other. It stayed in it, and was looked at for ever.
    #[test]
    fn a_queued_task_that_gets_a_priority_later_leaves_the_queue() {
        let mut scheduler = Scheduler::new(SchedConfig::default());
        let mut out = Vec::new();
        scheduler.step(Now(0), Event::ClientAdded { name: "me".into() }, &mut out);
        let client = scheduler.client_id("me").expect("added");
        let keys: Vec<Key> = (0..10).map(Key::int).collect();
        for (ticket, order) in [(1, None), (2, Some(0.0))] {
            let open = GraphOpen {
                client,
                keys: keys.clone(),
                submitting_task: None,
                fifo_timeout_secs: 0.0,
                actors: Actors::None,
            };
            scheduler.step(Now(ticket), Event::GraphOpened { ticket, graph: Box::new(open) }, &mut out);
            let run_spec = Some(Arc::new(Opaque::default()));
            let task =
                |key: &Key| GraphTask { key: key.clone(), order, run_spec: run_spec.clone(), ..GraphTask::default() };
            let tasks = keys.iter().map(task).collect();
            let part = GraphPart { tasks, wanted: keys.clone(), ..GraphPart::default() };
            scheduler.step(Now(ticket), Event::GraphPart { ticket, part, last: true }, &mut out);
            assert_eq!(scheduler.queued.len(), keys.len(), "nobody is there to run them");
            assert_eq!(scheduler.check(), Ok(()));
        }
        scheduler.step(Now(9), Event::ClientReleases { client, keys }, &mut out);
        assert!(scheduler.queued.is_empty());
        assert_eq!(scheduler.check(), Ok(()));
    }
}
