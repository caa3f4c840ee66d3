//! The items of client and worker streams, in their order; and which connection is what.
//!
//! Stock has one table of stream operations for both kinds of peer, and fields in an item win over the stream's own
//! client or worker. An operation that makes no sense costs a line in the log, never the stream.

use tracing::{debug, warn};

use crate::base::{ClientId, Key, Text, Value, WorkerId};
use crate::cluster::codec::{RunFacts, client_event, worker_event};
use crate::cluster::ops::workers::host_of;
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::{Driver, Role, RpcLine};
use crate::sched::coord::CoordRequest;
use crate::sched::{Event, PlacedData};
use crate::wire::Message;
use crate::wire::op::{StreamItem, StreamOp, decode_stream};

/// Items of one client's stream in one turn: some milliseconds.
const TURN_ITEMS: usize = 2_000;

/// Whether the rest of a batch is still to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    End,
}

/// What a connection is used for, without what belongs to it.
#[derive(Clone, Copy)]
enum Kind {
    Rpc,
    Client(ClientId),
    Worker(WorkerId),
    Nanny,
    Quiet,
}

impl Driver {
    fn kind_of(&self, conn: ConnId) -> Option<Kind> {
        Some(match &self.conns.get(&conn)?.role {
            Role::Rpc(_) => Kind::Rpc,
            Role::Client(client) => Kind::Client(*client),
            Role::Worker(worker) => Kind::Worker(*worker),
            Role::Nanny => Kind::Nanny,
            Role::Quiet => Kind::Quiet,
        })
    }

    /// A map: a request, or what a nanny says about its worker, or a stream item without its list.
    pub fn on_single(&mut self, conn: ConnId, body: Value) {
        match self.kind_of(conn) {
            None => {}
            Some(Kind::Rpc) => self.on_request(conn, body),
            Some(Kind::Client(_) | Kind::Worker(_)) => {
                match decode_stream(&Message::from_value(&body), &self.limits()) {
                    Ok(items) => self.on_items(conn, items),
                    Err(error) => self.drop_conn(conn, &error.to_string()),
                }
            }
            Some(Kind::Nanny) => {
                self.nanny_started(conn);
                if let Some(found) = self.conns.get_mut(&conn) {
                    found.role = Role::Rpc(RpcLine::default());
                }
                self.give_permits(conn, 1);
            }
            Some(Kind::Quiet) => self.give_permits(conn, 1),
        }
    }

    /// A list: items of a stream.
    pub fn on_items(&mut self, conn: ConnId, items: Vec<StreamItem>) {
        match self.kind_of(conn) {
            None => {}
            Some(Kind::Rpc) => self.drop_conn(conn, "a list where a request was expected"),
            Some(Kind::Nanny | Kind::Quiet) => self.give_permits(conn, 1),
            Some(Kind::Worker(worker)) => {
                for item in items {
                    if self.on_worker_item(conn, worker, item) == Flow::End {
                        break;
                    }
                }
                self.give_permits(conn, 1);
            }
            Some(Kind::Client(client)) => {
                if let Some(found) = self.conns.get_mut(&conn) {
                    found.owed = found.owed.saturating_add(1);
                }
                if let Some(link) = self.clients.get_mut(&client) {
                    link.waiting.extend(items);
                }
                self.run_client_stream(conn, client);
            }
        }
    }

    /// Works through what a client said, up to a graph that must be read first. Who says much at once, such as the end
    /// of a hundred thousand futures, takes turns with the others.
    pub fn run_client_stream(&mut self, conn: ConnId, client: ClientId) {
        let mut left = TURN_ITEMS;
        while let Some(link) = self.clients.get_mut(&client).filter(|link| link.conn == conn) {
            if link.held.is_some() {
                return;
            }
            if left == 0 && !link.waiting.is_empty() {
                self.unfinished.push_back((conn, client));
                return;
            }
            let Some(item) = link.waiting.pop_front() else { break };
            left -= 1;
            if self.on_client_item(conn, client, item) == Flow::End {
                if let Some(link) = self.clients.get_mut(&client).filter(|link| link.conn == conn) {
                    link.waiting.clear();
                }
                break;
            }
        }
        let owed = self.conns.get_mut(&conn).map_or(0, |found| std::mem::take(&mut found.owed));
        self.give_permits(conn, owed);
    }

