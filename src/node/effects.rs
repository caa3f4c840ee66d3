//! Carries out what the state machine decides.

use super::driver::{Driver, HandedRun};
use super::fetch;
use super::translate::{Details, executor_of, phase_name, put_message, target_name};
use crate::base::{Key, RunId};
use crate::executor::{RunOrder, RunResult, ToControl, ToPorter};
use crate::wire::Encoder;
use crate::worker_state::{WorkerEffect, WorkerEvent, WorkerMessage};

/// `object`, pickled: the class of a value of which nothing else is known.
const OBJECT: &[u8] = b"\x80\x04\x8c\x08builtins\x8c\x06object\x93.";

impl Driver {
    /// Tells the machine, and does what it wants done.
    pub(super) fn step(&mut self, event: WorkerEvent) {
        for effect in self.step_machine(event) {
            match effect {
                WorkerEffect::ToScheduler(message) => self.tell_scheduler(&message),
                WorkerEffect::Push { slot, key, run, inputs, answers_first } => {
                    inputs.iter().for_each(|key| self.store.touch(key));
                    self.push(slot, key, run, inputs, answers_first);
                }
                WorkerEffect::Recall { slot } => self.executor.port(&ToPorter::Recall { slot }),
                WorkerEffect::Fetch { peer, keys, .. } => {
                    self.traffic.incoming_total = self.traffic.incoming_total.saturating_add(1);
                    fetch::start(self, peer, keys);
                }
                WorkerEffect::Drop { key } => self.forget(key),
                WorkerEffect::Forgotten { key } => drop(self.specs.remove(&key)),
                WorkerEffect::Transition { key, start, finish } => {
                    let (start, finish) = (phase_name(start), target_name(finish));
                    self.executor.tell(&ToControl::Transition { key: &key, start, finish });
                }
                WorkerEffect::Close { reason } => self.break_down(reason.to_string()),
            }
        }
    }

    /// The value is gone, wherever it is.
    pub(super) fn forget(&mut self, key: Key) {
        if self.store.remove(&key) {
            self.drops.push(key);
        }
    }

    fn push(&mut self, slot: u32, key: Key, run: RunId, inputs: Vec<Key>, answers_first: bool) {
        self.flush_drops();
        let stamp = self.next_stamp();
        let (Some(spec), Some(batch)) = (self.specs.get(&key), self.batches.get_mut(slot as usize)) else {
            return self.break_down(format!("there is nothing to run for {key}"));
        };
        let order = RunOrder {
            stamp,
            key: &key,
            spec: &spec.payload,
            span: spec.span.as_ref(),
            executor: executor_of(&spec.annotations),
            actor: spec.actor,
            answers_first,
            annotations: &spec.annotations,
        };
        order.put(batch);
        self.runs.insert(stamp, HandedRun { key, run, slot, inputs, since: self.clock.now() });
    }

    fn tell_scheduler(&mut self, message: &WorkerMessage) {
        let is_error = |key: &Key| self.store.get(key).is_some_and(|value| value.is_error);
        if matches!(message, WorkerMessage::AddKeys { keys } if keys.iter().all(is_error)) {
            return;
        }
        let details = self.details(message);
        let number = self.next_number();
        self.stream.push(|out: &mut Encoder| put_message(out, message, &details, number));
        if let WorkerMessage::Finished { key, .. } = message {
            self.specs.remove(key);
        }
    }

    fn details(&mut self, message: &WorkerMessage) -> Details {
        let offset = self.clock_offset;
        match message {
            WorkerMessage::Finished { key, .. } => {
                match self.store.get(key).and_then(|value| value.made.as_ref()) {
                    Some(made) => Details {
                        kind: made.kind.clone(),
                        typename: made.typename.clone(),
                        thread: made.thread,
                        ran: Some((made.start + offset, made.stop + offset)),
                        ..Details::default()
                    },
                    // It came from a peer or a client.
                    None => Details { kind: OBJECT.into(), typename: "object".into(), ..Details::default() },
                }
            }
            WorkerMessage::Erred { .. } => match self.failed.take() {
                Some(end) => {
                    let RunResult::Failure { exception, traceback, exception_text, traceback_text } = end.result else {
                        return Details::default();
                    };
                    let ran = Some((end.start + offset, end.stop + offset));
                    let thread = end.thread;
                    Details { exception, traceback, exception_text, traceback_text, thread, ran, ..Details::default() }
                }
                None => Details::default(),
            },
            WorkerMessage::ReleaseData { .. }
            | WorkerMessage::AddKeys { .. }
            | WorkerMessage::Reschedule { .. }
            | WorkerMessage::LongRunning { .. }
            | WorkerMessage::StealResponse { .. }
            | WorkerMessage::RefreshWhoHas { .. } => Details::default(),
        }
    }
}
