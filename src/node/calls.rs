//! What peers and clients ask, and the ends of transfers.

use tokio::sync::oneshot;

use super::driver::{Driver, NodeStatus};
use super::input::{Asker, DataReply, FetchOutcome, PeerCall};
use super::store::HeldValue;
use crate::base::{Key, Text};
use crate::executor::{DESCRIPTORS_MAX, ToControl, ToPorter};
use crate::values::Payload;
use crate::wire;
use crate::worker_state::{TaskPhase, WorkerEvent};

impl Driver {
    pub(super) fn on_call(&mut self, call: PeerCall) {
        match call {
            PeerCall::GetData { keys, by, reply } => {
                let answer = self.get_data(keys, by);
                if let Err(DataReply::Ready { size_bytes, .. }) = reply.send(answer) {
                    self.sent(size_bytes);
                }
            }
            PeerCall::Sent { size_bytes } => self.sent(size_bytes),
            PeerCall::UpdateData { values } => {
                let sizes = values.iter().map(|(key, payload)| (key.clone(), payload.size_bytes())).collect();
                self.take_in(values, false);
                self.step(WorkerEvent::Scattered { values: sizes });
            }
            PeerCall::Lost { keys } => self.lose(keys),
            PeerCall::FreeKeys { keys } => self.step(WorkerEvent::FreeKeys { keys }),
            PeerCall::Terminate => self.close("terminated by a request"),
            PeerCall::Relay { connection, peer, message, back } => {
                self.relays.insert(connection, back);
                self.executor.tell(&ToControl::Request { connection, peer: &peer, message: &message });
            }
            PeerCall::Gone { connection } => {
                self.relays.remove(&connection);
                self.executor.tell(&ToControl::Gone { connection });
            }
        }
    }

    /// Values that came as bytes.
    fn take_in(&mut self, values: Vec<(Key, Payload)>, is_shared: bool) {
        for (key, payload) in values {
            // A younger value takes the place of an older one in the executor, too.
            self.forget(key.clone());
            let is_error = is_error(&payload);
            if is_error {
                self.errors.push(key.clone());
            }
            self.store.put(key, HeldValue { payload: Some(payload), is_shared, is_error, ..HeldValue::default() });
        }
    }

    fn sent(&mut self, size_bytes: u64) {
        self.traffic.outgoing = self.traffic.outgoing.saturating_sub(1);
        self.traffic.outgoing_bytes = self.traffic.outgoing_bytes.saturating_sub(size_bytes);
    }

    /// Source: `distributed/worker.py`, `get_data`.
    fn get_data(&mut self, keys: Vec<Key>, by: Asker) -> DataReply {
        let most = match (self.status == NodeStatus::Paused, by) {
            (_, Asker::Sibling) => 0,
            (true, _) => 1,
            (false, Asker::SameHost) => self.settings.outgoing_max.saturating_mul(2),
            (false, Asker::OtherHost) => self.settings.outgoing_max,
        };
        if most > 0 && self.traffic.outgoing >= most {
            return DataReply::Busy;
        }
        let (mut payloads, mut exports, mut wanted, mut size_bytes) = (Vec::new(), Vec::new(), Vec::new(), 0u64);
        for key in keys {
            let Some(value) = self.store.get(&key) else { continue };
            size_bytes = size_bytes.saturating_add(self.machine.size_bytes_of(&key));
            match &value.payload {
                Some(payload) => payloads.push((key, payload.clone())),
                None => {
                    let serial = value.serial;
                    let (waiter, export) = oneshot::channel();
                    let waiters = self.export_waiters.entry(key.clone()).or_default();
                    waiters.push(waiter);
                    // Others may wait for it already.
                    if waiters.len() == 1 {
                        wanted.push((key.clone(), serial));
                    }
                    exports.push((key, export));
                }
            }
        }
        self.traffic.outgoing = self.traffic.outgoing.saturating_add(1);
        self.traffic.outgoing_total = self.traffic.outgoing_total.saturating_add(1);
        self.traffic.outgoing_bytes = self.traffic.outgoing_bytes.saturating_add(size_bytes);
        for wanted in wanted.chunks(DESCRIPTORS_MAX) {
            self.export(wanted.to_vec(), true);
        }
        DataReply::Ready { payloads, exports, size_bytes }
    }

    /// Has values serialised.
    fn export(&mut self, wanted: Vec<(Key, u64)>, in_files: bool) {
        let number = self.next_number();
        let keys: Vec<Key> = wanted.iter().map(|(key, _)| key.clone()).collect();
        self.executor.port(&ToPorter::Export { number, keys: &keys, in_files });
        self.exports.insert(number, wanted);
    }

    /// Values were serialised; no list: there were not enough descriptors.
    pub(super) fn on_exported(&mut self, number: u64, values: Option<Vec<Option<Payload>>>) {
        let Some(wanted) = self.exports.remove(&number) else { return };
        let Some(values) = values else { return self.export(wanted, false) };
        let mut values = values.into_iter();
        for (key, serial) in wanted {
            let value = values.next().flatten();
            if let Some(payload) = value.as_ref().filter(|payload| !is_error(payload)) {
                self.store.keep(&key, serial, payload);
            }
            for waiter in self.export_waiters.remove(&key).into_iter().flatten() {
                let _gone = waiter.send(value.clone());
            }
        }
    }

    pub(super) fn on_fetched(&mut self, peer: Text, got: FetchOutcome) {
        let (values, is_shared) = match got {
            FetchOutcome::Values(values) => (values, false),
            FetchOutcome::Shared(values) => (values, true),
            FetchOutcome::Busy => return self.step(WorkerEvent::FetchBusy { peer }),
            FetchOutcome::Broken(error) => {
                tracing::warn!(%peer, %error, "a peer cannot be asked for values");
                return self.step(WorkerEvent::FetchBroken { peer });
            }
            FetchOutcome::Nonsense(what) => {
                tracing::error!(%peer, what, "a peer's answer cannot be used");
                return self.step(WorkerEvent::FetchFailed { peer });
            }
        };
        // Only what is not here already: its run may have ended meanwhile. An error does for tasks that wait for the value;
        // where the value is to be computed here, too, it is as if the peer did not have it.
        let mut fresh = values;
        fresh.retain(|(key, payload)| {
            let is_of_use = !is_error(payload) || self.machine.phase_of(key) == Some(TaskPhase::Flight);
            is_of_use && self.store.get(key).is_none()
        });
        let sizes: Vec<(Key, u64)> = fresh.iter().map(|(key, payload)| (key.clone(), payload.size_bytes())).collect();
        self.take_in(fresh, is_shared);
        self.step(WorkerEvent::Fetched { peer, values: sizes.clone() });
        for (key, _) in sizes {
            if self.machine.phase_of(&key) != Some(TaskPhase::Memory) {
                self.forget(key);
            }
        }
    }
}

fn is_error(payload: &Payload) -> bool {
    wire::is_error(match payload {
        Payload::Here(payload) => &payload.head,
        Payload::Filed(filed) => &filed.head,
    })
}
