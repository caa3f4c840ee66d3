//! Reads the fields of requests. What is missing or of the wrong kind is a Python `TypeError` for the caller.

use crate::base::{Failure, Key, Text, Value};
use crate::cluster::codec::{raise, seconds};

/// The keys in a required field.
pub fn keys(body: &Value, name: &str) -> Result<Vec<Key>, Failure> {
    optional_keys(body, name)?.ok_or_else(|| missing(name))
}

/// The keys in a field that may be nil or missing.
pub fn optional_keys(body: &Value, name: &str) -> Result<Option<Vec<Key>>, Failure> {
    match body.field(name) {
        None => Ok(None),
        Some(value) => value.as_keys().map(Some).ok_or_else(|| wrong(name, "a list of keys")),
    }
}

/// The key in a required field.
pub fn key(body: &Value, name: &str) -> Result<Key, Failure> {
    body.get(name).and_then(Value::as_key).ok_or_else(|| wrong(name, "a key"))
}

/// The text in a required field.
pub fn text(body: &Value, name: &str) -> Result<Text, Failure> {
    match body.get(name) {
        Some(Value::Str(text)) => Ok(text.clone()),
        Some(_) => Err(wrong(name, "text")),
        None => Err(missing(name)),
    }
}

/// The text in a field that may be nil or missing.
pub fn optional_text(body: &Value, name: &str) -> Option<Text> {
    match body.get(name) {
        Some(Value::Str(text)) => Some(text.clone()),
        _ => None,
    }
}

/// The truth of a field, or what counts when it is missing.
pub fn flag(body: &Value, name: &str, default: bool) -> bool {
    body.field(name).and_then(Value::as_bool).unwrap_or(default)
}

/// A whole number that is not negative; none when nil, missing or something else.
pub fn count(body: &Value, name: &str) -> Option<usize> {
    body.field(name).and_then(Value::as_i64).and_then(|n| usize::try_from(n.max(0)).ok())
}

/// A time span in seconds; none when nil or missing.
pub fn timeout(body: &Value, name: &str) -> Result<Option<f64>, Failure> {
    match body.field(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or_else(|| wrong(name, "a time span")),
    }
}

/// The texts in a list; items that are no texts are left out.
pub fn texts(value: Option<&Value>) -> Vec<Text> {
    let items = value.and_then(Value::items).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| match item {
            Value::Str(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

/// A field that is not there.
pub fn missing(name: &str) -> Failure {
    raise("TypeError", format!("missing a required argument: '{name}'"))
}

fn wrong(name: &str, expected: &str) -> Failure {
    raise("TypeError", format!("{name} must be {expected}"))
}
