//! Plain data out of nodes.

use bytes::Bytes;

use crate::base::Value;

use super::PickleError;
use super::nodes::Kind;
use super::nodes::NodeId;
use super::nodes::Nodes;

/// Annotations and keys nest a few levels; this bounds recursion.
const DEPTH_MAX: u32 = 100;

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
        self.value_at(id, 0)
    }

    fn value_at(&self, id: NodeId, depth: u32) -> Result<Value, PickleError> {
        if depth > DEPTH_MAX {
            return Err(PickleError::TooMuch { limit: DEPTH_MAX });
        }
        match self.kind(id) {
            Kind::Atom => self.atom_value(id),
            Kind::Text => self.text(id).map(Value::str).ok_or(PickleError::NeedsPython("text that is not UTF-8")),
            Kind::Bytes => self.bytes(id).map(Value::Bin).ok_or(PickleError::NeedsPython("bytes")),
            Kind::Tuple | Kind::FrozenSet | Kind::List | Kind::Set => {
                let items = self.items(id).ok_or(PickleError::NeedsPython("a container with a state"))?;
                items.into_iter().map(|item| self.value_at(item, depth + 1)).collect::<Result<_, _>>().map(Value::Array)
            }
            Kind::Dict => self.dict_value(id, depth),
            Kind::ByteArray | Kind::Global | Kind::Reduce | Kind::NewObj | Kind::NewObjEx => {
                Err(PickleError::NeedsPython("an object"))
            }
            Kind::Buffer | Kind::ReadOnly => Err(PickleError::NeedsPython("a buffer")),
        }
    }

    fn dict_value(&self, id: NodeId, depth: u32) -> Result<Value, PickleError> {
        let entries = self.entries(id).ok_or(PickleError::NeedsPython("a container with a state"))?;
        let mut fields = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            fields.push((self.value_at(key, depth + 1)?, self.value_at(value, depth + 1)?));
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
            return i64::try_from(number)
                .map(Value::Int)
                .or_else(|_| u64::try_from(number).map(Value::UInt))
                .map_err(|_| PickleError::NeedsPython("a large integer"));
        }
        self.float(id).map(Value::Float).ok_or(PickleError::NeedsPython("an old string or a large integer"))
    }
}
