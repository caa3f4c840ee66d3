//! The items of client and worker streams, in their order; and which connection is what.
//!
//! Stock has one table of stream operations for both kinds of peer, and fields in an item win over the stream's own
//! client or worker. A malformed operation costs a line in the log, never the stream.

use tracing::{debug, warn};

use crate::base::{ClientId, Text, Value, WorkerId};
use crate::cluster::codec::args::{host_of, topic_names};
use crate::cluster::codec::routing::{Routed, Sender, route};
use crate::cluster::ops::{clients, dispatch, graphs, publish_barrier, runs, workers};
use crate::cluster::state::State;
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::peers::{ConnRole, RpcLine};
use crate::cluster::turn::effects::settle;
use crate::sched::Event;
use crate::wire::Message;
use crate::wire::op::{StreamItem, decode_stream};

/// Items of one client's stream in one turn: some milliseconds.
const TURN_ITEMS: usize = 2_000;

/// Whether the rest of a batch is still to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    End,
}

/// Whose stream it is.
#[derive(Clone, Copy)]
enum Owner {
    Client(ClientId),
    Worker(WorkerId),
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

fn kind_of(state: &State, conn: ConnId) -> Option<Kind> {
    Some(match &state.peers.conns.get(&conn)?.role {
        ConnRole::Rpc(_) => Kind::Rpc,
        ConnRole::Client(client) => Kind::Client(*client),
        ConnRole::Worker(worker) => Kind::Worker(*worker),
        ConnRole::Nanny => Kind::Nanny,
        ConnRole::Quiet => Kind::Quiet,
    })
}

/// A map: a request, or what a nanny says about its worker, or a stream item without its list.
pub fn on_single(state: &mut State, conn: ConnId, body: Value) {
    match kind_of(state, conn) {
        None => {}
        Some(Kind::Rpc) => dispatch::on_request(state, conn, body),
        Some(Kind::Client(_) | Kind::Worker(_)) => match decode_stream(&Message::from_value(&body), &state.limits()) {
            Ok(items) => on_items(state, conn, items),
            Err(error) => state.drop_conn(conn, &error.to_string()),
        },
        Some(Kind::Nanny) => {
            workers::nanny_started(state, conn);
            if let Some(found) = state.peers.conns.get_mut(&conn) {
                found.role = ConnRole::Rpc(RpcLine::default());
            }
            state.peers.give_permits(conn, 1);
        }
        Some(Kind::Quiet) => state.peers.give_permits(conn, 1),
    }
}

/// A list: items of a stream.
pub fn on_items(state: &mut State, conn: ConnId, items: Vec<StreamItem>) {
    match kind_of(state, conn) {
        None => {}
        Some(Kind::Rpc) => state.drop_conn(conn, "a list where a request was expected"),
        Some(Kind::Nanny | Kind::Quiet) => state.peers.give_permits(conn, 1),
        Some(Kind::Worker(worker)) => {
            for item in items {
                if on_item(state, conn, Owner::Worker(worker), item) == Flow::End {
                    break;
                }
            }
            state.peers.give_permits(conn, 1);
        }
        Some(Kind::Client(client)) => {
            if let Some(found) = state.peers.conns.get_mut(&conn) {
                found.owed = found.owed.saturating_add(1);
            }
            if let Some(link) = state.peers.clients.get_mut(&client) {
                link.waiting.extend(items);
            }
            run_client_stream(state, conn, client);
        }
    }
}

/// Works through what a client said, up to a graph that must be read first. Who says much at once, such as the end
/// of a hundred thousand futures, takes turns with the others.
pub fn run_client_stream(state: &mut State, conn: ConnId, client: ClientId) {
    let mut left = TURN_ITEMS;
    while let Some(link) = state.peers.clients.get_mut(&client).filter(|link| link.conn == conn) {
        if link.held.is_some() {
            return;
        }
        if left == 0 && !link.waiting.is_empty() {
            state.pending.unfinished.push_back((conn, client));
            return;
        }
        let Some(item) = link.waiting.pop_front() else { break };
        left -= 1;
        if on_item(state, conn, Owner::Client(client), item) == Flow::End {
            if let Some(link) = state.peers.clients.get_mut(&client).filter(|link| link.conn == conn) {
                link.waiting.clear();
            }
            break;
        }
    }
    let owed = state.peers.conns.get_mut(&conn).map_or(0, |found| std::mem::take(&mut found.owed));
    state.peers.give_permits(conn, owed);
}

/// The connection is over.
pub fn on_closed(state: &mut State, conn: ConnId) {
    let Some(found) = state.peers.conns.remove(&conn) else { return };
    found.line.outbox.close();
    match found.role {
        ConnRole::Rpc(line) => {
            if let Some(call) = line.core_call
                && state.calls.close(call).is_some()
            {
                state.step(Event::CallAbandoned { call });
            }
            if let Some(job) = line.job {
                job.abort();
            }
            state.calls.barriers.forget_conn(conn);
        }
        ConnRole::Client(client) => clients::remove_client(state, conn, client),
        ConnRole::Worker(worker) => workers::remove_worker(state, worker, false, true, "connection lost"),
        ConnRole::Nanny => workers::nanny_started(state, conn),
        ConnRole::Quiet => {}
    }
}

/// Deals with one item of a stream, and carries out what the core asks for because of it.
fn on_item(state: &mut State, conn: ConnId, owner: Owner, item: StreamItem) -> Flow {
    let sender = sender(state, owner, &item);
    let routed = route(sender, item.op);
    let flow = act(state, Said { conn, owner, sender, client_name: item.client }, routed);
    settle(state);
    state.pending.cancelling = None;
    flow
}

/// Fields in an item win over the stream's own client or worker.
fn sender(state: &mut State, owner: Owner, item: &StreamItem) -> Sender {
    let named = item.worker.as_ref().and_then(|address| state.worker_at(address));
    match owner {
        Owner::Worker(own) => Sender { client: None, worker: Some(named.unwrap_or(own)) },
        Owner::Client(own) => {
            let client = item.client.as_ref().map_or(own, |name| state.client_named(name));
            Sender { client: Some(client), worker: named }
        }
    }
}

/// Where an item came from.
struct Said {
    conn: ConnId,
    owner: Owner,
    sender: Sender,
    /// The client that the item names.
    client_name: Option<Text>,
}

fn act(state: &mut State, said: Said, routed: Routed) -> Flow {
    match (routed, said.owner) {
        (Routed::Event(event), _) => {
            if let Event::CancelKeys { client, keys, force, .. } = &event {
                clients::on_cancel(state, *client, keys.len(), *force);
            }
            state.step(event);
        }
        (Routed::Run(worker, event, facts), _) => runs::run_ended(state, worker, event, &facts),
        (Routed::Graph(graph), Owner::Client(own)) => graphs::open_graph(state, own, *graph),
        (Routed::ClientHeartbeat, Owner::Client(own)) => clients::on_client_heartbeat(state, own),
        (Routed::CloseClient | Routed::CloseStream, Owner::Client(own)) => {
            clients::remove_client(state, said.conn, own);
            state.peers.hang_up(said.conn);
            return Flow::End;
        }
        (Routed::CloseStream, Owner::Worker(own)) => {
            workers::remove_worker(state, said.sender.worker.unwrap_or(own), false, true, "stream closed");
            return Flow::End;
        }
        (Routed::Log { topic, message }, Owner::Worker(own)) => {
            on_worker_log(state, said.sender.worker.unwrap_or(own), &topic, message);
        }
        (Routed::Log { topic, message }, Owner::Client(_)) => state.log_event(&topic_names(&topic), &message),
        (Routed::Subscribe { topic }, _) => {
            if let Some(name) = name_of(state, &said) {
                state.records.topics.subscribe(&topic, &name);
            }
        }
        (Routed::Unsubscribe { topic }, _) => {
            if let Some(name) = name_of(state, &said) {
                state.records.topics.unsubscribe(&topic, &name);
            }
        }
        (Routed::Flushed { token }, _) => publish_barrier::on_flushed(state, &token),
        (Routed::Data { who_has, nbytes }, _) => {
            let client = client_of(state, &said);
            state.update_data(client, who_has, &nbytes);
        }
        (Routed::Coord { request, desired }, _) => {
            let client = client_of(state, &said);
            if let (Some(client), Some(key)) = (client, desired) {
                state.step(Event::ClientDesires { client, keys: vec![key] });
            }
            let call = state.calls.number();
            state.step(Event::Coord { call, client, request });
        }
        (Routed::KeepAlive, _) => {}
        (Routed::Unknown { op, fields }, owner) => on_unknown(state, said.conn, owner, op, fields),
        (Routed::Refused { op, reason }, _) => {
            let peer = state.peers.conns.get(&said.conn).map(|found| found.line.peer.address.clone());
            warn!(peer = %peer.unwrap_or_default(), %op, reason, "ignoring a stream message");
        }
        (Routed::Misplaced(other), _) => debug!(?other, "an operation on the wrong kind of stream"),
        (Routed::Graph(_) | Routed::ClientHeartbeat | Routed::CloseClient, Owner::Worker(_)) => {
            debug!("an operation of clients on a worker's stream");
        }
    }
    Flow::On
}

/// An operation that only user code on the scheduler may know, which is told whose stream it came on.
fn on_unknown(state: &mut State, conn: ConnId, owner: Owner, op: Text, mut fields: Value) {
    let (name, whose) = match owner {
        Owner::Client(client) => ("client", state.peers.clients.get(&client).map(|link| link.name.clone())),
        Owner::Worker(worker) => ("worker", state.address_of(worker)),
    };
    if let Value::Map(fields) = &mut fields
        && !fields.iter().any(|(field, _)| field.as_str() == Some(name))
    {
        fields.push((name.into(), whose.into()));
    }
    if !state.plugins.scheduler.tell_item(op.clone(), fields) {
        let peer = state.peers.conns.get(&conn).map(|found| found.line.peer.address.clone());
        warn!(peer = %peer.unwrap_or_default(), %op, "ignoring a stream message: unknown operation on a stream");
    }
}

/// The client that an item is of; on a worker's stream, the one that the item names.
fn client_of(state: &mut State, said: &Said) -> Option<ClientId> {
    said.sender.client.or_else(|| said.client_name.as_ref().map(|name| state.client_named(name)))
}

/// The name of that client.
fn name_of(state: &mut State, said: &Said) -> Option<Text> {
    let client = client_of(state, said);
    let link = client.and_then(|client| state.peers.clients.get(&client));
    link.map(|link| link.name.clone()).or_else(|| said.client_name.clone())
}

fn on_worker_log(state: &mut State, worker: WorkerId, topic: &Value, mut message: Value) {
    let Some(address) = state.sched.worker(worker).map(|view| view.address.clone()) else { return };
    // Source: `distributed/scheduler.py`, `log_worker_event`.
    if let Value::Map(fields) = &mut message
        && topic.as_str() != Some(&address)
    {
        fields.retain(|(name, _)| name.as_str() != Some("worker"));
        fields.push(("worker".into(), Value::Str(address.clone())));
    }
    debug!(host = host_of(&address), "event from a worker");
    let topics = topic_names(topic);
    state.log_event(&topics, &message);
}
