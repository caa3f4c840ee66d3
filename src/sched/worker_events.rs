//! News from workers: they come, change, finish, fail, hold data, go.
//!
//! Source: `distributed/scheduler.py`, `add_worker`, `remove_worker`, `stimulus_task_finished` and the stream handlers.

use std::sync::Arc;

use super::Scheduler;
use super::effect::{Answer, Effect, ToWorker};
use super::event::{Erred, Event, Finished, Heartbeat, WorkerHello, WorkerStatus};
use super::task::{StateName, TaskState};
use super::transition::ErredCause;
use super::worker::RegisteredWorker;
use crate::base::{CallId, Failure, Key, PyError, RunId, TaskId, Text, Value, WorkerId};

/// What a step is called, in stories and in the stimulus ids that workers are sent.
pub const fn event_kind(event: &Event) -> &'static str {
    match event {
        Event::ClientAdded { .. } => "client-added",
        Event::ClientRemoved { .. } => "remove-client",
        Event::ClientDesires { .. } => "client-desires-keys",
        Event::ClientReleases { .. } => "client-releases-keys",
        Event::CancelKeys { .. } => "cancel-key",
        Event::ReportKey { .. } => "report-key",
        Event::Retry { .. } => "stimulus-retry",
        Event::Restart => "restart",
        Event::GraphOpened { .. } | Event::GraphPart { .. } | Event::GraphFailed { .. } => "update-graph",
        Event::AddWorker { .. } => "add-worker",
        Event::RemoveWorker { .. } => "remove-worker",
        Event::WorkerStatus { .. } => "worker-status-change",
        Event::WorkerSilent { .. } => "worker-silent",
        Event::Heartbeat { .. } => "heartbeat",
        Event::SetResources { .. } => "set-resources",
        Event::TaskFinished { .. } => "task-finished",
        Event::TaskErred { .. } => "task-erred",
        Event::ReleaseWorkerData { .. } => "release-worker-data",
        Event::AddKeys { .. } => "add-keys",
        Event::LongRunning { .. } => "long-running",
        Event::Reschedule { .. } => "reschedule",
        Event::RefreshWhoHas { .. } => "request-refresh-who-has",
        Event::StealResponse { .. } => "steal-response",
        Event::UpdateData { .. } => "update-data",
        Event::AddReplicas { .. } => "add-replicas",
        Event::DropReplicas { .. } => "drop-replicas",
        Event::SetRestrictions { .. } => "set-restrictions",
        Event::Retire { .. } | Event::RetireAborted { .. } => "retire-workers",
        Event::Coord { .. } | Event::CallAbandoned { .. } => "coordination",
        Event::Shuffle { .. } => "p2p",
        Event::Amm { .. } => "active_memory_manager",
        Event::Tick => "tick",
    }
}

