//! Requests that must not overtake what their client said on its stream before, and the tokens they wait for.

use std::collections::VecDeque;

use super::call::Call;
use super::handle::ConnId;
use crate::base::{Text, Value};
use crate::sched::coord::CoordRequest;

/// Tokens that came before their request; each request comes right after its token, so a few are plenty.
const EARLY_MAX: usize = 1_000;

/// Tokens and requests that wait for each other.
#[derive(Debug, Default)]
pub struct Barriers {
    early: VecDeque<Value>,
    waiting: Vec<Blocked>,
}

/// A request that waits for a token.
#[derive(Debug)]
pub struct Blocked {
    pub uid: Value,
    /// Name of the client that will send the token.
    pub client: Text,
    pub call: Call,
    /// None: the asker only wants to know that the token came.
    pub request: Option<CoordRequest>,
}

impl Barriers {
    /// Did the token come already?
    pub fn came(&self, uid: &Value) -> bool {
        self.early.contains(uid)
    }

    /// Uses up a token that came already. False: it did not come.
    pub fn take_early(&mut self, uid: &Value) -> bool {
        let at = self.early.iter().position(|early| early == uid);
        at.is_some_and(|at| self.early.remove(at).is_some())
    }

    /// This request waits from now on.
    pub fn block(&mut self, blocked: Blocked) {
        self.waiting.push(blocked);
    }

    /// The token came: the requests that waited for it. A token that no request used up is kept for the next.
    pub fn on_token(&mut self, uid: &Value) -> Vec<Blocked> {
        let came = self.take(|blocked| blocked.uid == *uid);
        if came.iter().all(|blocked| blocked.request.is_none()) {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(uid.clone());
        }
        came
    }

    /// The requests that wait for a client which is gone.
    pub fn forget_client(&mut self, client: &str) -> Vec<Blocked> {
        self.take(|blocked| &*blocked.client == client)
    }

    /// The askers on this connection are gone.
    pub fn forget_conn(&mut self, conn: ConnId) {
        self.waiting.retain(|blocked| blocked.call.conn != conn);
    }

    fn take(&mut self, chosen: impl Fn(&Blocked) -> bool) -> Vec<Blocked> {
        let (taken, rest) = std::mem::take(&mut self.waiting).into_iter().partition(chosen);
        self.waiting = rest;
        taken
    }
}
