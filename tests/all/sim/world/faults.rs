//! What clients do, and what goes wrong.

use rask::base::{GraphPart, GraphTask, Key, Value, WorkerId};
use rask::sched::coord::{CoordRequest, Item, QueueBatch};
use rask::sched::{AmmAction, Event, PlacedData, ToClient, WorkerStatus};
use rask::worker_state::WorkerEvent;

use super::{Call, MS, Reading, SEC, Thing, World, opening};
use crate::sim::client::{Belief, Send};
use crate::sim::graphs::{self, Fails, Truth};

impl World<'_> {
    // ---- clients -----------------------------------------------------------------------------------------------

    pub(super) fn act(&mut self, client: usize) -> Result<(), String> {
        if !self.clients[client].alive || self.clients[client].acts_left == 0 {
            return Ok(());
        }
        self.clients[client].acts_left -= 1;
        let pause = [1_000, 50_000, 1_000_000, 6_000_000][self.rng.below(4)] + self.rng.below(10_000) as u64;
        self.push(pause, Thing::Act(client));
        let held = self.some_futures(client);
        match self.rng.below(100) {
            0..40 => self.submit_new(client),
            40..48 => self.submit_again(client),
            48..62 => self.release(client, held),
            62..68 => {
                for key in &held {
                    if let Some(truth) = self.truths.get_mut(key) {
                        truth.cancelled = true;
                    }
                }
                let force = self.rng.below(3) == 0;
                self.push_stream(client, Send::Cancel { keys: held, force });
            }
            68..74 => self.retry(client),
            74..77 => {
                if let Some(key) = held.first() {
                    self.push_stream(client, Send::Report(key.clone()));
                }
            }
            77..80 => self.push_stream(client, Send::Desire { keys: held, fire_and_forget: true }),
            80..85 => self.scatter(client)?,
            85..96 => self.coordinate(client, held),
            96..98 => self.borrow(client),
            _ => self.leave(client),
        }
        Ok(())
    }

    fn some_futures(&mut self, client: usize) -> Vec<Key> {
        let all: Vec<Key> = self.clients[client].futures.keys().cloned().collect();
        let few = 1 + self.rng.below(4);
        (0..few).filter(|_| !all.is_empty()).map(|_| all[self.rng.below(all.len())].clone()).collect()
    }

    fn submit_new(&mut self, client: usize) {
        // `scatter` gives its futures out once the scheduler knows them.
        let there = |key: &Key, belief: Belief| belief != Belief::Pending || !self.truths[key].scattered;
        let held = self.clients[client].futures.iter().filter(|(key, belief)| there(key, **belief));
        let outside: Vec<Key> = held.map(|(key, _)| key.clone()).collect();
        let name = self.graphs.len();
        let graph = graphs::make(&mut self.rng, name, &outside, &self.places, &mut self.truths);
        self.graphs.push(graph.clone());
        if graph.unreadable {
            self.excused.extend(graph.wanted.iter().cloned());
        }
        self.submit(client, graph);
    }

    /// A graph that some client submitted before: its keys may be gone, there, failed, or under way.
    fn submit_again(&mut self, client: usize) {
        if self.graphs.is_empty() {
            return self.submit_new(client);
        }
        let mut graph = self.graphs[self.rng.below(self.graphs.len())].clone();
        if graph.unreadable {
            return;
        }
        graph.unreadable = false;
        // What it uses from outside may be gone by now.
        self.excused.extend(graph.tasks.iter().map(|task| task.key.clone()));
        self.submit(client, graph);
    }

    fn submit(&mut self, client: usize, graph: graphs::Graph) {
        for key in &graph.wanted {
            self.clients[client].futures.entry(key.clone()).or_insert(Belief::Pending);
        }
        self.push_stream(client, Send::Graph(Box::new(graph)));
    }

    fn release(&mut self, client: usize, keys: Vec<Key>) {
        for key in &keys {
            self.clients[client].futures.remove(key);
        }
        self.push_stream(client, Send::Release(keys));
    }

    fn retry(&mut self, client: usize) {
        // What did not fail can be retried, too; data from outside would be lost by it, and actors would err.
        let finished_too = self.rng.below(4) == 0;
        let can_run = |key: &Key| self.truths.get(key).is_some_and(|truth| !truth.scattered && !truth.actor);
        let keys: Vec<Key> = self.clients[client]
            .futures
            .iter()
            .filter(|(key, belief)| match belief {
                Belief::Erred => true,
                Belief::Finished => finished_too && can_run(key),
                Belief::Pending => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        if let (Some(id), false) = (self.clients[client].id, keys.is_empty()) {
            let call = self.call(Some(client), Call::Retry);
            let delay = self.lag();
            self.push(delay, Thing::Rpc(client, Event::Retry { call, client: id, keys }));
        }
    }

    fn scatter(&mut self, client: usize) -> Result<(), String> {
        let Some(holder) = self.any_worker() else { return Ok(()) };
        let key = Key::text(&format!("scattered-{}", self.truths.len()));
        let truth = Truth {
            dependencies: Vec::new(),
            fails: Fails::Never,
            run_us: 0,
            nbytes: 1_000,
            actor: false,
            scattered: true,
            cancelled: false,
            secedes: false,
            reschedules: false,
        };
        self.truths.insert(key.clone(), truth);
        let proc = self.registered[&holder];
        if !self.procs[proc].alive {
            return Ok(());
        }
        self.put(proc, &key)?;
        self.clients[client].futures.insert(key.clone(), Belief::Pending);
        let delay = self.lag();
        let data = vec![PlacedData { key, holders: vec![holder], nbytes: 1_000 }];
        let event = Event::UpdateData { client: self.clients[client].id, data };
        self.push(delay, Thing::Rpc(client, event));
        Ok(())
    }

    /// Somebody puts a value into a worker.
    fn put(&mut self, proc: usize, key: &Key) -> Result<(), String> {
        let size_bytes = self.truths.get(key).map_or(1, |truth| truth.nbytes.unsigned_abs());
        self.tell_machine(proc, WorkerEvent::Scattered { values: vec![(key.clone(), size_bytes)] })
    }

    fn coordinate(&mut self, client: usize, held: Vec<Key>) {
        let at = self.rng.below(2);
        let (variable, queue) = (Key::text(&format!("v{at}")), Key::text(&format!("q{at}")));
        let timeout = [None, Some(0.0), Some(5.0)][self.rng.below(3)];
        let item = held.first().map_or(Item::Data(Value::Int(1)), |key| Item::Future(key.clone()));
        let (about, request) = match self.rng.below(7) {
            0 | 1 => (Call::Other, CoordRequest::VariableSet { name: variable, item, timeout }),
            2 => (Call::VariableGet(at), CoordRequest::VariableGet { name: variable, timeout }),
            3 => (Call::Other, CoordRequest::QueueCreate { name: queue, maxsize: at }),
            4 | 5 => (Call::Other, CoordRequest::QueuePut { name: queue, item, timeout }),
            _ => (Call::QueueGet(at), CoordRequest::QueueGet { name: queue, timeout, batch: QueueBatch::One }),
        };
        let call = self.call(Some(client), about);
        let delay = self.lag();
        let event = Event::Coord { call, client: self.clients[client].id, request };
        self.push(delay, Thing::Rpc(client, event));
    }

    /// Wants what another client holds.
    fn borrow(&mut self, client: usize) {
        let other = self.rng.below(self.clients.len());
        let keys = self.some_futures(other);
        self.excused.extend(keys.iter().cloned());
        for key in &keys {
            self.clients[client].futures.entry(key.clone()).or_insert(Belief::Pending);
        }
        self.push_stream(client, Send::Desire { keys, fire_and_forget: false });
    }

    /// In order, or all of a sudden; another comes instead.
    fn leave(&mut self, client: usize) {
        self.clients[client].futures.clear();
        if self.rng.below(2) == 0 {
            self.clients[client].alive = false;
            self.push_stream(client, Send::Close);
        } else {
            self.drop_client(client);
        }
        self.add_client();
    }

    fn drop_client(&mut self, client: usize) {
        self.clients[client].alive = false;
        self.clients[client].held_back.clear();
        self.clients[client].open_graph = None;
        self.clients[client].futures.clear();
        let calls: Vec<u64> =
            self.calls.iter().filter(|(_, (asker, _))| *asker == Some(client)).map(|(call, _)| *call).collect();
        for call in calls {
            self.push(0, Thing::Driver(Event::CallAbandoned { call }));
        }
        if let Some(id) = self.clients[client].id {
            self.push(0, Thing::Driver(Event::ClientRemoved { client: id }));
        }
    }

    /// What arrived on a client's stream, as far as it may be handled now.
    pub(super) fn pump(&mut self, client: usize) -> Result<(), String> {
        while self.clients[client].open_graph.is_none() {
            let Some(send) = self.clients[client].held_back.pop_front() else { return Ok(()) };
            let Some(id) = self.clients[client].id else { return Ok(()) };
            if self.sched.client_name(id).is_none() {
                continue;
            }
            match send {
                Send::Graph(graph) => {
                    self.next_call += 1;
                    let ticket = self.next_call;
                    let parts = self.cut(&graph.tasks, &graph.wanted);
                    self.readings.insert(ticket, Reading { client, parts, unreadable: graph.unreadable });
                    self.clients[client].open_graph = Some(ticket);
                    let submitting_task = self.running_task();
                    self.step(Event::GraphOpened { ticket, graph: opening(id, &graph, submitting_task) })?;
                }
                Send::Desire { keys, fire_and_forget } => {
                    let wanter = if fire_and_forget { self.sched.client_id("fire-and-forget") } else { Some(id) };
                    if !fire_and_forget {
                        for key in &keys {
                            if self.sched.task(key).is_none() {
                                self.clients[client].futures.remove(key);
                            }
                        }
                    }
                    self.step(Event::ClientDesires { client: wanter.unwrap_or(id), keys })?;
                }
                Send::Release(keys) => self.step(Event::ClientReleases { client: id, keys })?,
                Send::Cancel { keys, force } => {
                    let (reason, msg) = (Value::Nil, Value::Nil);
                    self.step(Event::CancelKeys { client: id, keys, force, reason, msg })?;
                }
                Send::Report(key) => {
                    if self.sched.task(&key).is_none() {
                        self.excused.insert(key.clone());
                    }
                    self.step(Event::ReportKey { client: id, key })?;
                }
                Send::Coord(request) => {
                    if let CoordRequest::VariableConfirm { key, .. } | CoordRequest::QueueFutureRelease { key, .. } =
                        &request
                        && self.sched.task(key).is_none()
                    {
                        self.clients[client].futures.remove(key);
                    }
                    let call = self.call(Some(client), Call::Other);
                    self.step(Event::Coord { call, client: Some(id), request })?;
                }
                Send::Close => self.drop_client(client),
            }
        }
        Ok(())
    }

    /// Now and then a graph comes from within a task.
    fn running_task(&mut self) -> Option<Key> {
        if self.rng.below(8) > 0 {
            return None;
        }
        let alive = self.procs.iter().filter(|proc| proc.alive);
        let running: Vec<Key> = alive.flat_map(|proc| proc.node.executing()).collect();
        let at = self.rng.below(running.len());
        running.get(at).cloned()
    }

    /// Cuts a graph in parts; within one part tasks may come before what they need.
    fn cut(&mut self, tasks: &[GraphTask], wanted: &[Key]) -> std::collections::VecDeque<GraphPart> {
        let size = tasks.len().div_ceil(1 + self.rng.below(4)).max(1);
        let mut parts = rask::graph::cut(tasks.to_vec(), wanted.to_vec(), size);
        for part in &mut parts {
            let disorder = self.rng.below(3) == 0;
            for at in (1..part.tasks.len()).rev().filter(|_| disorder) {
                let other = self.rng.below(at + 1);
                part.tasks.swap(at, other);
            }
        }
        parts.into()
    }

    pub(super) fn read_part(&mut self, ticket: u64) -> Result<(), String> {
        let Some(reading) = self.readings.get_mut(&ticket) else { return Ok(()) };
        if reading.unreadable && reading.parts.len() < 2 {
            let failure = rask::base::Failure::Raised(rask::base::PyError::builtin("ValueError", "unreadable"));
            return self.step(Event::GraphFailed { ticket, failure });
        }
        let part = reading.parts.pop_front().unwrap_or_default();
        let last = reading.parts.is_empty();
        if !last {
            let delay = self.lag() + [0, 100_000][self.rng.below(2)];
            self.push(delay, Thing::Part(ticket));
        }
        self.step(Event::GraphPart { ticket, part, last })
    }

    pub(super) fn tell_client(&mut self, client: usize, message: &ToClient) -> Result<(), String> {
        if !self.clients[client].alive {
            return Ok(());
        }
        if let Some(cancelled) = self.clients[client].hear(message) {
            self.report.cancelled += cancelled.keys.len() as u64;
            let lost = cancelled.reason.as_str() == Some("lost dependencies");
            let excused = |key: &Key| self.may_be_cancelled(key) || (lost && self.may_lose_inputs(key));
            if let Some(key) = cancelled.keys.iter().find(|key| !excused(key)) {
                return Err(format!("{key} was cancelled for {:?}, but nothing calls for that", cancelled.reason));
            }
            self.push_stream(client, Send::Release(cancelled.keys));
        }
        Ok(())
    }

    // ---- faults ------------------------------------------------------------------------------------------------

    fn any_worker(&mut self) -> Option<WorkerId> {
        let count = self.registered.len();
        let at = self.rng.below(count.max(1));
        self.registered.keys().nth(at).copied()
    }

    pub(super) fn go_wrong(&mut self) -> Result<(), String> {
        let Some(worker) = self.any_worker() else { return Ok(()) };
        let proc = self.registered[&worker];
        match self.rng.below(22) {
            0..5 => {
                let cut = self.rng.below(2) == 0;
                self.kill(proc, cut);
            }
            5 | 6 => {
                // The connection breaks; the process finds out later, and goes on working until then.
                let (up, down) = (self.lag(), self.lag() + self.rng.below(2_000_000) as u64);
                self.push(up, Thing::EofUp(proc));
                self.push(down, Thing::EofDown(proc));
            }
            7 | 8 => {
                self.set_status(proc, WorkerStatus::Paused)?;
                let delay = self.rng.below(8_000_000) as u64;
                self.push(delay, Thing::Resume(proc));
            }
            9 | 10 => {
                let slot = self.procs[proc].slot;
                self.slots[slot].enabled = slot == 0 || self.rng.below(2) == 0;
                let mut workers = vec![worker];
                workers.extend(self.any_worker());
                self.step(Event::Retire { workers })?;
            }
            11 => self.lag_us = [2 * MS, 50 * MS, 2 * SEC][self.rng.below(3)],
            12 => {
                self.procs[proc].mute_until = self.now.plus_us(20 * SEC);
            }
            13 => {
                let jump = [SEC, 30 * SEC, 600 * SEC][self.rng.below(3)];
                self.now = self.now.plus_us(jump);
                self.faults_until = self.faults_until.max(self.now.plus_us(SEC));
                self.note("                 the clock jumps ahead".to_owned());
            }
            14 => self.restart()?,
            15 | 16 => {
                let action = [AmmAction::RunOnce, AmmAction::RunOnce, AmmAction::Start, AmmAction::Stop];
                let action = action[self.rng.below(4)];
                self.step(Event::Amm { action })?;
            }
            17 => self.copy_something(worker)?,
            18 | 19 => {
                // Its machine is silent; much of what was on its way arrives later, all the same.
                self.step(Event::WorkerSilent { worker, silent: true })?;
                let delay = self.rng.below(8_000_000) as u64;
                self.push(delay, Thing::Heard(worker));
            }
            _ => {
                // All at once.
                for proc in 0..self.procs.len() {
                    if self.procs[proc].alive && self.rng.below(3) > 0 {
                        self.kill(proc, true);
                    }
                }
            }
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.report.restarts += 1;
        self.step(Event::Restart)?;
        for proc in 0..self.procs.len() {
            if self.procs[proc].alive && self.rng.below(4) > 0 {
                let cut = self.rng.below(2) == 0;
                self.kill(proc, cut);
            }
        }
        Ok(())
    }

    /// `replicate`: the driver had a key copied and says so.
    fn copy_something(&mut self, worker: WorkerId) -> Result<(), String> {
        let proc = self.registered[&worker];
        let keys: Vec<Key> = self.procs.iter().filter(|proc| proc.alive).flat_map(|proc| proc.node.held()).collect();
        // What the worker said before (that it let the key go) would arrive after the driver's news: neither stock nor
        // rask can tell such news from later ones.
        let silent = self.procs[proc].up_last < self.now;
        if keys.is_empty() || !self.procs[proc].alive || !silent {
            return Ok(());
        }
        let key = keys[self.rng.below(keys.len())].clone();
        if self.truths.get(&key).is_some_and(|truth| truth.actor) {
            return Ok(());
        }
        self.put(proc, &key)?;
        if self.procs[proc].node.has(&key) {
            self.step(Event::AddReplicas { worker, keys: vec![key] })?;
        }
        Ok(())
    }

    /// Faults stop: every place has its worker again, every worker runs.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.faults = false;
        self.lag_us = 2 * MS;
        for slot in 0..self.slots.len() {
            self.slots[slot].enabled = true;
            self.push(0, Thing::Boot(slot));
        }
        for proc in 0..self.procs.len() {
            self.procs[proc].mute_until = rask::base::Now(0);
            if self.procs[proc].status == WorkerStatus::Paused {
                self.push(0, Thing::Resume(proc));
            }
        }
        Ok(())
    }

    /// Everyone goes, and takes along what is shared.
    pub(super) fn everyone_leaves(&mut self) -> Result<(), String> {
        for client in 0..self.clients.len() {
            if self.clients[client].alive {
                self.drop_client(client);
            }
        }
        for at in 0..2 {
            let requests = [
                CoordRequest::VariableDelete { name: Key::text(&format!("v{at}")) },
                CoordRequest::QueueRelease { name: Key::text(&format!("q{at}")) },
            ];
            for request in requests.into_iter().cycle().take(80) {
                let call = self.call(None, Call::Other);
                self.push(1, Thing::Driver(Event::Coord { call, client: None, request }));
            }
        }
        Ok(())
    }
}
