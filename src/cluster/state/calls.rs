//! Requests that wait for an answer: from the core, from a job, or from a token on a client's stream.

use tokio::sync::oneshot;

use super::barriers::Barriers;
use super::call::{Call, Outcome};
use super::handle::ConnId;
use super::peers::Joining;
use crate::base::{CallId, SeededMap, Text};

/// Who waits for the core's answer to a call.
#[derive(Debug)]
pub enum WaitingCall {
    /// The asker, who gets the answer unchanged.
    Asker(Call),
    /// The asker, who gets elements of a queue or a variable's value.
    Elements(Call),
    /// The asker, who gets the answer as shuffle requests are answered; for a barrier, its shuffle and run.
    Shuffle(Call, Option<(Text, i64)>),
    /// A worker that registers.
    Registration(Box<Joining>),
}

impl WaitingCall {
    /// The request/reply connection that waits, if one does.
    pub const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Asker(asker) | Self::Elements(asker) | Self::Shuffle(asker, _) => Some(asker.conn),
            Self::Registration(_) => None,
        }
    }
}

/// Every request that waits.
#[derive(Debug)]
pub struct Calls {
    waiting: SeededMap<CallId, WaitingCall>,
    next: CallId,
    /// Who inside this process waits for a request's answer.
    inner: SeededMap<ConnId, oneshot::Sender<Outcome>>,
    next_inner: ConnId,
    /// Requests that wait for a token on their client's stream.
    pub barriers: Barriers,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            waiting: SeededMap::default(),
            next: 1,
            inner: SeededMap::default(),
            next_inner: ConnId::MAX,
            barriers: Barriers::default(),
        }
    }
}

impl Calls {
    /// A fresh number for a call.
    pub const fn number(&mut self) -> CallId {
        let call = self.next;
        self.next = self.next.wrapping_add(1);
        call
    }

    /// `waiting` waits for the answer to this call.
    pub fn open(&mut self, call: CallId, waiting: WaitingCall) {
        self.waiting.insert(call, waiting);
    }

    /// Who waits for this answer.
    pub fn close(&mut self, call: CallId) -> Option<WaitingCall> {
        self.waiting.remove(&call)
    }

    /// A request from inside this process, answered through `reply`.
    pub fn open_inner(&mut self, reply: oneshot::Sender<Outcome>) -> Call {
        // Counted down from the end: connections are counted up from the beginning.
        self.next_inner = self.next_inner.wrapping_sub(1);
        self.inner.insert(self.next_inner, reply);
        Call { conn: self.next_inner, reply: true, close: false }
    }

    /// Who inside this process waits for this answer.
    pub fn close_inner(&mut self, conn: ConnId) -> Option<oneshot::Sender<Outcome>> {
        self.inner.remove(&conn)
    }
}
