//! One message: its msgpack head and the payload frames that the head points at.

use bytes::Bytes;

use super::encoder::Encoder;
use super::error::WireError;
use super::msgpack::Cursor;
use super::resolve::Resolver;
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
    ///
    /// Small payloads are copied out of the read buffer, so the value may be kept.
    pub fn to_value(&self, limits: &Limits) -> Result<Value, WireError> {
        let mut cursor = Cursor::new(&self.head);
        let value = Resolver::new(&self.head, &self.frames, limits).value(&mut cursor)?;
        cursor.finish()?;
        Ok(value)
    }

    /// The message that says `value`. Payload frames are shared, not copied.
    pub fn from_value(value: &Value) -> Self {
        let mut encoder = Encoder::new();
        encoder.put_value(value);
        encoder.finish()
    }
}
