//! Where the values are that this worker holds: objects in its executor, bytes here, or both.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Key, Opaque, Text};

/// Bytes of a value that the executor has loaded are kept up to this size, for whoever asks next. Unit: bytes.
const KEPT_BYTES: usize = 4 << 10;

/// A value.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldValue {
    /// Its bytes, if they are here.
    pub(super) payload: Option<Arc<Opaque>>,
    /// The executor has it as an object.
    pub(super) in_executor: bool,
    /// What is known of the run that made it.
    pub(super) made: Option<Made>,
}

/// What is known of the run that made a value.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) kind: Bytes,
    pub(super) typename: Text,
    pub(super) thread: i64,
    /// By our clock. Unit: seconds since the epoch.
    pub(super) start: f64,
    pub(super) stop: f64,
}

/// All values that this worker holds.
#[derive(Debug, Default)]
pub(super) struct Store {
    values: HashMap<Key, HeldValue>,
}

impl Store {
    pub(super) fn put(&mut self, key: Key, value: HeldValue) {
        self.values.insert(key, value);
    }

    /// Forgets a value. True: the executor must, too.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        self.values.remove(key).is_some_and(|value| value.in_executor)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&HeldValue> {
        self.values.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// The bytes of a value, for the executor, which has it as an object afterwards.
    pub(super) fn lend(&mut self, key: &Key) -> Option<Arc<Opaque>> {
        let value = self.values.get_mut(key)?;
        let payload = value.payload.clone()?;
        value.in_executor = true;
        if payload.size_bytes() > KEPT_BYTES {
            value.payload = None;
        }
        Some(payload)
    }

    /// Bytes that are here. Unit: bytes.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.values.values().filter_map(|value| value.payload.as_ref()).map(|payload| payload.size_bytes() as u64).sum()
    }
}

/// The size that counts for a value that came as bytes: theirs. Unit: bytes.
pub(super) fn payload_size(payload: &Opaque) -> u64 {
    payload.frames.iter().map(|frame| frame.len() as u64).fold(0, u64::saturating_add)
}
