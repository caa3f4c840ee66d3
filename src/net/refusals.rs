//! Says once in a while that connections were refused, and how many: whoever is refused must not be able to fill the log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// The refusals of one port.
#[derive(Debug, Default)]
pub struct Refusals {
    /// When the last line was written, and how many came since.
    said: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    /// A connection was refused: the first of a minute is logged, with the number of those that were not.
    pub fn note(&self, peer: SocketAddr, why: &dyn fmt::Display) {
        if let Some(unsaid) = self.count(Instant::now()) {
            tracing::warn!(%peer, error = %why, unsaid, "connection refused");
        }
    }

    /// To be said now: how many were not since the last time. None: too early.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.0.is_some_and(|last| now.duration_since(last) < EVERY) {
            said.1 = said.1.saturating_add(1);
            return None;
        }
        said.0 = Some(now);
        Some(std::mem::take(&mut said.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_there_were() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.count(start), Some(0));
        assert_eq!((0..1000).filter_map(|_| refusals.count(start + EVERY / 2)).count(), 0);
        assert_eq!(refusals.count(start + EVERY), Some(1000));
        assert_eq!(refusals.count(start + EVERY * 2), Some(0));
    }
}
