//! Plain data out of nodes.

use bytes::Bytes;

use crate::base::Value;

use super::PickleError;
use super::nodes::Kind;
use super::nodes::NodeId;
use super::nodes::Nodes;

/// Annotations and keys nest a few levels; this bounds recursion.
const DEPTH_MAX: u32 = 100;
/// Values that one may consist of: a pickle can say in a few bytes that the same is meant again and again.
const PARTS_MAX: u32 = 1 << 20;

/// Plain data out of a pickle: None, bool, numbers, text, bytes, dicts; lists, tuples and sets all become arrays.
///
/// Errors: anything that only Python understands.
pub fn to_value(pickle: &Bytes) -> Result<Value, PickleError> {
    let nodes = super::read(pickle, 0)?;
    nodes.value(nodes.root())
}

impl Nodes {
    /// One node as plain data, as [`to_value`] reads it.
    pub fn value(&self, id: NodeId) -> Result<Value, PickleError> {
        self.value_at(id, 0, &mut 0)
    }

    fn value_at(&self, id: NodeId, depth: u32, parts: &mut u32) -> Result<Value, PickleError> {
        if depth > DEPTH_MAX {
            return Err(PickleError::TooMuch { limit: DEPTH_MAX });
        }
        *parts += 1;
        if *parts > PARTS_MAX {
            return Err(PickleError::TooMuch { limit: PARTS_MAX });
        }
        match self.kind(id) {
            Kind::Atom => self.atom_value(id),
            Kind::Text => self.text(id).map(Value::str).ok_or(PickleError::NeedsPython("text that is not UTF-8")),
            Kind::Bytes => self.bytes(id).map(Value::Bin).ok_or(PickleError::NeedsPython("bytes")),
            Kind::Tuple | Kind::FrozenSet | Kind::List | Kind::Set => {
                let items = self.items(id).ok_or(PickleError::NeedsPython("a container with a state"))?;
                let items = items.into_iter().map(|item| self.value_at(item, depth + 1, parts));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Kind::Dict => self.dict_value(id, depth, parts),
            Kind::Reduce => self.numpy_number(id).ok_or(PickleError::NeedsPython("an object")),
            Kind::ByteArray | Kind::Global | Kind::NewObj | Kind::NewObjEx => {
                Err(PickleError::NeedsPython("an object"))
            }
            Kind::Buffer | Kind::ReadOnly => Err(PickleError::NeedsPython("a buffer")),
        }
    }

    fn dict_value(&self, id: NodeId, depth: u32, parts: &mut u32) -> Result<Value, PickleError> {
        let entries = self.entries(id).ok_or(PickleError::NeedsPython("a container with a state"))?;
        let mut fields = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            fields.push((self.value_at(key, depth + 1, parts)?, self.value_at(value, depth + 1, parts)?));
        }
        Ok(Value::Map(fields))
    }

    fn atom_value(&self, id: NodeId) -> Result<Value, PickleError> {
        if self.is_none(id) {
            return Ok(Value::Nil);
        }
        if let Some(truth) = self.bool(id) {
            return Ok(Value::Bool(truth));
        }
        if let Some(number) = self.int(id) {
            return integer(number).ok_or(PickleError::NeedsPython("a large integer"));
        }
        self.float(id).map(Value::Float).ok_or(PickleError::NeedsPython("an old string or a large integer"))
    }

    /// One of numpy's numbers, which some of Dask's own keys contain: in Python it equals the plain one and has its hash.
    ///
    /// What `numpy.generic.__reduce__` calls: `scalar(dtype, bytes)`.
    fn numpy_number(&self, id: NodeId) -> Option<Value> {
        let (function, args) = self.reduce(id)?;
        let ("numpy._core.multiarray" | "numpy.core.multiarray", "scalar") = self.global(function)? else {
            return None;
        };
        let &[dtype, raw] = self.tuple(args)? else { return None };
        let (class, spec) = self.reduce(dtype)?;
        if self.global(class)? != ("numpy", "dtype") {
            return None;
        }
        let kind = self.text(*self.tuple(spec)?.first()?)?;
        let order = self.text(*self.tuple(self.state(dtype)?)?.get(1)?)?;
        let mut bytes = self.bytes(raw)?.to_vec();
        if order == ">" {
            bytes.reverse();
        }
        let fill = if kind.starts_with('i') && *bytes.last()? >= 0x80 { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.get_mut(..bytes.len())?.copy_from_slice(&bytes);
        match (kind.chars().next()?, bytes.len()) {
            ('i', _) => Some(Value::Int(i64::from_le_bytes(wide))),
            ('u', _) => integer(u64::from_le_bytes(wide).into()),
            ('b', 1) => Some(Value::Bool(wide != [0; 8])),
            ('f', 4) => Some(Value::Float(f32::from_le_bytes(*bytes.first_chunk()?).into())),
            ('f', 8) => Some(Value::Float(f64::from_le_bytes(wide))),
            _ => None,
        }
    }
}

fn integer(number: i128) -> Option<Value> {
    i64::try_from(number).map(Value::Int).or_else(|_| u64::try_from(number).map(Value::UInt)).ok()
}
