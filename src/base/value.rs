//! A message value as data: what msgpack can say, plus payloads that stay closed.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Shared text: addresses, names, topics.
pub type Text = Arc<str>;

/// One serialized or pickled payload, exactly as it came: a msgpack sub-header frame and its payload frames.
/// Forwarded by reference, never decoded. Source: `distributed/protocol/core.py`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// The sub-header frame (msgpack; names the serializer and the number of payload frames).
    pub head: Bytes,
    /// The payload frames that the sub-header announces.
    pub frames: Vec<Bytes>,
}

impl Opaque {
    /// Unit: bytes, header included.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.frames.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A pickle and the out-of-band buffers it refers to, in the order it asks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickledPart {
    /// The pickle, from PROTO to STOP.
    pub pickle: Bytes,
    /// Buffers for its NEXT_BUFFER opcodes.
    pub buffers: Vec<Bytes>,
}

/// Anything a message can hold. Lists and tuples are one thing on the wire.
///
/// A Python set travels as the map `{"__Set__": true, "as-list": [...]}`; see [`Value::items`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `None`.
    #[default]
    Nil,
    /// `True` or `False`.
    Bool(bool),
    /// Any integer that fits.
    Int(i64),
    /// Only integers above `i64::MAX`.
    UInt(u64),
    Float(f64),
    /// Text.
    Str(Text),
    /// Bytes.
    Bin(Bytes),
    /// List or tuple.
    Array(Vec<Value>),
    /// Map in the order it was sent; keys may be anything.
    Map(Vec<(Value, Value)>),
    /// `{"__Serialized__": i}` with its frames.
    Serialized(Arc<Opaque>),
    /// `{"__Pickled__": i}` with its frames.
    Pickled(Arc<Opaque>),
}

impl Value {
    /// Text from anything that is text.
    pub fn str(text: impl Into<Text>) -> Self {
        Self::Str(text.into())
    }

    /// A map with text keys, in the order given.
    pub fn map<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::Map(fields.into_iter().map(|(name, value)| (Self::str(name), value)).collect())
    }

    /// The field `name` of a map; `None` for another kind of value or a missing field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Map(fields) => fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The field `name`, unless it is missing or nil.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_nil())
    }

    /// Is this `None`?
    pub const fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if it is bytes.
    pub const fn as_bin(&self) -> Option<&Bytes> {
        match self {
            Self::Bin(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The truth value, if it is one (integers as Python counts them).
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Int(i) => Some(*i != 0),
            _ => None,
        }
    }

    /// The integer, if it is one (a whole float or a bool counts).
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            Self::UInt(u) => i64::try_from(*u).ok(),
            Self::Bool(b) => Some(i64::from(*b)),
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(*f as i64),
            _ => None,
        }
    }

    /// The number as a float, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::UInt(u) => Some(*u as f64),
            Self::Float(f) => Some(*f),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            Self::Map(_) if self.get("__Set__").is_some() => self.get("as-list").and_then(Self::items),
            _ => None,
        }
    }

    /// The fields of a map.
    pub fn fields(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Map(fields) => Some(fields),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}
impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::Str(text)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}
impl From<u64> for Value {
    fn from(u: u64) -> Self {
        i64::try_from(u).map_or(Self::UInt(u), Self::Int)
    }
}
impl From<usize> for Value {
    fn from(u: usize) -> Self {
        Self::from(u as u64)
    }
}
impl From<f64> for Value {
    fn from(f: f64) -> Self {
        Self::Float(f)
    }
}
impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}
