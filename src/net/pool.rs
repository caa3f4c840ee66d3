//! Outgoing calls: one question, one answer, over connections that are kept for the next call.
//!
//! Source: `distributed/core.py`, `ConnectionPool`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::address::Address;
use super::conn::{Connection, Opened, PeerInfo, establish, ws_config};
use super::error::NetError;
use super::outbox::Outbox;
use super::socket::{self, ByteStream};
use super::tls::Tls;
use crate::base::{Limits, Text};
use crate::wire::Message;
use crate::wire::msgpack::{Cursor, Marker};

/// Most connections in all. Source: `distributed/core.py`, `ConnectionPool.__init__`, `limit`.
const TOTAL_MAX: usize = 512;
/// Most connections to one peer: a worker answers few calls at once anyway.
const PER_PEER_MAX: usize = 64;
/// For a connection to be made, unless told otherwise. Setting in Dask: `distributed.comm.timeouts.connect`.
const CONNECT: Duration = Duration::from_secs(30);
/// A connection that nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Between two searches for such connections.
const JANITOR: Duration = Duration::from_secs(30);

/// Connections to other servers. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Arc<Limits>,
    tls: Option<Tls>,
    patience: Duration,
    total: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<Text, Peer>,
    next_id: u64,
    janitor: bool,
}

#[derive(Debug)]
struct Peer {
    calls: Arc<Semaphore>,
    idle: Vec<Idle>,
    /// The connections that calls are using, to cut them when the peer is gone.
    busy: HashMap<u64, Outbox>,
    /// Grows with every [`Pool::forget`]: a call that began before is not tried again.
    forgotten: u64,
}

#[derive(Debug)]
struct Idle {
    pooled: Pooled,
    since: Instant,
}

/// A connection and its share of the total.
#[derive(Debug)]
struct Pooled {
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

/// What one try of a call came to.
enum Tried {
    Answer(Message, Pooled),
    /// The peer had closed the connection before it saw the question, most likely.
    Stale(NetError),
    Failed(NetError),
}

impl Pool {
    /// A pool without connections; `tls` is for `tls://` and `wss://` addresses.
    pub fn new(limits: Arc<Limits>, tls: Option<Tls>) -> Self {
        Self::patient(limits, tls, CONNECT)
    }

    /// As [`Pool::new`]; `patience`: how long a call waits for its connection, within its own deadline. A machine that is
    /// out of reach does not refuse, it is silent.
    pub fn patient(limits: Arc<Limits>, tls: Option<Tls>, patience: Duration) -> Self {
        let total = Arc::new(Semaphore::new(TOTAL_MAX));
        Self { shared: Arc::new(Shared { limits, tls, patience, total, state: Mutex::default() }) }
    }

    /// Asks `message` of `address` and waits for the answer, all within `deadline`.
    /// Errors: no connection in time, broken connection, no answer in time.
    pub async fn call(&self, address: &str, message: Message, deadline: Duration) -> Result<Message, NetError> {
        self.timed(address, message, deadline, false).await
    }

    /// As [`Pool::call`], for `get_data`: an answer with `status` `OK` is confirmed with a bare `"OK"`.
    ///
    /// Source: `distributed/worker.py`, `get_data`.
    pub async fn call_with_ack(
        &self,
        address: &str,
        message: Message,
        deadline: Duration,
    ) -> Result<Message, NetError> {
        self.timed(address, message, deadline, true).await
    }

    async fn timed(&self, address: &str, message: Message, deadline: Duration, ack: bool) -> Result<Message, NetError> {
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let call = self.shared.call(address, message, ack);
        timeout(deadline, call).await.map_err(|_| NetError::Timeout { waited_ms })?
    }

    /// Drops every connection to a peer that is gone; calls under way end with an error.
    pub fn forget(&self, address: &str) {
        let mut state = self.shared.lock();
        if let Some(peer) = state.peers.get_mut(address) {
            peer.forgotten = peer.forgotten.saturating_add(1);
            peer.cut();
        }
    }

    /// A connection of its own, outside the pool.
    pub async fn connect(&self, address: &str, deadline: Duration) -> Result<Connection, NetError> {
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        timeout(deadline, self.shared.open(address)).await.map_err(|_| NetError::Timeout { waited_ms })?
    }

