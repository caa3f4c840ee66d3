//! When a busy stream writes: a rule over times, without a clock.
//!
//! Source of the idea: `distributed/batched.py`, which waits a fixed time between any two messages.

/// How long stream items gather before they are written.
///
/// The first batch after a pause goes at once; then a batch waits until `window` after the last write. Under load the
/// window grows, because a message costs the receiving Python far more than one more item in it.
#[derive(Clone, Debug, PartialEq)]
pub struct WritePace {
    window_us: u64,
    window_max_us: u64,
    last_write_us: Option<u64>,
    /// Smoothed. Unit: items per millisecond.
    rate: f64,
}

/// Items per millisecond at which the window starts to grow. A Python client spends about as long on a message as on
/// three items in it, so at a few hundred items a second it pays to send several together.
const RATE_CALM: f64 = 0.25;
/// Weight of the newest batch in the smoothed rate.
const RATE_WEIGHT: f64 = 0.25;

impl WritePace {
    /// For clients: 2 ms, growing to 20 ms under load. Every message costs a Python client about 250 us.
    pub const fn client() -> Self {
        Self::new(2_000, 20_000)
    }

    /// For workers: written at every kick.
    pub const fn at_once() -> Self {
        Self::new(0, 0)
    }

    /// Unit: microseconds.
    pub const fn new(window_us: u64, window_max_us: u64) -> Self {
        Self { window_us, window_max_us, last_write_us: None, rate: 0.0 }
    }

    /// When a batch may be written. Unit: microseconds, of the clock that [`WritePace::wrote`] is told.
    pub fn due_us(&self) -> u64 {
        self.last_write_us.map_or(0, |last| last.saturating_add(self.window()))
    }

    /// A batch of this number of items was written.
    pub fn wrote(&mut self, now_us: u64, items: usize) {
        if let Some(last) = self.last_write_us {
            let millis = (now_us.saturating_sub(last) as f64 / 1000.0).max(0.1);
            self.rate += (items as f64 / millis - self.rate) * RATE_WEIGHT;
        }
        self.last_write_us = Some(now_us);
    }

    /// The present window. Unit: microseconds.
    fn window(&self) -> u64 {
        let grown = self.window_us as f64 * (self.rate / RATE_CALM).max(1.0);
        (grown as u64).min(self.window_max_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a message after a pause never waits, one in a burst waits out the window.
    #[test]
    fn only_busy_streams_wait() {
        let mut pace = WritePace::client();
        assert_eq!(pace.due_us(), 0);
        pace.wrote(1_000_000, 1);
        assert_eq!(pace.due_us(), 1_002_000);
        pace.wrote(2_000_000, 1);
        assert_eq!(pace.due_us(), 2_002_000);
    }

    /// Goal: many items a second stretch the window up to its bound, and it shrinks again afterwards.
    #[test]
    fn the_window_grows_under_load_and_shrinks_after_it() {
        let mut pace = WritePace::client();
        let mut now = 0;
        for _ in 0..50 {
            now = pace.due_us().max(now + 1);
            pace.wrote(now, 200);
        }
        assert_eq!(pace.due_us() - now, 20_000);
        for _ in 0..20 {
            now += 50_000;
            pace.wrote(now, 1);
        }
        assert_eq!(pace.due_us() - now, 2_000);
    }

    /// Goal: workers never wait.
    #[test]
    fn at_once_is_at_once() {
        let mut pace = WritePace::at_once();
        pace.wrote(5, 100_000);
        pace.wrote(6, 100_000);
        assert_eq!(pace.due_us(), 6);
    }
}
