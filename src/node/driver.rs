//! A worker: everything that is one Dask worker but its Python, and the small things that all its parts need.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::beat::Beats;
use super::input::{ForPeer, Inbox};
use super::moving::Spilling;
use super::plan::WorkerEnd;
use super::store::Store;
use super::translate::put_op;
use crate::base::{Key, Now, Opaque, Text, Value};
use crate::clock::Clock;
use crate::executor::{Executor, RunEnd, ToControl, ToPorter};
use crate::net::{Outbox, Pool};
use crate::values::Payload;
use crate::wire::MessageBatch;
use crate::worker_state::{WorkerEffect, WorkerEvent, WorkerMachine};

/// What Dask's configuration says, as far as it is the node's business.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Most transfers from this worker at once; 0: no limit. `distributed.worker.connections.incoming`.
    pub(super) outgoing_max: u32,
    /// Shares of the memory limit: what values may take, when they are moved to the disk, when nothing more is started,
    /// and when the executor is ended; 0: never.
    pub(super) target: f64,
    pub(super) spill: f64,
    pub(super) pause: f64,
    pub(super) terminate: f64,
    /// Most that values may take of the disk. Unit: bytes.
    pub(super) spill_max: u64,
}

impl Settings {
    /// What the facade tells of it.
    pub(super) fn of(told: &Value) -> Self {
        let share = |name: &str| told.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let number = |name: &str| told.get(name).and_then(Value::as_i64);
        Self {
            outgoing_max: number("incoming").and_then(|most| u32::try_from(most).ok()).unwrap_or(10),
            target: share("target"),
            spill: share("spill"),
            pause: share("pause"),
            terminate: share("terminate"),
            spill_max: number("max_spill").and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX),
        }
    }
}

/// How a task is run.
#[derive(Debug)]
pub(super) struct TaskSpec {
    pub(super) payload: Arc<Opaque>,
    pub(super) span: Option<Text>,
    pub(super) annotations: Value,
    pub(super) actor: bool,
}

/// A run that the executor has.
#[derive(Clone, Debug)]
pub(super) struct HandedRun {
    pub(super) key: Key,
    pub(super) run: i64,
    pub(super) slot: u32,
    /// What it reads.
    pub(super) inputs: Vec<Key>,
    /// Since when. It may have waited behind others.
    pub(super) since: Now,
}

/// A worker's state, by Dask's names. Source: `distributed/core.py`, `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeStatus {
    Running,
    Paused,
    ClosingGracefully,
    Closing,
}

impl NodeStatus {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ClosingGracefully => "closing_gracefully",
            Self::Closing => "closing",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Running, Self::Paused, Self::ClosingGracefully, Self::Closing].into_iter().find(|s| s.name() == name)
    }
}

/// Transfers between workers. Unit of sizes: bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) incoming_total: u64,
    pub(super) outgoing: u32,
    pub(super) outgoing_bytes: u64,
    pub(super) outgoing_total: u64,
}

/// One worker.
pub(super) struct Driver {
    pub(super) address: Text,
    pub(super) scheduler: Text,
    /// Its folder for files.
    pub(super) folder: Arc<Path>,
    pub(super) nthreads: u32,
    pub(super) memory_limit: Option<u64>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    /// What to add to our clock for the scheduler's. Unit: seconds.
    pub(super) clock_offset: f64,

    pub(super) machine: WorkerMachine,
    pub(super) status: NodeStatus,
    pub(super) store: Store,
    pub(super) specs: HashMap<Key, TaskSpec>,
    pub(super) runs: HashMap<u64, HandedRun>,
    /// The youngest order to the executor.
    pub(super) stamp: u64,
    /// The failed run that is being told of.
    pub(super) failed: Option<RunEnd>,