    /// Drops everything; calls under way end with an error. The pool stays usable.
    pub fn close(&self) {
        for peer in self.shared.lock().peers.values_mut() {
            peer.forgotten = peer.forgotten.saturating_add(1);
            peer.cut();
        }
    }
}

impl Peer {
    fn new() -> Self {
        let calls = Arc::new(Semaphore::new(PER_PEER_MAX));
        Self { calls, idle: Vec::new(), busy: HashMap::new(), forgotten: 0 }
    }

    fn cut(&mut self) {
        self.idle.clear();
        for outbox in self.busy.values() {
            outbox.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(self: &Arc<Self>, address: &str, message: Message, ack: bool) -> Result<Message, NetError> {
        self.start_janitor();
        let (calls, forgotten) = {
            let mut state = self.lock();
            let peer = state.peers.entry(address.into()).or_insert_with(Peer::new);
            (peer.calls.clone(), peer.forgotten)
        };
        let _turn = calls.acquire_owned().await.map_err(|_| NetError::Closed)?;
        if let Some(pooled) = self.take_idle(address) {
            match self.attempt(address, pooled, message.clone(), ack).await {
                Tried::Answer(answer, pooled) => return Ok(self.give_back(address, pooled, answer)),
                Tried::Stale(error) if self.forgotten(address) != forgotten => return Err(error),
                Tried::Stale(_) => {}
                Tried::Failed(error) => return Err(error),
            }
        }
        let pooled = self.fresh(address).await?;
        if self.forgotten(address) != forgotten {
            return Err(NetError::Closed);
        }
        match self.attempt(address, pooled, message, ack).await {
            Tried::Answer(answer, pooled) => Ok(self.give_back(address, pooled, answer)),
            Tried::Stale(error) | Tried::Failed(error) => Err(error),
        }
    }

    fn forgotten(&self, address: &str) -> u64 {
        self.lock().peers.get(address).map_or(0, |peer| peer.forgotten)
    }

    /// The idle connection that was used last, if it still stands.
    fn take_idle(&self, address: &str) -> Option<Pooled> {
        loop {
            let mut pooled = self.lock().peers.get_mut(address)?.idle.pop()?.pooled;
            // Anything to read on an idle connection is its end, or nonsense.
            if !pooled.connection.outbox.is_closed() && pooled.connection.reader.recv().now_or_never().is_none() {
                return Some(pooled);
            }
        }
    }

    async fn attempt(self: &Arc<Self>, address: &str, mut pooled: Pooled, message: Message, ack: bool) -> Tried {
        let _busy = Busy::enter(self, address, &pooled.connection.outbox);
        pooled.connection.outbox.send(message);
        let answer = match pooled.connection.reader.recv().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Tried::Stale(NetError::Closed),
            Err(error @ (NetError::Io(_) | NetError::Closed)) if pooled.connection.reader.is_idle() => {
                return Tried::Stale(error);
            }
            Err(error) => return Tried::Failed(error),
        };
        if ack && says_ok(&answer) {
            pooled.connection.outbox.send(ack_message());
        }
        Tried::Answer(answer, pooled)
    }

    fn give_back(&self, address: &str, pooled: Pooled, answer: Message) -> Message {
        if !pooled.connection.outbox.is_closed() {
            let mut state = self.lock();
            if let Some(peer) = state.peers.get_mut(address) {
                peer.idle.push(Idle { pooled, since: Instant::now() });
            }
        }
        answer
    }

    async fn fresh(&self, address: &str) -> Result<Pooled, NetError> {
        if self.total.available_permits() == 0 {
            self.drop_oldest_idle();
        }
        let permit = self.total.clone().acquire_owned().await.map_err(|_| NetError::Closed)?;
        let waited_ms = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        let connection =
            timeout(self.patience, self.open(address)).await.map_err(|_| NetError::Timeout { waited_ms })??;
        Ok(Pooled { connection, _permit: permit })
    }

    fn drop_oldest_idle(&self) {
        let mut state = self.lock();
        let oldest = state.peers.values_mut().filter(|peer| !peer.idle.is_empty());
        // Idle connections are used from the back, so the first is the oldest of its peer.
        let oldest = oldest.min_by_key(|peer| peer.idle.first().map(|idle| idle.since));
        if let Some(peer) = oldest {
            peer.idle.remove(0);
        }
    }

    async fn open(&self, address: &str) -> Result<Connection, NetError> {
        let address = Address::parse(address)?;
        let stream = dial(&address).await?;
        socket::prepare(&stream);
        let local = Address::of_socket(address.scheme, stream.local_addr()?);
        let opened = match (address.scheme.is_tls(), address.scheme.is_ws()) {
            (false, false) => Opened::Tcp(stream),
            (true, false) => Opened::Bytes(self.wrap(&address, stream).await?),
            (false, true) => self.upgrade(&address, Box::new(stream)).await?,
            (true, true) => {
                let stream = self.wrap(&address, stream).await?;
                self.upgrade(&address, stream).await?
            }
        };
        let peer = PeerInfo {
            address: address.to_string().into(),
            local: local.to_string().into(),
            tls: address.scheme.is_tls(),
        };
        establish(opened, peer, &self.limits).await
    }

    async fn wrap(&self, address: &Address, stream: TcpStream) -> Result<Box<dyn ByteStream>, NetError> {
        let tls = self.tls.as_ref().ok_or(NetError::NoTls)?;
        let name =
            ServerName::try_from(address.host.to_string()).map_err(|_| NetError::BadAddress(address.to_string()))?;
        match tls.connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(NetError::Tls(error)),
        }
    }

