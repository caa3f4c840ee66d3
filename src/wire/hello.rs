//! The handshake. Both sides write theirs first, then read.
//!
//! Source: `distributed/comm/core.py`, `Comm.handshake_info`.

use super::error::WireError;
use super::message::Message;
use crate::base::{Limits, Text, Value};

/// What a side says about itself when a connection opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Name of a codec; rask always says none, and then no side compresses.
    pub compression: Option<Text>,
    /// Python version: major, minor, micro.
    pub python: [u32; 3],
    /// Highest pickle protocol.
    pub pickle_protocol: u32,
}

impl Default for Handshake {
    fn default() -> Self {
        Self { compression: None, python: [3, 11, 0], pickle_protocol: 5 }
    }
}

impl Handshake {
    /// The message that says this.
    pub fn encode(&self) -> Message {
        let python = self.python.iter().map(|&part| Value::Int(i64::from(part))).collect();
        Message::from_value(&Value::map([
            ("compression", self.compression.clone().into()),
            ("python", Value::Array(python)),
            ("pickle-protocol", Value::Int(i64::from(self.pickle_protocol))),
        ]))
    }

    /// Errors: not a handshake. A peer without a pickle protocol is none; the rest may be missing.
    pub fn decode(message: &Message, limits: &Limits) -> Result<Self, WireError> {
        let wrong = WireError::Unexpected { what: "a handshake" };
        let value = message.to_value(limits)?;
        let pickle_protocol = value.field("pickle-protocol").and_then(Value::as_i64).ok_or(wrong)?;
        let part = |at: usize| {
            let part = value.field("python").and_then(Value::items).and_then(|parts| parts.get(at));
            part.and_then(Value::as_i64).and_then(|part| u32::try_from(part).ok()).unwrap_or(0)
        };
        Ok(Self {
            compression: value.field("compression").and_then(Value::as_str).map(Text::from),
            python: [part(0), part(1), part(2)],
            pickle_protocol: u32::try_from(pickle_protocol).map_err(|_| wrong)?,
        })
    }
}
