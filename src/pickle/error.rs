//! Why a pickle could not be read inertly.

use std::fmt;

use crate::base::Blame;

/// Why bytes did not become nodes, or a node did not become a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickleError {
    /// The bytes end inside an opcode or before STOP.
    Cut {
        /// Where. Unit: bytes from the start.
        at: usize,
    },
    /// An opcode that the reader does not know, or that only real Python can carry out.
    Opcode {
        opcode: u8,
        /// Where. Unit: bytes from the start.
        at: usize,
    },
    /// An opcode asks for something that is not there: an empty stack, an unknown memo slot, a missing buffer.
    Broken {
        /// Where. Unit: bytes from the start.
        at: usize,
    },
    /// More nodes, or deeper nesting, than is read.
    TooMuch {
        /// What there is a limit of.
        limit: u32,
    },
    /// The pickle is fine but only Python can say what it means.
    NeedsPython(&'static str),
}

impl PickleError {
    /// Whoever wrote the pickle.
    pub const fn blame(&self) -> Blame {
        Blame::Peer
    }
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { at } => write!(f, "the pickle is cut short at byte {at}"),
            Self::Opcode { opcode, at } => write!(f, "pickle opcode {opcode:#04x} at byte {at} is not read"),
            Self::Broken { at } => write!(f, "the pickle asks for something it does not have at byte {at}"),
            Self::TooMuch { limit } => write!(f, "the pickle goes past the limit of {limit}"),
            Self::NeedsPython(what) => write!(f, "the pickle needs Python: {what}"),
        }
    }
}
