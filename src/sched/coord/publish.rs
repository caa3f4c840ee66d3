//! Published datasets: payloads by name, whose keys the pseudo client `published-<name>` wants.
//!
//! That a request comes after what its client sent on its stream is the driver's care.
//! Source: `distributed/publish.py`, `PublishExtension`.

use std::collections::{BTreeMap, BTreeSet};

use super::request::CoordView;
use super::waiters::CoordStep;
use crate::base::{CallId, Key, PyError, Text, Value};

struct Dataset {
    keys: Vec<Key>,
    data: Value,
}

/// All published datasets of a scheduler.
#[derive(Default)]
pub(super) struct Datasets {
    by_name: BTreeMap<Key, Dataset>,
}

/// What `publish_put` brings; three lists of one length.
pub(super) struct Published {
    pub names: Vec<Key>,
    /// The keys of each.
    pub keys: Vec<Vec<Key>>,
    /// The payload of each.
    pub data: Vec<Value>,
    /// Replace what has the name already.
    pub overwrite: bool,
}

fn pseudo_client(name: &Key) -> Text {
    format!("published-{name}").into()
}

impl Datasets {
    /// As in Dask, the ones before a name that is taken stay published.
    pub fn put(&mut self, step: &mut CoordStep<'_>, call: CallId, published: Published) {
        let Published { names, keys, data, overwrite } = published;
        if names.len() != keys.len() || names.len() != data.len() {
            let text = format!("{} names, {} lists of keys and {} payloads", names.len(), keys.len(), data.len());
            return step.fail(call, PyError::builtin("ValueError", text));
        }
        for ((name, keys), data) in names.into_iter().zip(keys).zip(data) {
            if !overwrite && self.by_name.contains_key(&name) {
                let text = format!("Dataset {name} already exists");
                return step.fail(call, PyError::builtin("KeyError", text));
            }
            let client = pseudo_client(&name);
            // Before the old keys are released: those in both must not go for a moment.
            step.desire(client.clone(), keys.clone());
            if let Some(old) = self.by_name.insert(name, Dataset { keys: keys.clone(), data }) {
                let kept: BTreeSet<Key> = keys.into_iter().collect();
                step.release(client, old.keys.into_iter().filter(|key| !kept.contains(key)).collect());
            }
        }
        step.answer(call, Value::Nil);
    }

    pub fn delete(&mut self, step: &mut CoordStep<'_>, call: CallId, names: &[Key]) {
        for name in names {
            if let Some(old) = self.by_name.remove(name) {
                step.release(pseudo_client(name), old.keys);
            }
        }
        step.answer(call, Value::Nil);
    }

    /// Names, sorted as Python sorts their texts.
    pub fn list(&self) -> Value {
        let mut names: Vec<(String, &Key)> = self.by_name.keys().map(|name| (name.to_string(), name)).collect();
        names.sort();
        Value::Array(names.into_iter().map(|(_, name)| name.to_value()).collect())
    }

    /// How each of them stands.
    pub fn views(&self) -> impl Iterator<Item = CoordView> {
        self.by_name.iter().map(|(name, dataset)| CoordView {
            kind: "dataset",
            name: name.clone(),
            fields: vec![("size", dataset.keys.len().into())],
        })
    }

    /// Nil for a name that nobody published.
    pub fn get(&self, name: &Key) -> Value {
        let described = self.by_name.get(name).map(|dataset| {
            let keys = dataset.keys.iter().map(Key::to_value).collect();
            Value::map([("data", dataset.data.clone()), ("keys", Value::Array(keys))])
        });
        described.into()
    }
}
