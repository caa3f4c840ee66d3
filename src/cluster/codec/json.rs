//! Values as JSON.
//!
//! Pure.

use std::fmt::Display;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::base::{Key, Value};

/// Any value as JSON. Payloads and bytes become nulls: there is nothing to read in them.
pub fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Bin(_) | Value::Serialized(_) | Value::Pickled(_) => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::UInt(u) => (*u).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(text) => text.to_string().into(),
        Value::Array(items) => items.iter().map(json_of).collect::<Vec<_>>().into(),
        Value::Map(fields) => {
            let field = |(name, value): &(Value, Value)| {
                let name = match name {
                    Value::Str(text) => text.to_string(),
                    other => other.as_key().map_or_else(String::new, |key: Key| key.to_string()),
                };
                (name, json_of(value))
            };
            serde_json::Value::Object(fields.iter().map(field).collect())
        }
    }
}

/// A value that is written as JSON by [`json_of`], when its turn comes.
#[derive(Clone, Debug)]
pub struct AsJson(pub Arc<Value>);

impl Serialize for AsJson {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        json_of(&self.0).serialize(to)
    }
}

impl From<Value> for AsJson {
    fn from(value: Value) -> Self {
        Self(Arc::new(value))
    }
}

/// Writes something as its text, for `#[serde(serialize_with)]`.
pub fn as_text<T: Display, S: Serializer>(what: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(what)
}
