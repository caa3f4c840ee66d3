//! Writes one message straight into its bytes, without a value in between.

use bytes::Bytes;

use super::message::Message;
use super::msgpack;
use crate::base::{Key, Opaque, Value};

/// Appends msgpack and payload frames. The caller sees to it that announced lengths are kept.
#[derive(Debug, Default)]
pub struct Encoder {
    pub(super) head: Vec<u8>,
    frames: Vec<Bytes>,
    frames_bytes: usize,
    /// Size of the last head: the next one is probably like it.
    last_bytes: usize,
}

impl Encoder {
    /// An encoder with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes nil.
    pub fn put_nil(&mut self) {
        msgpack::put_nil(&mut self.head);
    }

    /// Writes a truth value.
    pub fn put_bool(&mut self, b: bool) {
        msgpack::put_bool(&mut self.head, b);
    }

    /// Writes an integer.
    pub fn put_i64(&mut self, number: i64) {
        msgpack::put_i64(&mut self.head, number);
    }

    /// Writes an integer.
    pub fn put_u64(&mut self, number: u64) {
        msgpack::put_u64(&mut self.head, number);
    }

    /// Writes a float, also when it is whole.
    pub fn put_f64(&mut self, number: f64) {
        msgpack::put_f64(&mut self.head, number);
    }

    /// Writes text.
    pub fn put_str(&mut self, text: &str) {
        msgpack::put_str(&mut self.head, text);
    }

    /// Writes bytes.
    pub fn put_bin(&mut self, bytes: &[u8]) {
        msgpack::put_bin(&mut self.head, bytes);
    }

    /// Begins an array of `len` values, which must follow.
    pub fn put_array(&mut self, len: usize) {
        msgpack::put_array(&mut self.head, len);
    }

    /// Begins a map of `len` pairs, which must follow.
    pub fn put_map(&mut self, len: usize) {
        msgpack::put_map(&mut self.head, len);
    }

    /// Writes msgpack unchanged.
    pub fn put_raw(&mut self, msgpack: &[u8]) {
        self.head.extend_from_slice(msgpack);
    }

    /// Writes a key.
    pub fn put_key(&mut self, key: &Key) {
        self.put_raw(key.as_bytes());
    }

    /// Writes an array of keys.
    pub fn put_keys(&mut self, keys: &[Key]) {
        self.put_array(keys.len());
        for key in keys {
            self.put_key(key);
        }
    }

    /// Writes a `Pickled` payload; its frames are shared, not copied.
    pub fn put_pickled(&mut self, opaque: &Opaque) {
        self.put_payload("__Pickled__", opaque);
    }

    /// Writes a `Serialized` payload; its frames are shared, not copied.
    pub fn put_serialized(&mut self, opaque: &Opaque) {
        self.put_payload("__Serialized__", opaque);
    }

    /// Writes any value.
    pub fn put_value(&mut self, value: &Value) {
        match value {
            Value::Nil => self.put_nil(),
            Value::Bool(b) => self.put_bool(*b),
            Value::Int(i) => self.put_i64(*i),
            Value::UInt(u) => self.put_u64(*u),
            Value::Float(f) => self.put_f64(*f),
            Value::Str(text) => self.put_str(text),
            Value::Bin(bytes) => self.put_bin(bytes),
            Value::Array(items) => {
                self.put_array(items.len());
                for item in items {
                    self.put_value(item);
                }
            }
            Value::Map(fields) => {
                self.put_map(fields.len());
                for (name, field) in fields {
                    self.put_value(name);
                    self.put_value(field);
                }
            }
            Value::Serialized(opaque) => self.put_serialized(opaque),
            Value::Pickled(opaque) => self.put_pickled(opaque),
        }
    }

    fn put_payload(&mut self, kind: &str, opaque: &Opaque) {
        self.put_map(1);
        self.put_str(kind);
        // Wire frame 0 is the head.
        self.put_u64((self.frames.len() as u64).saturating_add(1));
        self.frames.push(opaque.head.clone());
        self.frames.extend(opaque.frames.iter().cloned());
        self.frames_bytes = self.frames_bytes.saturating_add(opaque.size_bytes());
    }

    /// Unit: bytes, frames included.
    pub fn len_bytes(&self) -> usize {
        self.head.len().saturating_add(self.frames_bytes)
    }

    /// Nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The message written so far; the encoder is empty afterwards and may be used again.
    pub fn finish(&mut self) -> Message {
        self.last_bytes = self.head.len();
        self.frames_bytes = 0;
        Message { head: std::mem::take(&mut self.head).into(), frames: std::mem::take(&mut self.frames) }
    }

    /// Makes room for a head like the last one, within reason.
    pub(super) fn warm_up(&mut self) {
        self.head.reserve(self.last_bytes.clamp(64, 64 << 10));
    }
}
