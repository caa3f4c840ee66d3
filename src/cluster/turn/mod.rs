//! One turn of the loop: something from the inbox goes to its handler, the effects of the core are carried out in order,
//! and at the end what was pushed to peers is written.

pub mod effects;
pub mod streams;

use crate::base::Now;
use crate::cluster::jobs::prefetch;
use crate::cluster::ops::{dispatch, graph_parts, graphs, scheduler_plugins};
use crate::cluster::state::State;
use crate::cluster::state::handle::{ConnId, InboxItem};
use crate::cluster::state::peers::{Conn, ConnRole, RpcLine};
use crate::cluster::turn::effects::settle;
use crate::net::Outbox;
use crate::sched::Event;

/// One thing from the inbox.
pub fn on_item(state: &mut State, item: InboxItem<State>) {
    state.records.turns.begin(|| state.clock.now());
    match item {
        InboxItem::Opened { conn, line } => {
            let role = ConnRole::Rpc(RpcLine::default());
            state.peers.conns.insert(conn, Conn { line, role, owed: 0 });
        }
        InboxItem::Single { conn, body } => streams::on_single(state, conn, body),
        InboxItem::Items { conn, items } => streams::on_items(state, conn, items),
        InboxItem::Closed { conn } => streams::on_closed(state, conn),
        InboxItem::Errand(errand) => errand(state),
    }
    settle_all(state);
}

/// A deadline passed, or there are parts of graphs or of streams left.
pub fn on_deadline(state: &mut State) {
    state.records.turns.begin(|| state.clock.now());
    graph_parts::next_graph_part(state);
    settle(state);
    if let Some((conn, client)) = state.pending.unfinished.pop_front() {
        streams::run_client_stream(state, conn, client);
    }
    if state.sched.next_deadline().is_some_and(|at| at <= state.clock.now()) {
        state.step(Event::Tick);
    }
    settle_all(state);
}

/// When to call [`on_deadline`] although nothing arrived.
pub fn deadline(state: &State) -> Option<Now> {
    let is_left = state.graphs.has_parts() || !state.pending.unfinished.is_empty();
    if is_left { Some(Now(0)) } else { state.sched.next_deadline() }
}

/// Carries out what the core asks for, and then goes on with what waited for that.
fn settle_all(state: &mut State) {
    settle(state);
    loop {
        if let Some((conn, client)) = state.pending.resume.pop() {
            streams::run_client_stream(state, conn, client);
        } else if let Some(conn) = state.pending.answered.pop() {
            next_request(state, conn);
        } else {
            return;
        }
        settle(state);
    }
}

/// The request on this connection was answered: the one behind it comes now.
fn next_request(state: &mut State, conn: ConnId) {
    let line = state.peers.rpc_line(conn).filter(|line| !line.busy);
    if let Some(body) = line.and_then(|line| line.waiting.pop_front()) {
        dispatch::on_request(state, conn, body);
    }
}

/// The turn is over: what was pushed to peers may be written now.
pub fn end(state: &mut State) {
    settle_all(state);
    scheduler_plugins::hook_transitions(state);
    graphs::close_computation(state);
    flush_clients(state);
    state.peers.flush_workers();
    state.records.turns.end(state.clock.now());
}

fn flush_clients(state: &mut State) {
    let outboxes = state.peers.take_touched_clients();
    if prefetch::fetch_ahead(state) {
        // The worker is asked first: it is awake, and the client takes its time to ask.
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            outboxes.iter().for_each(Outbox::kick);
        });
    } else {
        outboxes.iter().for_each(Outbox::kick);
    }
}
