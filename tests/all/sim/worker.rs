//! A worker's state machine in miniature, as stock workers run it: what it does with each message of the scheduler,
//! with ends of runs and transfers. Source: `distributed/worker_state_machine.py`, `WorkerState`.
//!
//! It starts nothing: runs, transfers and messages come out as [`Act`]s.

mod engine;

use std::collections::{BTreeMap, BTreeSet};

use rask::base::{Key, RunId, Text};
use rask::sched::{Compute, Located};

/// What the machine wants done.
#[derive(Debug)]
pub enum Act {
    /// Send on the stream.
    Send(Up),
    /// Run this task.
    Start(Key),
    /// Ask a peer for these keys.
    Gather { from: Text, keys: Vec<Key> },
    /// Forget after a while that the peer is busy.
    RetryLater(Text),
    /// The worker dies of this: a rule of the protocol was broken.
    Crash(String),
}

/// Messages to the scheduler.
#[derive(Clone, Debug)]
pub enum Up {
    Finished { key: Key, run: RunId },
    Erred { key: Key, run: RunId },
    Release { key: Key },
    AddKeys { key: Key },
    LongRunning { key: Key, run: RunId },
    Reschedule { key: Key },
    StealResponse { key: Key, state: Option<&'static str>, stimulus: Text },
    Refresh { keys: Vec<Key> },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    Reschedule,
}

/// How a transfer ended.
#[derive(Clone, Debug)]
pub enum Transfer {
    Data(BTreeSet<Key>),
    Busy,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Released,
    Fetch,
    Flight,
    Missing,
    Waiting,
    Ready,
    Executing,
    LongRunning,
    Memory,
    Error,
    Cancelled,
    Resumed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Fetch => "fetch",
            Self::Flight => "flight",
            Self::Missing => "missing",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Executing => "executing",
            Self::LongRunning => "long-running",
            Self::Memory => "memory",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Resumed => "resumed",
        }
    }
}

/// Where a task is to go; ends of runs carry their run.
#[derive(Clone, Debug, PartialEq)]
enum To {
    Released,
    Fetch,
    Flight,
    Missing,
    Waiting,
    Ready,
    Executing,
    LongRunning,
    Memory(RunId),
    Error(RunId),
    Rescheduled,
    Forgotten,
}

impl To {
    const fn state(&self) -> Option<State> {
        Some(match self {
            Self::Released => State::Released,
            Self::Fetch => State::Fetch,
            Self::Flight => State::Flight,
            Self::Missing => State::Missing,
            Self::Waiting => State::Waiting,
            Self::Ready => State::Ready,
            Self::Executing => State::Executing,
            Self::LongRunning => State::LongRunning,
            Self::Memory(_) => State::Memory,
            Self::Error(_) => State::Error,
            Self::Rescheduled | Self::Forgotten => return None,
        })
    }
}

#[derive(Debug)]
struct Task {
    state: State,
    /// What it was doing when it was cancelled or resumed.
    previous: State,
    run: RunId,
    /// The run that is executing.
    executing_run: RunId,
    rank: (i64, u64),
    dependencies: BTreeSet<Key>,
    dependents: BTreeSet<Key>,
    waiting_for: BTreeSet<Key>,
    waiters: BTreeSet<Key>,
    who_has: BTreeSet<Text>,
    done: bool,
    constrained: bool,
}

type Recs = Vec<(Key, To)>;

fn merge(recs: &mut Recs, more: Recs) {
    for (key, to) in more {
        match recs.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = to,
            None => recs.push((key, to)),
        }
    }
}

/// The state of one worker process.
#[derive(Debug)]
pub struct Machine {
    pub address: Text,
    pub nthreads: usize,
    /// Starts runs and transfers; not while paused or closing.
    pub running: bool,
    tasks: BTreeMap<Key, Task>,
    ready: BTreeSet<((i64, u64), Key)>,
    executing: BTreeSet<Key>,
    long_running: BTreeSet<Key>,
    fetch: BTreeSet<Key>,
    missing: BTreeSet<Key>,
    in_flight: BTreeMap<Text, Vec<Key>>,
    busy: BTreeSet<Text>,
    computes: u64,
}

impl Machine {
    pub fn new(address: Text, nthreads: usize) -> Self {
        Self {
            address,
            nthreads,
            running: true,
            tasks: BTreeMap::new(),
            ready: BTreeSet::new(),
            executing: BTreeSet::new(),
            long_running: BTreeSet::new(),
            fetch: BTreeSet::new(),
            missing: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            busy: BTreeSet::new(),
            computes: 0,
        }
    }

