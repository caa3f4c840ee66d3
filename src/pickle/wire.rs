//! Between pickles and the payloads of a message. Reads only sub-headers, so its msgpack is a small one.

use bytes::Bytes;

use crate::base::Opaque;
use crate::base::PickledPart;
use crate::base::Value;

use super::PickleError;

/// Sub-headers nest three deep.
const DEPTH_MAX: u32 = 16;

/// The pickle inside a payload: `Pickled`, or `Serialized` by the pickle family.
///
/// Errors: compressed, split or of another family: only Python (or a codec) can join it.
pub fn part_of(payload: &Opaque) -> Result<PickledPart, PickleError> {
    let mut reader = SubHeader { raw: &payload.head, whole: &payload.head };
    let header = reader.value(0).ok_or(PickleError::Cut { at: payload.head.len() })?;
    let plain = header.field("compression").and_then(Value::items).is_none_or(|all| all.iter().all(Value::is_nil));
    if !plain {
        return Err(PickleError::NeedsPython("a compressed payload"));
    }
    if let Some(pickle) = header.field("pickled-obj").and_then(Value::as_bin) {
        return Ok(PickledPart { pickle: pickle.clone(), buffers: payload.frames.clone() });
    }
    if header.get("serializer").and_then(Value::as_str) != Some("pickle") {
        return Err(PickleError::NeedsPython("a payload that is no pickle"));
    }
    let whole = header
        .field("split-num-sub-frames")
        .and_then(Value::items)
        .is_none_or(|all| all.iter().all(|count| count.as_i64() == Some(1)));
    if !whole {
        return Err(PickleError::NeedsPython("a split payload"));
    }
    let (pickle, buffers) = payload.frames.split_first().ok_or(PickleError::Cut { at: 0 })?;
    Ok(PickledPart { pickle: pickle.clone(), buffers: buffers.to_vec() })
}

/// The payload that `{"__Pickled__": i}` names: sub-header and buffers.
///
/// Source: `distributed/protocol/core.py`, `dumps`.
pub fn to_wire(part: &PickledPart) -> Opaque {
    let mut head = Vec::with_capacity(part.pickle.len() + part.buffers.len() + 64);
    head.push(0x83);
    put_str(&mut head, b"pickled-obj");
    put_len(&mut head, part.pickle.len(), [0xc4, 0xc5, 0xc6]);
    head.extend_from_slice(&part.pickle);
    put_str(&mut head, b"compression");
    put_array(&mut head, part.buffers.len());
    head.extend(std::iter::repeat_n(0xc0, part.buffers.len()));
    put_str(&mut head, b"num-sub-frames");
    head.push(0xcf);
    head.extend_from_slice(&(part.buffers.len() as u64).to_be_bytes());
    Opaque { head: head.into(), frames: part.buffers.clone() }
}

/// Only for the short names above.
fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    out.push(0xa0 | (text.len() as u8 & 0x1f));
    out.extend_from_slice(text);
}

fn put_array(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        _ => put_len(out, len, [0xdc, 0xdc, 0xdd]),
    }
}

/// A length after the opcode of its width; arrays have none of one byte.
fn put_len(out: &mut Vec<u8>, len: usize, [one, two, four]: [u8; 3]) {
    match len {
        0..=0xff if one != two => out.extend_from_slice(&[one, len as u8]),
        0..=0xffff => {
            out.push(two);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(four);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

struct SubHeader<'a> {
    raw: &'a [u8],
    whole: &'a Bytes,
}

impl SubHeader<'_> {
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (head, rest) = self.raw.split_at_checked(len)?;
        self.raw = rest;
        Some(head)
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        Some(self.take(width)?.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn len(&mut self, width: usize) -> Option<usize> {
        usize::try_from(self.number(width)?).ok()
    }

    fn text(&mut self, len: usize) -> Option<Value> {
        std::str::from_utf8(self.take(len)?).ok().map(Value::str)
    }

    fn bin(&mut self, len: usize) -> Option<Value> {
        let start = self.whole.len().checked_sub(self.raw.len())?;
        self.take(len)?;
        Some(Value::Bin(self.whole.slice(start..start + len)))
    }

    fn array(&mut self, len: usize, depth: u32) -> Option<Value> {
        let items = (0..len).map(|_| self.value(depth + 1)).collect::<Option<Vec<_>>>()?;
        Some(Value::Array(items))
    }

    fn map(&mut self, len: usize, depth: u32) -> Option<Value> {
        let fields = (0..len).map(|_| Some((self.value(depth + 1)?, self.value(depth + 1)?)));
        Some(Value::Map(fields.collect::<Option<Vec<_>>>()?))
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        let first = *self.take(1)?.first()?;
        match first {
            0x00..=0x7f => Some(Value::Int(i64::from(first))),
            0xe0..=0xff => Some(Value::Int(i64::from(first as i8))),
            0x80..=0x8f => self.map(usize::from(first & 0x0f), depth),
            0x90..=0x9f => self.array(usize::from(first & 0x0f), depth),
            0xa0..=0xbf => self.text(usize::from(first & 0x1f)),
            0xc0 => Some(Value::Nil),
            0xc2 | 0xc3 => Some(Value::Bool(first == 0xc3)),
            0xc4..=0xc6 => {
                let len = self.len(1 << (first - 0xc4))?;
                self.bin(len)
            }
            0xca => Some(Value::Float(f64::from(f32::from_bits(self.number(4)? as u32)))),
            0xcb => Some(Value::Float(f64::from_bits(self.number(8)?))),
            0xcc..=0xcf => self.number(1 << (first - 0xcc)).map(Value::from),
            0xd0 => Some(Value::Int(i64::from(self.number(1)? as u8 as i8))),
            0xd1 => Some(Value::Int(i64::from(self.number(2)? as u16 as i16))),
            0xd2 => Some(Value::Int(i64::from(self.number(4)? as u32 as i32))),
            0xd3 => Some(Value::Int(self.number(8)? as i64)),
            0xd9..=0xdb => {
                let len = self.len(1 << (first - 0xd9))?;
                self.text(len)
            }
            0xdc | 0xdd => {
                let len = self.len(if first == 0xdc { 2 } else { 4 })?;
                self.array(len, depth)
            }
            0xde | 0xdf => {
                let len = self.len(if first == 0xde { 2 } else { 4 })?;
                self.map(len, depth)
            }
            _ => None,
        }
    }
}
