//! From a picture of the scheduler to the rows that pages show. Field names are the contract with the page.

use serde_json::{Map, Value as Json, json};

use super::delta::{Row, Rows};
use super::limit::WorkerState;
use crate::base::{Text, Value};
use crate::cluster::{GroupSnapshot, NodeSnapshot, PrefixSnapshot, TimelineWindow, WorkerSnapshot};
use crate::sched::STATE_NAMES;

/// Fields for the counts of [`STATE_NAMES`], in its order.
pub(super) const STATE_FIELDS: [&str; 7] =
    ["released", "waiting", "queued", "no_worker", "processing", "memory", "erred"];

/// A number as screens show it: so many digits behind the point.
pub(super) fn round(number: f64, digits: i32) -> Json {
    let scale = 10f64.powi(digits);
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded.into() } else { Json::Null }
}

/// A number to so many significant digits, for what spans many sizes.
pub(super) fn brief(number: f64) -> Json {
    if number == 0.0 || !number.is_finite() {
        return json!(0);
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    if digits < 0 { json!(number.round() as i64) } else { round(number, digits.min(9)) }
}

/// Any value as JSON; payloads become nulls.
pub fn json_of(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Bin(_) | Value::Serialized(_) | Value::Pickled(_) => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::UInt(u) => (*u).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(text) => text.to_string().into(),
        Value::Array(items) => items.iter().map(json_of).collect::<Vec<_>>().into(),
        Value::Map(fields) => {
            let name = |name: &Value| match name {
                Value::Str(text) => text.to_string(),
                other => other.as_key().map_or_else(String::new, |key| key.to_string()),
            };
            Json::Object(fields.iter().map(|(field, value)| (name(field), json_of(value))).collect())
        }
    }
}

/// What a worker's heartbeat said, read once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Beat {
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

