//! Why bytes did not become a message.

use crate::base::Blame;

/// Why bytes from a peer did not become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More announced than [`crate::base::Limits`] allows. Nothing was allocated for it.
    #[error("{what}: {announced} announced, {limit} allowed")]
    TooLong { what: &'static str, announced: u64, limit: u64 },
    /// The bytes end before the value does.
    #[error("the message is cut short at byte {at_byte}")]
    Cut { at_byte: usize },
    /// Bytes are left over after the value.
    #[error("{bytes} bytes are left over after the message")]
    Trailing { bytes: usize },
    /// Arrays and maps nested deeper than allowed.
    #[error("the message nests deeper than {limit}")]
    Deep { limit: u32 },
    /// A byte that starts no msgpack value, or an extension type, which Dask never sends.
    #[error("byte {at_byte} ({marker:#04x}) starts no known value")]
    BadMarker { marker: u8, at_byte: usize },
    /// Text that is not UTF-8.
    #[error("the text before byte {at_byte} is not UTF-8")]
    Text { at_byte: usize },
    /// A payload refers to a frame that is not there.
    #[error("frame {frame} is missing, there are {frames}")]
    NoFrame { frame: u64, frames: usize },
    /// The value is of another kind than the protocol says.
    #[error("{what} expected")]
    Unexpected { what: &'static str },
}

impl WireError {
    /// Always the other end of the connection.
    pub const fn blame(&self) -> Blame {
        Blame::Peer
    }
}