impl Scheduler {
    /// Is the worker (still) part of the cluster?
    pub(super) fn is_registered(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|worker| !worker.removed)
    }

    // ---- life of a worker ------------------------------------------------------------------------------------

    pub(super) fn on_add_worker(&mut self, call: CallId, hello: WorkerHello) {
        let name = Key::from_value(&hello.name).unwrap_or_else(|| Key::text(&hello.address));
        if self.by_address.contains_key(&hello.address) {
            let text = format!("address taken, {}: a worker with this address is registered already", hello.address);
            return self.out.push(Effect::Answer { call, answer: Answer::Refused(text.into()) });
        }
        if self.by_name.contains_key(&name) {
            let text: Text = format!("name taken, {name}").into();
            return self.out.push(Effect::Answer { call, answer: Answer::Refused(text) });
        }
        self.idle_since = None;
        let address = hello.address.clone();
        self.total_nthreads += u64::from(hello.nthreads);
        let status = hello.status;
        let mut worker = RegisteredWorker::new(hello, self.now);
        worker.status = WorkerStatus::Init;
        let id = self.workers.insert(worker);
        self.by_address.insert(address.clone(), id);
        self.by_name.insert(name, id);
        self.out.push(Effect::Answer { call, answer: Answer::Worker(id) });
        self.out.push(Effect::WorkerAdded { worker: id });
        let message = Value::map([("action", "add-worker".into()), ("worker", Value::Str(address.clone()))]);
        self.log(vec![address], Value::map([("action", "add-worker".into())]));
        self.log(vec!["all".into()], message);
        self.on_worker_status(id, status);
    }

    pub(super) fn on_worker_status(&mut self, id: WorkerId, status: WorkerStatus) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| !worker.removed) else { return };
        // News that was on its way when its machine fell silent.
        if worker.silent.is_some() && matches!(status, WorkerStatus::Running | WorkerStatus::Paused) {
            worker.silent = Some(status);
            return;
        }
        worker.silent = None;
        let before = std::mem::replace(&mut worker.status, status);
        if before == status {
            return;
        }
        let address = worker.hello.address.clone();
        let message = Value::map([
            ("action", "worker-status-change".into()),
            ("prev-status", before.name().into()),
            ("status", status.name().into()),
        ]);
        self.log(vec![address], message);
        if status == WorkerStatus::Running {
            self.running.insert(id);
            self.check_idle_saturated(id);
            self.schedule_unrunnable(id);
        } else {
            self.running.remove(&id);
            self.unfile(id);
        }
        self.refresh_no_workers_since();
    }

    pub(super) fn on_remove_worker(&mut self, id: WorkerId, expected: bool, close: bool, reason: Text) {
        if !self.is_registered(id) {
            return;
        }
        if close {
            self.send_worker(id, ToWorker::Close { reason });
        }
        let address = self.unregister(id);
        let mut processing: Vec<TaskId> = self.workers[id].processing.iter().copied().collect();
        processing.sort_unstable();
        for &task in &processing {
            self.lose_run(task, id, &address, expected);
        }
        let (recompute, lost) = self.lose_replicas(id);
        self.log_worker_removed(&address, expected, &processing, recompute, lost);
        self.run_transitions();
        self.refresh_no_workers_since();
        self.shuffles_lose_worker(&address);
        if self.amm.retiring.remove(&id) {
            self.out.push(Effect::Retired { worker: id, moved: true });
        }
        if let Some(gone) = self.workers.remove(id) {
            self.network_bytes = (self.network_bytes - gone.network_bytes).max(0);
        }
        for &peer in self.by_address.values() {
            let message = ToWorker::RemoveWorker { address: address.clone() };
            self.out.push(Effect::ToWorker { worker: peer, message });
        }
        self.out.push(Effect::WorkerRemoved { worker: id, address, expected, close });
    }

    /// Takes a worker out of every list; what it had is still in its own record.
    fn unregister(&mut self, id: WorkerId) -> Text {
        self.unfile(id);
        self.running.remove(&id);
        let worker = &mut self.workers[id];
        worker.status = WorkerStatus::Closed;
        worker.removed = true;
        let address = worker.hello.address.clone();
        let name = Key::from_value(&worker.hello.name).unwrap_or_else(|| Key::text(&address));
        self.total_nthreads -= u64::from(worker.hello.nthreads);
        self.by_address.remove(&address);
        self.by_name.remove(&name);
        address
    }

    /// A task was running on a worker that is gone: elsewhere again, unless it has outlived too many.
    fn lose_run(&mut self, task: TaskId, worker: WorkerId, address: &Text, expected: bool) {
        if !expected {
            self.tasks[task].suspicious += 1;
            let prefix = self.prefix_at(task);
            self.prefixes[prefix as usize].suspicious += 1;
            if self.tasks[task].suspicious > self.config.allowed_failures {
                let key = self.tasks[task].key.clone();
                self.warn(format!(
                    "Task {key} marked as failed because {} workers died while trying to run it",
                    self.tasks[task].suspicious
                ));
                let failure = Failure::Raised(PyError::KilledWorker {
                    key: key.clone(),
                    worker: address.clone(),
                    name: self.workers[worker].hello.name.clone(),
                    allowed_failures: self.config.allowed_failures,
                });
                return self.fail(task, ErredCause { worker: Some(worker), failure: Some(Arc::new(failure)) });
            }
        }
        self.recommend(task, StateName::Released);
    }

    /// Returns the keys that must be computed again and those that nothing can bring back.
    fn lose_replicas(&mut self, id: WorkerId) -> (Vec<Value>, Vec<Value>) {
        let mut held: Vec<TaskId> = self.workers[id].has_what.iter().copied().collect();
        held.sort_unstable();
        let (mut recompute, mut lost) = (Vec::new(), Vec::new());
        for task in held {
            let actor = self.workers[id].actors.contains(&task);
            self.remove_replica(task, id);
            let entry = &self.tasks[task];
            if actor {
                self.recommend(task, StateName::Erred);
            } else if entry.who_has().is_empty() {
                if entry.run_spec.is_some() {
                    recompute.push(entry.key.to_value());
                    self.recommend(task, StateName::Released);
                } else {
                    lost.push(entry.key.to_value());
                    self.recommend(task, StateName::Forgotten);
                }
            }
        }
        (recompute, lost)
    }

    fn log_worker_removed(
        &mut self,
        address: &Text,
        expected: bool,
        processing: &[TaskId],
        recompute: Vec<Value>,
        lost: Vec<Value>,
    ) {
        if !recompute.is_empty() {
            self.warn(format!(
                "Lost worker {address} and with it {} results, which are computed again",
                recompute.len()
            ));
        }
        if !lost.is_empty() {
            self.warn(format!("Lost worker {address} and with it {} scattered keys for good", lost.len()));
        }
        let running =
            processing.iter().filter_map(|&task| self.tasks.get(task)).map(|task| task.key.to_value()).collect();
        let message = Value::map([
            ("action", "remove-worker".into()),
            ("processing-tasks", Value::Array(running)),
            ("lost-computed-tasks", Value::Array(recompute)),
            ("lost-scattered-tasks", Value::Array(lost)),
            ("expected", expected.into()),
            ("worker", Value::Str(address.clone())),
        ]);
        self.log(vec![address.clone(), "all".into()], message);
    }

    pub(super) fn on_heartbeat(&mut self, id: WorkerId, beat: Heartbeat) {
        if !self.is_registered(id) {
            return;
        }
        let registered = self.by_address.len() as f64;
        if let Some(reported) = beat.bandwidth.filter(|rate| rate.is_finite() && *rate > 0.0) {
            let weight = 1.0 / registered.max(1.0);
            self.bandwidth = (self.bandwidth * (1.0 - weight) + reported * weight).max(1.0);
        }
        for (key, secs) in &beat.executing {
            if let Some(task) = self.find(key)
                && self.workers[id].processing.contains(&task)
                && !self.workers[id].long_running.contains(&task)
            {
                let prefix = self.prefix_at(task);
                self.add_exec_time(prefix, *secs);
            }
        }
        let (now, window_us) = (self.now, (self.config.recent_to_old_secs * 1e6) as u64);
        let worker = &mut self.workers[id];
        worker.last_seen = now;
        let memory = &mut worker.memory;
        memory.process = beat.memory;
        memory.spilled_memory = beat.spilled_memory;
        memory.spilled_disk = beat.spilled_disk;
        let in_memory = u64::try_from(worker.nbytes).unwrap_or(0).saturating_sub(beat.spilled_memory);
        memory.unmanaged.push_back((now, beat.memory.saturating_sub(in_memory)));
        while memory.unmanaged.front().is_some_and(|(at, _)| at.plus_us(window_us) < now) {
            memory.unmanaged.pop_front();
        }
        memory.unmanaged_old = memory.unmanaged.iter().map(|(_, bytes)| *bytes).min().unwrap_or(0);
        self.check_idle_saturated(id);
    }

    pub(super) fn on_set_resources(&mut self, id: WorkerId, resources: Vec<(Text, f64)>) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        for (name, amount) in resources {
            match worker.hello.resources.iter_mut().find(|(other, _)| *other == name) {
                Some((_, total)) => *total = amount,
                None => worker.hello.resources.push((name, amount)),
            }
        }
        worker.used_resources = worker.hello.resources.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        if worker.is_running() {
            self.schedule_unrunnable(id);
        }
    }

    // ---- news of tasks ---------------------------------------------------------------------------------------

    pub(super) fn on_task_finished(&mut self, worker: WorkerId, done: Finished) {
        self.run_counted = false;
        if !self.is_registered(worker) {
            return;
        }
        let Some(task) = self.find(&done.key) else { return self.free_keys(worker, vec![done.key]) };
        let entry = &self.tasks[task];
        let is_current = entry.run_id == done.run_id;
        match &entry.state {
            TaskState::Processing { on, .. } if *on == worker && is_current => {}
            // Which of its two runs ended cannot be known from here: it starts over.
            TaskState::Processing { on, .. } if *on == worker => {
                self.recommend(task, StateName::Released);
                return self.run_transitions();
            }
            TaskState::Memory { .. } if is_current => return self.on_add_keys(worker, vec![done.key]),
            TaskState::Released
            | TaskState::Waiting { .. }
            | TaskState::Queued { .. }
            | TaskState::NoWorker { .. }
            | TaskState::Processing { .. }
            | TaskState::Memory { .. }
            | TaskState::Erred
            | TaskState::Forgotten => return self.free_keys(worker, vec![done.key]),
        }
        if !done.metadata.is_nil() && done.metadata.fields().is_some_and(|fields| !fields.is_empty()) {
            self.tasks[task].rare_mut().metadata = done.metadata.clone();
        }
        self.run_counted = true;
        self.processing_memory(task, worker, done);
        self.run_transitions();
    }

    pub(super) fn on_task_erred(&mut self, worker: WorkerId, erred: Erred) {
        self.run_counted = false;
        let Some(task) = self.find(&erred.key) else { return };
        let entry = &mut self.tasks[task];
        if entry.processing_on() != Some(worker) {
            return;
        }
        if entry.run_id != erred.run_id {
            self.recommend(task, StateName::Released);
        } else if entry.retries > 0 {
            entry.retries -= 1;
            self.recommend(task, StateName::Waiting);
        } else {
            self.run_counted = true;
            self.fail(task, ErredCause { worker: Some(worker), failure: Some(Arc::new(erred.failure)) });
        }
        self.run_transitions();
    }

    pub(super) fn on_release_worker_data(&mut self, worker: WorkerId, key: &Key) {
        let Some(task) = self.find(key) else { return };
        if !self.tasks[task].who_has().contains(&worker) {
            return;
        }
        self.remove_replica(task, worker);
        if self.tasks[task].who_has().is_empty() {
            self.recommend(task, StateName::Released);
            self.run_transitions();
        }
    }

    pub(super) fn on_add_keys(&mut self, worker: WorkerId, keys: Vec<Key>) {
        if !self.is_registered(worker) {
            return;
        }
        let mut redundant = Vec::new();
        for key in keys {
            match self.find(&key) {
                Some(task) if self.tasks[task].state.name() == StateName::Memory => self.add_replica(task, worker),
                Some(_) | None => redundant.push(key),
            }
        }
        if !redundant.is_empty() {
            self.send_worker(worker, ToWorker::RemoveReplicas { keys: redundant });
        }
        if !self.amm.retiring.is_empty() {
            self.check_retired();
        }
    }

    pub(super) fn on_long_running(&mut self, worker: WorkerId, key: &Key, run_id: RunId, compute_secs: Option<f64>) {
        let Some(task) = self.find(key) else { return };
        let entry = &self.tasks[task];
        if entry.processing_on() != Some(worker)
            || entry.run_id != run_id
            || self.workers[worker].long_running.contains(&task)
        {
            return;
        }
        self.make_unstealable(task, worker);
        let prefix = self.prefix_at(task);
        if let Some(secs) = compute_secs {
            let entry = &mut self.prefixes[prefix as usize];
            entry.duration = if entry.duration < 0.0 { secs } else { (entry.duration + secs) / 2.0 };
        }
        self.uncount_processing(worker, prefix);
        self.workers[worker].long_running.insert(task);
        self.long_running += 1;
        self.check_idle_saturated(worker);
    }

    pub(super) fn on_reschedule(&mut self, worker: WorkerId, key: &Key) {
        let Some(task) = self.find(key) else { return };
        if self.tasks[task].processing_on() == Some(worker) {
            self.recommend(task, StateName::Released);
            self.run_transitions();
        }
    }

    pub(super) fn on_refresh_who_has(&mut self, worker: WorkerId, keys: Vec<Key>) {
        if !self.is_registered(worker) {
            return;
        }
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for key in keys {
            match self.find(&key) {
                Some(task) => known.push(task),
                None => unknown.push(key),
            }
        }
        if !known.is_empty() {
            let data = self.locate(&known);
            self.send_worker(worker, ToWorker::RefreshWhoHas { data });
            self.bring_within_reach(worker, &known);
        }
        self.free_keys(worker, unknown);
    }
}