    pub fn has(&self, key: &Key) -> bool {
        self.tasks.get(key).is_some_and(|task| task.state == State::Memory)
    }

    pub fn held(&self) -> Vec<Key> {
        self.tasks.iter().filter(|(_, task)| task.state == State::Memory).map(|(key, _)| key.clone()).collect()
    }

    pub fn executing(&self) -> Vec<Key> {
        self.executing.iter().cloned().collect()
    }

    /// Keys and states, for reports.
    pub fn describe(&self) -> Vec<String> {
        self.tasks.iter().map(|(key, task)| format!("{key}:{}", task.state.name())).collect()
    }

    // ---- messages ----------------------------------------------------------------------------------------------

    pub fn on_compute(&mut self, compute: &Compute, acts: &mut Vec<Act>) {
        let key = &compute.key;
        for (dependency, _, holders) in compute.inputs.iter() {
            if holders.is_empty() {
                acts.push(Act::Crash(format!("compute-task {key}: nobody holds its input {dependency}")));
            }
        }
        self.ensure(key, (0, 0));
        self.computes += 1;
        let rank = ((compute.priority.user * 1e6 + compute.priority.order) as i64, u64::MAX - self.computes);
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.run = compute.run_id;
        match task.state {
            State::Ready | State::Executing | State::LongRunning | State::Waiting => {}
            State::Memory => acts.push(Act::Send(Up::Finished { key: key.clone(), run: compute.run_id })),
            State::Released
            | State::Fetch
            | State::Flight
            | State::Missing
            | State::Cancelled
            | State::Resumed
            | State::Error => {
                task.rank = rank;
                task.constrained = compute.annotations.as_ref().is_some_and(|notes| !notes.resources.is_empty());
                for (dependency, _, _) in compute.inputs.iter() {
                    self.ensure(dependency, rank);
                    if let Some(entry) = self.tasks.get_mut(dependency) {
                        entry.dependents.insert(key.clone());
                    }
                    if let Some(task) = self.tasks.get_mut(key) {
                        task.dependencies.insert(dependency.clone());
                    }
                }
                self.update_who_has(&compute.inputs);
                self.run(vec![(key.clone(), To::Waiting)], acts);
            }
        }
    }

    pub fn on_free_keys(&mut self, keys: &[Key], acts: &mut Vec<Act>) {
        let recs = keys.iter().filter(|key| self.tasks.contains_key(*key)).map(|key| (key.clone(), To::Released));
        self.run(recs.collect(), acts);
    }

    pub fn on_remove_replicas(&mut self, keys: &[Key], acts: &mut Vec<Act>) {
        let mut recs = Vec::new();
        for key in keys {
            let Some(task) = self.tasks.get(key).filter(|task| task.state == State::Memory) else { continue };
            for dependent in &task.dependents {
                if matches!(self.tasks.get(dependent).map(|t| t.state), Some(State::Executing | State::LongRunning)) {
                    acts.push(Act::Crash(format!("cannot remove replica of {key} while {dependent} is executing")));
                    return;
                }
            }
            recs.push((key.clone(), To::Released));
        }
        self.run(recs, acts);
    }

    pub fn on_acquire_replicas(&mut self, data: &Located, acts: &mut Vec<Act>) {
        let mut recs = Vec::new();
        for (key, _, holders) in data.iter() {
            if holders.is_empty() {
                acts.push(Act::Crash(format!("acquire-replicas: nobody holds {key}")));
            }
            self.ensure(key, (1, 0));
            if !self.has(key) {
                recs.push((key.clone(), To::Fetch));
            }
        }
        self.update_who_has(data);
        self.run(recs, acts);
    }

    pub fn on_steal_request(&mut self, key: &Key, stimulus: &Text, acts: &mut Vec<Act>) {
        let task = self.tasks.get(key);
        let state = task.map(|task| match task.state {
            State::Ready if task.constrained => "constrained",
            state => state.name(),
        });
        acts.push(Act::Send(Up::StealResponse { key: key.clone(), state, stimulus: stimulus.clone() }));
        if task.is_some_and(|task| matches!(task.state, State::Ready | State::Waiting)) {
            self.run(vec![(key.clone(), To::Released)], acts);
        }
    }

