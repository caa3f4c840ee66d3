//! What a person reads when a command failed.

use std::fmt;

use crate::base::{Blame, printable_lines};

/// One line: what failed and why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    what: String,
    remedy: Option<String>,
    code: u8,
}

impl CommandError {
    /// The machine, the network or another program failed us. Exit code 1.
    pub fn world(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), remedy: None, code: 1 }
    }

    /// Wrong usage: a flag, a variable or a configuration file. Exit code 2.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), remedy: None, code: 2 }
    }

    /// Exit code by who must act.
    pub fn blame(blame: Blame, what: impl fmt::Display) -> Self {
        match blame {
            Blame::Caller => Self::usage(what),
            Blame::Peer | Blame::World | Blame::Ours => Self::world(what),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// For the shell.
    pub const fn exit_code(&self) -> u8 {
        self.code
    }
}

/// The words may be another program's: they are safe for a terminal.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}; {}", printable_lines(&self.what), printable_lines(remedy)),
            None => f.write_str(&printable_lines(&self.what)),
        }
    }
}

impl std::error::Error for CommandError {}
