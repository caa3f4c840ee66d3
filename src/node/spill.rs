//! Makes room in memory: second copies are dropped, and values moved to the disk.
//!
//! A value that moves stays where it is until its file is written; then the executor is told to forget it, and asks for it
//! when a task reads it. Source: `distributed/spill.py`, `distributed/worker_memory.py`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::driver::Driver;
use super::input::NodeInput;
use super::moving::Moving;
use crate::base::Key;
use crate::executor::{SpillOutcome, ToPorter};
use crate::values::{Eviction, Filed, Payload, Segment, Spillable, evictions};
use crate::worker_state::WorkerEvent;

/// Smaller values stay: a file costs more than they do. Unit: bytes.
const SMALL_BYTES: u64 = 4 << 10;
/// Values that grow by this part of the memory limit are looked at before their time.
const GROWN_PART: u64 = 32;
/// After a disk that was full. Unit: microseconds.
const AGAIN_US: u64 = 10_000_000;

impl Driver {
    /// Values that are in memory. Unit: bytes.
    fn values_in_memory(&self) -> u64 {
        self.machine.held_bytes().saturating_sub(self.store.totals().spilled_bytes)
    }

    /// Values took so much more of the memory since the last look that the next one cannot wait for its time.
    pub(super) fn has_grown(&self) -> bool {
        let more = self.values_in_memory().saturating_sub(self.spilling.seen_bytes);
        self.memory_limit.is_some_and(|limit| more > limit / GROWN_PART)
    }

    /// Looks whether values must leave the memory. `memory`: what counts as this worker's now. Unit: bytes.
    pub(super) fn relieve(&mut self, limit: u64, memory: u64) {
        let values = self.values_in_memory();
        self.spilling.seen_bytes = values;
        if !self.spilling.orders.is_empty() {
            return;
        }
        let of_limit = |share: f64| (limit as f64 * share) as u64;
        let (target, spill) = (self.settings.target, self.settings.spill);
        let low = of_limit(if target > 0.0 { target } else { spill });
        // From the one threshold down to the other.
        let threshold = if self.spilling.is_on { low } else { of_limit(spill) };
        self.spilling.is_on = spill > 0.0 && memory > threshold;
        let over = if self.spilling.is_on { memory.saturating_sub(low) } else { 0 };
        let too_many = if target > 0.0 { values.saturating_sub(of_limit(target)) } else { 0 };
        let need = over.max(too_many);
        if need > 0 {
            self.make_room(need);
        }
    }

    fn make_room(&mut self, need: u64) {
        let is_full = self.clock.now() < self.spilling.again;
        let left = self.settings.spill_max.saturating_sub(self.store.totals().disk_bytes);
        let (mut bytes, mut objects) = (Vec::new(), Vec::new());
        for (key, how) in evictions(self.spillable(), need, if is_full { 0 } else { left }) {
            let Some((serial, payload)) = self.store.get(&key).map(|value| (value.serial, value.payload.clone()))
            else {
                continue;
            };
            match how {
                Eviction::DropCopy => {
                    self.store.change(&key, serial, |value| value.payload = None);
                }
                Eviction::SpillObject => objects.push(self.moving(key, serial)),
                Eviction::SpillBytes => {
                    let moving = self.moving(key, serial);
                    bytes.extend(payload.map(|payload| (payload, moving)));
                }
            }
        }
        if !is_full && left < need && !std::mem::replace(&mut self.spilling.told_max, true) {
            tracing::warn!(
                worker = %self.address, limit_bytes = self.settings.spill_max,
                "values may not take more of the disk: distributed.worker.memory.max-spill is reached"
            );
        }
        self.spill_objects(objects);
        self.spill_bytes(bytes);
    }

    fn moving(&mut self, key: Key, serial: u64) -> Moving {
        self.spilling.files = self.spilling.files.wrapping_add(1);
        Moving { key, serial, path: self.spill_folder().join(self.spilling.files.to_string()) }
    }

    fn spill_folder(&self) -> PathBuf {
        self.folder.join("storage")
    }

