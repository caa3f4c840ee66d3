//! The barrier of published datasets: a request that must not overtake what its client said on its stream before.
//!
//! Source: `distributed/publish.py`, `_sync_batched_send`.

use std::collections::VecDeque;

use super::desk::ConnId;
use super::driver::{Call, Driver, Waiting};
use super::translate::raise;
use crate::base::{ClientId, Text, Value};
use crate::sched::Event;
use crate::sched::coord::CoordRequest;

/// Tokens that came before their request; each request comes right after its token, so a few are plenty.
const EARLY_MAX: usize = 1_000;

/// Tokens and requests that wait for each other.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    early: VecDeque<Value>,
    waiting: Vec<Blocked>,
}

#[derive(Debug)]
struct Blocked {
    uid: Value,
    client: Text,
    call: Call,
    request: CoordRequest,
}

impl Barriers {
    /// The askers on this connection are gone.
    pub(super) fn forget_conn(&mut self, conn: ConnId) {
        self.waiting.retain(|blocked| blocked.call.conn != conn);
    }
}

impl Driver {
    /// Runs `request` once the token `uid` came on its client's stream.
    pub(super) fn after_flush(&mut self, call: Call, body: &Value, request: CoordRequest) {
        let uid = body.get("uid").cloned().unwrap_or_default();
        let client: Text = body.get("client").and_then(Value::as_str).unwrap_or_default().into();
        let known = self.client_link(&client).map(|(id, _)| id);
        if let Some(at) = self.barriers.early.iter().position(|early| *early == uid) {
            self.barriers.early.remove(at);
            self.publish(call, known, request);
        } else if known.is_some() && !uid.is_nil() {
            self.barriers.waiting.push(Blocked { uid, client, call, request });
        } else {
            // Nobody will ever send the token: do not wait for it.
            self.publish(call, known, request);
        }
    }

    /// The token came.
    pub(super) fn on_flushed(&mut self, uid: &Value) {
        match self.barriers.waiting.iter().position(|blocked| blocked.uid == *uid) {
            Some(at) => {
                let blocked = self.barriers.waiting.swap_remove(at);
                let client = self.sched.client_id(&blocked.client);
                self.publish(blocked.call, client, blocked.request);
            }
            None => {
                if self.barriers.early.len() >= EARLY_MAX {
                    self.barriers.early.pop_front();
                }
                self.barriers.early.push_back(uid.clone());
            }
        }
    }

    /// The client is gone and its tokens with it.
    pub(super) fn fail_barriers(&mut self, client: &str) {
        let waiting = std::mem::take(&mut self.barriers.waiting);
        let (gone, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|blocked| &*blocked.client == client);
        self.barriers.waiting = rest;
        for blocked in gone {
            self.finish(blocked.call, Err(raise("TimeoutError", "the client is gone")));
        }
    }

    fn publish(&mut self, call: Call, client: Option<ClientId>, request: CoordRequest) {
        let id = self.open_call(Waiting::Asker(call));
        self.apply(Event::Coord { call: id, client, request });
    }
}
