//! When what is due, and what was seen the last time.

use crate::base::Now;
use crate::host::Usage;

/// Until the scheduler says otherwise. Unit: microseconds.
const FIRST_EVERY_US: u64 = 500_000;
/// `keep-alive`. Unit: microseconds.
pub(super) const KEEP_ALIVE_US: u64 = 60_000_000;

/// When what is due, and counters of the last look.
#[derive(Debug)]
pub(super) struct Beats {
    pub(super) every_us: u64,
    pub(super) due: Now,
    pub(super) memory_due: Now,
    pub(super) keep_alive_due: Now,
    /// Not before this the executor is asked again to give memory back.
    pub(super) trim_due: Now,
    /// The facade was asked to tell, by this number, until then.
    pub(super) asked: Option<(u64, Now)>,
    /// The scheduler has not answered yet.
    pub(super) in_flight: bool,
    pub(super) looked: Now,
    pub(super) cpu_secs: f64,
    pub(super) host: Usage,
}

impl Beats {
    pub(super) fn new(now: Now) -> Self {
        Self {
            every_us: FIRST_EVERY_US,
            due: now.plus_us(FIRST_EVERY_US),
            memory_due: now,
            keep_alive_due: now.plus_us(KEEP_ALIVE_US),
            trim_due: now,
            asked: None,
            in_flight: false,
            looked: now,
            cpu_secs: 0.0,
            host: Usage::look(),
        }
    }
}