impl Beat {
    pub(super) fn of(worker: &WorkerSnapshot) -> Self {
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

/// `workers`.
pub(super) fn workers(workers: &[WorkerSnapshot]) -> Rows {
    workers.iter().map(|worker| (worker.address.to_string(), worker_row(worker))).collect()
}

fn worker_row(worker: &WorkerSnapshot) -> Row {
    let beat = Beat::of(worker);
    let memory = worker.memory;
    let resources: Map<String, Json> =
        worker.resources.iter().map(|(name, amount)| (name.to_string(), (*amount).into())).collect();
    vec![
        ("name", json!(worker.name)),
        ("host", json!(worker.host)),
        ("status", json!(worker.status)),
        ("nthreads", json!(worker.nthreads)),
        ("cpu", round(beat.cpu, 1)),
        ("memory", json!(memory.process)),
        ("limit", json!(worker.memory_limit)),
        ("managed", json!(memory.managed)),
        ("unmanaged", json!(memory.unmanaged_old)),
        ("recent", json!(memory.unmanaged_recent())),
        ("spilled", json!(memory.spilled)),
        ("nkeys", json!(worker.nkeys)),
        ("nbytes", json!(worker.nbytes)),
        ("processing", json!(worker.processing)),
        ("executing", json!(beat.executing)),
        ("ready", json!(beat.ready)),
        ("waiting", json!(beat.waiting)),
        ("in_flight", json!(beat.in_flight)),
        ("long_running", json!(worker.long_running)),
        ("occupancy", round(worker.occupancy_secs, 2)),
        ("net_read", brief(beat.net.0)),
        ("net_write", brief(beat.net.1)),
        ("disk_read", brief(beat.disk.0)),
        ("disk_write", brief(beat.disk.1)),
        ("fds", json!(beat.fds as u64)),
        ("transfer_in", json!(beat.transfer_in as u64)),
        ("transfer_out", json!(beat.transfer_out as u64)),
        ("bandwidth", brief(beat.bandwidth)),
        ("gil", beat.gil.map_or(Json::Null, |share| round(share, 3))),
        ("loop", brief(beat.event_loop)),
        ("last_seen", round(worker.last_seen_secs, 1)),
        ("resources", Json::Object(resources)),
        ("nanny", json!(worker.nanny)),
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

/// For [`super::limit::problem`].
pub(super) fn worker_states(workers: &[WorkerSnapshot], now_secs: f64) -> Vec<WorkerState> {
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
pub(super) fn share(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

/// `prefixes`. Those without tasks and without a past are left out; at most `max`.
pub(super) fn prefixes(prefixes: &[PrefixSnapshot], max: usize) -> Rows {
    let some = prefixes.iter().enumerate().filter(|(_, prefix)| is_used(prefix)).rev().take(max);
    some.map(|(index, prefix)| (prefix.name.to_string(), prefix_row(index, prefix))).collect()
}

fn is_used(prefix: &PrefixSnapshot) -> bool {
    prefix.states.iter().any(|count| *count > 0) || prefix.totals.iter().any(|count| *count > 0)
}

fn prefix_row(index: usize, prefix: &PrefixSnapshot) -> Row {
    let [_, _, _, _, _, done, erred_ever] = prefix.totals;
    let mut row: Row = vec![("color", json!(index))];
    row.extend(STATE_FIELDS.iter().zip(prefix.states).map(|(name, count)| (*name, json!(count))));
    row.push(("total", json!(prefix.states.iter().sum::<usize>())));
    row.push(("done", json!(done)));
    row.push(("erred_ever", json!(erred_ever)));
    row.push(("duration", prefix.duration_secs.map_or(Json::Null, brief)));
    let spent = ["compute", "transfer", "disk_read", "disk_write", "deserialize", "other"];
    row.extend(spent.iter().zip(prefix.spent_secs).map(|(name, secs)| (*name, brief(secs))));
    row.push(("nbytes", json!(prefix.nbytes)));
    row.push(("suspicious", json!(prefix.suspicious)));
    row
}

/// `memory_by_key`.
pub(super) fn memory_by_key(prefixes: &[PrefixSnapshot]) -> Rows {
    let held = prefixes.iter().enumerate().filter(|(_, prefix)| prefix.states[5] > 0);
    held.map(|(index, prefix)| {
        let row = vec![("color", json!(index)), ("nbytes", json!(prefix.nbytes)), ("keys", json!(prefix.states[5]))];
        (prefix.name.to_string(), row)
    })
    .collect()
}

/// `compute_by_key`.
pub(super) fn compute_by_key(prefixes: &[PrefixSnapshot]) -> Rows {
    let spent = prefixes.iter().enumerate().filter(|(_, prefix)| prefix.spent_secs.iter().any(|secs| *secs > 0.0));
    spent
        .map(|(index, prefix)| {
            let mut row: Row = vec![("color", json!(index))];
            let names = ["compute", "transfer", "disk_read", "disk_write", "deserialize", "other"];
            row.extend(names.iter().zip(prefix.spent_secs).map(|(name, secs)| (*name, brief(secs))));
            row.push(("runs", json!(prefix.totals[5].saturating_add(prefix.totals[6]))));
            row.push(("mean", prefix.duration_secs.map_or(Json::Null, brief)));
            (prefix.name.to_string(), row)
        })
        .collect()
}

/// `time_by_action`.
pub(super) fn time_by_action(prefixes: &[PrefixSnapshot]) -> Rows {
    let names = ["compute", "transfer", "disk-read", "disk-write", "deserialize", "other"];
    let sum = |at: usize| prefixes.iter().filter_map(|prefix| prefix.spent_secs.get(at)).sum::<f64>();
    let row = |(at, name): (usize, &&str)| ((*name).to_owned(), vec![("secs", brief(sum(at)))]);
    names.iter().enumerate().map(row).collect()
}

/// `groups`.
pub(super) fn groups(groups: &[GroupSnapshot]) -> Rows {
    let row = |group: &GroupSnapshot| {
        let mut row: Row = vec![("prefix", json!(group.prefix.1)), ("color", json!(group.prefix.0))];
        row.extend(STATE_FIELDS.iter().zip(group.states).map(|(name, count)| (*name, json!(count))));
        row.push(("forgotten", json!(group.forgotten)));
        row.push(("total", json!(group.total)));
        row.push(("deps", json!(group.dependencies)));
        (group.name.to_string(), row)
    };
    groups.iter().map(row).collect()
}

/// `graph` by tasks. `prefixes` are the names by index.
pub(super) fn graph_of_tasks(nodes: &[NodeSnapshot], prefixes: &[PrefixSnapshot], max: usize) -> Rows {
    let mut rows: Rows = nodes
        .iter()
        .map(|node| {
            let prefix = prefixes.get(node.prefix as usize).map(|prefix| &prefix.name);
            let row = vec![
                ("k", json!(node.key)),
                ("p", json!(prefix)),
                ("c", json!(node.prefix)),
                ("s", json!(node.state)),
                ("d", json!(node.dependencies)),
            ];
            (node.slot.to_string(), row)
        })
        .collect();
    rows.insert("meta".to_owned(), meta("tasks", nodes.len(), max));
    rows
}

fn meta(mode: &str, tasks: usize, max: usize) -> Row {
    vec![("mode", json!(mode)), ("tasks", json!(tasks)), ("max", json!(max)), ("truncated", json!(mode != "tasks"))]
}

/// `graph` by groups, when there are too many tasks.
pub(super) fn graph_of_groups(groups: &[GroupSnapshot], tasks: usize, max: usize) -> Rows {
    let at: std::collections::BTreeMap<&Text, usize> =
        groups.iter().enumerate().map(|(at, group)| (&group.name, at)).collect();
    let mut rows: Rows = groups
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let states: Map<String, Json> = STATE_NAMES
                .iter()
                .zip(group.states)
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| ((*name).to_owned(), count.into()))
                .collect();
            let deps: Vec<usize> = group.dependencies.iter().filter_map(|name| at.get(name).copied()).collect();
            let row = vec![
                ("k", json!(group.name)),
                ("p", json!(group.prefix.1)),
                ("c", json!(group.prefix.0)),
                ("s", Json::Object(states)),
                ("n", json!(group.total)),
                ("d", json!(deps)),
            ];
            (number.to_string(), row)
        })
        .collect();
    rows.insert("meta".to_owned(), meta("groups", tasks, max));
    rows
}

/// `lanes`; `from` is the index of the first.
pub(super) fn lanes(stream: &TimelineWindow, from: usize) -> Rows {
    let row = |(lane, index): (&crate::cluster::Lane, usize)| {
        let row = vec![
            ("worker", json!(lane.worker)),
            ("name", json!(lane.name)),
            ("host", json!(lane.host)),
            // As text: the numbers of threads are larger than what a page's numbers can hold.
            ("thread", json!(lane.thread.to_string())),
            ("n", json!(lane.n)),
        ];
        (index.to_string(), row)
    };
    stream.lanes.iter().zip(from..).map(row).collect()
}

/// `names`.
pub(super) fn names(prefixes: &[Text]) -> Rows {
    let row = |(index, name): (usize, &Text)| (index.to_string(), vec![("name", json!(name)), ("color", json!(index))]);
    prefixes.iter().enumerate().map(row).collect()
}
