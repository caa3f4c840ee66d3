//! Small numbers that name things inside one scheduler, and its time.

use serde::{Deserialize, Serialize};

/// Time since the scheduler was made. Never goes back.
///
/// Unit: microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Now(pub u64);

impl Now {
    /// The time `micros` later; saturates instead of wrapping.
    pub const fn plus_us(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The time `seconds` later. Negative or not-a-number counts as zero, the far future saturates.
    pub fn plus_secs(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds.max(0.0) * 1e6) as u64))
    }

    /// Seconds since `earlier`; zero when `earlier` is later.
    pub fn secs_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

macro_rules! slot_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            /// Place in the arena.
            pub slot: u32,
            /// How often that place was reused before: a stale id names nobody.
            pub generation: u32,
        }
    };
}

slot_id!(
    /// A task inside one scheduler.
    TaskId
);
slot_id!(
    /// A registered worker. A worker that comes back under its old address is another id.
    WorkerId
);
slot_id!(
    /// A client, real (with a stream) or pseudo (`fire-and-forget`, `queue-x`, `published-x`).
    ClientId
);

/// One sending of a `compute-task`; goes over the wire as `run_id`.
pub type RunId = i64;

/// Names a request that waits for an answer; chosen by the driver.
pub type CallId = u64;

/// Names a submitted graph while it is being read; chosen by the driver.
pub type TicketId = u64;
