//! Messages as trees of values, for what is rare.

use super::encoder::Encoder;
use super::error::WireError;
use super::message::Message;
use super::msgpack::Cursor;
use super::resolve::Resolver;
use crate::base::{Limits, Value};

impl Message {
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
