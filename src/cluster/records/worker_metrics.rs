//! What heartbeats tell that only people want to know: bandwidth by type and pair, fine performance metrics, shuffles in
//! progress.
//!
//! Data only; each list is bounded. Source: `distributed/scheduler.py`, `heartbeat_worker`, `bandwidth_workers`,
//! `cumulative_worker_metrics`; `distributed/shuffle/_core.py`, `heartbeat`.

use std::collections::BTreeMap;

use crate::base::{Text, Value};

/// Pairs of workers that are told apart. A full mesh of a hundred.
const PAIRS_MAX: usize = 10_000;
/// Types of data, digests: names come from peers.
const NAMES_MAX: usize = 5_000;
/// Measured speed of a link or a type of data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Smoothed. Unit: bytes per second.
    pub bandwidth: f64,
    /// Transfers so far.
    pub count: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// By name of the type.
    pub types: BTreeMap<Text, Speed>,
    /// By address of the receiver and of the sender.
    pub pairs: BTreeMap<(Text, Text), Speed>,
    /// Sums by context, labels and unit, joined by a vertical bar.
    pub fine: BTreeMap<String, f64>,
    /// By shuffle and worker: what the worker told last.
    pub shuffles: BTreeMap<(String, Text), Value>,
}

impl WorkerMetrics {
    /// Takes the `bandwidth` and digests of a heartbeat. `workers` is the number of workers.
    pub fn on_metrics(&mut self, address: &Text, metrics: &Value, workers: usize) {
        let share = 1.0 / workers.max(1) as f64;
        let list = |name: &str| metrics.get("bandwidth").and_then(|all| all.get(name)).and_then(Value::fields);
        for (other, speed) in list("workers").unwrap_or_default() {
            let (Value::Str(other), Some((speed, count))) = (other, pair(speed)) else { continue };
            let known = (address.clone(), other.clone());
            if self.pairs.len() < PAIRS_MAX || self.pairs.contains_key(&known) {
                self.pairs.entry(known).or_default().take(speed, count, share);
            }
        }
        for (name, speed) in list("types").unwrap_or_default() {
            let (Value::Str(name), Some((speed, count))) = (name, pair(speed)) else { continue };
            if self.types.len() < NAMES_MAX || self.types.contains_key(name) {
                self.types.entry(name.clone()).or_default().take(speed, count, share);
            }
        }
        for (name, value) in metrics.get("digests_total_since_heartbeat").and_then(Value::fields).unwrap_or_default() {
            let (Some(name), Some(value)) = (digest_name(name), value.as_f64()) else { continue };
            if self.fine.len() < NAMES_MAX || self.fine.contains_key(&name) {
                *self.fine.entry(name).or_default() += value;
            }
        }
    }

    /// Takes the `extensions` of a heartbeat: shuffles that run on this worker.
    pub fn on_extensions(&mut self, address: &Text, extensions: &Value) {
        let running = extensions.get("shuffle").and_then(Value::fields).unwrap_or_default();
        self.shuffles.retain(|(_, worker), _| worker != address);
        for (id, told) in running {
            if let Value::Str(id) = id
                && self.shuffles.len() < PAIRS_MAX
            {
                self.shuffles.insert((id.to_string(), address.clone()), told.clone());
            }
        }
    }

    /// A worker is gone.
    pub fn forget_worker(&mut self, address: &Text) {
        self.pairs.retain(|(from, to), _| from != address && to != address);
        self.shuffles.retain(|(_, worker), _| worker != address);
    }
}

impl Speed {
    /// The first measure counts whole, later ones by how many transfers they stand for.
    ///
    /// Source: `distributed/scheduler.py`, `heartbeat_worker`.
    fn take(&mut self, sum: f64, count: u64, share: f64) {
        let alpha = (1.0 - share).powf(count as f64);
        // A worker tells the sum of the bandwidths of its transfers since the last heartbeat.
        let mean = sum / count as f64;
        self.bandwidth = if self.count == 0 { mean } else { self.bandwidth * alpha + mean * (1.0 - alpha) };
        self.count = self.count.saturating_add(count);
    }
}

fn pair(value: &Value) -> Option<(f64, u64)> {
    let [sum, count] = value.items()? else { return None };
    let count = u64::try_from(count.as_i64()?).ok().filter(|count| *count > 0)?;
    Some((sum.as_f64().filter(|sum| sum.is_finite())?, count))
}

/// `("execute", "inc", "thread-cpu", "seconds")` as one text.
fn digest_name(name: &Value) -> Option<String> {
    let parts = name.items()?;
    let text = |part: &Value| match part {
        Value::Str(text) => text.replace('|', "/"),
        other => other.as_key().map_or_else(String::new, |key| key.to_string()),
    };
    Some(parts.iter().map(text).collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: digests add up over heartbeats; speeds are means, the first one whole.
    #[test]
    fn heartbeats_add_up() {
        let digest = Value::Array(vec!["execute".into(), "inc".into(), "thread-cpu".into(), "seconds".into()]);
        let speed = Value::Array(vec![Value::Float(300.0), Value::Int(3)]);
        let metrics = Value::map([
            ("bandwidth", Value::map([("types", Value::map([("list", speed)]))])),
            ("digests_total_since_heartbeat", Value::Map(vec![(digest, Value::Float(0.5))])),
        ]);
        let (mut all, address) = (WorkerMetrics::default(), Text::from("tcp://w:1"));
        all.on_metrics(&address, &metrics, 1);
        all.on_metrics(&address, &metrics, 1);
        assert_eq!(all.fine.get("execute|inc|thread-cpu|seconds"), Some(&1.0));
        assert_eq!(all.types.get("list"), Some(&Speed { bandwidth: 100.0, count: 6 }));
    }
}
