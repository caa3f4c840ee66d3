//! Task keys. Two keys are equal exactly when Python says so: `1 == 1.0 == True`, but `"x" != b"x"`.
//!
//! A key is kept as the msgpack bytes of its canonical spelling, so that hashing, comparing and writing it to a
//! wire are plain byte work, and reading one that is spelled canonically (nearly all are) needs no allocation.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::value::Value;

/// A task key: text, number, bytes, or a (nested) tuple of these. Cloning counts a reference.
///
/// Source: `dask/core.py`, `iskey`; equality as Python's `==`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(Arc<[u8]>);

/// Why a value is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Nil, a map, a payload: not a thing that can be a key.
    Kind,
    /// The bytes end too early or go on too long.
    Cut,
    /// Tuples nested deeper than 64.
    Deep,
    /// Text that is not UTF-8.
    Text,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "a key must be a str, int, float, bytes or a tuple of these",
            Self::Cut => "the bytes of a key are cut short or too long",
            Self::Deep => "a key nests tuples deeper than 64",
            Self::Text => "a key holds text that is not UTF-8",
        })
    }
}

/// Keys in the wild nest two or three deep; this bounds recursion.
pub const DEPTH_MAX: u32 = 64;

/// What a key is made of, for reading it.
#[derive(Clone, Copy, Debug)]
pub enum KeyPart<'a> {
    Str(&'a str),
    /// `int` (also whole floats and bools).
    Int(i64),
    /// `int` above `i64::MAX`.
    UInt(u64),
    /// `float` that is not a whole number.
    Float(f64),
    /// `bytes`.
    Bin(&'a [u8]),
    Tuple(KeyParts<'a>),
}

/// The elements of a tuple key.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for KeyParts<'a> {
    type Item = KeyPart<'a>;
    fn next(&mut self) -> Option<KeyPart<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (part, rest) = read_part(self.rest)?;
        self.rest = match part {
            KeyPart::Tuple(parts) => skip_parts(parts)?,
            KeyPart::Str(_) | KeyPart::Int(_) | KeyPart::UInt(_) | KeyPart::Float(_) | KeyPart::Bin(_) => rest,
        };
        Some(part)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

fn skip_parts(mut parts: KeyParts<'_>) -> Option<&[u8]> {
    while parts.left > 0 {
        parts.next()?;
    }
    Some(parts.rest)
}

impl Key {
    /// A text key.
    pub fn text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 5);
        put_str(&mut bytes, text);
        Self(bytes.into())
    }

    /// An integer key.
    pub fn int(number: i64) -> Self {
        let mut bytes = Vec::with_capacity(9);
        put_int(&mut bytes, number);
        Self(bytes.into())
    }

    /// A tuple of keys.
    pub fn tuple(items: &[Key]) -> Self {
        let mut bytes = Vec::with_capacity(5 + items.iter().map(|key| key.0.len()).sum::<usize>());
        put_array(&mut bytes, items.len());
        for item in items {
            bytes.extend_from_slice(&item.0);
        }
        Self(bytes.into())
    }

    /// A key from any spelling of it in msgpack. Errors: not a key, cut short, bytes left over.
    pub fn from_msgpack(raw: &[u8]) -> Result<Self, KeyError> {
        if is_canonical_str(raw) {
            return std::str::from_utf8(str_body(raw)).map(|_| Self(raw.into())).map_err(|_| KeyError::Text);
        }
        let mut bytes = Vec::with_capacity(raw.len());
        let rest = canonicalize(raw, &mut bytes, 0)?;
        if rest.is_empty() { Ok(Self(bytes.into())) } else { Err(KeyError::Cut) }
    }

    /// A key from a decoded value; `None` when the value can't be one.
    pub fn from_value(value: &Value) -> Option<Self> {
        let mut bytes = Vec::with_capacity(32);
        put_value(&mut bytes, value, 0)?;
        Some(Self(bytes.into()))
    }

    /// The key as a value, tuples as arrays.
    pub fn to_value(&self) -> Value {
        part_to_value(self.part())
    }

    /// The canonical msgpack bytes: what goes on the wire, and what maps look up by.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the key is made of.
    pub fn part(&self) -> KeyPart<'_> {
        read_part(&self.0).map_or(KeyPart::Tuple(KeyParts { rest: &[], left: 0 }), |(part, _)| part)
    }

    /// The text of a text key.
    pub fn as_text(&self) -> Option<&str> {
        match self.part() {
            KeyPart::Str(text) => Some(text),
            KeyPart::Int(_) | KeyPart::UInt(_) | KeyPart::Float(_) | KeyPart::Bin(_) | KeyPart::Tuple(_) => None,
        }
    }
}

