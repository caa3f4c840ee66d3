//! A worker process of the world: the real state machine, and around it an executor in miniature.
//!
//! The executor runs what it is handed, slot by slot, and answers in the order of a slot's socket. What anything takes
//! is the world's to say (`world/runs.rs`). The values it holds must at all times be those that the machine thinks it
//! holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rask::base::{Key, Now, RunId, Text};
use rask::sched::{Compute, Located};
use rask::worker_state::{
    ComputeTask, Input, MachineConfig, Outcome, TaskPhase, TaskPriority, WorkerEffect, WorkerEvent, WorkerMachine,
};

/// A run that was handed to a slot.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Names this handing over, as the node's numbers do.
    pub stamp: u64,
    pub key: Key,
    pub run: RunId,
    pub inputs: Vec<Key>,
}

/// What an executor tells its node about a slot.
#[derive(Clone, Debug)]
pub enum News {
    Ended { stamp: u64, outcome: Outcome },
    Seceded { stamp: u64, secs: f64 },
    Rejoined { stamp: u64 },
    Recalled { stamps: Vec<u64> },
}

/// What a free slot goes on with.
#[derive(Debug)]
pub enum Begun {
    Nothing,
    Rejoined {
        stamp: u64,
    },
    /// `complete`: everything that the run reads is there.
    Run {
        handed: Handed,
        complete: bool,
    },
}

/// A thread of the executor.
#[derive(Debug, Default)]
pub struct Slot {
    /// What it was handed and has not begun.
    pub queue: VecDeque<Handed>,
    /// The run that occupies it.
    pub current: Option<u64>,
    /// A task that seceded and takes this thread as soon as it is free.
    pub rejoining: Option<u64>,
    /// News keep their order.
    pub news_last: Now,
    /// So does what it is handed.
    pub handed_last: Now,
}

#[derive(Debug)]
pub struct Node {
    pub address: Text,
    machine: WorkerMachine,
    pub slots: Vec<Slot>,
    /// Values in the executor and its node.
    values: BTreeSet<Key>,
    /// Handed over and not ended or taken back, by stamp.
    runs: BTreeMap<u64, (Key, RunId)>,
    last_stamp: u64,
    begun: BTreeSet<(Key, RunId)>,
    /// When the machine will be told that time passed.
    pub tick_at: Option<Now>,
}

impl Node {
    pub fn new(config: MachineConfig) -> Self {
        Self {
            address: config.address.clone(),
            slots: (0..config.slots).map(|_| Slot::default()).collect(),
            machine: WorkerMachine::new(config),
            values: BTreeSet::new(),
            runs: BTreeMap::new(),
            last_stamp: 0,
            begun: BTreeSet::new(),
            tick_at: None,
        }
    }

    pub fn has(&self, key: &Key) -> bool {
        self.values.contains(key)
    }

    pub fn held(&self) -> Vec<Key> {
        self.values.iter().cloned().collect()
    }

    pub fn executing(&self) -> Vec<Key> {
        let phases = self.machine.phases().filter(|(_, phase)| *phase == TaskPhase::Executing);
        let mut keys: Vec<Key> = phases.map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    }

    pub fn next_deadline(&self) -> Option<Now> {
        self.machine.next_deadline()
    }

    /// Keys and states, for reports.
    pub fn describe(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.machine.phases().map(|(key, phase)| format!("{key}:{phase:?}")).collect();
        lines.sort();
        lines
    }

    /// One step of the machine, and what it wants. With `check`, panics if the machine broke a rule of its own.
    ///
    /// Errors, with `check`: it holds other values than it thinks.
    pub fn step(&mut self, now: Now, event: WorkerEvent, check: bool) -> Result<Vec<WorkerEffect>, String> {
        let brought: Vec<Key> = match &event {
            WorkerEvent::Fetched { values, .. } | WorkerEvent::Scattered { values } => {
                values.iter().map(|(key, _)| key.clone()).collect()
            }
            WorkerEvent::Ended { key, outcome: Outcome::Success { .. }, .. } => vec![key.clone()],
            _ => Vec::new(),
        };
        let told = check.then(|| format!("{event:?}"));
        self.values.extend(brought.iter().cloned());
        let mut out = Vec::new();
        self.machine.step(now, event, &mut out);
        for effect in &out {
            if let WorkerEffect::Drop { key } = effect {
                self.values.remove(key);
            }
        }
        // Nobody wanted these any more.
        for key in &brought {
            if self.machine.phase_of(key) != Some(TaskPhase::Memory) {
                self.values.remove(key);
            }
        }
        let closes = out.iter().any(|effect| matches!(effect, WorkerEffect::Close { .. }));
        if let Some(told) = told.filter(|_| !closes) {
            self.machine.check();
            self.check_values(&told)?;
        }
        Ok(out)
    }