    /// Lets the reader of a connection go on.
    pub fn give_permits(&self, conn: ConnId, permits: usize) {
        if let Some(found) = self.conns.get(&conn)
            && permits > 0
        {
            found.line.gate.add_permits(permits);
        }
    }

    /// The connection is over.
    pub fn on_closed(&mut self, conn: ConnId) {
        let Some(found) = self.conns.remove(&conn) else { return };
        found.line.outbox.close();
        match found.role {
            Role::Rpc(line) => {
                if let Some(call) = line.core_call
                    && self.close_call(call).is_some()
                {
                    self.apply(Event::CallAbandoned { call });
                }
                if let Some(job) = line.job {
                    job.abort();
                }
                self.barriers.forget_conn(conn);
            }
            Role::Client(client) => self.remove_client(conn, client),
            Role::Worker(worker) => self.remove_worker(worker, false, true, "connection lost"),
            Role::Nanny => self.nanny_started(conn),
            Role::Quiet => {}
        }
    }

    fn on_worker_item(&mut self, conn: ConnId, worker: WorkerId, item: StreamItem) -> Flow {
        let worker = match &item.worker {
            Some(address) => self.worker_at(address).unwrap_or(worker),
            None => worker,
        };
        let facts = RunFacts::of(&item.op);
        match worker_event(worker, item.op) {
            Ok(event @ (Event::TaskFinished { .. } | Event::TaskErred { .. })) => self.apply_run(worker, event, &facts),
            Ok(event) => self.apply(event),
            Err(StreamOp::KeepAlive) => {}
            Err(StreamOp::LogEvent { topic, msg }) => self.on_worker_log(worker, &topic, msg),
            Err(StreamOp::CloseStream) => {
                self.remove_worker(worker, false, true, "stream closed");
                return Flow::End;
            }
            Err(other) => return self.on_other_item(conn, None, item.client.as_ref(), other),
        }
        Flow::On
    }

    fn on_client_item(&mut self, conn: ConnId, client: ClientId, item: StreamItem) -> Flow {
        let who = match &item.client {
            None => client,
            Some(name) => self.client_named(name),
        };
        match client_event(who, item.op) {
            Ok(event) => self.apply(event),
            Err(StreamOp::UpdateGraph(graph)) => self.open_graph(client, *graph),
            Err(StreamOp::HeartbeatClient) => self.on_client_heartbeat(client),
            Err(StreamOp::CloseClient | StreamOp::CloseStream) => {
                self.remove_client(conn, client);
                if let Some(found) = self.conns.get_mut(&conn) {
                    found.role = Role::Quiet;
                    found.line.outbox.close();
                }
                return Flow::End;
            }
            Err(other) => match item.worker.as_ref().and_then(|address| self.worker_at(address)) {
                Some(worker) => match worker_event(worker, other) {
                    Ok(event) => self.apply(event),
                    Err(other) => return self.on_other_item(conn, Some(who), item.client.as_ref(), other),
                },
                None => return self.on_other_item(conn, Some(who), item.client.as_ref(), other),
            },
        }
        Flow::On
    }

