//! When a child that ended is started again. Pure: exits in, decisions out.

/// Lived this long: whatever went wrong is not a failure to start. Longer than Dask's connect timeout of 30 s.
const STEADY_MS: u64 = 60_000;
/// Pause after the first failure; doubled after each further one.
const FIRST_PAUSE_MS: u64 = 500;
/// Longest pause: a person who has mended the cause should not wait long.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// Which ends are followed by a new start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartRule {
    /// None.
    Never,
    /// Signals only: an exit code, even a bad one, was the child's own decision.
    Crash,
    /// Signals and exit codes other than 0.
    Failure,
    /// All.
    Always,
}

/// How a child ended, as far as the decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// Exit code 0.
    Fine,
    /// Another exit code.
    Failed,
    /// A signal.
    Crashed,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A new start. Unit: milliseconds from now.
    After(u64),
    /// Nothing: this end was final.
    Done,
    /// Nothing: it failed too often in a row.
    GaveUp,
}

/// Restarts of one child.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    restart: RestartRule,
    failures_max: Option<u32>,
    failures: u32,
}

impl Policy {
    /// `failures_max`: give up at the so-manieth failure in a row. None: never.
    pub const fn new(restart: RestartRule, failures_max: Option<u32>) -> Self {
        Self { restart, failures_max, failures: 0 }
    }

    /// The child had begun its work: its end is no failure to start, however soon it came.
    pub const fn had_started(&mut self) {
        self.failures = 0;
    }

    /// The child ended after `lived_ms`.
    pub fn on_end(&mut self, end: ProcessEnd, lived_ms: u64) -> Next {
        let again = match self.restart {
            RestartRule::Never => false,
            RestartRule::Crash => end == ProcessEnd::Crashed,
            RestartRule::Failure => end != ProcessEnd::Fine,
            RestartRule::Always => true,
        };
        if !again {
            return Next::Done;
        }
        if lived_ms >= STEADY_MS {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures_max.is_some_and(|max| self.failures >= max) {
            return Next::GaveUp;
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        Next::After((FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS))
    }
}
