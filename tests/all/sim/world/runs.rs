//! Runs and transfers of workers: what their state machines want done, and how long that takes.

use rask::base::{Key, Text};
use rask::sched::WorkerStatus;
use rask::worker_state::{Outcome, WorkerEffect, WorkerEvent};

use super::{MS, Thing, World};
use crate::sim::graphs::{Fails, Truth};
use crate::sim::worker::{Begun, Handed, News};

impl World<'_> {
    /// Tells a worker's state machine, and carries out what it wants.
    pub(super) fn tell_machine(&mut self, proc: usize, event: WorkerEvent) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let told = self.trace.is_some().then(|| format!("{event:?}"));
        self.node_steps += 1;
        let check = self.node_steps.is_multiple_of(self.check_every);
        let effects = self.procs[proc].node.step(self.now, event, check)?;
        if let Some(told) = told.filter(|_| !effects.is_empty()) {
            let address = self.procs[proc].node.address.clone();
            self.note(format!("                 at {address}: {told} -> {effects:?}"));
        }
        for effect in effects {
            self.carry_out_of(proc, effect);
        }
        self.arm_tick(proc);
        Ok(())
    }

    fn arm_tick(&mut self, proc: usize) {
        let node = &mut self.procs[proc].node;
        if let Some(deadline) = node.next_deadline()
            && node.tick_at.is_none_or(|at| deadline < at)
        {
            node.tick_at = Some(deadline);
            self.push_at(deadline.max(self.now), Thing::NodeTick(proc));
        }
    }

    pub(super) fn tick_node(&mut self, proc: usize) -> Result<(), String> {
        let node = &mut self.procs[proc].node;
        // An earlier tick was armed after this one, and came.
        if node.tick_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        node.tick_at = None;
        self.tell_machine(proc, WorkerEvent::Tick)
    }

    fn carry_out_of(&mut self, proc: usize, effect: WorkerEffect) {
        if !self.procs[proc].alive {
            return;
        }
        match effect {
            WorkerEffect::ToScheduler(message) => self.push_up(proc, Thing::Up(proc, message)),
            WorkerEffect::Push { slot, key, run, inputs, .. } => {
                let delay = 20 + self.rng.below(200) as u64;
                let node = &mut self.procs[proc].node;
                let handed = node.hand(key, run, inputs);
                let entry = &mut node.slots[slot as usize];
                self.report.pushed_ahead += u64::from(entry.current.is_some());
                let at = entry.handed_last.max(self.now.plus_us(delay));
                entry.handed_last = at;
                self.push_at(at, Thing::Handed(proc, slot, handed));
            }
            WorkerEffect::Recall { slot } => {
                self.report.recalls += 1;
                // Behind a task that holds the interpreter, a recall waits for that.
                let delay = [50, MS, 20 * MS, 800 * MS][self.rng.below(4)];
                self.push(delay, Thing::Recall(proc, slot));
            }
            WorkerEffect::Fetch { peer, keys, .. } => {
                let delay = self.lag();
                self.push(delay, Thing::Ask { asker: proc, from: peer, keys });
            }
            WorkerEffect::Drop { .. } | WorkerEffect::Forgotten { .. } | WorkerEffect::Transition { .. } => {}
            WorkerEffect::Close { reason } => {
                self.report.crashes += 1;
                let address = self.procs[proc].node.address.clone();
                self.note(format!("                 worker {address} closes: {reason}"));
                self.kill(proc, false);
            }
        }
    }

    // ---- the executor ------------------------------------------------------------------------------------------------

    pub(super) fn hand_over(&mut self, proc: usize, slot: u32, handed: Handed) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        self.procs[proc].node.slots[slot as usize].queue.push_back(handed);
        self.begin_next(proc, slot)
    }

    fn begin_next(&mut self, proc: usize, slot: u32) -> Result<(), String> {
        match self.procs[proc].node.begin_next(slot)? {
            Begun::Nothing => Ok(()),
            Begun::Rejoined { stamp } => {
                self.push_news(proc, slot, News::Rejoined { stamp });
                Ok(())
            }
            Begun::Run { handed, complete } => {
                if !complete {
                    self.check_given_up(proc, &handed)?;
                }
                if let Some(truth) = self.truths.get(&handed.key).cloned() {
                    self.run_task(proc, slot, &handed, complete, &truth);
                }
                Ok(())
            }
        }
    }

    /// A run may lack an input only if its failure will not count: the scheduler no longer waits for it.
    fn check_given_up(&self, proc: usize, handed: &Handed) -> Result<(), String> {
        let entry = &self.procs[proc];
        let on = self.sched.task(&handed.key).and_then(|task| task.processing_on);
        let counts = on.is_some() && on == entry.worker && !self.is_cut(proc);
        match handed.inputs.iter().find(|input| !entry.node.has(input)).filter(|_| counts) {
            Some(input) => Err(format!("worker {} runs {} without {input}", entry.node.address, handed.key)),
            None => Ok(()),
        }
    }

    /// Decides how a run will go. `complete`: everything it reads is there.
    fn run_task(&mut self, proc: usize, slot: u32, handed: &Handed, complete: bool, truth: &Truth) {
        let run_us = (truth.run_us as f64 * (0.5 + self.rng.unit())) as u64;
        let outcome = match truth.fails {
            _ if !complete => Outcome::Failure,
            Fails::Always => Outcome::Failure,
            Fails::Sometimes if self.rng.below(3) == 0 => Outcome::Failure,
            Fails::Sometimes | Fails::Never if truth.reschedules && self.rng.below(4) == 0 => Outcome::Reschedule,
            Fails::Sometimes | Fails::Never => {
                Outcome::Success { size_bytes: truth.nbytes.unsigned_abs(), duration_us: run_us }
            }
        };
        let stamp = handed.stamp;
        if truth.secedes {
            self.push(run_us / 2, Thing::Secede(proc, stamp, run_us / 2));
            if self.rng.below(3) == 0 {
                let into = self.rng.below(self.procs[proc].node.slots.len()) as u32;
                self.push(run_us * 3 / 4, Thing::Rejoin(proc, into, stamp));
            }
        }
        self.push(run_us, Thing::RunEnds(proc, slot, stamp, outcome));
    }

    /// News come in the order of their slot: mostly at once, sometimes with others, sometimes late.
    fn push_news(&mut self, proc: usize, slot: u32, news: News) {
        let delay = [20, 50, 2 * MS, 2 * MS, 100 * MS][self.rng.below(5)];
        let entry = &mut self.procs[proc].node.slots[slot as usize];
        let at = entry.news_last.max(self.now.plus_us(delay));
        entry.news_last = at;
        self.push_at(at, Thing::News(proc, slot, news));
    }

    /// `slot`: where the run began, and says that it ended if it has no thread of the pool by now.
    pub(super) fn end_run(&mut self, proc: usize, slot: u32, stamp: u64, outcome: Outcome) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let node = &mut self.procs[proc].node;
        if node.slots.iter().any(|slot| slot.rejoining == Some(stamp)) {
            // It goes on when it has its thread.
            self.push(MS, Thing::RunEnds(proc, slot, stamp, outcome));
            return Ok(());
        }
        let occupied = node.slot_of(stamp);
        self.push_news(proc, occupied.unwrap_or(slot), News::Ended { stamp, outcome });
        occupied.map_or(Ok(()), |slot| self.leave_slot(proc, slot))
    }

    fn leave_slot(&mut self, proc: usize, slot: u32) -> Result<(), String> {
        self.procs[proc].node.slots[slot as usize].current = None;
        self.begin_next(proc, slot)
    }

    pub(super) fn secede(&mut self, proc: usize, stamp: u64, after_us: u64) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let Some(slot) = self.procs[proc].node.slot_of(stamp) else { return Ok(()) };
        self.push_news(proc, slot, News::Seceded { stamp, secs: after_us as f64 / 1e6 });
        self.leave_slot(proc, slot)
    }

    pub(super) fn rejoin(&mut self, proc: usize, slot: u32, stamp: u64) -> Result<(), String> {
        if !self.procs[proc].alive || self.procs[proc].node.slots[slot as usize].rejoining.is_some() {
            return Ok(());
        }
        self.procs[proc].node.slots[slot as usize].rejoining = Some(stamp);
        self.begin_next(proc, slot)
    }

    pub(super) fn recall(&mut self, proc: usize, slot: u32) {
        if self.procs[proc].alive {
            let taken = self.procs[proc].node.slots[slot as usize].queue.drain(..);
            let stamps = taken.map(|handed| handed.stamp).collect();
            self.push_news(proc, slot, News::Recalled { stamps });
        }
    }

    pub(super) fn hear_executor(&mut self, proc: usize, slot: u32, news: News) -> Result<(), String> {
        match self.procs[proc].node.read_news(slot, news) {
            Some(event) => self.tell_machine(proc, event),
            None => Ok(()),
        }
    }

    // ---- transfers ---------------------------------------------------------------------------------------------------

    pub(super) fn serve_data(&mut self, asker: usize, from: Text, keys: &[Key]) {
        let got = match self.listening.get(&from).map(|&proc| &self.procs[proc]) {
            None => WorkerEvent::FetchBroken { peer: from },
            Some(peer) => {
                let busy = if peer.status == WorkerStatus::Running { 30 } else { 3 };
                let size = |key: &Key| self.truths.get(key).map_or(1, |truth| truth.nbytes.unsigned_abs());
                let held = keys.iter().filter(|key| peer.node.has(key));
                let values = held.map(|key| (key.clone(), size(key))).collect();
                if self.rng.below(busy) == 0 {
                    WorkerEvent::FetchBusy { peer: from }
                } else {
                    WorkerEvent::Fetched { peer: from, values }
                }
            }
        };
        let delay = self.lag() + self.rng.below(50_000) as u64;
        self.push(delay, Thing::Transferred(asker, got));
    }
}
