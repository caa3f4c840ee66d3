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
    /// Its holder could not serialise it, and this is the reason instead. It is no copy of the value: the scheduler is
    /// not told of it, and it goes when nothing here reads it any more.
    pub(super) is_error: bool,
    /// It stays where it is: an actor, or what cannot be serialised.
    pub(super) stays: bool,
    /// What it counts for, if it is on the disk. Unit: bytes.
    pub(super) size_bytes: u64,
    /// When it was used last: a number that grows.
    pub(super) used: u64,
    /// Tells it from values that had the same key. The store gives it.
    pub(super) serial: u64,
}

/// The type whose objects lie in the file of their bytes, once there is one: `Home.share` in the executor sees to that.
const SHARED_TYPE: &str = "numpy.ndarray";

impl HeldValue {
    /// The executor's object has no memory of its own: it was loaded from the file that the bytes are in. Others may be
    /// copies; which, nobody tells.
    pub(super) fn lies_in_file(&self) -> bool {
        let is_loaded = self.made.as_ref().is_none_or(|made| &*made.typename == SHARED_TYPE);
        is_loaded && matches!(self.payload, Some(Payload::Filed(_)))
    }

    fn totals(&self) -> HeldTotals {
        let memory_bytes = if self.is_shared { 0 } else { self.payload.as_ref().map_or(0, Payload::memory_bytes) };
        let on_disk = self.payload.as_ref().filter(|payload| payload.is_on_disk());
        let spilled_bytes = if on_disk.is_some() { self.size_bytes } else { 0 };
        HeldTotals { memory_bytes, spilled_bytes, disk_bytes: on_disk.map_or(0, Payload::size_bytes) }
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

/// Sums over all values. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct HeldTotals {
    /// What payloads occupy in memory.
    pub(super) memory_bytes: u64,
    /// What counts for the values that are on the disk, and what they occupy there.
    pub(super) spilled_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// All values that this worker holds.
#[derive(Debug, Default)]
pub(super) struct Store {
    values: HashMap<Key, HeldValue>,
    /// The memory is watched ten times a second.
    totals: HeldTotals,
    /// Names values, and orders their uses.
    next: u64,
}

impl Store {
    pub(super) fn put(&mut self, key: Key, mut value: HeldValue) {
        self.next = self.next.wrapping_add(1);
        (value.serial, value.used) = (self.next, self.next);
        self.recount(&HeldTotals::default(), &value.totals());
        if let Some(older) = self.values.insert(key, value) {
            self.recount(&older.totals(), &HeldTotals::default());
        }
    }

    /// Forgets a value. True: the executor must, too.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(value) = self.values.remove(key) else { return false };
        self.recount(&value.totals(), &HeldTotals::default());
        value.in_executor
    }

    pub(super) fn get(&self, key: &Key) -> Option<&HeldValue> {
        self.values.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &HeldValue)> {
        self.values.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// Changes a value, if it is still the one with this serial number.
    pub(super) fn change(&mut self, key: &Key, serial: u64, change: impl FnOnce(&mut HeldValue)) -> bool {
        let Some(value) = self.values.get_mut(key).filter(|value| value.serial == serial) else { return false };
        let before = value.totals();
        change(value);
        let after = value.totals();
        self.recount(&before, &after);
        true
    }

    /// It is used now.
    pub(super) fn touch(&mut self, key: &Key) {
        self.next = self.next.wrapping_add(1);
        if let Some(value) = self.values.get_mut(key) {
            value.used = self.next;
        }
    }

    /// The bytes of a value, for the executor, which has it as an object afterwards.
    pub(super) fn lend(&mut self, key: &Key) -> Option<Payload> {
        let value = self.values.get(key)?;
        let (payload, serial) = (value.payload.clone()?, value.serial);
        self.touch(key);
        self.change(key, serial, |value| {
            value.in_executor = true;
            value.payload.take_if(|payload| !is_kept(payload));
        });
        Some(payload)
    }

    /// The bytes of a value of the executor's were made: they serve whoever asks next.
    pub(super) fn keep(&mut self, key: &Key, serial: u64, payload: &Payload) {
        if is_kept(payload) {
            self.change(key, serial, |value| {
                value.payload.get_or_insert_with(|| payload.clone());
            });
        }
    }

    pub(super) const fn totals(&self) -> HeldTotals {
        self.totals
    }

    fn recount(&mut self, before: &HeldTotals, after: &HeldTotals) {
        let sums = &mut self.totals;
        for (sum, before, after) in [
            (&mut sums.memory_bytes, before.memory_bytes, after.memory_bytes),
            (&mut sums.spilled_bytes, before.spilled_bytes, after.spilled_bytes),
            (&mut sums.disk_bytes, before.disk_bytes, after.disk_bytes),
        ] {
            *sum = sum.saturating_sub(before).saturating_add(after);
        }
    }
}

fn is_kept(payload: &Payload) -> bool {
    matches!(payload, Payload::Filed(_)) && !payload.is_on_disk() || payload.size_bytes() <= KEPT_BYTES
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
        assert_eq!(store.totals().memory_bytes, KEPT_BYTES + 8);
        assert!(store.lend(&big).is_some() && store.lend(&big).is_none() && store.lend(&small).is_some());
        assert_eq!(store.totals().memory_bytes, 7);
        assert!(store.remove(&small) && store.remove(&big) && !store.remove(&big));
        assert_eq!(store.totals().memory_bytes, 0);
    }
}
