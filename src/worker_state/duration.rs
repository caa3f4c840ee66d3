//! How long tasks of a prefix are expected to run.

use crate::base::{Key, SeededMap, key_prefix};

/// A run that may take longer is not short. Unit: microseconds.
pub(super) const SHORT_US: u64 = 2_000;
/// A run whose result is larger is not short either: a queue of them would fill the memory before that is noticed.
/// Unit: bytes.
const SMALL_BYTES: u64 = 64 << 10;
/// Runs of a prefix that are remembered.
const REMEMBERED: usize = 16;
/// Prefixes whose durations are remembered; tasks of others wait until a slot is free.
const PREFIXES_MAX: usize = 10_000;

/// How long the last runs of a prefix took; those with large results count as endless.
#[derive(Debug, Default)]
struct LastRuns {
    last_us: [u64; REMEMBERED],
    count: usize,
}

/// What is known of durations, by prefix.
#[derive(Debug, Default)]
pub(super) struct Durations {
    prefixes: SeededMap<String, u32>,
    durations: Vec<LastRuns>,
}

impl Durations {
    pub(super) fn prefix(&mut self, key: &Key) -> Option<u32> {
        let name = key_prefix(key);
        if let Some(index) = self.prefixes.get(&name) {
            return Some(*index);
        }
        let index = u32::try_from(self.durations.len()).ok().filter(|_| self.durations.len() < PREFIXES_MAX)?;
        self.durations.push(LastRuns::default());
        self.prefixes.insert(name, index);
        Some(index)
    }

    pub(super) fn note(&mut self, prefix: Option<u32>, duration_us: u64, size_bytes: u64) {
        let Some(durations) = prefix.and_then(|index| self.durations.get_mut(index as usize)) else { return };
        let took_us = if size_bytes > SMALL_BYTES { u64::MAX } else { duration_us };
        durations.last_us[durations.count % REMEMBERED] = took_us;
        durations.count += 1;
    }

    /// The longest of the last runs; none if there were none, or if one was too long for a queue or its result too large.
    pub(super) fn expected_us(&self, prefix: Option<u32>) -> Option<u64> {
        let durations = self.durations.get(prefix? as usize)?;
        let known = &durations.last_us[..durations.count.min(REMEMBERED)];
        known.iter().copied().max().map(|longest| longest.max(1)).filter(|longest| *longest <= SHORT_US)
    }
}
