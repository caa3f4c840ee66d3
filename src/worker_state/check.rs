//! Rules that hold between steps. Tests ask after each step; a worker never does.

use std::collections::BTreeMap;

use super::machine::WorkerMachine;
use super::phase::TaskPhase;
use super::task::{TaskRef, Was, WorkerTask, WorkerTaskState};
use crate::base::Text;

impl WorkerMachine {
    /// Panics if a rule is broken, with the rule and the key.
    ///
    /// Source: `distributed/worker_state_machine.py`, `validate_state`.
    pub fn check(&self) {
        if self.closed {
            return;
        }
        assert!(self.todo.is_empty() && self.recs.is_empty(), "goals are left after a step");
        for (id, task) in self.tasks.iter() {
            self.check_task(id, task);
        }
        self.check_sums();
        self.check_slots();
        self.check_peers();
        self.check_resources();
    }

    fn check_task(&self, id: TaskRef, task: &WorkerTask) {
        let key = &task.key;
        assert!(task.goal.is_none(), "{key} has a goal after a step");
        assert_eq!(self.tasks.find(key), Some(id), "{key} is found under its key");
        for dependency in &task.dependencies {
            assert!(self.tasks[*dependency].dependents.contains(&id), "{key} is known to what it depends on");
        }
        for dependent in &task.dependents {
            assert!(self.tasks[*dependent].dependencies.contains(&id), "{key} is known to what depends on it");
        }
        for waiter in &task.waiters {
            assert!(task.dependents.contains(waiter), "who waits for {key} depends on it");
        }
        for holder in &task.holders {
            assert!(self.peers.get(holder.peer).has.contains(&id), "the holders of {key} know it");
        }
        assert_eq!(self.missing.contains(&id), task.state == WorkerTaskState::Missing, "{key} is listed as missing");
        let place = (self.rank_of(id), id);
        assert_eq!(self.ready.contains(&place), task.state == WorkerTaskState::Ready, "{key} is listed as ready");
        assert_eq!(
            self.constrained.contains(&place),
            task.state == WorkerTaskState::Constrained,
            "{key} is listed as constrained"
        );
        if let Some(was) = task.state.under_way() {
            assert!(!task.done, "{key} ended and is still under way");
            self.check_under_way(id, task, was);
        }
        match &task.state {
            WorkerTaskState::Fetch { rank } => {
                assert!(!task.holders.is_empty(), "{key} is to be fetched from somebody");
                for holder in &task.holders {
                    let needed = &self.peers.get(holder.peer).needed;
                    assert_eq!(needed.get(&(*rank, holder.turn)), Some(&id), "{key} waits in each holder's queue");
                }
            }
            WorkerTaskState::Waiting { missing } => assert!(!missing.is_empty(), "{key} waits for nothing"),
            WorkerTaskState::Ready => assert!(task.resources.is_empty(), "{key} is ready and needs resources"),
            WorkerTaskState::Constrained => assert!(!task.resources.is_empty(), "{key} is constrained by nothing"),
            // A missing one may have holders: a compute-task named them, and the next question makes use of it.
            WorkerTaskState::Missing
            | WorkerTaskState::Resumed { .. }
            | WorkerTaskState::Cancelled { .. }
            | WorkerTaskState::Released
            | WorkerTaskState::Flight { .. }
            | WorkerTaskState::Pushed { .. }
            | WorkerTaskState::Executing { .. }
            | WorkerTaskState::LongRunning { .. }
            | WorkerTaskState::Memory { .. }
            | WorkerTaskState::Error => {}
        }
    }

