//! What happens by the clock: heartbeats, the machine's own deadlines, limits of memory.
//!
//! Source: `distributed/worker.py`, `get_metrics`, `heartbeat`; `distributed/worker_memory.py`.

use std::time::Duration;

use super::beat::KEEP_ALIVE_US;
use super::driver::{Driver, NodeStatus};
use super::input::NodeInput;
use crate::base::{Limits, Now, Value};
use crate::executor::{ToControl, ToPorter};
use crate::host::{ProcessUsage, Usage};
use crate::net::NetError;
use crate::wire::Message;
use crate::worker_state::{TaskPhase, WorkerEvent};

/// The facade has this long to tell what it measured; later news goes with the next heartbeat. Unit: microseconds.
const FACADE_US: u64 = 200_000;
/// Between two looks at the memory. Setting in Dask: `distributed.worker.memory.monitor-interval`. Unit: microseconds.
const MEMORY_EVERY_US: u64 = 100_000;
/// While a worker is paused for want of memory, its executor is asked this often to give back what it does not use: the
/// values may be gone long since, and the C library or circles of objects hold on to their memory. Unit: microseconds.
const TRIM_EVERY_US: u64 = 2_000_000;
/// A scheduler that does not answer a heartbeat for this long: the next one is tried.
const ANSWER: Duration = Duration::from_secs(60);
/// What Dask assumes before it has measured: `distributed.scheduler.bandwidth`. Unit: bytes per second.
const BANDWIDTH: i64 = 100_000_000;

impl Driver {
    /// When to call [`Driver::on_time`] at the latest.
    pub(super) fn next_wake(&self) -> Now {
        let beat = &self.heartbeat;
        let asked = beat.asked.map(|(_, until)| until);
        let machine = self.machine.next_deadline();
        let due = [beat.due, beat.memory_due, beat.keep_alive_due];
        due.into_iter().chain(asked).chain(machine).min().unwrap_or(beat.due)
    }

    pub(super) fn on_time(&mut self) {
        let now = self.clock.now();
        if self.machine.next_deadline().is_some_and(|due| due <= now) {
            self.step(WorkerEvent::Tick);
        }
        if self.heartbeat.memory_due <= now || self.has_grown() {
            self.heartbeat.memory_due = now.plus_us(MEMORY_EVERY_US);
            self.watch_memory();
        }
        if self.heartbeat.keep_alive_due <= now {
            self.heartbeat.keep_alive_due = now.plus_us(KEEP_ALIVE_US);
            self.say("keep-alive", &[]);
        }
        if self.heartbeat.asked.is_some_and(|(_, until)| until <= now) {
            self.beat(None);
        }
        if self.heartbeat.due <= now {
            self.heartbeat.due = now.plus_us(self.heartbeat.every_us);
            if !self.heartbeat.in_flight && self.heartbeat.asked.is_none() {
                let number = self.next_number();
                self.heartbeat.asked = Some((number, now.plus_us(FACADE_US)));
                self.executor.tell(&ToControl::Metrics { number });
            }
        }
    }

    /// The facade tells what was measured in it.
    pub(super) fn on_metrics(&mut self, number: u64, told: &Message) {
        if self.heartbeat.asked.is_some_and(|(asked, _)| asked == number) {
            self.beat(told.to_value(&Limits::default()).ok());
        }
    }

    fn beat(&mut self, told: Option<Value>) {
        self.heartbeat.asked = None;
        self.heartbeat.in_flight = true;
        let extensions = told.as_ref().and_then(|told| told.field("extensions")).cloned();
        let asked = self.clock.wall();
        let question = Value::map([
            ("op", "heartbeat_worker".into()),
            ("address", Value::Str(self.address.clone())),
            ("now", asked.into()),
            ("metrics", self.metrics(told.as_ref())),
            ("executing", self.executing()),
            ("extensions", extensions.unwrap_or_else(|| Value::Map(Vec::new()))),
            ("reply", true.into()),
        ]);
        let (pool, inbox, scheduler, clock) =
            (self.pool.clone(), self.inbox.clone(), self.scheduler.clone(), self.clock);
        tokio::spawn(async move {
            let answer = pool.call(&scheduler, Message::from_value(&question), ANSWER).await;
            let answer = answer.and_then(|answer| Ok(answer.to_value(&Limits::default())?));
            let _closed = inbox.send(NodeInput::Beat { answer, asked, answered: clock.wall() });
        });
    }

