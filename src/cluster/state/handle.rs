//! How everything else reaches the state: one bounded inbox, and a handle for jobs that take several turns.
//!
//! A job is a task of its own that waits for the network or for Python. It holds nothing of the state: it sends an
//! [`Errand`], which the loop runs between two messages, and gets the result back. What the errands work on is a
//! parameter, because the state itself holds a handle.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::base::{Limits, Value};
use crate::clock::Clock;
use crate::net::{NetError, Outbox, PeerInfo, Pool};
use crate::wire::Message;
use crate::wire::op::StreamItem;

/// Names a connection of this process; never reused.
pub type ConnId = u64;

/// Something to do with the state, on its own turn.
pub type Errand<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Messages and errands that wait in the inbox, all connections together. When it is full, readers wait: order is
/// kept and memory is bounded, because each reader holds one message at most.
pub const INBOX_MAX: usize = 8_192;

/// What arrives in the inbox.
pub enum InboxItem<S> {
    /// A connection finished its handshake.
    Opened { conn: ConnId, line: Line },
    /// A request, or a bare map on a stream.
    Single { conn: ConnId, body: Value },
    /// The items of one stream message.
    Items { conn: ConnId, items: Vec<StreamItem> },
    /// The connection is over; nothing more comes from it.
    Closed { conn: ConnId },
    /// A job wants something.
    Errand(Errand<S>),
}

/// What is held of a connection for writing to it.
#[derive(Debug)]
pub struct Line {
    /// Where messages go.
    pub outbox: Outbox,
    /// Who is at the other end.
    pub peer: PeerInfo,
    /// Messages that may be read ahead; a permit is given back for every message that was dealt with.
    pub gate: Arc<Semaphore>,
}

/// A handle on the state `S`, for connections and jobs. Cloning shares it.
pub struct HandleOn<S> {
    inbox: mpsc::Sender<InboxItem<S>>,
    pool: Pool,
    limits: Arc<Limits>,
    clock: Clock,
}

impl<S> Clone for HandleOn<S> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), pool: self.pool.clone(), limits: self.limits.clone(), clock: self.clock }
    }
}

impl<S> HandleOn<S> {
    pub const fn new(inbox: mpsc::Sender<InboxItem<S>>, pool: Pool, limits: Arc<Limits>, clock: Clock) -> Self {
        Self { inbox, pool, limits, clock }
    }

    /// Puts something into the inbox; waits while it is full. False: the scheduler is gone.
    pub async fn send(&self, item: InboxItem<S>) -> bool {
        self.inbox.send(item).await.is_ok()
    }

    /// Runs `errand` on a turn of its own.
    pub async fn tell(&self, errand: impl FnOnce(&mut S) + Send + 'static) {
        self.send(InboxItem::Errand(Box::new(errand))).await;
    }

    /// Runs `question` on a turn of its own and waits for its answer. None: the scheduler is gone.
    pub async fn ask<T, F>(&self, question: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.tell(move |state| {
            // The asker may have gone away meanwhile; then nobody wants the answer.
            drop(reply.send(question(state)));
        })
        .await;
        answer.await.ok()
    }

    /// Asks another server and decodes its answer.
    pub async fn call(&self, address: &str, body: &Value, deadline: Duration) -> Result<Value, NetError> {
        let answer = self.pool.call(address, Message::from_value(body), deadline).await?;
        Ok(answer.to_value(&self.limits)?)
    }

    /// As [`HandleOn::call`], for `get_data`, which wants to be told that its answer arrived.
    pub async fn call_with_ack(&self, address: &str, body: &Value, deadline: Duration) -> Result<Value, NetError> {
        let answer = self.pool.call_with_ack(address, Message::from_value(body), deadline).await?;
        Ok(answer.to_value(&self.limits)?)
    }

    /// Forgets connections to a server that is gone.
    pub fn forget(&self, address: &str) {
        self.pool.forget(address);
    }

    /// Drops every outgoing connection.
    pub fn close_pool(&self) {
        self.pool.close();
    }

    /// Number of items in the inbox.
    pub fn waiting(&self) -> usize {
        self.inbox.max_capacity().saturating_sub(self.inbox.capacity())
    }

    /// The clock that the scheduler lives by.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Bounds on what peers may send.
    pub const fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }
}
