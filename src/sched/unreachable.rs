//! Workers that cannot be reached just now: all of them from here, or one from another. Nothing is forgotten yet.
//!
//! A supervisor that watches machines knows of a silent one long before its connections break. What runs there starts
//! elsewhere at once; what it holds stays on the books until the supervisor gives the machine up, so that a short cut
//! costs no data. Between two workers only they themselves notice a cut: the one asks again and again where an input
//! is.

use super::Scheduler;
use super::effect::ToWorker;
use super::event::WorkerStatus;
use super::task::StateName;
use crate::base::{TaskId, WorkerId};

/// A worker that has been asking for this long does not reach the holders. Unit: microseconds.
const ASKING_US: u64 = 3_000_000;
impl Scheduler {
    /// The machine of a worker is silent, or was heard again.
    pub(super) fn on_worker_silent(&mut self, id: WorkerId, silent: bool) {
        if silent { self.mark_silent(id) } else { self.mark_heard(id) }
    }

    /// Treats the worker as paused, and takes its tasks away if others can have them.
    fn mark_silent(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let before = worker.status;
        let may_work = matches!(before, WorkerStatus::Init | WorkerStatus::Running | WorkerStatus::Paused);
        if !may_work || worker.silent.is_some() {
            return;
        }
        self.on_worker_status(id, WorkerStatus::Paused);
        self.workers[id].silent = Some(before);
        if self.running.is_empty() {
            return;
        }
        // An actor's state is only there.
        let moves = |task: &TaskId| !self.tasks[*task].actor;
        let mut tasks: Vec<TaskId> = self.workers[id].processing.iter().copied().filter(moves).collect();
        tasks.sort_unstable();
        if !tasks.is_empty() {
            let address = self.workers[id].hello.address.clone();
            self.warn(format!("Worker {address} is silent; {} tasks that it had go to others", tasks.len()));
        }
        for task in tasks {
            self.recommend(task, StateName::Released);
        }
        self.run_transitions();
    }

    /// The worker takes part again, with the status that it had or has reported since.
    fn mark_heard(&mut self, id: WorkerId) {
        if let Some(status) = self.workers.get_mut(id).and_then(|worker| worker.silent.take()) {
            self.on_worker_status(id, status);
        }
    }

    /// A worker tried all holders of these inputs and goes on asking: a third one, which both may reach, gets a copy.
    ///
    /// Workers ask as well while all holders are busy, many at once for data that many need: one copy in a while for
    /// each
    /// input helps them too, and one for each question would fill the cluster with copies.
    pub(super) fn bring_within_reach(&mut self, asker: WorkerId, tasks: &[TaskId]) {
        let (step, now) = (self.step as usize, self.now);
        self.asked_again.sweep(now);
        for &task in tasks {
            let entry = &self.tasks[task];
            let needed = entry.state.name() == StateName::Memory && self.workers[asker].needs_what.contains_key(&task);
            if !needed || entry.actor || entry.who_has().is_empty() {
                continue;
            }
            let (since, last) = self.asked_again.inputs.entry(task).or_insert((now, now));
            *last = now;
            if since.plus_us(ASKING_US) > now {
                continue;
            }
            *since = now;
            let third = |id: &&WorkerId| **id != asker && !entry.who_has().contains(id);
            let mut thirds: Vec<WorkerId> = self.running.iter().filter(third).copied().collect();
            thirds.sort_unstable();
            // Another one with each try: this one may be cut off as well.
            if let Some(&third) = thirds.get(step % thirds.len().max(1)) {
                let data = self.locate(&[task]);
                self.send_worker(third, ToWorker::AcquireReplicas { data });
            }
        }
    }
}
