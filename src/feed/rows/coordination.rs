//! Rows of what clients and tasks share: primitives, shuffles, and the clients themselves.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::format::{LINE_MAX, brief, cut, round};
use crate::base::Value;
use crate::cluster::{ClientSnapshot, Snapshot, json_of};
use crate::feed::delta::{Row, Rows};
use crate::sched::coord::CoordView;

pub(in crate::feed) fn coordination(snapshot: &Snapshot) -> Rows {
    let row = |view: &CoordView| {
        let name = view.name.to_string();
        let mut row: Row = vec![("kind", json!(view.kind)), ("name", json!(name))];
        row.extend(view.fields.iter().map(|(field, value)| {
            let value = json_of(value);
            let long = value.to_string().len() > LINE_MAX;
            (*field, if long { json!(cut(value.to_string())) } else { value })
        }));
        (format!("{} {name}", view.kind), row)
    };
    snapshot.coordination.iter().map(row).collect()
}

pub(in crate::feed) fn clients(clients: &[ClientSnapshot]) -> Rows {
    let row = |client: &ClientSnapshot| {
        let package = |name: &str| {
            let found = client.versions.get("packages").and_then(|packages| packages.get(name));
            found.map_or(Json::Null, json_of)
        };
        let row = vec![
            ("name", json!(client.name)),
            ("wants", json!(client.wants)),
            ("last_seen", client.last_seen_secs.map_or(Json::Null, |at| round(at, 1))),
            ("python", package("python")),
            ("dask", package("dask")),
            ("distributed", package("distributed")),
        ];
        (client.name.to_string(), row)
    };
    clients.iter().map(row).collect()
}

const SHUFFLE_FIELDS: [(&str, &str, &str); 10] = [
    ("comm_written", "comm", "written"),
    ("comm_read", "comm", "read"),
    ("comm_memory", "comm", "memory"),
    ("comm_memory_limit", "comm", "memory_limit"),
    ("comm_buckets", "comm", "buckets"),
    ("disk_written", "disk", "written"),
    ("disk_read", "disk", "read"),
    ("disk_memory", "disk", "memory"),
    ("disk_memory_limit", "disk", "memory_limit"),
    ("disk_buckets", "disk", "buckets"),
];

/// `shuffle`: each shuffle, and its share on each worker.
pub(in crate::feed) fn shuffle(snapshot: &Snapshot) -> Rows {
    let mut rows = Rows::new();
    let mut sums: BTreeMap<&str, [f64; SHUFFLE_FIELDS.len()]> = BTreeMap::new();
    for ((id, worker), told) in &snapshot.shuffle_workers {
        let part = |outer: &str, inner: &str| {
            told.get(outer).and_then(|part| part.get(inner)).and_then(Value::as_f64).unwrap_or(0.0)
        };
        let mut row: Row = vec![("worker", json!(worker)), ("shuffle", json!(id))];
        let sum = sums.entry(id).or_default();
        for ((name, outer, inner), sum) in SHUFFLE_FIELDS.iter().zip(sum.iter_mut()) {
            let value = part(outer, inner);
            *sum += value;
            row.push((name, brief(value)));
        }
        rows.insert(format!("{id} {worker}"), row);
    }
    for shuffle in &snapshot.shuffles {
        let mut row: Row = vec![("run", json!(shuffle.run_id)), ("workers", json!(shuffle.workers))];
        let sum = sums.get(&*shuffle.id).copied().unwrap_or_default();
        row.extend(SHUFFLE_FIELDS.iter().zip(sum).map(|((name, _, _), value)| (*name, brief(value))));
        rows.insert(shuffle.id.to_string(), row);
    }
    rows
}
