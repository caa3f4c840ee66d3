//! What can go wrong between us and the Python side, and what users' code raised there.

use std::fmt;
use std::time::Duration;

use crate::base::Blame;
use crate::base::Failure;
use crate::base::PyError;
use crate::base::Text;

/// Why pyhost gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PyhostError {
    /// There is no Python to ask: the process could not be started, or it never came as far as a first answer.
    Start {
        /// What the operating system said, or how the process ended.
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

    /// The same, of a process that was asked for nothing yet: it is the interpreter that does not work.
    pub(super) fn while_starting(self) -> Self {
        let reason = match self {
            Self::Start { reason } => reason,
            Self::Died { status, last_words, .. } => format!("it ended with {status}{}", Words(&last_words)).into(),
            Self::Deadline { limit, last_words, .. } => {
                format!("it took longer than {} s{}", limit.as_secs_f64(), Words(&last_words)).into()
            }
            Self::Reply { what } => format!("its first answer was odd: {what}").into(),
            Self::Closed => return Self::Closed,
        };
        Self::Start { reason }
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

/// Why a request to Python has no result.
#[derive(Clone, Debug, PartialEq)]
pub enum AskError {
    /// Python gave no answer.
    NoAnswer(PyhostError),
    /// What it was asked to do raised.
    Raised(Failure),
}

impl From<PyhostError> for AskError {
    fn from(error: PyhostError) -> Self {
        Self::NoAnswer(error)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoAnswer(error) => error.into(),
            AskError::Raised(failure) => failure,
        }
    }
}

impl From<PyhostError> for Failure {
    fn from(error: PyhostError) -> Self {
        Self::Raised(PyError::builtin("RuntimeError", error.to_string()))
    }
}
