//! Carries out what the scheduler wants, one effect at a time, in order.

use tracing::{debug, info};

use crate::base::{CallId, ClientId, Failure, Text, Value, WorkerId};
use crate::cluster::codec::{put_to_client, put_to_worker};
use crate::cluster::ops::{coord, restart, shuffle};
use crate::cluster::state::{Driver, Outcome, Waiting};
use crate::sched::{Answer, Effect, ToClient, ToWorker};

impl Driver {
    /// Carries out one effect. What it leads to is queued behind the effects that are still to come.
    pub fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::ToWorker { worker, message } => self.say_to_worker(worker, &message),
            Effect::ToClient { client, message } => self.say_to_client(client, &message),
            Effect::ToAllClients { message } => {
                let everyone: Vec<ClientId> = self.clients.keys().copied().collect();
                for client in everyone {
                    self.say_to_client(client, &message);
                }
            }
            Effect::Answer { call, answer } => self.on_answer(call, answer),
            Effect::ReadGraph { ticket } => self.read_graph(ticket),
            Effect::GraphClosed { ticket } => self.on_graph_closed(ticket),
            Effect::WorkerAdded { worker } => self.on_worker_added(worker),
            Effect::WorkerRemoved { worker, address, expected } => self.on_worker_removed(worker, &address, expected),
            Effect::WorkerSilent { worker } => restart::restart_silent(self, worker),
            Effect::Retired { worker, moved } => {
                for waiter in self.retiring.remove(&worker).unwrap_or_default() {
                    // The job may have been dropped; then the worker is left as it is.
                    let _ = waiter.send(moved);
                }
            }
            Effect::Log { topics, message } => self.log_event(&topics, &message),
            Effect::Warn { text } => self.warn(text),
            Effect::IdleTimeout => {
                info!("closing after being idle for longer than the idle timeout");
                self.close_because("idle-timeout-exceeded");
            }
        }
    }

    fn say_to_worker(&mut self, worker: WorkerId, message: &ToWorker) {
        let stimulus = self.stimulus;
        if let Some(outbox) = self.worker_outbox(worker) {
            outbox.push(|encoder| put_to_worker(encoder, message, stimulus));
        }
    }

    fn say_to_client(&mut self, client: ClientId, message: &ToClient) {
        if let ToClient::KeyInMemory { key, type_pickle: Some(_) } = message {
            self.note_reported(client, key);
        }
        if let Some(outbox) = self.client_outbox(client) {
            outbox.push(|encoder| put_to_client(encoder, message));
        }
    }

    fn on_answer(&mut self, call: CallId, answer: Answer) {
        match self.close_call(call) {
            None => debug!(call, "an answer that nobody waits for any more"),
            Some(Waiting::Asker(asker)) => self.finish(asker, plain(answer)),
            Some(Waiting::Elements(asker)) => coord::on_elements(self, asker, answer),
            Some(Waiting::Shuffle(asker, barrier)) => shuffle::on_answer(self, asker, barrier, answer),
            Some(Waiting::Registration(joining)) => self.on_registered(*joining, answer),
        }
    }
}

/// The answer as most requests give it to their caller.
pub fn plain(answer: Answer) -> Outcome {
    match answer {
        Answer::Value(value) => Ok(value),
        Answer::Keys(keys) => Ok(Value::Array(keys.iter().map(crate::base::Key::to_value).collect())),
        Answer::Refused(why) => Err(crate::cluster::codec::raise("ValueError", why)),
        Answer::Participants(addresses) => Ok(Value::Array(addresses.into_iter().map(Value::Str).collect())),
        Answer::Error(error) => Err(Failure::Raised(error)),
        Answer::Worker(_) | Answer::Shuffle(_) => Ok(Value::Nil),
    }
}

/// A list of texts as a value.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a Text>) -> Value {
    Value::Array(texts.into_iter().cloned().map(Value::Str).collect())
}
