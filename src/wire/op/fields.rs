//! The fields of one stream item, found in one pass and read on demand.

use bytes::Bytes;

use crate::base::{Key, Text, Value};
use crate::wire::error::WireError;
use crate::wire::msgpack::{Cursor, Marker};
use crate::wire::resolve::{Resolver, bounded};

/// The number of items of a stream message, which is an array of them or a single one; the cursor is before the first.
pub fn batch_len(cursor: &mut Cursor<'_>) -> Result<usize, WireError> {
    let mut single = *cursor;
    let Marker::Array(len) = single.token()? else { return Ok(1) };
    *cursor = single;
    Ok(len)
}

/// Name and bytes of each field of a map. Kept between items so that its memory is reused.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    list: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Fields<'a> {
    /// Reads the pairs of a map, `len` of them, whose marker was just read. Keys that are no text are passed over.
    pub fn fill(&mut self, cursor: &mut Cursor<'a>, len: usize) -> Result<(), WireError> {
        self.list.clear();
        for _ in 0..len {
            let mut name = Cursor::new(cursor.span()?);
            let field = cursor.span()?;
            if let Marker::Str(name) = name.token()? {
                self.list.push((name, field));
            }
        }
        Ok(())
    }

    /// The bytes of a field, unless it is missing or nil. The last one of a name counts, as in Python.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let (_, field) = self.list.iter().rev().find(|(other, _)| *other == name.as_bytes())?;
        (*field != [0xc0]).then_some(*field)
    }

    /// All fields but the name of the operation.
    pub fn others(&self, resolver: &Resolver<'_>) -> Result<Value, WireError> {
        let others = self.list.iter().filter(|(name, _)| *name != b"op");
        let read = others.map(|(name, raw)| {
            let name = std::str::from_utf8(name).map_err(|_| WireError::Unexpected { what: "a field's name" })?;
            Ok((Value::str(name), resolver.value_of(raw)?))
        });
        Ok(Value::Map(read.collect::<Result<_, WireError>>()?))
    }

    /// A field that must be there.
    pub fn need(&self, name: &'static str) -> Result<&'a [u8], WireError> {
        self.get(name).ok_or(WireError::Unexpected { what: name })
    }

    /// A field that must be a key.
    pub fn key(&self, name: &'static str) -> Result<Key, WireError> {
        key(self.need(name)?, name)
    }

    /// A field that may be a key.
    pub fn maybe_key(&self, name: &'static str) -> Result<Option<Key>, WireError> {
        self.get(name).map(|raw| key(raw, name)).transpose()
    }

    /// A field that must be a list, tuple or set of keys.
    pub fn keys(&self, name: &'static str) -> Result<Vec<Key>, WireError> {
        let mut cursor = items(self.need(name)?, name)?;
        let Marker::Array(len) = cursor.token()? else { return Err(WireError::Unexpected { what: name }) };
        let mut keys = Vec::with_capacity(bounded(len, &cursor));
        for _ in 0..len {
            keys.push(key(cursor.span()?, name)?);
        }
        Ok(keys)
    }

    /// A field that must be text.
    pub fn text(&self, name: &'static str) -> Result<Text, WireError> {
        borrowed_text(self.need(name)?).map(Text::from).ok_or(WireError::Unexpected { what: name })
    }

    /// A field that may be text; anything else counts as missing.
    pub fn maybe_text(&self, name: &str) -> Option<Text> {
        self.get(name).and_then(borrowed_text).map(Text::from)
    }

    /// A field that may be an integer, or a number near one; anything else counts as missing.
    pub fn maybe_i64(&self, name: &str) -> Option<i64> {
        match Cursor::new(self.get(name)?).token().ok()? {
            Marker::Int(i) => Some(i),
            Marker::Bool(b) => Some(i64::from(b)),
            Marker::Float(f) if f.is_finite() => Some(f as i64),
            _ => None,
        }
    }

    /// A field that may be a number; anything else counts as missing.
    pub fn maybe_f64(&self, name: &str) -> Option<f64> {
        number(self.get(name)?)
    }

    /// A field that is true.
    pub fn is_true(&self, name: &str) -> bool {
        self.maybe_i64(name).is_some_and(|number| number != 0)
    }

    /// A field that may be bytes, or text standing for bytes; anything else counts as missing.
    pub fn maybe_bin(&self, name: &str) -> Option<&'a [u8]> {
        match Cursor::new(self.get(name)?).token().ok()? {
            Marker::Bin(bytes) | Marker::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A field of any kind; missing: nil.
    pub fn value(&self, name: &str, resolver: &Resolver<'a>) -> Result<Value, WireError> {
        self.get(name).map_or(Ok(Value::Nil), |raw| resolver.value_of(raw))
    }

    /// A field that must be a map from keys to something that `read` makes of the bytes; pairs for which it makes
    /// nothing are left out.
    pub fn key_map<T>(
        &self,
        name: &'static str,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Vec<(Key, T)>, WireError> {
        let mut cursor = Cursor::new(self.need(name)?);
        let Marker::Map(len) = cursor.token()? else { return Err(WireError::Unexpected { what: name }) };
        let mut pairs = Vec::with_capacity(bounded(len, &cursor));
        for _ in 0..len {
            let key = key(cursor.span()?, name)?;
            if let Some(item) = read(cursor.span()?) {
                pairs.push((key, item));
            }
        }
        Ok(pairs)
    }
}

fn key(raw: &[u8], what: &'static str) -> Result<Key, WireError> {
    Key::from_msgpack(raw).map_err(|_| WireError::Unexpected { what })
}

/// A cursor at the array of a list, tuple or set.
fn items<'a>(raw: &'a [u8], what: &'static str) -> Result<Cursor<'a>, WireError> {
    let mut cursor = Cursor::new(raw);
    if let Marker::Map(len) = cursor.token()? {
        let mut set = Fields::default();
        set.fill(&mut cursor, len)?;
        set.need("__Set__").map_err(|_| WireError::Unexpected { what })?;
        return set.need("as-list").map(Cursor::new);
    }
    Ok(Cursor::new(raw))
}

/// The text that `raw` is.
pub fn borrowed_text(raw: &[u8]) -> Option<&str> {
    match Cursor::new(raw).token().ok()? {
        Marker::Str(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// The texts that a list holds; what is no text is left out.
pub fn texts(raw: &[u8]) -> Option<Vec<Text>> {
    let mut cursor = items(raw, "texts").ok()?;
    let Marker::Array(len) = cursor.token().ok()? else { return None };
    let mut list = Vec::with_capacity(bounded(len, &cursor));
    for _ in 0..len {
        list.extend(borrowed_text(cursor.span().ok()?).map(Text::from));
    }
    Some(list)
}

/// The number that `raw` is.
pub fn number(raw: &[u8]) -> Option<f64> {
    match Cursor::new(raw).token().ok()? {
        Marker::Int(i) => Some(i as f64),
        Marker::UInt(u) => Some(u as f64),
        Marker::Float(f) => Some(f),
        Marker::Bool(b) => Some(f64::from(u8::from(b))),
        _ => None,
    }
}

/// Remembers the last small values: tasks of a batch mostly have results of one type.
#[derive(Debug, Default)]
pub struct Recent {
    bin: Bytes,
    text: Option<Text>,
}

impl Recent {
    /// `raw` as bytes of its own.
    pub fn bin(&mut self, raw: &[u8]) -> Bytes {
        if self.bin != raw {
            self.bin = Bytes::copy_from_slice(raw);
        }
        self.bin.clone()
    }

    /// `text` as text of its own.
    pub fn text(&mut self, text: &str) -> Text {
        match &self.text {
            Some(last) if **last == *text => last.clone(),
            _ => self.text.insert(text.into()).clone(),
        }
    }
}
