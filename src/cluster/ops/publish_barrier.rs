//! The barrier of published datasets: a request that must not overtake what its client said on its stream before.
//!
//! Source: `distributed/publish.py`, `_sync_batched_send`; before 2026.6 `flush_wait`, a request of its own.

use std::collections::VecDeque;

use crate::base::{ClientId, Text, Value};
use crate::cluster::codec::raise;
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::{Call, Driver, Waiting};
use crate::sched::Event;
use crate::sched::coord::CoordRequest;

/// Tokens that came before their request; each request comes right after its token, so a few are plenty.
const EARLY_MAX: usize = 1_000;

/// Tokens and requests that wait for each other.
#[derive(Debug, Default)]
pub struct Barriers {
    early: VecDeque<Value>,
    waiting: Vec<Blocked>,
}

#[derive(Debug)]
struct Blocked {
    uid: Value,
    client: Text,
    call: Call,
    /// None: the asker wants to know of the token, no more.
    request: Option<CoordRequest>,
}

impl Barriers {
    /// The askers on this connection are gone.
    pub fn forget_conn(&mut self, conn: ConnId) {
        self.waiting.retain(|blocked| blocked.call.conn != conn);
    }
}

impl Driver {
    /// Runs `request` once the token `uid` came on its client's stream.
    pub fn after_flush(&mut self, call: Call, body: &Value, request: CoordRequest) {
        let uid = body.get("uid").cloned().unwrap_or_default();
        let client: Text = body.get("client").and_then(Value::as_str).unwrap_or_default().into();
        let known = self.client_link(&client).map(|(id, _)| id);
        if let Some(at) = self.barriers.early.iter().position(|early| *early == uid) {
            self.barriers.early.remove(at);
            self.publish(call, known, request);
        } else if known.is_some() && !uid.is_nil() {
            self.barriers.waiting.push(Blocked { uid, client, call, request: Some(request) });
        } else {
            // Nobody will ever send the token: do not wait for it.
            self.publish(call, known, request);
        }
    }

    /// `publish_wait_flush`: answered once the token `uid` came. Several may ask for one token.
    pub fn wait_flush(&mut self, call: Call, uid: Value) {
        if self.barriers.early.contains(&uid) {
            self.finish(call, Ok(Value::Nil));
        } else {
            self.barriers.waiting.push(Blocked { uid, client: Text::default(), call, request: None });
        }
    }

    /// The token came.
    pub fn on_flushed(&mut self, uid: &Value) {
        let waiting = std::mem::take(&mut self.barriers.waiting);
        let (came, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|blocked| blocked.uid == *uid);
        self.barriers.waiting = rest;
        let used = came.iter().any(|blocked| blocked.request.is_some());
        for blocked in came {
            let client = self.sched.client_id(&blocked.client);
            match blocked.request {
                Some(request) => self.publish(blocked.call, client, request),
                None => self.finish(blocked.call, Ok(Value::Nil)),
            }
        }
        if !used {
            if self.barriers.early.len() >= EARLY_MAX {
                self.barriers.early.pop_front();
            }
            self.barriers.early.push_back(uid.clone());
        }
    }

    /// The client is gone and its tokens with it.
    pub fn fail_barriers(&mut self, client: &str) {
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
