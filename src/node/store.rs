//! Where the values are that this worker holds: objects in its executor, bytes here, or both.

use std::collections::HashMap;

use bytes::Bytes;

use crate::base::{Key, Text};
use crate::values::Payload;

/// Bytes in memory of a value that the executor has as an object are kept up to this size, for whoever asks next. What is
/// in a file is kept: the object shares its pages. Unit: bytes.
const KEPT_BYTES: u64 = 4 << 10;

/// A value.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldValue {
    /// Its bytes, if they are here.
    pub(super) payload: Option<Payload>,
    /// The executor has it as an object.
    pub(super) in_executor: bool,
    /// A sibling counts its bytes: they are in the same file.
    pub(super) is_shared: bool,
    /// What is known of the run that made it.
    pub(super) made: Option<Made>,
    /// Tells it from values that had the same key. The store gives it.
    pub(super) serial: u64,
}

impl HeldValue {
    fn payload_bytes(&self) -> u64 {
        if self.is_shared { 0 } else { self.payload.as_ref().map_or(0, Payload::size_bytes) }
    }
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
    /// Bytes of all payloads that are here. The memory is watched ten times a second.
    payload_bytes: u64,
    next_serial: u64,
}

impl Store {
    pub(super) fn put(&mut self, key: Key, mut value: HeldValue) {
        self.next_serial = self.next_serial.wrapping_add(1);
        value.serial = self.next_serial;
        self.payload_bytes = self.payload_bytes.saturating_add(value.payload_bytes());
        if let Some(older) = self.values.insert(key, value) {
            self.payload_bytes = self.payload_bytes.saturating_sub(older.payload_bytes());
        }
    }

    /// Forgets a value. True: the executor must, too.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(value) = self.values.remove(key) else { return false };
        self.payload_bytes = self.payload_bytes.saturating_sub(value.payload_bytes());
        value.in_executor
    }

    pub(super) fn get(&self, key: &Key) -> Option<&HeldValue> {
        self.values.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// The bytes of a value, for the executor, which has it as an object afterwards.
    pub(super) fn lend(&mut self, key: &Key) -> Option<Payload> {
        let value = self.values.get_mut(key)?;
        let payload = value.payload.clone()?;
        value.in_executor = true;
        if !is_kept(&payload) {
            self.payload_bytes = self.payload_bytes.saturating_sub(value.payload_bytes());
            value.payload = None;
        }
        Some(payload)
    }

    /// The bytes of a value of the executor's were made: they serve whoever asks next.
    pub(super) fn keep(&mut self, key: &Key, serial: u64, payload: &Payload) {
        let value = self.values.get_mut(key).filter(|value| value.serial == serial && value.payload.is_none());
        if let Some(value) = value.filter(|_| is_kept(payload)) {
            value.payload = Some(payload.clone());
            self.payload_bytes = self.payload_bytes.saturating_add(value.payload_bytes());
        }
    }

    /// Bytes that are here. Unit: bytes.
    pub(super) const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }
}

fn is_kept(payload: &Payload) -> bool {
    matches!(payload, Payload::Filed(_)) || payload.size_bytes() <= KEPT_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::Opaque;

    /// Goal: the count of bytes follows every way in which a payload comes, is replaced, is lent and goes.
    #[test]
    fn bytes_are_counted_as_payloads_come_and_go() {
        let of = |bytes: usize| HeldValue {
            payload: Some(Payload::Here(Arc::new(Opaque { head: Bytes::new(), frames: vec![vec![0; bytes].into()] }))),
            ..HeldValue::default()
        };
        let (big, small) = (Key::text("big"), Key::text("small"));
        let mut store = Store::default();
        store.put(big.clone(), of(10));
        store.put(big.clone(), of(KEPT_BYTES as usize + 1));
        store.put(small.clone(), of(7));
        assert_eq!(store.payload_bytes(), KEPT_BYTES + 8);
        assert!(store.lend(&big).is_some() && store.lend(&big).is_none() && store.lend(&small).is_some());
        assert_eq!(store.payload_bytes(), 7);
        assert!(store.remove(&small) && store.remove(&big) && !store.remove(&big));
        assert_eq!(store.payload_bytes(), 0);
    }
}
