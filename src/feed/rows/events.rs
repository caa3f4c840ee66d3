//! Rows of what happened: the scheduler's events and logs, and stealing.

use serde_json::{Value as Json, json};

use super::format::{brief, cut, round};
use crate::base::{Text, Value, key_prefix};
use crate::cluster::{Numbered, json_of};
use crate::feed::delta::{Row, Rows};
use crate::sched::StealTotal;

pub(in crate::feed) fn events(topic: &str, events: &[Numbered<Value>]) -> Rows {
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

pub(in crate::feed) fn logs(lines: &[Numbered<(Text, Text)>]) -> Rows {
    let row = |(number, at, (level, text)): &Numbered<(Text, Text)>| {
        (number.to_string(), vec![("t", round(*at, 3)), ("level", json!(level)), ("text", json!(text))])
    };
    lines.iter().map(row).collect()
}

/// `stealing`: a row for each task that was asked for or moved.
pub(in crate::feed) fn stealing(events: &[Numbered<Value>]) -> Rows {
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
pub(in crate::feed) fn steal_total(totals: &[StealTotal]) -> Row {
    let by: Vec<Json> = totals
        .iter()
        .map(|total| json!({"multiplier": total.multiplier, "count": total.count, "cost": brief(total.cost_secs)}))
        .collect();
    let count: u64 = totals.iter().map(|total| total.count).sum();
    let cost: f64 = totals.iter().map(|total| total.cost_secs).sum();
    vec![("count", json!(count)), ("cost", brief(cost)), ("by", Json::Array(by))]
}
