//! Failures of tasks, grouped by cause.
//!
//! Data only, bounded.

use std::hash::BuildHasher;

use crate::base::{Key, Seeded, SeededMap, Text};

/// Causes of failure that are kept; the ones that were seen longest ago go first.
const CAUSES_MAX: usize = 200;
/// Keys and workers named with a cause.
const EXAMPLES_MAX: usize = 20;
/// Longest kept text of an exception or traceback. Unit: characters.
const TEXT_MAX: usize = 20_000;

/// Failures with one cause: the same exception from the same place.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureCause {
    /// `repr` of the exception.
    pub text: Text,
    /// The formatted traceback.
    pub traceback: Text,
    /// How many tasks failed so.
    pub count: u64,
    /// Some of them.
    pub keys: Vec<Key>,
    /// Prefix of the first.
    pub prefix: Text,
    /// Some of the workers where it happened.
    pub workers: Vec<Text>,
    /// Unit: seconds since the epoch.
    pub first_secs: f64,
    /// See [`FailureCause::first_secs`].
    pub last_secs: f64,
}

#[derive(Debug)]
pub struct FailedTask<'a> {
    pub key: &'a Key,
    pub prefix: Text,
    pub worker: Text,
    /// `repr` of the exception.
    pub text: &'a str,
    /// The formatted traceback.
    pub traceback: &'a str,
    /// Unit: seconds since the epoch.
    pub at_secs: f64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Failures {
    causes: SeededMap<u64, FailureCause>,
}

impl Failures {
    /// A task failed for good.
    pub fn on_failed(&mut self, failed: &FailedTask<'_>) {
        let id = Seeded.hash_one((failed.text, failed.traceback));
        if !self.causes.contains_key(&id) && self.causes.len() >= CAUSES_MAX {
            let oldest = self.causes.iter().min_by(|left, right| left.1.last_secs.total_cmp(&right.1.last_secs));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.causes.remove(&oldest);
            }
        }
        let cause = self.causes.entry(id).or_insert_with(|| FailureCause {
            text: cut(failed.text),
            traceback: cut(failed.traceback),
            count: 0,
            keys: Vec::new(),
            prefix: failed.prefix.clone(),
            workers: Vec::new(),
            first_secs: failed.at_secs,
            last_secs: failed.at_secs,
        });
        cause.count = cause.count.saturating_add(1);
        cause.last_secs = failed.at_secs;
        if cause.keys.len() < EXAMPLES_MAX && !cause.keys.contains(failed.key) {
            cause.keys.push(failed.key.clone());
        }
        if cause.workers.len() < EXAMPLES_MAX && !cause.workers.contains(&failed.worker) {
            cause.workers.push(failed.worker.clone());
        }
    }

    /// All causes, each under a number that stays.
    pub fn causes(&self) -> Vec<(u64, FailureCause)> {
        self.causes.iter().map(|(id, cause)| (*id, cause.clone())).collect()
    }
}

fn cut(text: &str) -> Text {
    match text.char_indices().nth(TEXT_MAX) {
        None => text.into(),
        Some((at, _)) => text.get(..at).unwrap_or(text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed<'a>(key: &'a Key, text: &'a str) -> FailedTask<'a> {
        let (prefix, worker) = ("f".into(), "tcp://w:1".into());
        FailedTask { key, prefix, worker, text, traceback: "line 1", at_secs: 1.0 }
    }

    /// Goal: a thousand failures for one reason are one entry with a bounded list of examples.
    #[test]
    fn failures_are_grouped_by_cause() {
        let mut failures = Failures::default();
        for n in 0..1_000 {
            failures.on_failed(&failed(&Key::int(n), "ZeroDivisionError('x')"));
        }
        failures.on_failed(&failed(&Key::int(1), "KeyError('y')"));
        let mut counts: Vec<(u64, usize)> =
            failures.causes().iter().map(|(_, cause)| (cause.count, cause.keys.len())).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 1), (1_000, EXAMPLES_MAX)]);
    }
}
