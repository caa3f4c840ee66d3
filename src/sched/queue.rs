//! Tasks held back on the scheduler, tasks without a worker, and which workers have room.
//!
//! Source: `check_idle_saturated`, `stimulus_queue_slots_maybe_opened`, `bulk_schedule_unrunnable_after_adding_worker`.

use super::Scheduler;
use super::task::TaskState;
use super::worker::Worker;
use crate::base::{TaskId, WorkerId};

/// A backlog of less than this is nothing to share out. Unit: seconds.
const SATURATED_SECS: f64 = 0.4;
/// And it must be this many times the average worker's.
const SATURATED_FACTOR: f64 = 1.9;

impl Scheduler {
    pub(super) fn enter_queued(&mut self, task: TaskId) {
        self.set_state(task, TaskState::Queued);
        self.queue_seq += 1;
        let entry = &mut self.tasks[task];
        entry.queue_seq = self.queue_seq;
        self.queued.insert((entry.rank(), entry.queue_seq, task));
        self.refresh_no_workers_since();
    }

    pub(super) fn leave_queued(&mut self, task: TaskId) {
        let entry = &self.tasks[task];
        self.queued.remove(&(entry.rank(), entry.queue_seq, task));
    }

    pub(super) fn enter_no_worker(&mut self, task: TaskId) {
        self.set_state(task, TaskState::NoWorker);
        self.tasks[task].unrunnable_since = self.now;
        self.unrunnable.insert((self.now, task));
        self.refresh_no_workers_since();
    }

    pub(super) fn leave_no_worker(&mut self, task: TaskId) {
        self.unrunnable.remove(&(self.tasks[task].unrunnable_since, task));
    }

    /// Sends held-back tasks as long as workers have room. Call when a stimulus has run to rest.
    pub(super) fn fill_open_slots(&mut self) {
        while let (Some(&(_, _, task)), false) = (self.queued.first(), self.open_slots.is_empty()) {
            self.transition(task, TaskState::Processing);
            self.run_transitions();
            if self.tasks.get(task).is_some_and(|entry| entry.state == TaskState::Queued) {
                return;
            }
        }
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
            self.recommend(task, TaskState::Processing);
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
        let load = self.has_open_slot(worker).then(|| (processing / nthreads).to_bits());
        self.set_idle(id, idle);
        self.set_saturated(id, saturated);
        self.set_open_slot(id, load);
    }

    /// Takes a worker that is not running out of all lists.
    pub(super) fn unfile(&mut self, id: WorkerId) {
        self.set_idle(id, false);
        self.set_saturated(id, false);
        self.set_open_slot(id, None);
    }

    pub(super) fn is_unoccupied(&self, worker: &Worker, occupancy: f64, processing: i64) -> bool {
        let mean = self.total_occupancy() / self.total_nthreads.max(1) as f64;
        processing < i64::from(worker.hello.nthreads) || occupancy < worker.nthreads() * mean / 2.0
    }

    /// Source: `_worker_full`, `_task_slots_available`.
    fn has_open_slot(&self, worker: &Worker) -> bool {
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
        let old = std::mem::replace(&mut self.workers[id].slot_load, load);
        if old == load {
            return;
        }
        if let Some(old) = old {
            self.open_slots.remove(&(old, id));
        }
        if let Some(load) = load {
            self.open_slots.insert((load, id));
        }
    }

    /// Source: `_refresh_no_workers_since`.
    pub(super) fn refresh_no_workers_since(&mut self) {
        if !self.running.is_empty() || (self.queued.is_empty() && self.unrunnable.is_empty()) {
            self.no_workers_since = None;
        } else if self.no_workers_since.is_none() {
            self.no_workers_since = Some(self.now);
        }
    }
}
