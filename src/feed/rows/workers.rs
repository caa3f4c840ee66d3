//! Rows of workers, and of the bandwidth between them.

use serde_json::{Map, Value as Json, json};

use super::format::{brief, round};
use crate::base::{Text, Value};
use crate::cluster::{Snapshot, Speed, WorkerSnapshot, json_of};
use crate::feed::bottleneck::WorkerState;
use crate::feed::delta::{Row, Rows};

/// What a worker's heartbeat said, read once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::feed) struct HeartbeatMetrics {
    pub cpu: f64,
    pub executing: u64,
    pub ready: u64,
    pub waiting: u64,
    pub in_flight: u64,
    pub net: (f64, f64),
    pub disk: (f64, f64),
    pub fds: f64,
    pub transfer_in: f64,
    pub transfer_out: f64,
    pub transfers: u64,
    pub bandwidth: f64,
    pub gil: Option<f64>,
    pub event_loop: f64,
}

impl HeartbeatMetrics {
    pub(in crate::feed) fn of(worker: &WorkerSnapshot) -> Self {
        let metrics = &*worker.metrics;
        let number = |value: Option<&Value>| value.and_then(Value::as_f64).filter(|n| n.is_finite()).unwrap_or(0.0);
        let inner = |outer: &str, name: &str| number(metrics.get(outer).and_then(|map| map.get(name)));
        let tasks = |state: &str| inner("task_counts", state) as u64;
        Self {
            cpu: number(metrics.get("cpu")),
            executing: tasks("executing"),
            ready: tasks("ready") + tasks("constrained"),
            waiting: tasks("waiting"),
            in_flight: tasks("flight") + tasks("fetch"),
            net: (inner("host_net_io", "read_bps"), inner("host_net_io", "write_bps")),
            disk: (inner("host_disk_io", "read_bps"), inner("host_disk_io", "write_bps")),
            fds: number(metrics.get("num_fds")),
            transfer_in: inner("transfer", "incoming_bytes"),
            transfer_out: inner("transfer", "outgoing_bytes"),
            transfers: inner("transfer", "incoming_count") as u64,
            bandwidth: inner("bandwidth", "total"),
            gil: metrics.get("gil_contention").and_then(Value::as_f64),
            event_loop: number(metrics.get("event_loop_interval")),
        }
    }
}

pub(in crate::feed) fn workers(workers: &[WorkerSnapshot]) -> Rows {
    workers.iter().map(|worker| (worker.address.to_string(), worker_row(worker))).collect()
}

fn worker_row(worker: &WorkerSnapshot) -> Row {
    let metrics = HeartbeatMetrics::of(worker);
    let memory = worker.memory;
    let resources: Map<String, Json> =
        worker.resources.iter().map(|(name, amount)| (name.to_string(), (*amount).into())).collect();
    vec![
        ("name", json!(worker.name)),
        ("host", json!(worker.host)),
        ("status", json!(worker.status)),
        ("nthreads", json!(worker.nthreads)),
        ("cpu", round(metrics.cpu, 1)),
        ("memory", json!(memory.process)),
        ("limit", json!(worker.memory_limit)),
        ("managed", json!(memory.managed)),
        ("unmanaged", json!(memory.unmanaged_old)),
        ("recent", json!(memory.unmanaged_recent())),
        ("spilled", json!(memory.spilled)),
        ("nkeys", json!(worker.nkeys)),
        ("nbytes", json!(worker.nbytes)),
        ("processing", json!(worker.processing)),
        ("executing", json!(metrics.executing)),
        ("ready", json!(metrics.ready)),
        ("waiting", json!(metrics.waiting)),
        ("in_flight", json!(metrics.in_flight)),
        ("long_running", json!(worker.long_running)),
        ("occupancy", round(worker.occupancy_secs, 2)),
        ("net_read", brief(metrics.net.0)),
        ("net_write", brief(metrics.net.1)),
        ("disk_read", brief(metrics.disk.0)),
        ("disk_write", brief(metrics.disk.1)),
        ("fds", json!(metrics.fds as u64)),
        ("transfer_in", json!(metrics.transfer_in as u64)),
        ("transfer_out", json!(metrics.transfer_out as u64)),
        ("bandwidth", brief(metrics.bandwidth)),
        ("gil", metrics.gil.map_or(Json::Null, |share| round(share, 3))),
        ("loop", brief(metrics.event_loop)),
        ("last_seen", round(worker.last_seen_secs, 1)),
        ("resources", Json::Object(resources)),
        ("nanny", json!(worker.nanny)),
        ("engine", json!(worker.engine)),
        ("dashboard", dashboard(worker)),
        ("local_directory", json_of(&worker.local_directory)),
    ]
}

fn dashboard(worker: &WorkerSnapshot) -> Json {
    match worker.services.get("dashboard").and_then(Value::as_i64) {
        Some(port) => format!("proxy/{port}/{}/status", worker.host).into(),
        None => Json::Null,
    }
}

/// For [`crate::feed::bottleneck::problem`].
pub(in crate::feed) fn worker_states(workers: &[WorkerSnapshot], now_secs: f64) -> Vec<WorkerState> {
    let state = |worker: &WorkerSnapshot| WorkerState {
        address: worker.address.to_string(),
        name: worker.name.to_string(),
        paused: worker.status == "paused",
        silent_secs: if worker.last_seen_secs > 0.0 { now_secs - worker.last_seen_secs } else { 0.0 },
        memory_share: share(worker.memory.process, worker.memory_limit),
    };
    workers.iter().map(state).collect()
}

/// 0 without a limit.
pub(in crate::feed) fn share(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

pub(in crate::feed) fn bandwidth(snapshot: &Snapshot) -> Rows {
    let speed = |speed: &Speed| [("bandwidth", brief(speed.bandwidth)), ("n", json!(speed.count))];
    let of_type = |(name, measured): &(Text, Speed)| {
        let mut row: Row = vec![("kind", json!("type")), ("name", json!(name))];
        row.extend(speed(measured));
        (format!("type {name}"), row)
    };
    // A worker measures what it receives, so the data came from the second of the pair.
    let of_pair = |((to, from), measured): &((Text, Text), Speed)| {
        let mut row: Row = vec![("kind", json!("pair")), ("from", json!(from)), ("to", json!(to))];
        row.extend(speed(measured));
        (format!("pair {from} {to}"), row)
    };
    snapshot.bandwidth_types.iter().map(of_type).chain(snapshot.bandwidth_pairs.iter().map(of_pair)).collect()
}
