//! What can go wrong between us and the Python side, users' own exceptions aside.

use std::fmt;
use std::time::Duration;

use crate::base::Blame;
use crate::base::Failure;
use crate::base::PyError;
use crate::base::Text;

/// Why pyhost gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PyhostError {
    /// The process could not be started.
    Start {
        /// What the operating system said.
        reason: Text,
    },
    /// The process ended while it was at work, by itself or by what it was made to run.
    Died {
        /// What it worked on.
        op: Text,
        /// Its process id.
        pid: u32,
        /// Exit code or signal.
        status: Text,
        /// The last lines it wrote to standard error.
        last_words: Text,
    },
    /// The process took longer than allowed and was killed.
    Deadline {
        /// What it worked on.
        op: Text,
        /// How long it may take.
        limit: Duration,
        /// The last lines it wrote to standard error.
        last_words: Text,
    },
    /// An answer that says nothing we understand.
    Reply {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The Python side has been shut down.
    Closed,
}

impl PyhostError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Start { .. } | Self::Deadline { .. } => Blame::World,
            Self::Died { .. } => Blame::Caller,
            Self::Reply { .. } | Self::Closed => Blame::Ours,
        }
    }
}

impl fmt::Display for PyhostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { reason } => write!(f, "pyhost, the Python side of the scheduler, could not start: {reason}"),
            Self::Died { op, pid, status, last_words } => {
                write!(f, "pyhost (process {pid}), the Python side of the scheduler, ended with {status} ")?;
                write!(f, "while it worked on {op:?}{}", Words(last_words))
            }
            Self::Deadline { op, limit, last_words } => {
                write!(f, "pyhost, the Python side of the scheduler, was killed: ")?;
                write!(f, "{op:?} took longer than {} s{}", limit.as_secs_f64(), Words(last_words))
            }
            Self::Reply { what } => write!(f, "pyhost, the Python side of the scheduler, gave an odd answer: {what}"),
            Self::Closed => f.write_str("pyhost, the Python side of the scheduler, has been shut down"),
        }
    }
}

struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last words:\n{}", self.0) }
    }
}

impl From<PyhostError> for Failure {
    fn from(error: PyhostError) -> Self {
        Self::Raised(PyError::builtin("RuntimeError", error.to_string()))
    }
}
