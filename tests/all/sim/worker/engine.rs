//! The moves of a task between its states on a worker, and the loop that runs them to rest.

use std::collections::{BTreeMap, BTreeSet};

use rask::base::{Key, Text};
use rask::sched::Located;

use super::{Act, Machine, Recs, State, Task, To, Up, merge};

impl Machine {
    pub(super) fn ensure(&mut self, key: &Key, rank: (i64, u64)) {
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

    pub(super) fn update_who_has(&mut self, data: &Located) {
        for (key, _, holders) in data.iter() {
            if let Some(task) = self.tasks.get_mut(key) {
                task.who_has = holders.iter().filter(|holder| **holder != self.address).cloned().collect();
            }
        }
    }

    pub(super) fn run(&mut self, mut recs: Recs, acts: &mut Vec<Act>) {
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

    pub(super) fn ensure_computing(&mut self) -> Recs {
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

    pub(super) fn enter_memory(&mut self, key: &Key, news: Option<Up>, acts: &mut Vec<Act>) -> Recs {
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
