//! How many turns the loop took, and how long the longest was: what Dask calls ticks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Now;

/// The turns of the loop so far.
#[derive(Debug, Default)]
pub struct Turns {
    began: Option<Now>,
    count: u64,
    /// Reading it starts it over, and those who read change nothing else. Unit: microseconds.
    longest_us: AtomicU64,
}

impl Turns {
    /// Something is done in this turn.
    pub fn begin(&mut self, now: impl FnOnce() -> Now) {
        if self.began.is_none() {
            self.began = Some(now());
        }
    }

    /// The turn is over.
    pub fn end(&mut self, now: Now) {
        let Some(began) = self.began.take() else { return };
        self.count += 1;
        let longest = self.longest_us.get_mut();
        *longest = (*longest).max(now.0.saturating_sub(began.0));
    }

    /// How many there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest one since this was last asked. Unit: seconds.
    pub fn take_longest_secs(&self) -> f64 {
        self.longest_us.swap(0, Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_told_once_and_a_turn_of_several_items_is_one() {
        let mut turns = Turns::default();
        for (began, ended) in [(0, 5), (10, 1_000_010), (2_000_000, 2_000_001)] {
            turns.begin(|| Now(began));
            turns.begin(|| Now(ended));
            turns.end(Now(ended));
        }
        assert_eq!(turns.count(), 3);
        assert_eq!(turns.take_longest_secs(), 1.0);
        assert_eq!(turns.take_longest_secs(), 0.0);
    }
}
