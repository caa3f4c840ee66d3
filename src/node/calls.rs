//! What peers and clients ask, and the ends of transfers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::driver::{Driver, NodeStatus};
use super::input::{DataReply, FetchOutcome, PeerCall};
use super::store::{HeldValue, payload_size};
use crate::base::{Key, Opaque, Text};
use crate::executor::{ToControl, ToPorter};
use crate::worker_state::{TaskPhase, WorkerEvent};

impl Driver {
    pub(super) fn on_call(&mut self, call: PeerCall) {
        match call {
            PeerCall::GetData { keys, same_host, reply } => {
                let answer = self.get_data(keys, same_host);
                if let Err(DataReply::Ready { size_bytes, .. }) = reply.send(answer) {
                    self.sent(size_bytes);
                }
            }
            PeerCall::Sent { size_bytes } => self.sent(size_bytes),
            PeerCall::UpdateData { values } => {
                let sizes = values.iter().map(|(key, payload)| (key.clone(), payload_size(payload))).collect();
                self.take_in(values);
                self.step(WorkerEvent::Scattered { values: sizes });
            }
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
    fn take_in(&mut self, values: Vec<(Key, Arc<Opaque>)>) {
        for (key, payload) in values {
            // A younger value takes the place of an older one in the executor, too.
            self.forget(key.clone());
            self.store.put(key, HeldValue { payload: Some(payload), ..HeldValue::default() });
        }
    }

    fn sent(&mut self, size_bytes: u64) {
        self.traffic.outgoing = self.traffic.outgoing.saturating_sub(1);
        self.traffic.outgoing_bytes = self.traffic.outgoing_bytes.saturating_sub(size_bytes);
    }

    /// Source: `distributed/worker.py`, `get_data`.
    fn get_data(&mut self, keys: Vec<Key>, same_host: bool) -> DataReply {
        let most = match (self.status == NodeStatus::Paused, same_host) {
            (true, _) => 1,
            (false, true) => self.settings.outgoing_max.saturating_mul(2),
            (false, false) => self.settings.outgoing_max,
        };
        if most > 0 && self.traffic.outgoing >= most {
            return DataReply::Busy;
        }
        let (mut payloads, mut elsewhere, mut size_bytes) = (Vec::new(), Vec::new(), 0u64);
        for key in keys {
            let Some(value) = self.store.get(&key) else { continue };
            size_bytes = size_bytes.saturating_add(self.machine.size_bytes_of(&key));
            match &value.payload {
                Some(payload) => payloads.push((key, payload.clone())),
                None => elsewhere.push(key),
            }
        }
        self.traffic.outgoing = self.traffic.outgoing.saturating_add(1);
        self.traffic.outgoing_total = self.traffic.outgoing_total.saturating_add(1);
        self.traffic.outgoing_bytes = self.traffic.outgoing_bytes.saturating_add(size_bytes);
        let exports = (!elsewhere.is_empty()).then(|| {
            let (waiter, exported) = oneshot::channel();
            let number = self.next_number();
            self.exports.insert(number, waiter);
            self.executor.port(&ToPorter::Export { number, keys: &elsewhere });
            (elsewhere, exported)
        });
        DataReply::Ready { payloads, exports, size_bytes }
    }

    pub(super) fn on_fetched(&mut self, peer: Text, got: FetchOutcome) {
        let values = match got {
            FetchOutcome::Values(values) => values,
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
        // Only what is not here already: its run may have ended meanwhile.
        let fresh: Vec<_> = values.into_iter().filter(|(key, _)| self.store.get(key).is_none()).collect();
        let sizes: Vec<(Key, u64)> = fresh.iter().map(|(key, payload)| (key.clone(), payload_size(payload))).collect();
        self.take_in(fresh);
        self.step(WorkerEvent::Fetched { peer, values: sizes.clone() });
        for (key, _) in sizes {
            if self.machine.phase_of(&key) != Some(TaskPhase::Memory) {
                self.forget(key);
            }
        }
    }
}
