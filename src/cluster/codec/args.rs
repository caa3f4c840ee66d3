//! Reads the fields of requests. What is missing or of the wrong kind is a Python `TypeError` for the caller.
//!
//! Pure.

use crate::base::{Failure, Key, Text, Value, parse_secs};
use crate::cluster::codec::failures::raise;

/// The keys in a required field.
pub fn keys(body: &Value, name: &str) -> Result<Vec<Key>, Failure> {
    optional_keys(body, name)?.ok_or_else(|| absent(body, name))
}

/// The keys in a field that may be nil or missing.
pub fn optional_keys(body: &Value, name: &str) -> Result<Option<Vec<Key>>, Failure> {
    match body.field(name) {
        None => Ok(None),
        Some(value) => value.as_keys().map_or_else(|| keys_of(&iterated(value)?), Ok).map(Some),
    }
}

fn keys_of(items: &[Value]) -> Result<Vec<Key>, Failure> {
    items.iter().map(|item| item.as_key().ok_or_else(|| unhashable(item))).collect()
}

/// What Python's `iter` gives of a value: the items of a list, the names in a map, the characters of a text.
///
/// Errors: Python's, for what cannot be iterated.
pub fn iterated(value: &Value) -> Result<Vec<Value>, Failure> {
    if let Some(items) = value.items() {
        return Ok(items.to_vec());
    }
    match value {
        Value::Map(fields) => Ok(fields.iter().map(|(name, _)| name.clone()).collect()),
        Value::Str(text) => Ok(text.chars().map(|letter| letter.to_string().into()).collect()),
        Value::Bin(bytes) => Ok(bytes.iter().map(|byte| i64::from(*byte).into()).collect()),
        other => Err(raise("TypeError", format!("'{}' object is not iterable", type_name(other)))),
    }
}

/// The name of the type that a value has in Python.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "str",
        Value::Bin(_) => "bytes",
        Value::Array(_) => "tuple",
        Value::Map(_) if value.items().is_some() => "set",
        Value::Map(_) => "dict",
        Value::Serialized(_) | Value::Pickled(_) => "Serialized",
    }
}

/// For what cannot be a key of a Python dictionary.
fn unhashable(value: &Value) -> Failure {
    raise("TypeError", format!("unhashable type: '{}'", type_name(value)))
}

/// The key in a required field.
pub fn key(body: &Value, name: &str) -> Result<Key, Failure> {
    match body.field(name) {
        Some(value) => value.as_key().ok_or_else(|| unhashable(value)),
        None => Err(wrong(name, "a key")),
    }
}

/// The text in a required field.
pub fn text(body: &Value, name: &str) -> Result<Text, Failure> {
    match body.get(name) {
        Some(Value::Str(text)) => Ok(text.clone()),
        Some(value @ Value::Map(_)) => Err(unhashable(value)),
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

/// A number that may be missing, but is never nil.
pub fn number(body: &Value, name: &str, default: f64) -> Result<f64, Failure> {
    body.get(name).map_or(Ok(default), |value| value.as_f64().ok_or_else(|| wrong(name, "a number")))
}

/// An address as a request spells it. Errors: what can be none.
///
/// Source: `distributed/scheduler.py`, `coerce_address`.
pub fn address(value: &Value) -> Result<Text, Failure> {
    let Value::Str(text) = value else {
        return Err(raise("TypeError", format!("addresses should be strings or tuples, got {}", repr(value))));
    };
    let place = text.split_once("://").map_or(&**text, |(_, place)| place);
    match place.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() => Ok(text.clone()),
        // Shown as Python's `repr` shows it.
        _ => Err(raise("ValueError", format!("missing port number in address {}", repr(value)))),
    }
}

/// A time span in seconds; none when nil or missing.
pub fn timeout(body: &Value, name: &str) -> Result<Option<f64>, Failure> {
    match body.field(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or_else(|| match value {
            // Text that is no time span is a KeyError to Dask, too.
            Value::Str(text) => raise("KeyError", format!("Invalid time unit: {text}")),
            _ => wrong(name, "a time span"),
        }),
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

/// A list that is `None`, or not there at all.
fn absent(body: &Value, name: &str) -> Failure {
    body.get(name).and_then(|value| iterated(value).err()).unwrap_or_else(|| missing(name))
}

/// A field that is not there.
pub fn missing(name: &str) -> Failure {
    raise("TypeError", format!("missing a required argument: '{name}'"))
}

fn wrong(name: &str, expected: &str) -> Failure {
    raise("TypeError", format!("{name} must be {expected}"))
}

/// Seconds from a number or from text such as `30 s` or `100ms`. None: neither.
///
/// Source: `dask/utils.py`, `parse_timedelta`.
pub fn seconds(value: &Value) -> Option<f64> {
    if let Some(text) = value.as_str() {
        return parse_secs(text);
    }
    value.as_f64().filter(|secs| !secs.is_nan())
}

/// `{name: number}` as pairs; what is no number is left out.
pub fn amounts(value: &Value) -> Vec<(Text, f64)> {
    let fields = value.fields().unwrap_or_default();
    fields
        .iter()
        .filter_map(|(name, amount)| match name {
            Value::Str(name) => Some((name.clone(), amount.as_f64()?)),
            _ => None,
        })
        .collect()
}

/// `{key: [address]}` as pairs.
pub fn located(value: &Value) -> Result<Vec<(Key, Vec<Text>)>, Failure> {
    let wrong = || raise("TypeError", "who_has must map keys to lists of addresses");
    let fields = value.fields().ok_or_else(wrong)?;
    fields.iter().map(|(key, holders)| Ok((key.as_key().ok_or_else(wrong)?, texts(Some(holders))))).collect()
}

/// One topic or a list of them; nothing else names one.
pub fn topic_names(topic: &Value) -> Vec<Text> {
    match topic {
        Value::Str(name) => vec![name.clone()],
        other => texts(Some(other)),
    }
}

/// A list of texts as a value.
pub fn text_list<'a>(texts: impl IntoIterator<Item = &'a Text>) -> Value {
    Value::Array(texts.into_iter().cloned().map(Value::Str).collect())
}

/// The host part of `scheme://host:port`.
pub fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A name as people read it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => other.as_key().map_or_else(|| repr(other), |key| key.to_string()),
    }
}

/// As Python prints it within a list.
pub fn repr(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(repr).collect::<Vec<_>>().join(", ");
    match value {
        Value::Nil => "None".to_owned(),
        Value::Bool(on) => if *on { "True" } else { "False" }.to_owned(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Map(fields) => {
            let pair = |(name, value): &(Value, Value)| format!("{}: {}", repr(name), repr(value));
            format!("{{{}}}", fields.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Value::Serialized(_) | Value::Pickled(_) => "<serialized>".to_owned(),
        // Debug of a key is Python's `repr`.
        other => other.as_key().map_or_else(|| "<bytes>".to_owned(), |key| format!("{key:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: time spans are read as Dask writes them.
    #[test]
    fn time_spans_are_read_as_dask_writes_them() {
        let cases = [("30 s", 30.0), ("100ms", 0.1), ("5 minutes", 300.0), ("1.5", 1.5), ("1h", 3600.0)];
        for (text, secs) in cases {
            assert_eq!(seconds(&Value::str(text)), Some(secs), "{text}");
        }
        assert_eq!(seconds(&Value::Int(2)), Some(2.0));
        assert_eq!(seconds(&Value::str("soon")), None);
        assert_eq!(seconds(&Value::Nil), None);
    }
}