    async fn upgrade(&self, address: &Address, stream: Box<dyn ByteStream>) -> Result<Opened, NetError> {
        let url = format!("{address}/");
        tokio_tungstenite::client_async_with_config(url, stream, Some(ws_config(&self.limits)))
            .await
            .map(|(stream, _)| Opened::Ws(Box::new(stream)))
            .map_err(NetError::from)
    }

    /// Closes what has been idle for too long, until the pool is gone.
    fn start_janitor(self: &Arc<Self>) {
        if std::mem::replace(&mut self.lock().janitor, true) {
            return;
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(JANITOR).await;
                let Some(shared) = Weak::upgrade(&shared) else { return };
                let mut state = shared.lock();
                for peer in state.peers.values_mut() {
                    peer.idle.retain(|idle| idle.since.elapsed() < IDLE);
                }
                // A peer whose semaphore is shared has calls waiting.
                state.peers.retain(|_, peer| {
                    !peer.idle.is_empty() || !peer.busy.is_empty() || Arc::strong_count(&peer.calls) > 1
                });
            }
        });
    }
}

/// Lists a connection as busy for as long as it lives, cancelled calls included.
struct Busy {
    shared: Arc<Shared>,
    address: Text,
    id: u64,
}

impl Busy {
    fn enter(shared: &Arc<Shared>, address: &str, outbox: &Outbox) -> Self {
        let address: Text = address.into();
        let mut state = shared.lock();
        state.next_id = state.next_id.wrapping_add(1);
        let id = state.next_id;
        state.peers.entry(address.clone()).or_insert_with(Peer::new).busy.insert(id, outbox.clone());
        Self { shared: shared.clone(), address, id }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(peer) = self.shared.lock().peers.get_mut(&self.address) {
            peer.busy.remove(&self.id);
        }
    }
}

/// Connects to the first of the host's addresses that answers.
async fn dial(address: &Address) -> Result<TcpStream, NetError> {
    let mut last = NetError::BadAddress(address.to_string());
    for at in address.sockets().await? {
        match TcpStream::connect(at).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Is the answer a map whose `status` is `OK`?
fn says_ok(answer: &Message) -> bool {
    let mut cursor = Cursor::new(&answer.head);
    let Ok(Marker::Map(len)) = cursor.token() else { return false };
    for _ in 0..len {
        let Ok(name) = cursor.span() else { return false };
        let Ok(field) = cursor.span() else { return false };
        if name.get(1..) == Some(b"status") {
            return field == b"\xa2OK";
        }
    }
    false
}

fn ack_message() -> Message {
    Message { head: bytes::Bytes::from_static(b"\xa2OK"), frames: Vec::new() }
}
