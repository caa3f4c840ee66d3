//! Turns msgpack into values, with payload references replaced by their frames.

use std::sync::Arc;

use bytes::Bytes;

use super::error::WireError;
use super::frame::BIG_FRAME_BYTES;
use super::msgpack::{Cursor, Marker};
use crate::base::{Limits, Opaque, Value};

/// Deepest nesting whatever [`Limits`] says: reading and dropping a value recurses, and a thread's stack is finite.
const DEPTH_MAX: u32 = 512;

/// Reads values of one message.
#[derive(Clone, Copy, Debug)]
pub struct Resolver<'a> {
    head: &'a Bytes,
    frames: &'a [Bytes],
    depth_max: u32,
}

impl<'a> Resolver<'a> {
    /// For values in `head` that refer to `frames` (the first of which is wire frame 1).
    pub fn new(head: &'a Bytes, frames: &'a [Bytes], limits: &Limits) -> Self {
        Self { head, frames, depth_max: limits.depth.min(DEPTH_MAX) }
    }

    /// The value at the cursor.
    pub fn value(&self, cursor: &mut Cursor<'a>) -> Result<Value, WireError> {
        self.value_at(cursor, 0)
    }

    /// The value that `raw`, a part of the head, holds.
    pub fn value_of(&self, raw: &'a [u8]) -> Result<Value, WireError> {
        self.value_at(&mut Cursor::new(raw), 0)
    }

    fn value_at(&self, cursor: &mut Cursor<'a>, depth: u32) -> Result<Value, WireError> {
        Ok(match cursor.token()? {
            Marker::Nil => Value::Nil,
            Marker::Bool(b) => Value::Bool(b),
            Marker::Int(i) => Value::Int(i),
            Marker::UInt(u) => Value::UInt(u),
            Marker::Float(f) => Value::Float(f),
            Marker::Str(bytes) => Value::str(cursor.text(bytes)?),
            Marker::Bin(bytes) => Value::Bin(self.own(bytes)),
            Marker::Array(len) => {
                self.check_depth(depth)?;
                let mut items = Vec::with_capacity(bounded(len, cursor));
                for _ in 0..len {
                    items.push(self.value_at(cursor, depth.saturating_add(1))?);
                }
                Value::Array(items)
            }
            Marker::Map(len) => {
                self.check_depth(depth)?;
                if len == 1
                    && let Some(payload) = self.payload(cursor)?
                {
                    return Ok(payload);
                }
                let mut fields = Vec::with_capacity(bounded(len, cursor));
                for _ in 0..len {
                    let depth = depth.saturating_add(1);
                    fields.push((self.value_at(cursor, depth)?, self.value_at(cursor, depth)?));
                }
                Value::Map(fields)
            }
        })
    }

    const fn check_depth(&self, depth: u32) -> Result<(), WireError> {
        if depth < self.depth_max { Ok(()) } else { Err(WireError::Deep { limit: self.depth_max }) }
    }

    /// The payload if the only pair of the map at the cursor is a reference; otherwise the cursor stays.
    fn payload(&self, cursor: &mut Cursor<'a>) -> Result<Option<Value>, WireError> {
        let mut ahead = *cursor;
        let name = ahead.token()?;
        let pickled = match name {
            Marker::Str(b"__Serialized__") => false,
            Marker::Str(b"__Pickled__") => true,
            _ => return Ok(None),
        };
        let Marker::Int(frame) = ahead.token()? else { return Ok(None) };
        *cursor = ahead;
        let opaque = Arc::new(self.opaque(frame)?);
        Ok(Some(if pickled { Value::Pickled(opaque) } else { Value::Serialized(opaque) }))
    }

    fn opaque(&self, frame: i64) -> Result<Opaque, WireError> {
        let missing = WireError::NoFrame { frame: frame.max(0) as u64, frames: self.frames.len().saturating_add(1) };
        let at = usize::try_from(frame).ok().and_then(|frame| frame.checked_sub(1)).ok_or(missing)?;
        let head = self.frames.get(at).ok_or(missing)?;
        let count = sub_frames(head)?;
        let end = at.checked_add(1).and_then(|from| from.checked_add(count)).ok_or(missing)?;
        let frames = self.frames.get(at.saturating_add(1)..end).ok_or(missing)?;
        Ok(owned_opaque(head, frames))
    }

    /// Bytes of the head that may be kept for long: copied, unless they are most of it anyway.
    fn own(&self, bytes: &'a [u8]) -> Bytes {
        if bytes.len() > self.head.len() / 2 && bytes.len() > BIG_FRAME_BYTES {
            self.head.slice_ref(bytes)
        } else {
            Bytes::copy_from_slice(bytes)
        }
    }
}

/// How much to reserve for `len` announced values: no more than the bytes left could hold, and little at first.
pub fn bounded(len: usize, cursor: &Cursor<'_>) -> usize {
    len.min(cursor.left()).min(1024)
}

/// `num-sub-frames` of a sub-header. Missing: none.
fn sub_frames(head: &[u8]) -> Result<usize, WireError> {
    match field(head, b"num-sub-frames")? {
        None => Ok(0),
        Some(Marker::Int(count)) => {
            usize::try_from(count).map_err(|_| WireError::Unexpected { what: "a count of sub-frames" })
        }
        Some(_) => Err(WireError::Unexpected { what: "a count of sub-frames" }),
    }
}

/// The first token of a field of a sub-header. `name`: shorter than 32 bytes.
fn field<'a>(head: &'a [u8], name: &[u8]) -> Result<Option<Marker<'a>>, WireError> {
    let mut cursor = Cursor::new(head);
    let Marker::Map(len) = cursor.token()? else {
        return Err(WireError::Unexpected { what: "a map as sub-header" });
    };
    for _ in 0..len {
        // A text of this length has one byte before it.
        if cursor.span()?.get(1..) == Some(name) {
            return cursor.token().map(Some);
        }
        cursor.span()?;
    }
    Ok(None)
}

/// Whether a payload with this sub-header is no value, but the reason why its holder could not serialise the value.
///
/// Source: `distributed/protocol/serialize.py`, `serialize` with `on_error="message"`.
pub fn is_error(head: &[u8]) -> bool {
    matches!(field(head, b"serializer"), Ok(Some(Marker::Str(b"error"))))
}

/// The payload on its own: small frames are slices of the connection's read buffer, and a payload may live long, so
/// they move into one buffer of their own. Big frames have theirs already (`frame.rs`).
fn owned_opaque(head: &Bytes, frames: &[Bytes]) -> Opaque {
    let small = |frame: &Bytes| frame.len() <= BIG_FRAME_BYTES;
    let size = std::iter::once(head).chain(frames).filter(|frame| small(frame)).map(Bytes::len).sum();
    let mut buffer = Vec::with_capacity(size);
    for frame in std::iter::once(head).chain(frames).filter(|frame| small(frame)) {
        buffer.extend_from_slice(frame);
    }
    let mut buffer = Bytes::from(buffer);
    let mut own = |frame: &Bytes| if small(frame) { buffer.split_to(frame.len()) } else { frame.clone() };
    let head = own(head);
    Opaque { head, frames: frames.iter().map(own).collect() }
}