    /// What may leave the memory: nothing that a run reads, and nothing that frees none of ours.
    fn spillable(&self) -> Vec<Spillable<Key>> {
        let read: HashSet<&Key> = self.runs.values().flat_map(|run| &run.inputs).collect();
        let one = |(key, value): (&Key, &super::store::HeldValue)| {
            let (size_bytes, how) = match &value.payload {
                Some(payload) if payload.is_on_disk() || value.is_shared => return None,
                Some(payload) if value.in_executor && !value.lies_in_file() => {
                    (payload.size_bytes(), Eviction::DropCopy)
                }
                Some(payload) => (payload.size_bytes(), Eviction::SpillBytes),
                None => (self.machine.size_bytes_of(key), Eviction::SpillObject),
            };
            let stays = how != Eviction::DropCopy && (value.stays || read.contains(key));
            (size_bytes > SMALL_BYTES && !stays).then(|| Spillable {
                key: key.clone(),
                size_bytes,
                used: value.used,
                how,
            })
        };
        self.store.iter().filter_map(one).collect()
    }

    fn spill_objects(&mut self, objects: Vec<Moving>) {
        if objects.is_empty() || !self.has_spill_folder() {
            return;
        }
        let path = |moving: &Moving| moving.path.to_string_lossy().into_owned();
        let values: Vec<(Key, String)> = objects.iter().map(|moving| (moving.key.clone(), path(moving))).collect();
        let number = self.next_number();
        self.executor.port(&ToPorter::Spill { number, values: &values });
        self.spilling.orders.insert(number, objects);
    }

    fn spill_bytes(&mut self, bytes: Vec<(Payload, Moving)>) {
        if bytes.is_empty() || !self.has_spill_folder() {
            return;
        }
        let number = self.next_number();
        let (payloads, movings): (Vec<Payload>, Vec<Moving>) = bytes.into_iter().unzip();
        let work: Vec<(Payload, PathBuf)> =
            payloads.into_iter().zip(movings.iter().map(|moving| moving.path.clone())).collect();
        self.spilling.orders.insert(number, movings);
        let inbox = self.inbox.clone();
        tokio::task::spawn_blocking(move || {
            let outcomes = work.into_iter().map(|(payload, path)| written(&payload, &path)).collect();
            let _closed = inbox.send(NodeInput::Spilled { number, outcomes });
        });
    }

    fn has_spill_folder(&mut self) -> bool {
        match fs::create_dir_all(self.spill_folder()) {
            Ok(()) => true,
            Err(why) => {
                self.disk_is_full(&why.to_string());
                false
            }
        }
    }

    fn disk_is_full(&mut self, why: &str) {
        self.spilling.again = self.clock.now().plus_us(AGAIN_US);
        tracing::warn!(
            worker = %self.address, folder = %self.spill_folder().display(), why,
            "values cannot be moved to the disk; make room there, or give another --local-directory. They stay in memory"
        );
    }

    /// Values were written to files.
    pub(super) fn on_spilled(&mut self, number: u64, outcomes: Vec<SpillOutcome>) {
        let mut full = None;
        let moved = self.spilling.orders.remove(&number).unwrap_or_default();
        for (Moving { key, serial, path }, outcome) in moved.into_iter().zip(outcomes) {
            match outcome {
                SpillOutcome::Gone => {}
                SpillOutcome::Full { why } => full = Some(why),
                SpillOutcome::Unwilling { why } => {
                    tracing::warn!(worker = %self.address, %key, %why, "a value cannot be serialised: it stays in memory");
                    self.store.change(&key, serial, |value| value.stays = true);
                }
                SpillOutcome::Written { head, lengths } => {
                    // The file goes with this, unless the store keeps it.
                    let filed = Filed { head, lengths, segment: Segment::named(path) };
                    if !self.runs.values().any(|run| run.inputs.contains(&key)) {
                        self.moved(key, serial, filed);
                    }
                }
            }
        }
        if let Some(why) = full {
            self.disk_is_full(&why);
        }
    }

    fn moved(&mut self, key: Key, serial: u64, filed: Filed) {
        let size_bytes = self.machine.size_bytes_of(&key);
        let mut in_executor = false;
        self.store.change(&key, serial, |value| {
            in_executor = std::mem::take(&mut value.in_executor);
            value.size_bytes = size_bytes;
            value.payload = Some(Payload::Filed(Arc::new(filed)));
        });
        if in_executor {
            self.drops.push(key);
        }
    }

    /// The files of these values cannot be read: the scheduler has them computed anew.
    pub(super) fn lose(&mut self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            tracing::error!(worker = %self.address, %key, "the file of a value cannot be read: it must be computed anew");
            self.store.remove(key);
            self.drops.push(key.clone());
        }
        self.step(WorkerEvent::Lost { keys });
    }
}

fn written(payload: &Payload, path: &Path) -> SpillOutcome {
    match payload.spill(path) {
        Ok((head, lengths)) => SpillOutcome::Written { head, lengths },
        Err(why) => SpillOutcome::Full { why: why.to_string().into() },
    }
}
