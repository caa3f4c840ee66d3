//! How many workers the work wants, and which could go.
//!
//! Source: `distributed/scheduler.py`, `adaptive_target`, `workers_to_close`.

use super::Scheduler;
use super::view::CloseWish;
use super::worker::RegisteredWorker;
use crate::base::{TaskId, WorkerId};

/// At most this many waiting tasks are looked at; the others are assumed to be like them.
const SAMPLE: usize = 100;
/// Above this share of memory in use, more workers are wanted.
const MEMORY_SHARE: f64 = 0.6;
/// Workers are kept as long as they have this many times the memory that data takes.
const MEMORY_RATIO: f64 = 2.0;

impl Scheduler {
    /// How many workers the present work wants. Unit of `target_duration_secs`: seconds.
    pub fn adaptive_target(&self, target_duration_secs: f64) -> usize {
        let waiting = || self.queued.iter().map(|entry| entry.2).chain(self.unrunnable.iter().map(|entry| entry.1));
        let mut ready = self.queued.len() + self.unrunnable.len();
        let cost = |task: TaskId| self.duration(self.prefix_at(task));
        let mut waiting_secs: f64 = waiting().take(SAMPLE).map(cost).sum();
        if ready > SAMPLE {
            waiting_secs *= ready as f64 / SAMPLE as f64;
        }
        let mut cpu = ((self.total_occupancy() + waiting_secs) / target_duration_secs.max(1e-9)).ceil() as usize;
        let workers = || self.by_address.values().map(|&id| &self.workers[id]);
        // A few long tasks should not ask for many cores.
        ready += workers().map(|worker| worker.processing.len()).sum::<usize>();
        cpu = cpu.min(ready);
        let count = self.by_address.len();
        if self.total_nthreads > 0 {
            cpu = (cpu as f64 / self.total_nthreads as f64 * count as f64).ceil() as usize;
        }
        if count == 0 && (!self.unrunnable.is_empty() || !self.queued.is_empty()) {
            cpu = cpu.max(1);
        }
        let limit: f64 = workers().map(|worker| worker.hello.memory_limit as f64).sum();
        let used: f64 = workers().map(|worker| worker.nbytes as f64).sum();
        let memory = if limit > 0.0 && used > MEMORY_SHARE * limit { 2 * count } else { 0 };
        let target = memory.max(cpu);
        if target >= count { target } else { count - self.workers_to_close(&CloseWish::default()).len() }
    }

    /// Workers that can go, best first.
    pub fn workers_to_close(&self, wish: &CloseWish) -> Vec<WorkerId> {
        let workers: Vec<(WorkerId, &RegisteredWorker)> =
            self.by_address.values().map(|&id| (id, &self.workers[id])).collect();
        let n = wish.n.or_else(|| wish.target.map(|target| workers.len().saturating_sub(target)));
        let ratio = wish.memory_ratio.or(if n.is_none() { Some(MEMORY_RATIO) } else { None });
        if n.is_none_or(|n| n == 0) && workers.iter().all(|(_, worker)| !worker.processing.is_empty()) {
            return Vec::new();
        }
        let keep = n.map_or(0, |n| workers.len().saturating_sub(n));
        let in_shuffle = self.shuffle_participants();
        let mut candidates: Vec<(WorkerId, &RegisteredWorker)> = workers
            .iter()
            .copied()
            .filter(|(_, worker)| worker.long_running.is_empty() && !in_shuffle.contains(&worker.hello.address))
            .collect();
        // Idle workers with the least data first.
        candidates.sort_by_key(|(id, worker)| (!worker.processing.is_empty(), worker.nbytes, *id));
        let mut limit: f64 = candidates.iter().map(|(_, worker)| worker.hello.memory_limit as f64).sum();
        let total: f64 = candidates.iter().map(|(_, worker)| worker.nbytes as f64).sum();
        let mut remain = workers.len();
        let mut close = Vec::new();
        for (id, worker) in candidates {
            let busy = n.is_none() && !worker.processing.is_empty();
            if busy || wish.minimum.is_some_and(|minimum| minimum > 0 && remain <= minimum) {
                break;
            }
            limit -= worker.hello.memory_limit as f64;
            let by_count = n.is_some() && remain > keep;
            let by_memory = ratio.is_some_and(|ratio| limit >= ratio * total);
            if !by_count && !by_memory {
                break;
            }
            close.push(id);
            remain -= 1;
        }
        close
    }
}
