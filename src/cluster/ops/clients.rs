//! Clients: how their streams begin, stay alive and end.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{debug, info};

use crate::base::{ClientId, Text, Value};
use crate::cluster::codec::failures::raise;
use crate::cluster::codec::versions::{Side, mismatch_warning};
use crate::cluster::ops::handler::Operations;
use crate::cluster::ops::{graphs, publish_barrier};
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::peers::{ClientLink, ConnRole};
use crate::net::WritePace;
use crate::sched::{Event, heartbeat_interval_secs};

/// The operations of this family.
pub const OPS: Operations = &[
    ("register-client", register_client),
    ("close", |state, call, _| {
        state.finish(Call { close: true, ..call }, Ok("OK".into()));
        Ok(Done::Later)
    }),
];

/// `register-client`: from here on the connection is a stream. Its first message is a list.
fn register_client(state: &mut State, call: Call, body: &Value) -> Handled {
    let Some(Value::Str(name)) = body.get("client") else {
        return Err(raise("TypeError", "register-client needs a client name"));
    };
    let Some(found) = state.peers.conns.get_mut(&call.conn) else { return Ok(Done::Later) };
    let outbox = found.line.outbox.clone();
    outbox.set_pace(WritePace::client());
    // A client that lost its connection comes back under its name; what it wanted then is of no use to it now.
    if let Some(old) = state.sched.client_id(name)
        && let Some(conn) = state.peers.clients.get(&old).map(|link| link.conn)
    {
        remove_client(state, conn, old);
        state.peers.hang_up(conn);
    }
    let client = state.client_named(name);
    let versions = body.get("versions").cloned().unwrap_or_default();
    if let Some(found) = state.peers.conns.get_mut(&call.conn) {
        found.role = ConnRole::Client(client);
    }
    let warning = version_warning(state, "Client", &versions);
    let link = ClientLink {
        name: name.clone(),
        conn: call.conn,
        outbox,
        touched: false,
        held: None,
        waiting: VecDeque::new(),
        versions,
        last_seen: state.clock.wall(),
    };
    state.peers.clients.insert(client, link);
    learn_versions(state);
    state.peers.totals.clients_added += 1;
    info!(client = %name, "client connected");
    state.note(format!("Receive client connection: {name}"));
    log_client(state, "add-client", name);
    let start = Value::map([
        ("op", "stream-start".into()),
        ("warning", warning.unwrap_or_default().into()),
        ("error", "".into()),
    ]);
    if let Some(outbox) = state.peers.client_outbox(client) {
        outbox.push(|encoder| encoder.put_value(&start));
    }
    state.peers.give_permits(call.conn, 1);
    Ok(Done::Later)
}

/// Asks the interpreter for its versions, once, when there is somebody to compare them with.
fn learn_versions(state: &mut State) {
    if state.python.versions.is_some() || std::mem::replace(&mut state.python.versions_asked, true) {
        return;
    }
    let Some(pyhost) = state.python.pyhost.clone() else { return };
    let handle = state.handle.clone();
    tokio::spawn(async move {
        match pyhost.versions().await {
            Ok(versions) => handle.tell(move |state| state.python.versions = Some(versions)).await,
            Err(failure) => debug!(?failure, "the interpreter did not tell its versions"),
        }
    });
}

/// What to warn a newcomer of, once our own versions are known.
pub fn version_warning(state: &State, name: &str, theirs: &Value) -> Option<String> {
    let ours = state.python.versions.as_ref().unwrap_or(theirs);
    let workers: Vec<(Text, Value)> = state
        .sched
        .workers()
        .into_iter()
        .filter_map(|view| Some((view.address.clone(), state.peers.workers.get(&view.id)?.facts.versions.clone())))
        .collect();
    let source = Side { name, versions: theirs };
    mismatch_warning(source, Side { name: "Scheduler", versions: ours }, &workers)
}

/// A client says that it is alive; it is told how often to say so.
pub fn on_client_heartbeat(state: &mut State, client: ClientId) {
    let clients = state.sched.clients().len();
    let now = state.clock.wall();
    if let Some(link) = state.peers.clients.get_mut(&client) {
        link.last_seen = now;
    }
    let interval = heartbeat_interval_secs(clients) * 10.0;
    let message = Value::map([("op", "adjust-heartbeat-interval".into()), ("interval", interval.into())]);
    if let Some(outbox) = state.peers.client_outbox(client) {
        outbox.push(|encoder| encoder.put_value(&message));
    }
}

/// The stream on `conn` is over. Nothing happens if the client has another one by now.
pub fn remove_client(state: &mut State, conn: ConnId, client: ClientId) {
    if state.peers.clients.get(&client).is_none_or(|link| link.conn != conn) {
        return;
    }
    let Some(link) = state.peers.clients.remove(&client) else { return };
    link.outbox.kick();
    info!(client = %link.name, "client gone");
    state.note(format!("Remove client {}", link.name));
    state.peers.totals.clients_removed += 1;
    log_client(state, "remove-client", &link.name);
    state.records.topics.forget_client(&link.name);
    graphs::abandon_graphs(state, client);
    state.step(Event::ClientRemoved { client });
    publish_barrier::fail_barriers(state, &link.name);
    forget_events_later(state, link.name);
}

/// A client cancels keys; which of them are really cancelled is told with what it leads to.
pub fn on_cancel(state: &mut State, client: ClientId, count: usize, force: bool) {
    let name = state.peers.clients.get(&client).map(|link| link.name.clone()).unwrap_or_default();
    state.note(format!("Client {name} requests to cancel {count} keys"));
    let message = Value::map([("action", "cancel".into()), ("count", count.into()), ("force", force.into())]);
    state.log_event(&[name], &message);
    state.pending.cancelling = Some(force);
}

fn log_client(state: &mut State, action: &str, name: &Text) {
    let hook = if action == "add-client" { "add_client" } else { "remove_client" };
    state.plugins.scheduler.tell(hook, vec![Value::Str(name.clone())], Value::Map(Vec::new()));
    let message = Value::map([("action", action.into()), ("client", Value::Str(name.clone()))]);
    state.log_event(&["all".into(), name.clone()], &message);
}

/// Drops the events of a client or worker that left, some time from now, unless it is back.
pub fn forget_events_later(state: &State, topic: Text) {
    let handle = state.handle.clone();
    // A wish for ever (or for nonsense) is a year: longer than any scheduler.
    let delay = Duration::try_from_secs_f64(state.setup.keep.events_cleanup_secs.clamp(0.0, 31_536_000.0));
    tokio::spawn(async move {
        tokio::time::sleep(delay.unwrap_or_default()).await;
        handle
            .tell(move |state| {
                if state.client_link(&topic).is_none() && state.sched.worker_by_address(&topic).is_none() {
                    state.records.topics.truncate(&topic);
                }
            })
            .await;
    });
}
