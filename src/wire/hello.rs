//! The handshake. Both sides write theirs first, then read.

use super::error::WireError;
use super::message::Message;
use crate::base::{Limits, Text};

/// What a side says about itself when a connection opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Name of a codec; rask always says none.
    pub compression: Option<Text>,
    /// Python version: major, minor, micro.
    pub python: [u32; 3],
    /// Highest pickle protocol.
    pub pickle_protocol: u32,
}

impl Default for Hello {
    fn default() -> Self {
        Self { compression: None, python: [3, 11, 0], pickle_protocol: 5 }
    }
}

impl Hello {
    /// The message that says this.
    pub fn encode(&self) -> Message {
        Message::default()
    }

    /// Errors: not a handshake.
    pub fn decode(_message: &Message, _limits: &Limits) -> Result<Self, WireError> {
        Err(WireError::Unexpected { what: "a handshake" })
    }
}