    pub fn on_refresh_who_has(&mut self, data: &Located, acts: &mut Vec<Act>) {
        self.update_who_has(data);
        let mut recs = Vec::new();
        for (key, _, _) in data.iter() {
            let Some(task) = self.tasks.get(key) else { continue };
            if !task.who_has.is_empty() && task.state == State::Missing {
                recs.push((key.clone(), To::Fetch));
            } else if task.who_has.is_empty() && task.state == State::Fetch {
                recs.push((key.clone(), To::Missing));
            }
        }
        self.run(recs, acts);
    }

    pub fn on_remove_worker(&mut self, address: &Text, acts: &mut Vec<Act>) {
        let recs = self.forget_peer(address);
        self.run(recs, acts);
    }

    pub fn set_running(&mut self, running: bool, acts: &mut Vec<Act>) {
        let before = std::mem::replace(&mut self.running, running);
        if running && !before {
            let recs = self.ensure_computing();
            self.run(recs, acts);
        }
    }

    pub fn find_missing(&mut self, acts: &mut Vec<Act>) {
        if !self.missing.is_empty() {
            acts.push(Act::Send(Up::Refresh { keys: self.missing.iter().cloned().collect() }));
        }
    }

    /// Data put here from outside.
    pub fn on_update_data(&mut self, key: &Key, acts: &mut Vec<Act>) {
        self.ensure(key, (0, 0));
        let state = self.tasks.get(key).map(|task| task.state);
        if state == Some(State::Released) {
            let recs = self.enter_memory(key, None, acts);
            self.run(recs, acts);
        }
    }

    // ---- ends of runs and transfers ------------------------------------------------------------------------------

    pub fn on_secede(&mut self, key: &Key, acts: &mut Vec<Act>) {
        if self.executing.contains(key) {
            self.run(vec![(key.clone(), To::LongRunning)], acts);
        }
    }

    pub fn on_executed(&mut self, key: &Key, outcome: Outcome, acts: &mut Vec<Act>) {
        let Some(task) = self.tasks.get_mut(key) else {
            return acts.push(Act::Crash(format!("{key} was forgotten while it ran")));
        };
        task.done = true;
        let run = task.executing_run;
        self.executing.remove(key);
        self.long_running.remove(key);
        let mut recs = self.ensure_computing();
        let to = match outcome {
            Outcome::Success => To::Memory(run),
            Outcome::Failure => To::Error(run),
            Outcome::Reschedule => To::Rescheduled,
        };
        recs.push((key.clone(), to));
        self.run(recs, acts);
    }

    pub fn on_gathered(&mut self, from: &Text, transfer: &Transfer, acts: &mut Vec<Act>) {
        let keys = self.in_flight.remove(from).unwrap_or_default();
        let mut recs: Recs = Vec::new();
        let mut refresh = Vec::new();
        if matches!(transfer, Transfer::Busy) {
            self.busy.insert(from.clone());
            acts.push(Act::RetryLater(from.clone()));
        }
        for key in keys {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            task.done = true;
            match transfer {
                Transfer::Data(data) if data.contains(&key) => {
                    let run = task.run;
                    recs.push((key, To::Memory(run)));
                }
                Transfer::Data(_) => {
                    task.who_has.remove(from);
                    recs.push((key, To::Fetch));
                }
                Transfer::Busy => {
                    if task.who_has.iter().all(|holder| self.busy.contains(holder)) {
                        refresh.push(key.clone());
                    }
                    recs.push((key, To::Fetch));
                }
                Transfer::Broken => recs.push((key, To::Fetch)),
            }
        }
        if matches!(transfer, Transfer::Broken) {
            let more = self.forget_peer(from);
            merge(&mut recs, more);
        }
        if !refresh.is_empty() {
            acts.push(Act::Send(Up::Refresh { keys: refresh }));
        }
        self.run(recs, acts);
    }

    pub fn on_retry_busy(&mut self, from: &Text, acts: &mut Vec<Act>) {
        self.busy.remove(from);
        self.run(Vec::new(), acts);
    }

    fn forget_peer(&mut self, address: &Text) -> Recs {
        let mut recs = Vec::new();
        for (key, task) in &mut self.tasks {
            if task.who_has.remove(address) && task.who_has.is_empty() && task.state == State::Fetch {
                recs.push((key.clone(), To::Missing));
            }
        }
        recs
    }
}