    fn check_under_way(&self, id: TaskRef, task: &WorkerTask, was: Was) {
        let key = &task.key;
        match was {
            Was::Flight { from } => {
                let transfer = self.peers.get(from).transfer.as_ref();
                assert!(transfer.is_some_and(|transfer| transfer.tasks.contains(&id)), "{key} is part of a transfer");
            }
            Was::Executing { job } => {
                assert_eq!(self.slots[job.slot as usize].running, Some(id), "{key} occupies its slot");
            }
            Was::Pushed { job } => {
                let queue = &self.slots[job.slot as usize].queue;
                assert!(queue.iter().any(|(other, _)| *other == id), "{key} is in its slot's queue");
            }
            Was::LongRunning { .. } => {
                assert!(self.slots.iter().all(|slot| slot.running != Some(id)), "{key} has left its slot");
            }
        }
    }

    fn check_sums(&self) {
        let mut held = 0;
        let mut counts = [0u32; TaskPhase::COUNT];
        for (_, task) in self.tasks.iter() {
            counts[task.state.phase() as usize] += 1;
            if let WorkerTaskState::Memory { size_bytes } = task.state {
                held += size_bytes;
            }
        }
        assert_eq!(held, self.held_bytes, "the sizes of held values add up");
        for phase in TaskPhase::ALL {
            assert_eq!(self.tasks.count(phase), counts[phase as usize], "tasks that are {phase:?} are counted");
        }
    }

    fn check_slots(&self) {
        for (at, slot) in (0u32..).zip(&self.slots) {
            let free = slot.running.is_none() && slot.rejoined.is_none();
            assert_eq!(self.free_slots.contains(&at), free, "slot {at} is listed as free");
            assert!(!free || slot.queue.is_empty(), "slot {at} is idle beside a queue");
            assert_eq!(slot.queued_us, slot.queue.iter().map(|(_, us)| us).sum::<u64>(), "slot {at} adds up");
            assert!(slot.steals.is_empty() || slot.recalling, "slot {at} owes an answer that nothing will bring");
            for id in slot.running.iter().chain(slot.queue.iter().map(|(id, _)| id)) {
                let job = self.tasks[*id].state.job();
                assert_eq!(job.map(|job| job.slot), Some(at), "{} knows its slot", self.tasks[*id].key);
            }
            let startable = self.ready.first().is_some();
            assert!(!(self.running && free && startable), "slot {at} is idle beside ready tasks");
        }
    }

    fn check_peers(&self) {
        let (mut bytes, mut count) = (0, 0);
        for (id, peer) in self.peers.iter() {
            assert_eq!(self.peers.find(&peer.address), Some(id), "{} is found", peer.address);
            assert_eq!(
                self.peers.wanted.contains(&id),
                !peer.needed.is_empty(),
                "{} is listed as wanted",
                peer.address
            );
            let busy = peer.busy_until.is_some_and(|until| self.peers.busy.contains(&(until, id)));
            assert_eq!(busy, peer.busy_until.is_some(), "{} is listed as busy", peer.address);
            for task in peer.needed.values() {
                assert_eq!(self.phase(*task), TaskPhase::Fetch, "{} is to be fetched", self.tasks[*task].key);
            }
            for task in &peer.has {
                assert!(self.tasks[*task].holders.iter().any(|holder| holder.peer == id), "{} is held", peer.address);
            }
            if let Some(transfer) = &peer.transfer {
                bytes += transfer.size_bytes;
                count += 1;
            }
        }
        assert_eq!((bytes, count), self.incoming(), "transfers add up");
    }

    fn check_resources(&self) {
        let mut free: BTreeMap<&Text, f64> = self.resources.iter().map(|(name, (total, _))| (name, *total)).collect();
        for (_, task) in self.tasks.iter() {
            let occupies = matches!(task.state.under_way(), Some(Was::Executing { .. } | Was::LongRunning { .. }));
            for (name, needed) in task.resources.iter().filter(|_| occupies) {
                if let Some(left) = free.get_mut(name) {
                    *left -= needed;
                }
            }
        }
        for (name, available) in self.available_resources() {
            assert!((free[name] - available).abs() < 1e-9, "{name}: {available} is free, {} should be", free[name]);
        }
    }
}
