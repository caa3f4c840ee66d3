//! Effects of the scheduler become later things; none may name what is unknown.

use rask::base::{CallId, Key, Value};
use rask::sched::coord::CoordRequest;
use rask::sched::{Answer, Effect, Event, Located, ToClient, ToWorker};

use super::{Call, Thing, World};
use crate::sim::client::{Belief, Send};

impl World<'_> {
    pub(super) fn carry_out(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::ToWorker { worker, message } => {
                let Some(&proc) = self.registered.get(&worker) else {
                    return Err(format!("a message for {worker:?}, which is not registered: {message:?}"));
                };
                self.check_message(&message)?;
                self.push_down(proc, Thing::Down(proc, message));
            }
            Effect::ToClient { client, message } => {
                if let Some(at) = self.clients.iter().position(|one| one.id == Some(client)) {
                    self.push_tell(at, message);
                } else if self.sched.client_name(client).is_none() {
                    return Err(format!("a message for {client:?}, which is unknown: {message:?}"));
                }
            }
            Effect::ToAllClients { message } => {
                for at in 0..self.clients.len() {
                    if self.clients[at].id.is_some() {
                        self.push_tell(at, message.clone());
                    }
                }
            }
            Effect::Answer { call, answer } => self.take_answer(call, answer)?,
            Effect::ReadGraph { ticket } => {
                if !self.readings.contains_key(&ticket) {
                    return Err(format!("the graph {ticket} to be read is unknown"));
                }
                let delay = [50, 10_000, 500_000][self.rng.below(3)] + self.lag();
                self.push(delay, Thing::Part(ticket));
            }
            Effect::GraphClosed { ticket } => {
                let Some(reading) = self.readings.remove(&ticket) else {
                    return Err(format!("the graph {ticket} was closed but is not open"));
                };
                if self.clients[reading.client].open_graph == Some(ticket) {
                    self.clients[reading.client].open_graph = None;
                    self.push(0, Thing::Pump(reading.client));
                }
            }
            Effect::WorkerAdded { worker } => {
                if !self.registered.contains_key(&worker) {
                    return Err(format!("{worker:?} was added without an answer to its registration"));
                }
            }
            Effect::WorkerRemoved { worker, .. } => {
                let Some(proc) = self.registered.remove(&worker) else {
                    return Err(format!("{worker:?} was removed but is not registered"));
                };
                self.push_down(proc, Thing::EofDown(proc));
            }
            Effect::WorkerSilent { worker } => {
                let Some(&proc) = self.registered.get(&worker) else {
                    return Err(format!("{worker:?} is silent but not registered"));
                };
                self.kill(proc, true);
            }
            Effect::Retired { worker, moved } => {
                self.report.retired += 1;
                let event = if moved {
                    Event::RemoveWorker { worker, expected: true, close: true, reason: "retired".into() }
                } else {
                    Event::RetireAborted { worker }
                };
                self.push(0, Thing::Driver(event));
            }
            Effect::Log { .. } | Effect::Warn { .. } | Effect::IdleTimeout => {}
        }
        Ok(())
    }

    fn push_tell(&mut self, client: usize, message: ToClient) {
        let at = self.clients[client].down_last.max(self.now.plus_us(self.rng_lag()));
        self.clients[client].down_last = at;
        self.push_at(at, Thing::Tell(client, message));
    }

    fn check_message(&mut self, message: &ToWorker) -> Result<(), String> {
        let (keys, located): (Vec<&Key>, Option<&Located>) = match message {
            ToWorker::Compute(compute) => {
                self.report.computes += 1;
                (vec![&compute.key], Some(&compute.inputs))
            }
            ToWorker::FreeKeys { keys } | ToWorker::RemoveReplicas { keys } => (keys.iter().collect(), None),
            ToWorker::AcquireReplicas { data } => (Vec::new(), Some(data)),
            ToWorker::StealRequest { key, .. } => {
                self.report.steals += 1;
                (vec![key], None)
            }
            ToWorker::RefreshWhoHas { data } => {
                for (key, _, holders) in data.iter() {
                    self.check_holders(key, holders)?;
                }
                return Ok(());
            }
            ToWorker::RemoveWorker { .. }
            | ToWorker::Status { .. }
            | ToWorker::Close { .. }
            | ToWorker::ShuffleFail { .. } => return Ok(()),
        };
        if let Some(key) = keys.iter().find(|key| !self.truths.contains_key(**key)) {
            return Err(format!("a message names {key}, which nobody ever made: {message:?}"));
        }
        for (key, _, holders) in located.into_iter().flat_map(Located::iter) {
            if holders.is_empty() {
                return Err(format!("nobody holds {key}: {message:?}"));
            }
            self.check_holders(key, holders)?;
        }
        Ok(())
    }

    fn check_holders(&self, key: &Key, holders: &[rask::base::Text]) -> Result<(), String> {
        let known = |address: &rask::base::Text| {
            self.registered.values().any(|&proc| self.procs[proc].node.address == *address)
        };
        match holders.iter().find(|address| !known(address)) {
            Some(address) => Err(format!("{key} is said to be at {address}, which is not registered")),
            None => Ok(()),
        }
    }

    fn take_answer(&mut self, call: CallId, answer: Answer) -> Result<(), String> {
        let Some((client, about)) = self.calls.remove(&call) else {
            return Err(format!("call {call} was answered twice, or never made: {answer:?}"));
        };
        match (about, answer) {
            (Call::Worker(proc), Answer::Worker(worker)) => {
                self.procs[proc].worker = Some(worker);
                self.registered.insert(worker, proc);
                if !self.procs[proc].alive {
                    self.push_up(proc, Thing::EofUp(proc));
                }
                let delay = self.lag() + [0, 100_000, 1_000_000][self.rng.below(3)];
                self.push(delay, Thing::Serving(proc));
            }
            (Call::Worker(proc), Answer::Refused(_)) => self.kill(proc, true),
            (Call::Worker(_), answer) => return Err(format!("a registration was answered with {answer:?}")),
            (Call::VariableGet(variable), Answer::Value(record)) => {
                let client = client.unwrap_or_default();
                let name = Key::text(&format!("v{variable}"));
                if let (Some(key), Some(token)) = (self.receive(client, &record), record.get("token")) {
                    let token = token.as_str().unwrap_or_default().into();
                    self.push_stream(client, Send::Coord(CoordRequest::VariableConfirm { name, key, token }));
                }
            }
            (Call::QueueGet(queue), Answer::Value(record)) => {
                let client = client.unwrap_or_default();
                let name = Key::text(&format!("q{queue}"));
                if let Some(key) = self.receive(client, &record) {
                    self.push_stream(client, Send::Coord(CoordRequest::QueueFutureRelease { name, key }));
                }
            }
            (Call::Retry | Call::Other | Call::VariableGet(_) | Call::QueueGet(_), _) => {}
        }
        Ok(())
    }

    /// A client gets a future from a queue or variable.
    fn receive(&mut self, client: usize, record: &Value) -> Option<Key> {
        let key = record.get("value").filter(|_| record.get("state").is_some())?.as_key()?;
        let belief = match record.get("state")?.as_str()? {
            "memory" => Belief::Finished,
            "erred" => Belief::Erred,
            "lost" => {
                return Some(key);
            }
            _ => Belief::Pending,
        };
        if self.clients.get(client).is_some_and(|client| client.alive) {
            self.clients[client].futures.insert(key.clone(), belief);
            self.excused.insert(key.clone());
        }
        Some(key)
    }
}
