//! How everything else reaches the driver: one bounded inbox, and a handle for jobs that take several turns.
//!
//! A job is a task of its own that waits for the network or for Python. It holds no state of the cluster: it sends an
//! [`Errand`], which the driver runs between two messages, and gets the result back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::base::{Limits, Value};
use crate::clock::Clock;
use crate::cluster::state::Driver;
use crate::net::{NetError, Outbox, PeerInfo, Pool};
use crate::wire::Message;
use crate::wire::op::StreamItem;

/// Names a connection of this process; never reused.
pub type ConnId = u64;

/// Something to do with the driver, on its own turn.
pub type Errand = Box<dyn FnOnce(&mut Driver) + Send>;

/// Messages and errands that wait for the driver, all connections together. When it is full, readers wait: order is
/// kept and memory is bounded, because each reader holds one message at most.
pub const INBOX_MAX: usize = 8_192;

/// What arrives in the driver's inbox.
pub enum Inbound {
    /// A connection finished its handshake.
    Opened { conn: ConnId, line: Line },
    /// A request, or a bare map on a stream.
    Single { conn: ConnId, body: Value },
    /// The items of one stream message.
    Items { conn: ConnId, items: Vec<StreamItem> },
    /// The connection is over; nothing more comes from it.
    Closed { conn: ConnId },
    /// A job wants something.
    Errand(Errand),
}

/// What the driver holds of a connection.
#[derive(Debug)]
pub struct Line {
    /// Where messages go.
    pub outbox: Outbox,
    /// Who is at the other end.
    pub peer: PeerInfo,
    /// Messages that may be read ahead; the driver gives a permit back for every message it is done with.
    pub gate: Arc<Semaphore>,
}

/// A handle on the driver, for connections and jobs. Cloning shares it.
#[derive(Clone)]
pub struct Desk {
    inbox: mpsc::Sender<Inbound>,
    pool: Pool,
    limits: Arc<Limits>,
    clock: Clock,
}

impl Desk {
    pub const fn new(inbox: mpsc::Sender<Inbound>, pool: Pool, limits: Arc<Limits>, clock: Clock) -> Self {
        Self { inbox, pool, limits, clock }
    }

    /// Hands something to the driver; waits while the inbox is full. False: the driver is gone.
    pub async fn send(&self, inbound: Inbound) -> bool {
        self.inbox.send(inbound).await.is_ok()
    }

    /// Runs `errand` on the driver's next turn.
    pub async fn tell(&self, errand: impl FnOnce(&mut Driver) + Send + 'static) {
        self.send(Inbound::Errand(Box::new(errand))).await;
    }

    /// Runs `question` on the driver's next turn and waits for its answer. None: the driver is gone.
    pub async fn ask<T, F>(&self, question: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Driver) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.tell(move |driver| {
            // The asker may have gone away meanwhile; then nobody wants the answer.
            drop(reply.send(question(driver)));
        })
        .await;
        answer.await.ok()
    }

    /// Asks another server and decodes its answer.
    pub async fn call(&self, address: &str, body: &Value, deadline: Duration) -> Result<Value, NetError> {
        let answer = self.pool.call(address, Message::from_value(body), deadline).await?;
        Ok(answer.to_value(&self.limits)?)
    }

    /// As [`Desk::call`], for `get_data`, which wants to be told that its answer arrived.
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

    /// How much waits in the inbox.
    pub fn waiting(&self) -> usize {
        self.inbox.max_capacity().saturating_sub(self.inbox.capacity())
    }

    /// The clock that the driver lives by.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Bounds on what peers may send.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }
}
