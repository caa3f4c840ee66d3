//! A worker's state machine in miniature, as stock workers run it: what it does with each message of the scheduler,
//! with ends of runs and transfers. Source: `distributed/worker_state_machine.py`, `WorkerState`.
//!
//! It starts nothing: runs, transfers and messages come out as [`Act`]s.

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

    // ---- engine ------------------------------------------------------------------------------------------------

    fn ensure(&mut self, key: &Key, rank: (i64, u64)) {
        self.tasks.entry(key.clone()).or_insert_with(|| Task {
            state: State::Released,
            previous: State::Released,
            run: -1,
            executing_run: -1,
            rank,
            dependencies: BTreeSet::new(),
            dependents: BTreeSet::new(),
            waiting_for: BTreeSet::new(),
            waiters: BTreeSet::new(),
            who_has: BTreeSet::new(),
            done: false,
            constrained: false,
        });
    }

    fn update_who_has(&mut self, data: &Located) {
        for (key, _, holders) in data.iter() {
            if let Some(task) = self.tasks.get_mut(key) {
                task.who_has = holders.iter().filter(|holder| **holder != self.address).cloned().collect();
            }
        }
    }

    fn run(&mut self, mut recs: Recs, acts: &mut Vec<Act>) {
        loop {
            while let Some((key, to)) = recs.pop() {
                let more = self.step(&key, to, acts);
                merge(&mut recs, more);
            }
            recs = self.ensure_communicating(acts);
            if recs.is_empty() {
                return;
            }
        }
    }

    fn ensure_communicating(&mut self, acts: &mut Vec<Act>) -> Recs {
        if !self.running {
            return Vec::new();
        }
        let mut batches: BTreeMap<Text, Vec<Key>> = BTreeMap::new();
        for key in &self.fetch {
            let Some(task) = self.tasks.get(key) else { continue };
            let free = |holder: &&Text| !self.in_flight.contains_key(*holder) && !self.busy.contains(*holder);
            let turn = self.computes as usize % task.who_has.len().max(1);
            let holder = task.who_has.iter().cycle().skip(turn).take(task.who_has.len()).find(free);
            if let Some(holder) = holder {
                batches.entry(holder.clone()).or_default().push(key.clone());
            }
        }
        let mut recs = Vec::new();
        for (from, keys) in batches {
            recs.extend(keys.iter().map(|key| (key.clone(), To::Flight)));
            acts.push(Act::Gather { from: from.clone(), keys: keys.clone() });
            self.in_flight.insert(from, keys);
        }
        recs
    }

    fn ensure_computing(&mut self) -> Recs {
        let mut recs = Vec::new();
        while self.running && self.executing.len() < self.nthreads {
            let Some((_, key)) = self.ready.pop_first() else { break };
            self.executing.insert(key.clone());
            recs.push((key, To::Executing));
        }
        recs
    }

    fn set_state(&mut self, key: &Key, state: State) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.state = state;
        if state == State::Fetch {
            self.fetch.insert(key.clone());
        } else {
            self.fetch.remove(key);
        }
        if state == State::Missing {
            self.missing.insert(key.clone());
        } else {
            self.missing.remove(key);
        }
    }

    fn step(&mut self, key: &Key, to: To, acts: &mut Vec<Act>) -> Recs {
        let Some(state) = self.tasks.get(key).map(|task| task.state) else { return Vec::new() };
        if to.state() == Some(state) {
            return Vec::new();
        }
        if let Some(recs) = self.direct(key, state, &to, acts) {
            return recs;
        }
        if to == To::Released || state == State::Released {
            acts.push(Act::Crash(format!("{key} can't go from {} to {to:?}", state.name())));
            return Vec::new();
        }
        let mut recs = self.step(key, To::Released, acts);
        while let Some(at) = recs.iter().position(|(other, _)| other == key) {
            let (_, via) = recs.remove(at);
            if via != To::Forgotten {
                let more = self.step(key, via, acts);
                merge(&mut recs, more);
            }
        }
        let more = self.step(key, to, acts);
        merge(&mut recs, more);
        recs
    }

    fn direct(&mut self, key: &Key, state: State, to: &To, acts: &mut Vec<Act>) -> Option<Recs> {
        let task = self.tasks.get_mut(key)?;
        Some(match (state, to) {
            (State::Cancelled, To::Error(_) | To::Memory(_) | To::Missing | To::Released | To::Rescheduled) => {
                if !task.done {
                    return Some(Vec::new());
                }
                task.done = false;
                self.generic_released(key)
            }
            (State::Cancelled, To::Fetch) => match task.previous {
                State::Flight if task.done => vec![(key.clone(), To::Released)],
                State::Flight => {
                    self.set_state(key, State::Flight);
                    Vec::new()
                }
                _ => {
                    self.set_state(key, State::Resumed);
                    Vec::new()
                }
            },
            (State::Cancelled, To::Waiting) => {
                let previous = task.previous;
                if previous == State::LongRunning {
                    acts.push(Act::Send(Up::LongRunning { key: key.clone(), run: task.run }));
                }
                self.set_state(key, if previous == State::Flight { State::Resumed } else { previous });
                Vec::new()
            }
            (State::Cancelled | State::Resumed, To::LongRunning) => {
                task.previous = State::LongRunning;
                self.executing.remove(key);
                self.long_running.insert(key.clone());
                self.ensure_computing()
            }
            (State::Resumed, To::Error(_) | To::Rescheduled) => self.resumed_next(key),
            (State::Resumed, To::Fetch) if task.previous == State::Flight => {
                if task.done {
                    self.resumed_next(key)
                } else {
                    self.set_state(key, State::Flight);
                    Vec::new()
                }
            }
            (State::Resumed, To::Fetch) => Vec::new(),
            (State::Resumed, To::Memory(run)) => {
                let news = if task.previous == State::Flight {
                    Up::Finished { key: key.clone(), run: *run }
                } else {
                    Up::AddKeys { key: key.clone() }
                };
                self.enter_memory(key, Some(news), acts)
            }
            (State::Resumed, To::Released) => {
                self.set_state(key, State::Cancelled);
                Vec::new()
            }
            (State::Executing | State::LongRunning, To::Error(run)) => {
                acts.push(Act::Send(Up::Erred { key: key.clone(), run: *run }));
                self.set_state(key, State::Error);
                Vec::new()
            }
            (State::Executing, To::LongRunning) => {
                acts.push(Act::Send(Up::LongRunning { key: key.clone(), run: task.run }));
                self.set_state(key, State::LongRunning);
                self.executing.remove(key);
                self.long_running.insert(key.clone());
                self.ensure_computing()
            }
            (State::Executing | State::LongRunning, To::Memory(run)) => {
                let news = Up::Finished { key: key.clone(), run: *run };
                self.enter_memory(key, Some(news), acts)
            }
            (State::Executing | State::LongRunning | State::Flight, To::Released) => {
                task.previous = state;
                self.set_state(key, State::Cancelled);
                Vec::new()
            }
            (State::Executing | State::LongRunning, To::Rescheduled) => {
                acts.push(Act::Send(Up::Reschedule { key: key.clone() }));
                self.generic_released(key)
            }
            (State::Fetch, To::Flight) => {
                task.done = false;
                self.set_state(key, State::Flight);
                Vec::new()
            }
            (State::Fetch, To::Missing) | (State::Flight, To::Missing) | (State::Released, To::Missing) => {
                task.done = false;
                self.set_state(key, State::Missing);
                Vec::new()
            }
            (State::Flight, To::Fetch) if !task.done => Vec::new(),
            (State::Flight | State::Missing | State::Released, To::Fetch) => {
                if task.who_has.is_empty() {
                    return Some(if state == State::Missing { Vec::new() } else { vec![(key.clone(), To::Missing)] });
                }
                task.done = false;
                self.set_state(key, State::Fetch);
                Vec::new()
            }
            (State::Flight, To::Memory(_)) => self.enter_memory(key, Some(Up::AddKeys { key: key.clone() }), acts),
            (State::Memory, To::Released) => {
                acts.push(Act::Send(Up::Release { key: key.clone() }));
                self.generic_released(key)
            }
            (State::Fetch | State::Missing | State::Ready | State::Error | State::Waiting, To::Released) => {
                self.generic_released(key)
            }
            (State::Missing, To::Waiting) => {
                self.purge(key);
                self.enter_waiting(key)
            }
            (State::Released, To::Waiting) => self.enter_waiting(key),
            (State::Released, To::Forgotten) => self.enter_forgotten(key),
            (State::Waiting, To::Ready) => {
                let rank = task.rank;
                self.set_state(key, State::Ready);
                self.ready.insert((rank, key.clone()));
                self.ensure_computing()
            }
            (State::Ready, To::Executing) => {
                task.executing_run = task.run;
                self.set_state(key, State::Executing);
                acts.push(Act::Start(key.clone()));
                Vec::new()
            }
            _ => return None,
        })
    }

    /// A resumed task whose first errand ended without data goes on with the other one.
    fn resumed_next(&mut self, key: &Key) -> Recs {
        self.set_state(key, State::Released);
        let Some(task) = self.tasks.get_mut(key) else { return Vec::new() };
        task.done = false;
        let next = if task.previous == State::Flight { To::Waiting } else { To::Fetch };
        vec![(key.clone(), next)]
    }

    fn enter_waiting(&mut self, key: &Key) -> Recs {
        let Some(task) = self.tasks.get(key) else { return Vec::new() };
        let mut recs = Vec::new();
        let mut waiting_for = BTreeSet::new();
        for dependency in task.dependencies.clone() {
            let Some(entry) = self.tasks.get_mut(&dependency) else { continue };
            if entry.state != State::Memory {
                entry.waiters.insert(key.clone());
                waiting_for.insert(dependency.clone());
                recs.push((dependency, To::Fetch));
            }
        }
        if waiting_for.is_empty() {
            recs.push((key.clone(), To::Ready));
        }
        if let Some(task) = self.tasks.get_mut(key) {
            task.waiting_for = waiting_for;
        }
        self.set_state(key, State::Waiting);
        recs
    }

    fn enter_memory(&mut self, key: &Key, news: Option<Up>, acts: &mut Vec<Act>) -> Recs {
        self.set_state(key, State::Memory);
        let mut recs = Vec::new();
        let Some(task) = self.tasks.get(key) else { return recs };
        for dependent in task.dependents.clone() {
            let Some(entry) = self.tasks.get_mut(&dependent) else { continue };
            entry.waiting_for.remove(key);
            if entry.waiting_for.is_empty() && entry.state == State::Waiting {
                recs.push((dependent, To::Ready));
            }
        }
        acts.extend(news.map(Act::Send));
        recs
    }

    fn purge(&mut self, key: &Key) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.who_has.clear();
        task.waiting_for.clear();
        task.done = false;
        let rank = task.rank;
        let dependencies = task.dependencies.clone();
        for dependency in dependencies {
            if let Some(entry) = self.tasks.get_mut(&dependency) {
                entry.waiters.remove(key);
            }
        }
        self.ready.remove(&(rank, key.clone()));
        self.executing.remove(key);
        self.long_running.remove(key);
    }

    fn generic_released(&mut self, key: &Key) -> Recs {
        self.purge(key);
        self.set_state(key, State::Released);
        let Some(task) = self.tasks.get(key) else { return Vec::new() };
        let mut recs = Vec::new();
        for dependency in &task.dependencies {
            let Some(entry) = self.tasks.get(dependency) else { continue };
            let kept = matches!(
                entry.state,
                State::Ready
                    | State::Waiting
                    | State::Executing
                    | State::LongRunning
                    | State::Memory
                    | State::Cancelled
                    | State::Resumed
                    | State::Released
            );
            if entry.waiters.is_empty() && !kept {
                recs.push((dependency.clone(), To::Released));
            }
        }
        if task.dependents.is_empty() {
            recs.push((key.clone(), To::Forgotten));
        }
        recs
    }

    fn enter_forgotten(&mut self, key: &Key) -> Recs {
        self.purge(key);
        let Some(task) = self.tasks.remove(key) else { return Vec::new() };
        self.fetch.remove(key);
        self.missing.remove(key);
        let mut recs = Vec::new();
        for dependency in task.dependencies {
            let Some(entry) = self.tasks.get_mut(&dependency) else { continue };
            entry.dependents.remove(key);
            if entry.state == State::Released && entry.dependents.is_empty() {
                recs.push((dependency, To::Forgotten));
            }
        }
        recs
    }
}
