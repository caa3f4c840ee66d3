//! Connections and who is at their other end: clients, workers, nannies, and those who watch workers come and go.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::call::Call;
use super::handle::{ConnId, Line};
use crate::base::{CallId, ClientId, Key, SeededMap, Text, TicketId, Value, WorkerId};
use crate::net::Outbox;
use crate::wire::op::StreamItem;

/// One open connection.
#[derive(Debug)]
pub struct Conn {
    pub line: Line,
    pub role: ConnRole,
    /// Permits of the gate that are given back once what waits here is done.
    pub owed: usize,
}

/// What a connection is used for.
#[derive(Debug)]
pub enum ConnRole {
    /// Requests and replies; one at a time.
    Rpc(RpcLine),
    /// A client's stream.
    Client(ClientId),
    /// A worker's stream.
    Worker(WorkerId),
    /// A nanny that is starting its worker; its next message says how that went.
    Nanny,
    /// Nothing more is expected from it: a push stream, or a stream whose owner is gone.
    Quiet,
}

/// A request/reply connection.
#[derive(Debug, Default)]
pub struct RpcLine {
    /// A request is being worked on.
    pub busy: bool,
    /// The request waits for the core's answer to this call.
    pub core_call: Option<CallId>,
    /// The request waits for this job, which is of no use without the asker.
    pub job: Option<AbortHandle>,
    /// Requests that came before the answer to the last one.
    pub waiting: VecDeque<Value>,
}

/// A client with a stream.
#[derive(Debug)]
pub struct ClientLink {
    pub name: Text,
    pub conn: ConnId,
    pub outbox: Outbox,
    /// Something was pushed in this turn.
    pub touched: bool,
    /// The graph that must be read before the stream goes on.
    pub held: Option<TicketId>,
    /// What came behind that graph.
    pub waiting: VecDeque<StreamItem>,
    /// The `versions` map that the client sent.
    pub versions: Value,
    /// Unit: seconds since the epoch.
    pub last_seen: f64,
}

/// A registered worker's connection, and what it said of itself.
#[derive(Debug)]
pub struct WorkerLink {
    pub conn: ConnId,
    pub outbox: Outbox,
    /// Something was pushed in this turn.
    pub touched: bool,
    pub facts: WorkerFacts,
}

/// What is shown of a worker and does not matter to scheduling.
#[derive(Clone, Debug, Default)]
pub struct WorkerFacts {
    /// `metrics` of its last heartbeat.
    pub metrics: Arc<Value>,
    pub services: Value,
    pub local_directory: Value,
    pub versions: Value,
    /// More fields for its identity, by its own choice.
    pub extra: Value,
    /// Unit: seconds since the epoch.
    pub last_seen: f64,
    /// Its clock minus ours. Unit: seconds.
    pub time_delay: f64,
    /// What its threads were busy with at the last heartbeat, and for how many seconds.
    pub executing: Vec<(Key, f64)>,
    /// The task whose run it reported last.
    pub last_key: Option<Key>,
    /// Most memory that a heartbeat told. Unit: bytes.
    pub peak_bytes: u64,
}

/// A worker whose registration the core is looking at.
#[derive(Debug)]
pub struct Joining {
    pub call: Call,
    pub facts: WorkerFacts,
    pub name: Text,
}

/// How many peers came and went so far, for `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerTotals {
    pub clients_added: u64,
    pub clients_removed: u64,
    pub workers_added: u64,
    pub workers_removed: u64,
}

/// Everybody who is connected.
#[derive(Debug, Default)]
pub struct ConnectedPeers {
    pub conns: SeededMap<ConnId, Conn>,
    pub clients: SeededMap<ClientId, ClientLink>,
    pub workers: SeededMap<WorkerId, WorkerLink>,
    /// Connections that are told when workers come and go.
    pub watchers: Vec<Outbox>,
    /// Nannies that are starting a worker, by connection, with their addresses.
    pub starting_nannies: SeededMap<ConnId, Text>,
    /// Told when no nanny is starting a worker any more.
    pub nannies_waiters: Vec<oneshot::Sender<()>>,
    /// Addresses with host names, as workers spell them, and what they resolved to.
    pub resolved: SeededMap<Text, Text>,
    pub totals: PeerTotals,
    /// Streams to which something was pushed in this turn.
    pub touched_clients: Vec<ClientId>,
    pub touched_workers: Vec<WorkerId>,
    pub touched_watchers: bool,
}

impl ConnectedPeers {
    /// The outbox of a client's stream; it is written at the end of the turn.
    pub fn client_outbox(&mut self, client: ClientId) -> Option<&Outbox> {
        let link = self.clients.get_mut(&client)?;
        if !std::mem::replace(&mut link.touched, true) {
            self.touched_clients.push(client);
        }
        Some(&link.outbox)
    }

    /// The outbox of a worker's stream; it is written at the end of the turn.
    pub fn worker_outbox(&mut self, worker: WorkerId) -> Option<&Outbox> {
        let link = self.workers.get_mut(&worker)?;
        if !std::mem::replace(&mut link.touched, true) {
            self.touched_workers.push(worker);
        }
        Some(&link.outbox)
    }

    /// Tells everybody who watches workers come and go.
    pub fn tell_watchers(&mut self, message: &Value) {
        for outbox in &self.watchers {
            outbox.push(|encoder| encoder.put_value(message));
        }
        self.touched_watchers |= !self.watchers.is_empty();
    }

    /// Outboxes of the clients to which something was pushed in this turn.
    pub fn take_touched_clients(&mut self) -> Vec<Outbox> {
        let (clients, touched) = (&mut self.clients, self.touched_clients.drain(..));
        let outboxes = touched.filter_map(|id| {
            let link = clients.get_mut(&id)?;
            link.touched = false;
            Some(link.outbox.clone())
        });
        outboxes.collect()
    }

    /// What was pushed to workers and watchers in this turn may be written now.
    pub fn flush_workers(&mut self) {
        for worker in self.touched_workers.drain(..) {
            if let Some(link) = self.workers.get_mut(&worker) {
                link.touched = false;
                link.outbox.kick();
            }
        }
        if std::mem::take(&mut self.touched_watchers) {
            self.watchers.retain(|outbox| !outbox.is_closed());
            for outbox in &self.watchers {
                outbox.kick();
            }
        }
    }

    /// The request/reply side of a connection, if that is what it is.
    pub fn rpc_line(&mut self, conn: ConnId) -> Option<&mut RpcLine> {
        match &mut self.conns.get_mut(&conn)?.role {
            ConnRole::Rpc(line) => Some(line),
            ConnRole::Client(_) | ConnRole::Worker(_) | ConnRole::Nanny | ConnRole::Quiet => None,
        }
    }

    /// Lets the reader of a connection go on.
    pub fn give_permits(&self, conn: ConnId, permits: usize) {
        if let Some(found) = self.conns.get(&conn)
            && permits > 0
        {
            found.line.gate.add_permits(permits);
        }
    }

    /// Nothing more is expected from this connection, which is closed once all is written.
    pub fn hang_up(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get_mut(&conn) {
            found.role = ConnRole::Quiet;
            found.line.outbox.close();
        }
    }
}
