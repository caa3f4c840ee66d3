//! What the executor says: ends of runs, answers of the facade, questions.

use super::driver::{Driver, NodeStatus};
use super::input::ForPeer;
use super::plan::WorkerEnd;
use super::store::{HeldValue, Made};
use super::translate::{phase_name, target_name};
use crate::base::{Key, Value};
use crate::executor::{FacadeNews, FromExecutor, Inquiry, RunEnd, RunResult, SlotNews};
use crate::values::Payload;
use crate::wire::Message;
use crate::worker_state::{Outcome, TaskPhase, WorkerEvent, WorkerStoryLine};

impl Driver {
    pub(super) fn on_executor(&mut self, news: FromExecutor) {
        match news {
            FromExecutor::Slot { slot, news } => news.into_iter().for_each(|one| self.on_slot(slot, one)),
            FromExecutor::Exported { number, values } => self.on_exported(number, values),
            FromExecutor::Spilled { number, outcomes } => self.on_spilled(number, outcomes),
            FromExecutor::Facade(news) => self.on_control(news),
            FromExecutor::Inquiry(Inquiry::Frames { keys, in_files }) => self.lend(&keys, in_files),
            FromExecutor::Inquiry(inquiry) => {
                let answer = self.answer_to(inquiry);
                self.executor.answer(answer);
            }
            FromExecutor::Malformed { what, error } => {
                self.break_down(format!("its executor sent {what} that cannot be read: {error}"));
            }
            FromExecutor::Ended { how } => {
                let culprits = self.running_keys();
                self.break_down(format!("its Python process ended: {how}; it was running {culprits}"));
            }
        }
    }

