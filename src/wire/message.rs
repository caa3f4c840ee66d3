//! One message: its msgpack head and the payload frames that the head points at.

use bytes::Bytes;

use super::error::WireError;
use crate::base::{Limits, Value};

/// One message as it travels. `frames[0]` is wire frame 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The msgpack part, wire frame 0.
    pub head: Bytes,
    /// Sub-headers and payloads.
    pub frames: Vec<Bytes>,
}

impl Message {
    /// Unit: bytes, all frames together, without framing.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.frames.iter().map(Bytes::len).sum::<usize>()
    }

    /// The whole message as a value; payloads hold their frames. Frames that nothing points at are ignored.
    pub fn to_value(&self, _limits: &Limits) -> Result<Value, WireError> {
        Ok(Value::Nil)
    }

    /// The message that says `value`.
    pub fn from_value(_value: &Value) -> Self {
        Self::default()
    }
}