    fn check_values(&self, told: &str) -> Result<(), String> {
        let known = |key: &&Key| self.machine.phase_of(key) == Some(TaskPhase::Memory);
        if let Some(key) = self.values.iter().find(|key| !known(key)) {
            let phase = self.machine.phase_of(key);
            return Err(format!("worker {} still has {key} ({phase:?}) after {told}", self.address));
        }
        let held = self.machine.phases().filter(|(_, phase)| *phase == TaskPhase::Memory);
        match held.map(|(key, _)| key).find(|key| !self.values.contains(*key)) {
            Some(key) => Err(format!("worker {} thinks that it has {key} after {told}", self.address)),
            None => Ok(()),
        }
    }

    // ---- the executor ------------------------------------------------------------------------------------------------

    /// Gives a run its number.
    pub fn hand(&mut self, key: Key, run: RunId, inputs: Vec<Key>) -> Handed {
        self.last_stamp += 1;
        self.runs.insert(self.last_stamp, (key.clone(), run));
        Handed { stamp: self.last_stamp, key, run, inputs }
    }

    /// The slot, if it is free, goes to the task that waits to rejoin, else to the next run in its queue.
    ///
    /// Errors: the run begins a second time.
    pub fn begin_next(&mut self, slot: u32) -> Result<Begun, String> {
        let entry = &mut self.slots[slot as usize];
        if entry.current.is_some() {
            return Ok(Begun::Nothing);
        }
        if let Some(stamp) = entry.rejoining.take() {
            entry.current = Some(stamp);
            return Ok(Begun::Rejoined { stamp });
        }
        let Some(handed) = entry.queue.pop_front() else { return Ok(Begun::Nothing) };
        entry.current = Some(handed.stamp);
        if !self.begun.insert((handed.key.clone(), handed.run)) {
            return Err(format!("worker {} begins run {} of {} twice", self.address, handed.run, handed.key));
        }
        let complete = handed.inputs.iter().all(|input| self.values.contains(input));
        Ok(Begun::Run { handed, complete })
    }

    /// The slot that this run occupies.
    pub fn slot_of(&self, stamp: u64) -> Option<u32> {
        (0u32..).zip(&self.slots).find(|(_, slot)| slot.current == Some(stamp)).map(|(at, _)| at)
    }

    /// What the machine is told of these news; none if they are of a run that ended: news of two slots may overtake
    /// each other.
    pub fn read_news(&mut self, slot: u32, news: News) -> Option<WorkerEvent> {
        let known = "an executor tells once of the end of a run that it was handed";
        Some(match news {
            News::Ended { stamp, outcome } => {
                let (key, run) = self.runs.remove(&stamp).expect(known);
                WorkerEvent::Ended { key, run, outcome }
            }
            News::Seceded { stamp, secs } => {
                let (key, run) = self.runs.get(&stamp)?.clone();
                WorkerEvent::Seceded { key, run, compute_secs: secs }
            }
            News::Rejoined { stamp } => WorkerEvent::Rejoined { key: self.runs.get(&stamp)?.0.clone(), slot },
            News::Recalled { stamps } => {
                let keys = stamps.iter().map(|stamp| self.runs.remove(stamp).expect(known).0).collect();
                WorkerEvent::Recalled { slot, keys }
            }
        })
    }
}

/// `compute-task`, as the machine takes it.
pub fn compute_event(compute: &Compute) -> WorkerEvent {
    let rank = [compute.priority.user, compute.priority.generation, compute.priority.order];
    WorkerEvent::Compute(Box::new(ComputeTask {
        key: compute.key.clone(),
        run: compute.run_id,
        rank: TaskPriority::new(&rank).expect("three numbers are a priority"),
        inputs: inputs(&compute.inputs),
        resources: compute.annotations.as_ref().map(|notes| notes.resources.clone()).unwrap_or_default(),
        may_wait_in_slot: !compute.actor,
    }))
}

/// Keys and their holders, as the machine takes them.
pub fn inputs(data: &Located) -> Vec<Input> {
    let input = |(key, nbytes, holders): (&Key, i64, &[Text])| Input {
        key: key.clone(),
        size_bytes: u64::try_from(nbytes).unwrap_or_default(),
        holders: holders.to_vec(),
    };
    data.iter().map(input).collect()
}