/// The empty tuple, which is a valid key that nobody uses.
impl Default for Key {
    fn default() -> Self {
        Self::tuple(&[])
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The same as `<[u8] as Hash>::hash`, which `Borrow` demands.
        self.0.hash(state);
    }
}

/// `str(key)` for text, Python's `repr` for everything else.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part() {
            KeyPart::Str(text) => f.write_str(text),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part())
    }
}

impl Value {
    /// The value as a task key. Errors: not a key (nil, map, payload).
    pub fn as_key(&self) -> Option<Key> {
        Key::from_value(self)
    }

    /// A list, tuple or set of keys, or a single key standing for itself is *not* accepted.
    pub fn as_keys(&self) -> Option<Vec<Key>> {
        self.items()?.iter().map(Self::as_key).collect()
    }
}

/// Python's `repr`.
impl fmt::Display for KeyPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPart::Str(text) => repr_str(f, text),
            KeyPart::Int(number) => write!(f, "{number}"),
            KeyPart::UInt(number) => write!(f, "{number}"),
            KeyPart::Float(number) => write!(f, "{number:?}"),
            KeyPart::Bin(bytes) => write!(f, "b'{}'", bytes.escape_ascii()),
            KeyPart::Tuple(parts) => {
                f.write_str("(")?;
                for (at, part) in parts.enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{part}")?;
                }
                f.write_str(if parts.left == 1 { ",)" } else { ")" })
            }
        }
    }
}

fn repr_str(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    write!(f, "{quote}")?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    write!(f, "{quote}")
}

// ---- canonical msgpack, the part that keys need -------------------------------------------------------------

