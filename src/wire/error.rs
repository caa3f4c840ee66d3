//! Why bytes did not become a message.

use std::fmt;

use crate::base::Blame;

/// Why bytes from a peer did not become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// More announced than [`crate::base::Limits`] allows. Nothing was allocated for it.
    TooLong { what: &'static str, announced: u64, limit: u64 },
    /// The bytes end before the value does.
    Cut { at_byte: usize },
    /// Bytes are left over after the value.
    Trailing { bytes: usize },
    /// Arrays and maps nested deeper than allowed.
    Deep { limit: u32 },
    /// A byte that starts no msgpack value, or an extension type, which Dask never sends.
    BadMarker { marker: u8, at_byte: usize },
    /// Text that is not UTF-8.
    Text { at_byte: usize },
    /// A payload refers to a frame that is not there.
    NoFrame { frame: u64, frames: usize },
    /// The value is of another kind than the protocol says.
    Unexpected { what: &'static str },
}

impl WireError {
    /// Always the other end of the connection.
    pub const fn blame(&self) -> Blame {
        Blame::Peer
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { what, announced, limit } => write!(f, "{what}: {announced} announced, {limit} allowed"),
            Self::Cut { at_byte } => write!(f, "the message is cut short at byte {at_byte}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes are left over after the message"),
            Self::Deep { limit } => write!(f, "the message nests deeper than {limit}"),
            Self::BadMarker { marker, at_byte } => write!(f, "byte {at_byte} ({marker:#04x}) starts no known value"),
            Self::Text { at_byte } => write!(f, "the text before byte {at_byte} is not UTF-8"),
            Self::NoFrame { frame, frames } => write!(f, "frame {frame} is missing, there are {frames}"),
            Self::Unexpected { what } => write!(f, "{what} expected"),
        }
    }
}

impl std::error::Error for WireError {}
