//! The only reader of the operating system's clock and randomness.

use std::fs::File;
use std::io::Read;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::Now;

/// Time since it was started, and the wall's. Copies agree.
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

    /// The wall clock, which people and NTP may set. Unit: seconds since the epoch.
    pub fn wall(&self) -> f64 {
        wall()
    }

    /// What the wall clock said at the start. Unit: seconds since the epoch.
    pub const fn started_wall(&self) -> f64 {
        self.started_wall
    }
}

/// The wall clock. Unit: milliseconds since the epoch.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Random bytes, good enough for secrets. Panics if the operating system has none: no system that runs this lacks
/// them, and going on with predictable secrets would be worse.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    let read = File::open("/dev/urandom").and_then(|mut urandom| urandom.read_exact(&mut bytes));
    read.expect("/dev/urandom can always be read");
    bytes
}

/// 64 bits from the operating system.
pub fn random_u64() -> u64 {
    u64::from_ne_bytes(random_bytes())
}

/// A random UUID (version 4) as text with hyphens. Source: RFC 9562, 5.4.
pub fn uuid_v4_text() -> String {
    let bits = u128::from_be_bytes(random_bytes());
    let bits = bits & !(0xf << 76) | 4 << 76;
    let bits = bits & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: UUIDs have the shape that Python's `uuid.UUID` reads as version 4, and differ.
    #[test]
    fn uuids_are_version_four() {
        let text = uuid_v4_text();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes().get(14), Some(&b'4'));
        assert!(text.as_bytes().get(19).is_some_and(|variant| b"89ab".contains(variant)));
        assert_ne!(text, uuid_v4_text());
    }
}
