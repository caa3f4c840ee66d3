//! Measurements over time, taken whether anybody looks or not: one each two seconds, the last half hour.

use serde_json::{Map, Value as Json, json};

use super::delta::Row;
use super::rows::{HeartbeatMetrics, brief, round};
use crate::cluster::{Totals, WorkerSnapshot};
use crate::host::Usage;

/// Between two samples. Unit: seconds.
pub(super) const EVERY_SECS: f64 = 2.0;

/// Samples that are kept.
pub(super) const KEPT: usize = 900;

/// Samples by worker that are kept, and most workers in one.
pub(super) const WORKERS_KEPT: usize = 150;

/// See [`WORKERS_KEPT`].
const WORKERS_MAX: usize = 64;

/// Rates are means over this stretch at least. Unit: seconds.
const RATE_SECS: f64 = 1.0;

/// How fast things go, from two looks at counters.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(f64, u64, u64)>,
    /// Finished tasks per second.
    pub tasks: f64,
    /// Transitions per second.
    pub transitions: f64,
}

impl Rates {
    pub(super) fn take(&mut self, totals: &Totals) {
        let now = (totals.at_secs, totals.done, totals.counts.transitions);
        let Some((at, done, transitions)) = self.last else {
            self.last = Some(now);
            return;
        };
        let secs = now.0 - at;
        if secs >= RATE_SECS {
            self.tasks = now.1.saturating_sub(done) as f64 / secs;
            self.transitions = now.2.saturating_sub(transitions) as f64 / secs;
            self.last = Some(now);
        }
    }
}

/// How busy this process and machine are.
#[derive(Debug, Default)]
pub(super) struct MachineGauge {
    last: Option<(f64, Usage)>,
    /// Unit: percent of one core.
    pub process_cpu: f64,
    /// Unit: percent of all cores.
    pub host_cpu: f64,
    /// Received, sent, read, written. Unit: bytes per second.
    pub rates: [f64; 4],
    /// The gauges.
    pub now: Usage,
}

impl MachineGauge {
    /// Looks, unless it was looked just now.
    pub(super) fn look(&mut self, at_secs: f64) {
        if self.last.is_some_and(|(last, _)| at_secs - last < RATE_SECS) {
            return;
        }
        let now = Usage::look();
        if let Some((at, before)) = self.last.replace((at_secs, now)) {
            let secs = (at_secs - at).max(1e-3);
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / secs;
            self.process_cpu = (now.process_cpu_secs - before.process_cpu_secs).max(0.0) / secs * 100.0;
            let total = now.host_cpu_total.saturating_sub(before.host_cpu_total).max(1);
            let busy = now.host_cpu_busy.saturating_sub(before.host_cpu_busy);
            self.host_cpu = busy as f64 / total as f64 * 100.0;
            self.rates = [
                rate(now.net_read, before.net_read),
                rate(now.net_write, before.net_write),
                rate(now.disk_read, before.disk_read),
                rate(now.disk_write, before.disk_write),
            ];
        }
        self.now = now;
    }
}

/// What all workers do together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub metrics: HeartbeatMetrics,
    pub managed: u64,
    pub unmanaged: u64,
    pub recent: u64,
    pub spilled: u64,
    pub process: u64,
    pub limit: u64,
    /// Memory of those with a limit.
    pub limited: u64,
}

impl Sums {
    pub(super) fn of(workers: &[WorkerSnapshot]) -> Self {
        let mut sums = Self::default();
        for worker in workers {
            let metrics = HeartbeatMetrics::of(worker);
            let sum = &mut sums.metrics;
            sum.cpu += metrics.cpu;
            sum.executing += metrics.executing;
            sum.ready += metrics.ready;
            sum.waiting += metrics.waiting;
            sum.in_flight += metrics.in_flight;
            sum.net = (sum.net.0 + metrics.net.0, sum.net.1 + metrics.net.1);
            sum.disk = (sum.disk.0 + metrics.disk.0, sum.disk.1 + metrics.disk.1);
            sum.fds += metrics.fds;
            sum.transfers += metrics.transfers;
            let memory = worker.memory;
            sums.managed = sums.managed.saturating_add(memory.managed);
            sums.unmanaged = sums.unmanaged.saturating_add(memory.unmanaged_old);
            sums.recent = sums.recent.saturating_add(memory.unmanaged_recent());
            sums.spilled = sums.spilled.saturating_add(memory.spilled);
            sums.process = sums.process.saturating_add(memory.process);
            sums.limit = sums.limit.saturating_add(worker.memory_limit);
            if worker.memory_limit > 0 {
                sums.limited = sums.limited.saturating_add(memory.process);
            }
        }
        sums
    }
}

pub(super) fn system_row(totals: &Totals, sums: &Sums, machine: &MachineGauge, tasks_per_s: f64) -> Row {
    let usage = &machine.now;
    let [net_read, net_write, disk_read, disk_write] = machine.rates;
    vec![
        ("t", round(totals.at_secs, 2)),
        ("sched_cpu", round(machine.process_cpu, 1)),
        ("sched_mem", json!(usage.process_memory)),
        ("sched_fds", json!(usage.process_fds)),
        ("host_cpu", round(machine.host_cpu, 1)),
        ("host_mem", json!(usage.host_memory)),
        ("host_mem_total", json!(usage.host_memory_total)),
        ("host_net_read", brief(net_read)),
        ("host_net_write", brief(net_write)),
        ("host_disk_read", brief(disk_read)),
        ("host_disk_write", brief(disk_write)),
        ("workers_cpu", round(sums.metrics.cpu, 1)),
        ("workers_mem", json!(sums.process)),
        ("workers_limit", json!(sums.limit)),
        ("workers_net_read", brief(sums.metrics.net.0)),
        ("workers_net_write", brief(sums.metrics.net.1)),
        ("workers_disk_read", brief(sums.metrics.disk.0)),
        ("workers_disk_write", brief(sums.metrics.disk.1)),
        ("workers_fds", json!(sums.metrics.fds as u64)),
        ("tasks_per_s", round(tasks_per_s, 1)),
        ("processing", json!(totals.counts.by_state.get(4).copied().unwrap_or(0))),
    ]
}

/// A row of `workers_series`.
pub(super) fn workers_row(at_secs: f64, workers: &[WorkerSnapshot]) -> Row {
    let reported: Vec<(&WorkerSnapshot, HeartbeatMetrics)> =
        workers.iter().take(WORKERS_MAX).map(|worker| (worker, HeartbeatMetrics::of(worker))).collect();
    let column = |number: fn(&(&WorkerSnapshot, HeartbeatMetrics)) -> Json| {
        let fields: Map<String, Json> = reported.iter().map(|one| (one.0.address.to_string(), number(one))).collect();
        Json::Object(fields)
    };
    vec![
        ("t", round(at_secs, 2)),
        ("cpu", column(|(_, metrics)| round(metrics.cpu, 1))),
        ("memory", column(|(worker, _)| json!(worker.memory.process))),
        ("net_read", column(|(_, metrics)| brief(metrics.net.0))),
        ("net_write", column(|(_, metrics)| brief(metrics.net.1))),
        ("disk_read", column(|(_, metrics)| brief(metrics.disk.0))),
        ("disk_write", column(|(_, metrics)| brief(metrics.disk.1))),
    ]
}