    pub(super) fn on_beat(&mut self, answer: Result<Value, NetError>, asked: f64, answered: f64) {
        self.heartbeat.in_flight = false;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return tracing::warn!(%error, "the scheduler did not answer a heartbeat"),
        };
        if answer.get("status").and_then(Value::as_str) == Some("missing") {
            return self.close("the scheduler does not know this worker any more");
        }
        if let Some(theirs) = answer.get("time").and_then(Value::as_f64) {
            self.clock_offset = theirs - f64::midpoint(asked, answered);
        }
        if let Some(secs) = answer.get("heartbeat-interval").and_then(Value::as_f64).filter(|secs| *secs > 0.0) {
            self.heartbeat.every_us = (secs * 1e6) as u64;
        }
    }

    fn executing(&self) -> Value {
        let now = self.clock.now();
        let runs = self.runs.values().filter(|run| {
            matches!(self.machine.phase_of(&run.key), Some(TaskPhase::Executing | TaskPhase::LongRunning))
        });
        Value::Map(runs.map(|run| (run.key.to_value(), now.secs_since(run.since).into())).collect())
    }

    /// Source: `distributed/worker.py`, `get_metrics`.
    pub(super) fn metrics(&mut self, told: Option<&Value>) -> Value {
        let field = |name: &str| told.and_then(|told| told.field(name)).cloned();
        let counts = self.machine.task_counts().filter(|(_, count)| *count > 0);
        let counts = counts.map(|(phase, count)| (super::translate::phase_name(phase).into(), i64::from(count).into()));
        let counts = Value::Map(counts.collect());
        let (incoming_bytes, incoming_count) = self.machine.incoming();
        let (traffic, held) = (self.traffic, self.store.totals());
        let empty = || Value::Map(Vec::new());
        let use_of = ProcessUsage::of(self.executor.pid).unwrap_or_default();
        let mut metrics = Value::map([
            ("task_counts", counts),
            ("bandwidth", Value::map([("total", BANDWIDTH.into()), ("workers", empty()), ("types", empty())])),
            ("digests_total_since_heartbeat", field("digests").unwrap_or_else(empty)),
            ("managed_bytes", self.machine.held_bytes().into()),
            ("spilled_bytes", Value::map([("memory", held.spilled_bytes.into()), ("disk", held.disk_bytes.into())])),
            (
                "transfer",
                Value::map([
                    ("incoming_bytes", incoming_bytes.into()),
                    ("incoming_count", i64::from(incoming_count).into()),
                    ("incoming_count_total", traffic.incoming_total.into()),
                    ("outgoing_bytes", traffic.outgoing_bytes.into()),
                    ("outgoing_count", i64::from(traffic.outgoing).into()),
                    ("outgoing_count_total", traffic.outgoing_total.into()),
                ]),
            ),
            ("event_loop_interval", field("interval").unwrap_or(Value::Float(0.02))),
            ("memory", self.memory_of(use_of.memory_bytes).into()),
            ("time", self.clock.wall().into()),
            ("num_fds", use_of.fds.into()),
        ]);
        let rates = self.rates(use_of.cpu_secs);
        if let (Value::Map(fields), Some(Value::Map(extra))) = (&mut metrics, field("extra")) {
            fields.extend(extra);
        }
        if let Value::Map(fields) = &mut metrics {
            fields.extend(rates.map(|(name, value)| (name.into(), value)));
        }
        metrics
    }

    /// What grew since the last heartbeat.
    fn rates(&mut self, cpu_secs: f64) -> [(&'static str, Value); 3] {
        let (now, host) = (self.clock.now(), Usage::look());
        let beat = &mut self.heartbeat;
        let secs = now.secs_since(beat.looked).max(0.001);
        let cpu = (cpu_secs - beat.cpu_secs).max(0.0) / secs * 100.0;
        let rate = |now: u64, then: u64| Value::Float(now.saturating_sub(then) as f64 / secs);
        let io = |read: Value, write: Value| Value::map([("read_bps", read), ("write_bps", write)]);
        let before = beat.host;
        let net = io(rate(host.net_read, before.net_read), rate(host.net_write, before.net_write));
        let disk = io(rate(host.disk_read, before.disk_read), rate(host.disk_write, before.disk_write));
        (beat.looked, beat.cpu_secs, beat.host) = (now, cpu_secs, host);
        [("cpu", cpu.into()), ("host_net_io", net), ("host_disk_io", disk)]
    }

    // ---- memory ----------------------------------------------------------------------------------------------------

    /// What counts as this worker's: its executor's, and what is held here for it. Unit: bytes.
    fn memory_of(&self, executor: u64) -> u64 {
        executor.saturating_add(self.store.totals().memory_bytes)
    }

    /// In the words of Dask's nanny. Source: `distributed/worker_memory.py`, `NannyMemoryManager`.
    fn terminate(&mut self, memory: u64) {
        let (pid, percent) = (self.executor.pid, (self.settings.terminate * 100.0).round());
        let event = Value::map([
            ("worker", Value::Str(self.address.clone())),
            ("pid", i64::from(pid).into()),
            ("rss", memory.into()),
        ]);
        self.log_event("worker-restart-memory", &event);
        let reason = format!("Worker {} (pid={pid}) exceeded {percent}% memory budget. Restarting...", self.address);
        tracing::warn!("{reason}");
        self.break_down(reason);
    }

    /// Pauses and goes on, or ends the executor. Source: `distributed/worker_memory.py`, `memory_monitor`.
    fn watch_memory(&mut self) {
        let (Some(limit), Some(executor)) = (self.memory_limit, ProcessUsage::memory(self.executor.pid)) else {
            return;
        };
        let memory = self.memory_of(executor);
        self.relieve(limit, memory);
        let share = memory as f64 / limit.max(1) as f64;
        // Nothing more was started since the last look, unless pauses are switched off.
        let was_paused = self.status != NodeStatus::Running || self.settings.pause <= 0.0;
        if was_paused && self.settings.terminate > 0.0 && share > self.settings.terminate {
            return self.terminate(memory);
        }
        let over = self.settings.pause > 0.0 && share > self.settings.pause;
        if over && self.heartbeat.trim_due <= self.clock.now() {
            self.heartbeat.trim_due = self.clock.now().plus_us(TRIM_EVERY_US);
            self.executor.port(&ToPorter::Trim);
        }
        match (self.status, over) {
            (NodeStatus::Running, true) => {
                tracing::warn!(worker = %self.address, share, "worker paused: it uses too much of its memory");
                self.turn_to(NodeStatus::Paused);
            }
            (NodeStatus::Paused, false) => {
                tracing::info!(worker = %self.address, share, "worker goes on");
                self.turn_to(NodeStatus::Running);
            }
            (NodeStatus::Running | NodeStatus::Paused, _)
            | (NodeStatus::ClosingGracefully | NodeStatus::Closing, _) => {}
        }
    }
}
