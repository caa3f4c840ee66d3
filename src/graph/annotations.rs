//! Annotations: the map that travels with a task, and what scheduling reads from it.
//!
//! Source: `distributed/scheduler.py`, `_apply_annotations`.

use std::sync::Arc;

use crate::base::Annotations;
use crate::base::Opaque;
use crate::base::Text;
use crate::base::Value;
use crate::pickle;

use super::GraphError;
use super::error::Stop;

/// The annotations of a whole graph; `None` when there are none.
pub(super) fn read(payload: Option<&Opaque>) -> Result<Option<Arc<Annotations>>, Stop> {
    let Some(payload) = payload else { return Ok(None) };
    let part = pickle::part_of(payload)?;
    let value = pickle::to_value(&part.pickle)?;
    if value.is_nil() {
        return Ok(None);
    }
    let fields = value.fields().ok_or("annotations that are no dict")?;
    // The object graph of Python keeps them: a map that only Python can read must be seen by pyhost.
    if fields.is_empty() { Ok(None) } else { Ok(Some(Arc::new(interpret(value)?))) }
}

/// What the map says to the scheduler.
pub(super) fn interpret(wire: Value) -> Result<Annotations, GraphError> {
    let mut known = Annotations::default();
    for (name, value) in wire.fields().unwrap_or_default() {
        match name.as_str() {
            Some("priority") => {
                known.priority = value.as_f64().ok_or(wrong("priority", "a number"))?;
            }
            Some("workers" | "restrictions") => known.workers.extend(worker_names(value)?),
            Some("allow_other_workers" | "loose_restrictions") => known.allow_other_workers = truth(value),
            Some("retries") => {
                let retries = value.as_i64().filter(|_| !matches!(value, Value::Float(_)));
                let retries = retries.ok_or(wrong("retries", "an int"))?;
                known.retries = u32::try_from(retries.max(0)).unwrap_or(u32::MAX);
            }
            Some("resources") => known.resources = resources(value)?,
            _ => {}
        }
    }
    known.wire = wire;
    Ok(known)
}

const fn wrong(name: &'static str, wanted: &'static str) -> GraphError {
    GraphError::Annotation { name, wanted }
}

/// Worker names can be numbers; scheduling compares them as text.
fn worker_names(value: &Value) -> Result<Vec<Text>, GraphError> {
    let name = |value: &Value| match value {
        Value::Str(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string().into()),
        Value::Float(number) => Some(number.to_string().into()),
        _ => None,
    };
    let names = match value.items() {
        Some(items) => items.iter().map(name).collect::<Option<Vec<_>>>(),
        None if value.is_nil() => Some(Vec::new()),
        None => name(value).map(|name| vec![name]),
    };
    names.ok_or(wrong("workers", "a name or address, or a collection of these"))
}

fn resources(value: &Value) -> Result<Vec<(Text, f64)>, GraphError> {
    let pair = |(name, amount): &(Value, Value)| Some((Text::from(name.as_str()?), amount.as_f64()?));
    let pairs = value.fields().and_then(|fields| fields.iter().map(pair).collect::<Option<Vec<_>>>());
    if value.is_nil() { Ok(Vec::new()) } else { pairs.ok_or(wrong("resources", "a dict of name to amount")) }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Nil => false,
        Value::Bool(truth) => *truth,
        Value::Int(number) => *number != 0,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}
