//! `set_metadata` and `get_metadata`: a tree of values that clients and `Cluster` objects share.
//!
//! Data only. Source: `distributed/scheduler.py`, `set_metadata`, `get_metadata`.

use crate::base::Value;

/// Deepest path of keys. Each level is a map inside a map; nobody nests further by hand.
pub const PATH_MAX: usize = 64;

/// The tree; always a map at its root.
#[derive(Debug)]
pub struct Metadata {
    root: Value,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { root: Value::Map(Vec::new()) }
    }
}

impl Metadata {
    /// Puts `value` at `path`; what is not a map on the way becomes one. Errors: an empty or endless path.
    pub fn set(&mut self, path: &[Value], value: Value) -> Result<(), PathError> {
        if path.is_empty() || path.len() > PATH_MAX {
            return Err(PathError);
        }
        put(&mut self.root, path, value);
        Ok(())
    }

    /// What is at `path`; the whole tree for an empty path. None: nothing there, and the key that is missing.
    pub fn get<'a>(&'a self, path: &'a [Value]) -> Result<&'a Value, &'a Value> {
        let mut at = &self.root;
        for key in path {
            let fields = at.fields().ok_or(key)?;
            at = fields.iter().find(|(name, _)| name == key).map(|(_, value)| value).ok_or(key)?;
        }
        Ok(at)
    }
}

/// The path is empty or longer than [`PATH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError;

fn put(at: &mut Value, path: &[Value], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    let mut fields = match std::mem::replace(at, Value::Nil) {
        Value::Map(fields) => fields,
        _ => Vec::new(),
    };
    match fields.iter_mut().find(|(name, _)| name == key) {
        Some((_, inner)) => put(inner, rest, value),
        None => {
            let mut inner = Value::Nil;
            put(&mut inner, rest, value);
            fields.push((key.clone(), inner));
        }
    }
    *at = Value::Map(fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a value set under a path is found there, and its neighbours stay.
    #[test]
    fn values_are_found_where_they_were_put() {
        let mut tree = Metadata::default();
        let path = [Value::str("a"), Value::Int(1)];
        assert_eq!(tree.set(&path, Value::Bool(true)), Ok(()));
        assert_eq!(tree.set(&[Value::str("a"), Value::Int(2)], Value::Nil), Ok(()));
        assert_eq!(tree.get(&path), Ok(&Value::Bool(true)));
        assert_eq!(tree.get(&[Value::str("b")]), Err(&Value::str("b")));
        assert_eq!(tree.set(&[Value::str("a")], Value::Int(7)), Ok(()));
        assert_eq!(tree.get(&path), Err(&Value::Int(1)));
        assert_eq!(tree.set(&[], Value::Nil), Err(PathError));
    }
}
