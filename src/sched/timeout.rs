//! Everything that happens because time passes. All deadlines of the scheduler meet here.

use std::sync::Arc;

use super::Scheduler;
use super::effect::Effect;
use super::transition::ErredCause;
use crate::base::{Failure, Now, PyError, TaskId, Value, WorkerId};

impl Scheduler {
    /// When to send [`super::Event::Tick`] if nothing else happens first. None: no need to wake up.
    pub fn next_deadline(&self) -> Option<Now> {
        let idle = match (self.config.idle_timeout_secs, self.idle_since) {
            (Some(timeout), Some(since)) if !self.idle_told => Some(since.plus_secs(timeout)),
            _ => None,
        };
        [
            self.coord.next_deadline(),
            self.stealing.next.filter(|_| self.config.work_stealing),
            self.amm.next,
            self.no_worker_deadline(),
            self.ttl_deadline(),
            idle,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn on_tick(&mut self) {
        let now = self.now;
        if self.coord.next_deadline().is_some_and(|at| at <= now) {
            self.coord_tick();
            self.run_transitions();
        }
        if self.stealing.next.is_some_and(|at| at <= now) {
            self.balance();
        }
        if self.amm.next.is_some_and(|at| at <= now) {
            self.run_amm(false);
        }
        if self.no_worker_deadline().is_some_and(|at| at <= now) {
            self.fail_unplaceable();
        }
        if self.ttl_deadline().is_some_and(|at| at <= now) {
            self.check_worker_ttl();
        }
        if let (Some(timeout), Some(since), false) = (self.config.idle_timeout_secs, self.idle_since, self.idle_told)
            && since.plus_secs(timeout) <= now
        {
            self.idle_told = true;
            self.out.push(Effect::IdleTimeout);
        }
    }

    // ---- idle ------------------------------------------------------------------------------------------------

    /// Source: `distributed/scheduler.py`, `check_idle`.
    pub(super) fn refresh_idle_since(&mut self) {
        let busy = self.transitions != self.idle_transitions
            || !self.graphs.is_empty()
            || !self.queued.is_empty()
            || !self.unrunnable.is_empty()
            || self.prefixes_busy();
        self.idle_transitions = self.transitions;
        if busy {
            self.idle_since = None;
            self.idle_told = false;
        }
        let at_rest =
            self.graphs.is_empty() && self.queued.is_empty() && self.unrunnable.is_empty() && !self.prefixes_busy();
        if at_rest && self.idle_since.is_none() {
            self.idle_since = Some(self.now);
        }
    }

    fn prefixes_busy(&self) -> bool {
        !self.active_prefixes.is_empty() || self.long_running > 0
    }

    // ---- workers that are silent -----------------------------------------------------------------------------

    /// Looked over once per TTL; a silent worker is noticed within two of them.
    fn ttl_deadline(&self) -> Option<Now> {
        let ttl = self.ttl_secs()?;
        if self.by_address.is_empty() { None } else { Some(self.ttl_checked.plus_secs(ttl)) }
    }

    fn ttl_secs(&self) -> Option<f64> {
        let beats = 10.0 * heartbeat_interval_secs(self.by_address.len());
        self.config.worker_ttl_secs.map(|ttl| ttl.max(beats))
    }

    /// Source: `distributed/scheduler.py`, `check_worker_ttl`.
    fn check_worker_ttl(&mut self) {
        let Some(ttl) = self.ttl_secs() else { return };
        self.ttl_checked = self.now;
        let silent: Vec<WorkerId> = self
            .by_address
            .values()
            .copied()
            .filter(|&id| self.now.secs_since(self.workers[id].last_seen) > ttl)
            .collect();
        for &worker in &silent {
            let entry = &self.workers[worker];
            let seconds = self.now.secs_since(entry.last_seen);
            let fate = if entry.hello.nanny.is_some() { "attempting restart" } else { "removing" };
            let text = format!("Worker failed to heartbeat for {seconds:.0}s; {fate}: {}", entry.hello.address);
            self.warn(text);
            self.out.push(Effect::WorkerSilent { worker });
        }
        if !silent.is_empty() {
            let addresses = silent.iter().map(|&id| Value::Str(self.workers[id].hello.address.clone())).collect();
            let message = Value::map([
                ("action", "worker-ttl-timed-out".into()),
                ("workers", Value::Array(addresses)),
                ("ttl", ttl.into()),
            ]);
            self.log(vec!["scheduler".into()], message);
        }
    }

    // ---- tasks that no worker takes --------------------------------------------------------------------------

    fn no_worker_deadline(&self) -> Option<Now> {
        let timeout = self.config.no_workers_timeout_secs?;
        let unrunnable = self.unrunnable.first().map(|&(since, _)| since.plus_secs(timeout));
        let queued = self.no_workers_since.filter(|_| !self.queued.is_empty()).map(|since| since.plus_secs(timeout));
        [unrunnable, queued].into_iter().flatten().min()
    }

    /// Source: `distributed/scheduler.py`, `_check_no_workers` and what it calls.
    fn fail_unplaceable(&mut self) {
        let Some(timeout) = self.config.no_workers_timeout_secs else { return };
        let (now, none_since) = (self.now, self.no_workers_since);
        let due: Vec<(Now, TaskId)> =
            self.unrunnable.iter().copied().take_while(|&(since, _)| since.plus_secs(timeout) <= now).collect();
        let mut failed: Vec<(TaskId, bool)> = due
            .into_iter()
            // There were workers while it waited, so it is its restrictions that they did not meet.
            .map(|(since, task)| (task, none_since.is_none_or(|none| none > since)))
            .collect();
        if none_since.is_some_and(|since| since.plus_secs(timeout) <= now) {
            failed.extend(self.queued.iter().map(|&(_, _, task)| (task, false)));
        }
        let mut keys = Vec::with_capacity(failed.len());
        for (task, restricted) in failed {
            keys.push(self.tasks[task].key.to_value());
            self.fail_without_worker(task, restricted, timeout);
        }
        self.run_transitions();
        self.refresh_no_workers_since();
        let message = Value::map([("action", "no-workers-timeout-exceeded".into()), ("keys", Value::Array(keys))]);
        self.log(vec!["scheduler".into()], message);
    }

    fn fail_without_worker(&mut self, task: TaskId, restricted: bool, timeout_secs: f64) {
        let entry = &self.tasks[task];
        let key = entry.key.clone();
        let error = match entry.rare.as_deref().filter(|_| restricted) {
            Some(rare) => PyError::NoValidWorker {
                key: key.clone(),
                hosts: rare.host_restrictions.clone(),
                workers: rare.worker_restrictions.clone(),
                resources: rare.resources.clone(),
                timeout_secs,
            },
            None => PyError::NoWorker { key: key.clone(), timeout_secs },
        };
        self.warn(format!("Task {key} marked as failed because no worker could take it for {timeout_secs} s"));
        self.fail(task, ErredCause { worker: None, failure: Some(Arc::new(Failure::Raised(error))) });
    }
}

/// How often each of `n` workers or clients reports. Unit: seconds.
///
/// Source: `distributed/scheduler.py`, `heartbeat_interval`.
pub fn heartbeat_interval_secs(n: usize) -> f64 {
    match n {
        0..=10 => 0.5,
        11..=49 => 1.0,
        50..=199 => 2.0,
        n => n as f64 / 200.0 + 1.0,
    }
}
