//! Rows of the topics that few people open: events, stealing, bandwidth, metrics, exceptions, shuffles, primitives,
//! clients, logs.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::delta::{Row, Rows};
use super::rows::{brief, json_of, round};
use crate::base::{Text, Value, key_prefix};
use crate::cluster::{ClientSnapshot, Computation, FailureCause, Numbered, Snapshot, Speed};
use crate::sched::StealTotal;

/// Longest line that is made of an event. Unit: characters.
const LINE_MAX: usize = 300;

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LINE_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// `events`.
pub(super) fn events(topic: &str, events: &[Numbered<Value>]) -> Rows {
    let row = |(number, at, message): &Numbered<Value>| {
        let data = json_of(message);
        let text = cut(match &data {
            Json::String(text) => text.clone(),
            Json::Object(fields) => {
                let field = |(name, value): (&String, &Json)| match value {
                    Json::String(text) => format!("{name} {text}"),
                    other => format!("{name} {other}"),
                };
                fields.iter().map(field).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        });
        (number.to_string(), vec![("t", round(*at, 3)), ("topic", json!(topic)), ("data", data), ("text", json!(text))])
    };
    events.iter().map(row).collect()
}

/// `logs`.
pub(super) fn logs(lines: &[Numbered<(Text, Text)>]) -> Rows {
    let row = |(number, at, (level, text)): &Numbered<(Text, Text)>| {
        (number.to_string(), vec![("t", round(*at, 3)), ("level", json!(level)), ("text", json!(text))])
    };
    lines.iter().map(row).collect()
}

/// `stealing`: a row for each task that was asked for or moved.
pub(super) fn stealing(events: &[Numbered<Value>]) -> Rows {
    let mut rows = Rows::new();
    for (number, at, message) in events {
        let items = message.items().unwrap_or_default();
        match items {
            [Value::Str(kind), Value::Array(moves)] if &**kind == "request" => {
                for (nth, one) in moves.iter().enumerate() {
                    let fields = one.items().unwrap_or_default();
                    if let [key, _, cost, from, _, to, _] = fields {
                        rows.insert(format!("{number}.{nth}"), steal_row(*at, key, (from, to), cost, "request"));
                    }
                }
            }
            [Value::Str(kind), key, _, from, to, ..] => {
                rows.insert(number.to_string(), steal_row(*at, key, (from, to), &Value::Nil, kind));
            }
            _ => {}
        }
    }
    rows
}

fn steal_row(at: f64, key: &Value, (from, to): (&Value, &Value), cost: &Value, kind: &str) -> Row {
    let key = key.as_key();
    vec![
        ("t", round(at, 3)),
        ("key", json!(key.as_ref().map(ToString::to_string))),
        ("prefix", json!(key.as_ref().map(key_prefix))),
        ("from", json_of(from)),
        ("to", json_of(to)),
        ("cost", cost.as_f64().map_or(Json::Null, brief)),
        ("kind", json!(kind)),
    ]
}

/// The row `total` of `stealing`.
pub(super) fn steal_total(totals: &[StealTotal]) -> Row {
    let by: Vec<Json> = totals
        .iter()
        .map(|total| json!({"multiplier": total.multiplier, "count": total.count, "cost": brief(total.cost_secs)}))
        .collect();
    let count: u64 = totals.iter().map(|total| total.count).sum();
    let cost: f64 = totals.iter().map(|total| total.cost_secs).sum();
    vec![("count", json!(count)), ("cost", brief(cost)), ("by", Json::Array(by))]
}

/// `bandwidth`.
pub(super) fn bandwidth(picture: &Snapshot) -> Rows {
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
    picture.bandwidth_types.iter().map(of_type).chain(picture.bandwidth_pairs.iter().map(of_pair)).collect()
}

/// `fine`.
pub(super) fn fine(sums: &[(String, f64)]) -> Rows {
    let row = |(name, sum): &(String, f64)| {
        let parts: Vec<&str> = name.split('|').collect();
        let (context, prefix, activity, unit) = match parts.as_slice() {
            [context, prefix, activity, unit] => (*context, Some(*prefix), *activity, *unit),
            [context, activity, unit] => (*context, None, *activity, *unit),
            _ => return None,
        };
        let row = vec![
            ("context", json!(context)),
            ("prefix", json!(prefix)),
            ("activity", json!(activity)),
            ("unit", json!(unit)),
            ("value", brief(*sum)),
        ];
        Some((name.clone(), row))
    };
    sums.iter().filter_map(row).collect()
}

/// `exceptions`.
pub(super) fn exceptions(causes: &[(u64, FailureCause)]) -> Rows {
    let row = |(id, cause): &(u64, FailureCause)| {
        let kind = cause.text.split('(').next().unwrap_or_default().trim();
        let keys: Vec<String> = cause.keys.iter().map(ToString::to_string).collect();
        let row = vec![
            ("type", json!(kind)),
            ("text", json!(cause.text)),
            ("traceback", json!(cause.traceback.lines().collect::<Vec<_>>())),
            ("count", json!(cause.count)),
            ("keys", json!(keys)),
            ("prefix", json!(cause.prefix)),
            ("workers", json!(cause.workers)),
            ("first", round(cause.first_secs, 3)),
            ("last", round(cause.last_secs, 3)),
        ];
        (format!("{id:016x}"), row)
    };
    causes.iter().map(row).collect()
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
pub(super) fn shuffle(picture: &Snapshot) -> Rows {
    let mut rows = Rows::new();
    let mut sums: BTreeMap<&str, [f64; SHUFFLE_FIELDS.len()]> = BTreeMap::new();
    for ((id, worker), told) in &picture.shuffle_workers {
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
    for shuffle in &picture.shuffles {
        let mut row: Row = vec![("run", json!(shuffle.run_id)), ("workers", json!(shuffle.workers))];
        let sum = sums.get(&*shuffle.id).copied().unwrap_or_default();
        row.extend(SHUFFLE_FIELDS.iter().zip(sum).map(|((name, _, _), value)| (*name, brief(value))));
        rows.insert(shuffle.id.to_string(), row);
    }
    rows
}

/// `coordination`.
pub(super) fn coordination(picture: &Snapshot) -> Rows {
    let row = |view: &crate::sched::coord::CoordView| {
        let name = view.name.to_string();
        let mut row: Row = vec![("kind", json!(view.kind)), ("name", json!(name))];
        row.extend(view.fields.iter().map(|(field, value)| {
            let value = json_of(value);
            let long = value.to_string().len() > LINE_MAX;
            (*field, if long { json!(cut(value.to_string())) } else { value })
        }));
        (format!("{} {name}", view.kind), row)
    };
    picture.coordination.iter().map(row).collect()
}

/// `computations`.
pub(super) fn computations(list: &[Computation]) -> Rows {
    let row = |one: &Computation| {
        let row = vec![
            ("start", round(one.start_secs, 3)),
            ("stop", one.stop_secs.map_or(Json::Null, |at| round(at, 3))),
            ("tasks", json!(one.tasks)),
            ("done", json!(one.done)),
            ("erred", json!(one.erred)),
            ("groups", json!(one.groups)),
            ("code", Json::Null),
        ];
        (one.id.to_string(), row)
    };
    list.iter().map(row).collect()
}

/// `clients`.
pub(super) fn clients(clients: &[ClientSnapshot]) -> Rows {
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