    pub(super) executor: Executor,
    pub(super) stream: Outbox,
    pub(super) pool: Pool,
    pub(super) inbox: Inbox,
    /// Runs for each slot, and values to forget, of this turn.
    pub(super) batches: Vec<MessageBatch>,
    pub(super) drops: Vec<Key>,
    /// Values that came as errors, and are not gone yet.
    pub(super) errors: Vec<Key>,
    /// Orders to serialise values, each with its keys and what tells their values apart.
    pub(super) exports: HashMap<u64, Vec<(Key, u64)>>,
    /// Who waits for a value that is being serialised.
    pub(super) export_waiters: HashMap<Key, Vec<oneshot::Sender<Option<Payload>>>>,
    pub(super) relays: HashMap<u64, mpsc::UnboundedSender<ForPeer>>,
    pub(super) spilling: Spilling,
    pub(super) traffic: Traffic,
    pub(super) heartbeat: Beats,
    /// Names steps and requests.
    pub(super) number: u64,
    pub(super) end: Option<WorkerEnd>,
}

impl Driver {
    /// User code sets other limits of memory. `told`: by the names of [`Settings::of`], and `memory_limit`.
    pub(super) fn set_limits(&mut self, told: &Value) {
        let limit = told.get("memory_limit").and_then(Value::as_i64).and_then(|limit| u64::try_from(limit).ok());
        self.memory_limit = limit.filter(|limit| *limit > 0);
        let Settings { outgoing_max, terminate, .. } = self.settings;
        self.settings = Settings { outgoing_max, terminate, ..Settings::of(told) };
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// A younger order to the executor than all before.
    pub(super) fn next_stamp(&mut self) -> u64 {
        self.stamp = self.stamp.saturating_add(1);
        self.stamp
    }

    /// Tells the machine. The effects that come of it must be carried out before the next event.
    pub(super) fn step_machine(&mut self, event: WorkerEvent) -> Vec<WorkerEffect> {
        let mut effects = Vec::new();
        self.machine.step(self.clock.now(), event, &mut effects);
        effects
    }

    /// Says something on the stream.
    pub(super) fn say(&mut self, op: &str, fields: &[(&str, Value)]) {
        let number = self.next_number();
        self.stream.push(|out| {
            put_op(out, op, fields.len().saturating_add(2), number);
            for (name, value) in fields {
                out.put_str(name);
                out.put_value(value);
            }
        });
    }

    /// `log-event`, which has no stimulus.
    pub(super) fn log_event(&self, topic: &str, msg: &Value) {
        self.stream.push(|out| {
            out.put_map(3);
            for (name, value) in [("op", &"log-event".into()), ("topic", &topic.into()), ("msg", msg)] {
                out.put_str(name);
                out.put_value(value);
            }
        });
    }

    /// Tells everybody of the state.
    pub(super) fn set_status(&mut self, status: NodeStatus) {
        self.status = status;
        self.say("worker-status-change", &[("status", status.name().into())]);
        self.executor.tell(&ToControl::Status(status.name()));
    }

    /// Sends what this turn gathered.
    pub(super) fn flush(&mut self) {
        self.drop_errors();
        self.flush_drops();
        for (slot, batch) in self.batches.iter_mut().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            self.executor.hand(slot, batch.finish());
        }
        self.stream.kick();
    }

    /// Values that came as errors go with the tasks that failed for them: whoever is to read them next asks again.
    fn drop_errors(&mut self) {
        let errors = std::mem::take(&mut self.errors);
        let (kept, gone): (Vec<Key>, Vec<Key>) = errors.into_iter().partition(|key| self.machine.is_read(key));
        self.errors = kept;
        if !gone.is_empty() {
            self.step(WorkerEvent::RemoveReplicas { keys: gone });
        }
    }

    /// Before a younger run of the same key is handed over, so that only the older value goes.
    pub(super) fn flush_drops(&mut self) {
        if !self.drops.is_empty() {
            let keys = std::mem::take(&mut self.drops);
            self.executor.port(&ToPorter::Drop { keys: &keys, upto: self.stamp });
        }
    }

    /// The executor, or whoever is in it, must go; another worker may take this one's place.
    pub(super) fn break_down(&mut self, reason: String) {
        self.end.get_or_insert(WorkerEnd::Broken { reason });
    }

    pub(super) fn close(&mut self, reason: impl Into<Text>) {
        self.end_as(WorkerEnd::Closed { reason: reason.into() });
    }

    /// The first end counts.
    pub(super) fn end_as(&mut self, end: WorkerEnd) {
        self.end.get_or_insert(end);
    }
}