fn put_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=255 => out.extend_from_slice(&[0xd9, n as u8]),
        n @ 256..=65_535 => {
            out.push(0xda);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xdb);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        n @ 0..=255 => out.extend_from_slice(&[0xc4, n as u8]),
        n @ 256..=65_535 => {
            out.push(0xc5);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xc6);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn put_array(out: &mut Vec<u8>, len: usize) {
    match len {
        n @ 0..=15 => out.push(0x90 | n as u8),
        n @ 16..=65_535 => {
            out.push(0xdc);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xdd);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
}

fn put_uint(out: &mut Vec<u8>, number: u64) {
    match number {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        n @ 0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n @ 0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        n => {
            out.push(0xcf);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    match number {
        n @ 0.. => put_uint(out, n as u64),
        n @ -32..=-1 => out.push(n as u8),
        n @ -128..=-33 => out.extend_from_slice(&[0xd0, n as u8]),
        n @ -32_768..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(n as i16).to_be_bytes());
        }
        n @ -2_147_483_648..=-32_769 => {
            out.push(0xd2);
            out.extend_from_slice(&(n as i32).to_be_bytes());
        }
        n => {
            out.push(0xd3);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

fn put_float(out: &mut Vec<u8>, number: f64) {
    if number.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        return put_int(out, number as i64);
    }
    if number.fract() == 0.0 && number > 0.0 && number < 18_446_744_073_709_551_616.0 {
        return put_uint(out, number as u64);
    }
    out.push(0xcb);
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value, depth: u32) -> Option<()> {
    match value {
        Value::Str(text) => put_str(out, text),
        Value::Int(i) => put_int(out, *i),
        Value::UInt(u) => put_uint(out, *u),
        Value::Bool(b) => put_int(out, i64::from(*b)),
        Value::Float(f) => put_float(out, *f),
        Value::Bin(bytes) => put_bin(out, bytes),
        Value::Array(items) if depth < DEPTH_MAX => {
            put_array(out, items.len());
            for item in items {
                put_value(out, item, depth + 1)?;
            }
        }
        Value::Array(_) | Value::Nil | Value::Map(_) | Value::Serialized(_) | Value::Pickled(_) => return None,
    }
    Some(())
}

fn part_to_value(part: KeyPart<'_>) -> Value {
    match part {
        KeyPart::Str(text) => Value::str(text),
        KeyPart::Int(i) => Value::Int(i),
        KeyPart::UInt(u) => Value::UInt(u),
        KeyPart::Float(f) => Value::Float(f),
        KeyPart::Bin(bytes) => Value::Bin(bytes::Bytes::copy_from_slice(bytes)),
        KeyPart::Tuple(parts) => Value::Array(parts.map(part_to_value).collect()),
    }
}

fn is_canonical_str(raw: &[u8]) -> bool {
    match raw.first() {
        Some(&first @ 0xa0..=0xbf) => raw.len() == 1 + usize::from(first & 0x1f),
        Some(0xd9) => raw.get(1).is_some_and(|&n| n > 31 && raw.len() == 2 + usize::from(n)),
        _ => false,
    }
}

fn str_body(raw: &[u8]) -> &[u8] {
    let skip = if raw.first() == Some(&0xd9) { 2 } else { 1 };
    raw.get(skip..).unwrap_or_default()
}

fn take(raw: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    (raw.len() >= len).then(|| raw.split_at(len))
}

fn take_uint(raw: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (head, rest) = take(raw, width)?;
    Some((head.iter().fold(0u64, |n, &b| n << 8 | u64::from(b)), rest))
}

fn take_len(raw: &[u8], width: usize) -> Option<(usize, &[u8])> {
    let (n, rest) = take_uint(raw, width)?;
    Some((usize::try_from(n).ok()?, rest))
}

/// One value off the front; a tuple's `rest` is where its elements begin.
fn read_part(raw: &[u8]) -> Option<(KeyPart<'_>, &[u8])> {
    let (&first, rest) = raw.split_first()?;
    let text = |len: usize, rest| -> Option<(KeyPart<'_>, &[u8])> {
        let (body, rest) = take(rest, len)?;
        Some((KeyPart::Str(std::str::from_utf8(body).ok()?), rest))
    };
    let bin = |len: usize, rest| take(rest, len).map(|(body, rest)| (KeyPart::Bin(body), rest));
    let tuple = |left: usize, rest| Some((KeyPart::Tuple(KeyParts { rest, left }), rest));
    let uint = |(n, rest): (u64, _)| (i64::try_from(n).map_or(KeyPart::UInt(n), KeyPart::Int), rest);
    match first {
        0x00..=0x7f => Some((KeyPart::Int(i64::from(first)), rest)),
        0xe0..=0xff => Some((KeyPart::Int(i64::from(first as i8)), rest)),
        0xa0..=0xbf => text(usize::from(first & 0x1f), rest),
        0xd9 => take_len(rest, 1).and_then(|(n, rest)| text(n, rest)),
        0xda => take_len(rest, 2).and_then(|(n, rest)| text(n, rest)),
        0xdb => take_len(rest, 4).and_then(|(n, rest)| text(n, rest)),
        0xc4 => take_len(rest, 1).and_then(|(n, rest)| bin(n, rest)),
        0xc5 => take_len(rest, 2).and_then(|(n, rest)| bin(n, rest)),
        0xc6 => take_len(rest, 4).and_then(|(n, rest)| bin(n, rest)),
        0x90..=0x9f => tuple(usize::from(first & 0x0f), rest),
        0xdc => take_len(rest, 2).and_then(|(n, rest)| tuple(n, rest)),
        0xdd => take_len(rest, 4).and_then(|(n, rest)| tuple(n, rest)),
        0xcc => take_uint(rest, 1).map(uint),
        0xcd => take_uint(rest, 2).map(uint),
        0xce => take_uint(rest, 4).map(uint),
        0xcf => take_uint(rest, 8).map(uint),
        0xd0 => take_uint(rest, 1).map(|(n, rest)| (KeyPart::Int(i64::from(n as u8 as i8)), rest)),
        0xd1 => take_uint(rest, 2).map(|(n, rest)| (KeyPart::Int(i64::from(n as u16 as i16)), rest)),
        0xd2 => take_uint(rest, 4).map(|(n, rest)| (KeyPart::Int(i64::from(n as u32 as i32)), rest)),
        0xd3 => take_uint(rest, 8).map(|(n, rest)| (KeyPart::Int(n as i64), rest)),
        0xca => take_uint(rest, 4).map(|(n, rest)| (KeyPart::Float(f64::from(f32::from_bits(n as u32))), rest)),
        0xcb => take_uint(rest, 8).map(|(n, rest)| (KeyPart::Float(f64::from_bits(n)), rest)),
        0xc2 | 0xc3 => Some((KeyPart::Int(i64::from(first & 1)), rest)),
        _ => None,
    }
}

/// Appends the canonical spelling of the value at the front of `raw`; returns what follows it.
fn canonicalize<'a>(raw: &'a [u8], out: &mut Vec<u8>, depth: u32) -> Result<&'a [u8], KeyError> {
    if depth > DEPTH_MAX {
        return Err(KeyError::Deep);
    }
    let first = *raw.first().ok_or(KeyError::Cut)?;
    let Some((part, rest)) = read_part(raw) else {
        return Err(match first {
            0xa0..=0xbf | 0xd9..=0xdb => KeyError::Text,
            0xc0 | 0xc1 | 0x80..=0x8f | 0xde | 0xdf | 0xc7..=0xc9 | 0xd4..=0xd8 => KeyError::Kind,
            _ => KeyError::Cut,
        });
    };
    match part {
        KeyPart::Str(text) => put_str(out, text),
        KeyPart::Int(i) => put_int(out, i),
        KeyPart::UInt(u) => put_uint(out, u),
        KeyPart::Float(f) => put_float(out, f),
        KeyPart::Bin(bytes) => put_bin(out, bytes),
        KeyPart::Tuple(parts) => {
            // An array can't have more elements than bytes left; checked before anything is written.
            if parts.left > parts.rest.len() {
                return Err(KeyError::Cut);
            }
            put_array(out, parts.left);
            let mut rest = parts.rest;
            for _ in 0..parts.left {
                rest = canonicalize(rest, out, depth + 1)?;
            }
            return Ok(rest);
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: spellings that Python calls equal are one key, others are not.
    #[test]
    fn equality_is_pythons() {
        let one = Key::int(1);
        assert_eq!(Key::from_msgpack(&[0xc3]), Ok(one.clone()));
        assert_eq!(Key::from_msgpack(&[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]), Ok(one.clone()));
        assert_eq!(Key::from_msgpack(&[0xcd, 0, 1]), Ok(one.clone()));
        assert_ne!(Key::from_value(&Value::Bin(b"x".as_slice().into())), Some(Key::text("x")));
        let long = Key::from_msgpack(&[0xdc, 0, 2, 0xda, 0, 1, b'x', 0xd2, 0, 0, 0, 7]);
        assert_eq!(long, Ok(Key::tuple(&[Key::text("x"), Key::int(7)])));
        assert!(Key::from_msgpack(&[0xc0]).is_err());
        assert!(Key::from_msgpack(&[0x92, 0x01]).is_err());
        assert!(Key::from_msgpack(&[0x01, 0x01]).is_err());
    }

    /// Goal: people see keys as Python prints them, nested tuples included.
    #[test]
    fn keys_print_like_python() {
        let inner = Key::tuple(&[Key::text("it's"), Key::int(-3)]);
        let key = Key::tuple(&[inner, Key::from_value(&Value::Float(2.5)).expect("a float is a key"), Key::text("b")]);
        assert_eq!(key.to_string(), "((\"it's\", -3), 2.5, 'b')");
        assert_eq!(Key::tuple(&[Key::int(1)]).to_string(), "(1,)");
        assert_eq!(Key::text("plain").to_string(), "plain");
        assert_eq!(Key::from_value(&key.to_value()), Some(key));
    }
}