    /// For people.
    fn running_keys(&self) -> String {
        let runs = self.runs.values().filter(|run| {
            let phase = self.machine.phase_of(&run.key);
            !matches!(phase, None | Some(TaskPhase::Pushed))
        });
        let names: Vec<String> = runs.take(10).map(|run| run.key.to_string()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }

    fn on_slot(&mut self, slot: u32, news: SlotNews) {
        match news {
            SlotNews::Ended(end) => self.on_ended(*end),
            SlotNews::Seceded { stamp, secs } => {
                if let Some(run) = self.runs.get(&stamp).cloned() {
                    self.step(WorkerEvent::Seceded { key: run.key, run: run.run, compute_secs: secs.max(0.0) });
                }
            }
            SlotNews::Rejoined { stamp } => {
                if let Some(run) = self.runs.get_mut(&stamp) {
                    run.slot = slot;
                    let key = run.key.clone();
                    self.step(WorkerEvent::Rejoined { key, slot });
                }
            }
            SlotNews::Recalled { stamps } => {
                let keys = stamps.iter().filter_map(|stamp| self.runs.remove(stamp)).map(|run| run.key).collect();
                self.step(WorkerEvent::Recalled { slot, keys });
            }
        }
    }

    fn on_ended(&mut self, end: RunEnd) {
        // A number that was not given out, or twice: user code wrote into our sockets.
        let Some(handed) = self.runs.remove(&end.stamp) else {
            return self.break_down("its executor told of a run that it does not have".to_owned());
        };
        let (key, run) = (handed.key, handed.run);
        let outcome = match end.result {
            RunResult::Success { size_bytes, kind, typename, value } => {
                let payload = value.map(Payload::Here);
                let stays = self.specs.get(&key).is_some_and(|spec| spec.actor);
                let made = Made { kind, typename, thread: end.thread, start: end.start, stop: end.stop };
                self.store.put(
                    key.clone(),
                    HeldValue { payload, in_executor: true, made: Some(made), stays, ..HeldValue::default() },
                );
                let duration_us = ((end.stop - end.start).max(0.0) * 1e6) as u64;
                Outcome::Success { size_bytes, duration_us }
            }
            RunResult::Failure { .. } => {
                self.failed = Some(end);
                Outcome::Failure
            }
            RunResult::Reschedule => Outcome::Reschedule,
        };
        let is_value = matches!(outcome, Outcome::Success { .. });
        self.step(WorkerEvent::Ended { key: key.clone(), run, outcome });
        self.failed = None;
        // Nobody wanted it any more.
        if is_value && self.machine.phase_of(&key) != Some(TaskPhase::Memory) {
            self.forget(key);
        }
    }

    fn on_control(&mut self, news: FacadeNews) {
        match news {
            // That was for whoever started the worker.
            FacadeNews::Ready { .. } | FacadeNews::Unfit { .. } => {}
            FacadeNews::Plugged => {
                tracing::info!(worker = %self.address, threads = self.nthreads, "registered");
                self.turn_to(NodeStatus::Running);
            }
            FacadeNews::Answer { connection, message } => self.tell_peer(connection, ForPeer::Message(message)),
            FacadeNews::Hangup { connection } => self.tell_peer(connection, ForPeer::Hangup),
            FacadeNews::Send(message) => self.pass_up(&message),
            FacadeNews::Nudge => self.executor.nudge(),
            FacadeNews::Resources(totals) => self.step(WorkerEvent::Resources { totals }),
            FacadeNews::Subscribed(wanted) => self.step(WorkerEvent::Subscribed { wanted }),
            FacadeNews::Metrics { number, told } => self.on_metrics(number, &told),
            FacadeNews::Limits(told) => self.set_limits(&told),
            FacadeNews::Status(name) => {
                if let Some(status) = NodeStatus::from_name(&name) {
                    self.turn_to(status);
                }
            }
            FacadeNews::Close { reason, restart: false } => self.close(reason),
            FacadeNews::Close { reason, restart: true } => self.end_as(WorkerEnd::Restart { reason }),
        }
    }

    fn tell_peer(&self, connection: u64, word: ForPeer) {
        if let Some(back) = self.relays.get(&connection) {
            let _gone = back.send(word);
        }
    }

    /// A message of the facade or a plugin, up the stream. Payloads in it stay closed.
    fn pass_up(&mut self, message: &Message) {
        match message.to_value(&crate::base::Limits::default()) {
            Ok(value @ Value::Map(_)) => self.stream.push(|out| out.put_value(&value)),
            Ok(_) => tracing::warn!("a plugin of this worker sent something to the scheduler that is no message"),
            Err(error) => self.break_down(format!("its executor sent a message that cannot be read: {error}")),
        }
    }

    /// Values that came to be in the executor without a run: scattered in a task, gathered for the scheduler.
    fn on_held(&mut self, values: Vec<(Key, u64)>) {
        for (key, _) in &values {
            self.store.put(key.clone(), HeldValue { in_executor: true, ..HeldValue::default() });
        }
        self.step(WorkerEvent::Scattered { values });
    }

    /// Pauses, goes on, or closes gracefully, as was asked by whomever. Source: `distributed/worker.py`, `status`.
    pub(super) fn turn_to(&mut self, status: NodeStatus) {
        self.set_status(status);
        self.step(WorkerEvent::SetRunning { running: status == NodeStatus::Running });
    }

    /// Values for the executor, which has them as objects afterwards.
    fn lend(&mut self, keys: &[Key], in_files: bool) {
        let stamp = self.next_stamp();
        let in_memory = |payload: Payload| match payload {
            Payload::Filed(filed) if !in_files => filed.read().map(|payload| Payload::Here(payload.into())).ok(),
            payload => Some(payload),
        };
        let values = keys.iter().map(|key| self.store.lend(key).and_then(in_memory)).collect();
        let lost = self.executor.answer_values(stamp, values);
        self.lose(lost.into_iter().filter_map(|at| keys.get(at).cloned()).collect());
    }

    fn answer_to(&mut self, inquiry: Inquiry) -> Message {
        match inquiry {
            // It is answered with descriptors.
            Inquiry::Frames { .. } => Message::from_value(&Value::Nil),
            Inquiry::Lost(keys) => {
                self.lose(keys);
                Message::from_value(&Value::Nil)
            }
            Inquiry::Has(key) => Message::from_value(&self.store.get(&key).is_some().into()),
            Inquiry::Keys => {
                let keys = self.store.keys().map(Key::to_value).collect();
                Message::from_value(&Value::Array(keys))
            }
            Inquiry::Tasks => {
                let tasks = self.machine.phases().map(|(key, phase)| {
                    let size = self.machine.size_bytes_of(key);
                    Value::Array(vec![key.to_value(), phase_name(phase).into(), size.into()])
                });
                Message::from_value(&Value::Array(tasks.collect()))
            }
            Inquiry::Log => Message::from_value(&self.log()),
            Inquiry::Held(values) => {
                self.on_held(values);
                Message::from_value(&Value::Nil)
            }
            // Its nanny's business.
            Inquiry::Environ { .. } | Inquiry::Worker => Message::from_value(&Value::Nil),
            Inquiry::Number(name) => {
                let number = match &*name {
                    "nbytes" => self.machine.held_bytes(),
                    "executing" => u64::from(self.count(TaskPhase::Executing)),
                    _ => 0,
                };
                Message::from_value(&number.into())
            }
        }
    }

    /// The last moves of tasks.
    fn log(&self) -> Value {
        let (wall, now) = (self.clock.wall(), self.clock.now());
        let line = |(key, line): &(Key, WorkerStoryLine)| {
            let (start, target) = (phase_name(line.start), target_name(line.target));
            let at = wall - now.secs_since(line.at);
            Value::Array(vec![key.to_value(), start.into(), target.into(), at.into()])
        };
        Value::Array(self.machine.story().map(line).collect())
    }

    pub(super) fn count(&self, phase: TaskPhase) -> u32 {
        self.machine.task_counts().find(|(other, _)| *other == phase).map_or(0, |(_, count)| count)
    }
}
