//! When a busy stream writes: a rule over times, without a clock.

/// How long stream items gather before they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    window_us: u64,
    window_max_us: u64,
}

impl Pace {
    /// For clients: 2 ms, growing to 10 ms under load. Every message costs a Python client about 250 us.
    pub const fn client() -> Self {
        Self { window_us: 2_000, window_max_us: 10_000 }
    }

    /// For workers: written at every kick.
    pub const fn at_once() -> Self {
        Self { window_us: 0, window_max_us: 0 }
    }
}
