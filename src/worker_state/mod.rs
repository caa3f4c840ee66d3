//! The state machine of one Dask worker: event in, effects out.
//!
//! It decides what a worker fetches, runs, keeps and tells its scheduler, as stock workers do. It knows keys, sizes and
//! run numbers, never values; it reads no clock, opens nothing and starts nothing. Of what stock workers do it does one
//! thing otherwise: short tasks are handed to a thread before that is free (`push.rs`).
//!
//! Source: `distributed/worker_state_machine.py`, `WorkerState`; "as `_x`" in this room names a method there.
//! `tests/python/test_worker_state.py` feeds the same events to both and compares.
//!
//! Files, from the bottom: names and values (`rank phase event effect task peer duration story`), the state
//! (`machine`), what runs (`push ready`), what is fetched (`fetch`), moves of one task (`moves`), the table of moves
//! and the loop that makes them (`transition`), events (`steal on`), invariants (`check`).

#![deny(clippy::wildcard_enum_match_arm)]

mod check;
mod duration;
mod effect;
mod event;
mod fetch;
mod machine;
mod moves;
mod on;
mod peer;
mod phase;
mod push;
mod rank;
mod ready;
mod steal;
mod story;
mod task;
mod transition;

#[cfg(test)]
mod tests;

pub use effect::{WorkerEffect, WorkerMessage};
pub use event::{ComputeTask, Input, Outcome, WorkerEvent};
pub use machine::{MachineConfig, WorkerMachine};
pub use phase::{TaskPhase, TaskTarget};
pub use rank::{PriorityError, TaskPriority};
pub use story::WorkerStoryLine;

use crate::base::{Key, Now, Text};

impl WorkerMachine {
    /// Takes in one event and appends what is to be done. Time never goes back.
    pub fn step(&mut self, now: Now, event: WorkerEvent, out: &mut Vec<WorkerEffect>) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        self.handle(event, out);
        self.pursue(out);
        if !self.closed {
            self.push_ahead(out);
            self.watch_missing();
        }
    }

    fn handle(&mut self, event: WorkerEvent, out: &mut Vec<WorkerEffect>) {
        match event {
            WorkerEvent::Compute(compute) => self.on_compute(&compute, out),
            WorkerEvent::FreeKeys { keys } => self.on_free_keys(&keys),
            WorkerEvent::RemoveReplicas { keys } => self.on_remove_replicas(&keys, out),
            WorkerEvent::Lost { keys } => self.on_lost(&keys),
            WorkerEvent::AcquireReplicas { inputs } => self.on_acquire_replicas(&inputs),
            WorkerEvent::StealRequest { key, stimulus } => self.on_steal_request(key, stimulus, out),
            WorkerEvent::CancelCompute { key } => self.on_cancel_compute(&key),
            WorkerEvent::RefreshWhoHas { holders } => self.on_refresh_who_has(&holders),
            WorkerEvent::RemoveWorker { address } => self.on_remove_worker(&address),
            WorkerEvent::SetRunning { running } => self.on_set_running(running, out),
            WorkerEvent::Ended { key, run, outcome } => self.on_ended(&key, run, outcome, out),
            WorkerEvent::Recalled { slot, keys } => self.on_recalled(slot, &keys, out),
            WorkerEvent::Seceded { key, run, compute_secs } => self.on_seceded(&key, run, compute_secs, out),
            WorkerEvent::Rejoined { key, slot } => self.on_rejoined(&key, slot, out),
            WorkerEvent::ExecutorLost => self.close("the executor is gone".to_owned(), out),
            WorkerEvent::Fetched { peer, values } => self.on_fetched(&peer, &values),
            WorkerEvent::FetchBusy { peer } => self.on_fetch_busy(&peer, out),
            WorkerEvent::FetchBroken { peer } => self.on_fetch_broken(&peer),
            WorkerEvent::FetchFailed { peer } => self.on_fetch_failed(&peer),
            WorkerEvent::Scattered { values } => self.on_scattered(&values, out),
            WorkerEvent::Resources { totals } => self.on_resources(totals),
            WorkerEvent::Subscribed { wanted } => self.subscribed = wanted,
            WorkerEvent::Tick => {
                self.on_time(out);
                self.recall_overdue(out);
            }
        }
    }

    /// When to send the next [`WorkerEvent::Tick`].
    pub fn next_deadline(&self) -> Option<Now> {
        let busy = self.peers.busy.first().map(|(until, _)| *until);
        let overdue = if self.tasks.count(TaskPhase::Pushed) == 0 { None } else { self.next_overdue() };
        [busy, overdue, self.ask_missing_at].into_iter().flatten().min()
    }

    /// The state of a task; none if it is unknown.
    pub fn phase_of(&self, key: &Key) -> Option<TaskPhase> {
        self.tasks.find(key).map(|id| self.phase(id))
    }

    /// A task here has not ended yet and reads this value.
    pub fn is_read(&self, key: &Key) -> bool {
        let Some(id) = self.tasks.find(key) else { return false };
        let ended = [TaskPhase::Released, TaskPhase::Memory, TaskPhase::Error];
        self.tasks[id].dependents.iter().any(|dependent| !ended.contains(&self.phase(*dependent)))
    }

    /// Size of a task's value, as far as it is known. Unit: bytes.
    pub fn size_bytes_of(&self, key: &Key) -> u64 {
        self.tasks.find(key).and_then(|id| self.tasks[id].size_bytes).unwrap_or_default()
    }

    /// All tasks with their states, in no particular order.
    pub fn phases(&self) -> impl Iterator<Item = (&Key, TaskPhase)> {
        self.tasks.iter().map(|(_, task)| (&task.key, task.state.phase()))
    }

    /// How many tasks are in each state. What waits in a slot's queue counts as ready, as far as is known.
    pub fn task_counts(&self) -> impl Iterator<Item = (TaskPhase, u32)> {
        TaskPhase::ALL.into_iter().filter(|phase| *phase != TaskPhase::Pushed).map(|phase| {
            let pushed = if phase == TaskPhase::Ready { self.tasks.count(TaskPhase::Pushed) } else { 0 };
            (phase, self.tasks.count(phase) + pushed)
        })
    }

    /// Size of all values held. Unit: bytes.
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Size and number of transfers to this worker that are under way. Unit of the size: bytes.
    pub const fn incoming(&self) -> (u64, u32) {
        (self.incoming_bytes, self.incoming_count)
    }

    /// Resources that no run occupies.
    pub fn available_resources(&self) -> impl Iterator<Item = (&Text, f64)> {
        self.resources.iter().map(|(name, (_, available))| (name, *available))
    }
}