    /// Operations that either kind of peer may send, and nonsense.
    fn on_other_item(&mut self, conn: ConnId, client: Option<ClientId>, name: Option<&Text>, said: StreamOp) -> Flow {
        let client = client.or_else(|| name.map(|name| self.client_named(name)));
        let name = client.and_then(|id| self.clients.get(&id)).map(|link| link.name.clone()).or_else(|| name.cloned());
        match said {
            StreamOp::SubscribeTopic { topic } => {
                if let Some(name) = &name {
                    self.topics.subscribe(&topic, name);
                }
            }
            StreamOp::UnsubscribeTopic { topic } => {
                if let Some(name) = &name {
                    self.topics.unsubscribe(&topic, name);
                }
            }
            StreamOp::PublishFlush { uid } => self.on_flushed(&uid),
            StreamOp::UpdateData { who_has, nbytes } => self.update_data(client, who_has, &nbytes),
            StreamOp::QueueFutureRelease { name, key } => {
                self.desire(client, &key);
                self.coord_silently(client, CoordRequest::QueueFutureRelease { name, key });
            }
            StreamOp::QueueRelease { name } => {
                self.coord_silently(client, CoordRequest::QueueRelease { name });
            }
            StreamOp::VariableFutureConfirm { name, key, token } => {
                self.desire(client, &key);
                self.coord_silently(client, CoordRequest::VariableConfirm { name, key, token });
            }
            StreamOp::VariableDelete { name } => {
                self.coord_silently(client, CoordRequest::VariableDelete { name });
            }
            StreamOp::LogEvent { topic, msg } => {
                let topics = topic_names(&topic);
                self.log_event(&topics, &msg);
            }
            StreamOp::KeepAlive => {}
            StreamOp::Unknown { op } => self.complain(conn, &op, "unknown operation on a stream"),
            StreamOp::Malformed { op, error } => self.complain(conn, &op, &error.to_string()),
            other => debug!(?other, "an operation on the wrong kind of stream"),
        }
        Flow::On
    }

    fn complain(&self, conn: ConnId, op: &str, why: &str) {
        let peer = self.conns.get(&conn).map(|found| found.line.peer.address.clone()).unwrap_or_default();
        warn!(%peer, op, why, "ignoring a stream message");
    }

    fn desire(&mut self, client: Option<ClientId>, key: &Key) {
        if let Some(client) = client {
            self.apply(Event::ClientDesires { client, keys: vec![key.clone()] });
        }
    }

    fn coord_silently(&mut self, client: Option<ClientId>, request: CoordRequest) {
        let call = self.open_silent_call();
        self.apply(Event::Coord { call, client, request });
    }

    /// The client of that name, made on the fly when it is a new pseudo client.
    pub fn client_named(&mut self, name: &Text) -> ClientId {
        if let Some(client) = self.sched.client_id(name) {
            return client;
        }
        self.apply(Event::ClientAdded { name: name.clone() });
        // Can't be missing; a stale id would be ignored by the scheduler.
        self.sched.client_id(name).unwrap_or(ClientId { slot: u32::MAX, generation: u32::MAX })
    }

    /// `update_data`: data that was placed on workers from outside.
    pub fn update_data(&mut self, client: Option<ClientId>, who_has: Vec<(Key, Vec<Text>)>, nbytes: &[(Key, i64)]) {
        let sizes: crate::base::SeededMap<&Key, i64> = nbytes.iter().map(|(key, size)| (key, *size)).collect();
        let mut data = Vec::with_capacity(who_has.len());
        for (key, holders) in who_has {
            let nbytes = sizes.get(&key).copied().unwrap_or(-1);
            let holders = holders.iter().filter_map(|address| self.worker_at(address)).collect();
            data.push(PlacedData { key, holders, nbytes });
        }
        self.apply(Event::UpdateData { client, data });
    }

    fn on_worker_log(&mut self, worker: WorkerId, topic: &Value, mut message: Value) {
        let Some(address) = self.sched.worker(worker).map(|view| view.address.clone()) else { return };
        // Source: `distributed/scheduler.py`, `log_worker_event`.
        if let Value::Map(fields) = &mut message
            && topic.as_str() != Some(&address)
        {
            fields.retain(|(name, _)| name.as_str() != Some("worker"));
            fields.push(("worker".into(), Value::Str(address.clone())));
        }
        debug!(host = host_of(&address), "event from a worker");
        let topics = topic_names(topic);
        self.log_event(&topics, &message);
    }
}

/// One topic or a list of them.
pub fn topic_names(topic: &Value) -> Vec<Text> {
    match topic {
        Value::Str(name) => vec![name.clone()],
        other => {
            let items = other.items().unwrap_or_default();
            items
                .iter()
                .filter_map(|item| match item {
                    Value::Str(name) => Some(name.clone()),
                    _ => None,
                })
                .collect()
        }
    }
}
