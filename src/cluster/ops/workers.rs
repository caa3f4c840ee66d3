//! Workers and nannies: how they register, send heartbeats and leave.
//!
//! Source: `distributed/scheduler.py`, `add_worker`, `heartbeat_worker`, `remove_worker`, `add_nanny`.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::info;

use crate::base::{Key, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::codec::args::{amounts, host_of, shown};
use crate::cluster::ops::clients;
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::records::worker_exit::WorkerExit;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::state::calls::WaitingCall;
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::peers::{ConnRole, Joining, WorkerFacts, WorkerLink};
use crate::cluster::views::identity;
use crate::net::{Address, WritePace};
use crate::sched::{Answer, Event, Heartbeat, WorkerEngine, WorkerHello, WorkerStatus, heartbeat_interval_secs};

/// The operations of this family.
pub const OPS: Operations = &[
    ("register-worker", |state, call, body| {
        register_worker(state, call, body);
        Ok(Done::Later)
    }),
    ("register_nanny", |state, call, body| {
        register_nanny(state, call, body);
        Ok(Done::Later)
    }),
    ("heartbeat_worker", |state, _, body| now(heartbeat_worker(state, body))),
    ("unregister", |state, _, body| now(unregister(state, body))),
    ("subscribe_worker_status", |state, call, _| subscribe(state, call)),
];

// ---- registration ---------------------------------------------------------------------------------------

/// `register-worker`: resolves its address if need be, then asks the scheduler.
fn register_worker(state: &mut State, call: Call, body: &Value) {
    let Some(sent) = body.get("address").and_then(Value::as_str) else {
        return refuse_worker(state, call, "register-worker needs an address");
    };
    let address = match Address::parse(sent) {
        Ok(address) => address,
        Err(error) => return refuse_worker(state, call, &error.to_string()),
    };
    if address.host.parse::<IpAddr>().is_ok() {
        let normal = Text::from(address.to_string());
        return add_worker(state, call, normal, body);
    }
    let handle = state.handle.clone();
    let (sent, body) = (Text::from(sent), body.clone());
    tokio::spawn(async move {
        let resolved = address.resolved().await;
        handle
            .tell(move |state| match resolved {
                Ok(resolved) => {
                    let normal = Text::from(resolved.to_string());
                    state.peers.resolved.insert(sent, normal.clone());
                    add_worker(state, call, normal, &body);
                }
                Err(error) => refuse_worker(state, call, &error.to_string()),
            })
            .await;
    });
}

fn add_worker(state: &mut State, call: Call, address: Text, body: &Value) {
    let nil = Value::Nil;
    let field = |name: &str| body.get(name).unwrap_or(&nil);
    let text = |name: &str| field(name).as_str().map(Text::from);
    let facts = WorkerFacts {
        metrics: Arc::new(field("metrics").clone()),
        services: field("services").clone(),
        local_directory: field("local_directory").clone(),
        versions: field("versions").clone(),
        extra: field("extra").clone(),
        last_seen: state.clock.wall(),
        time_delay: field("now").as_f64().map_or(0.0, |theirs| state.clock.wall() - theirs),
        executing: Vec::new(),
        ..WorkerFacts::default()
    };
    let name = match field("name") {
        Value::Nil => Value::Str(address.clone()),
        name => name.clone(),
    };
    let hello = WorkerHello {
        host: host_of(&address).into(),
        name: name.clone(),
        server_id: text("server_id").unwrap_or_default(),
        nanny: text("nanny"),
        nthreads: field("nthreads").as_i64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        memory_limit: field("memory_limit").as_i64().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        status: text("status").and_then(|name| WorkerStatus::from_name(&name)).unwrap_or_default(),
        resources: amounts(field("resources")),
        engine: field("extra").get("engine").and_then(Value::as_str).map(WorkerEngine::from_name).unwrap_or_default(),
        address,
    };
    let name = Text::from(shown(&name));
    let joining = Joining { call, facts, name };
    let id = state.open_call(WaitingCall::Registration(Box::new(joining)));
    state.step(Event::AddWorker { call: id, worker: Box::new(hello) });
}

/// The scheduler decided about a newcomer. The reply is a bare map; after it the connection is a stream.
pub fn on_registered(state: &mut State, joining: Joining, answer: Answer) {
    let worker = match answer {
        Answer::Worker(worker) => worker,
        Answer::Refused(reason) => return refuse_worker(state, joining.call, &reason),
        other => {
            tracing::error!(answer = ?other, "a registration was answered with something else");
            return refuse_worker(state, joining.call, "registration failed; the scheduler's log says more");
        }
    };
    let conn = joining.call.conn;
    let warning = clients::version_warning(state, &joining.name, &joining.facts.versions);
    let Some(found) = state.peers.conns.get_mut(&conn) else {
        // It went while its address was being resolved. Watchers hear that it came before they hear that it went.
        return state.step_later(Event::RemoveWorker {
            worker,
            expected: false,
            close: false,
            reason: "connection lost".into(),
        });
    };
    let outbox = found.line.outbox.clone();
    found.role = ConnRole::Worker(worker);
    let workers = state.sched.counts().workers.max(1);
    let reply = Value::map([
        ("status", "OK".into()),
        ("time", state.clock.wall().into()),
        ("heartbeat-interval", heartbeat_interval_secs(workers).into()),
        ("worker-plugins", state.plugins.workers.to_value()),
        ("warning", warning.unwrap_or_default().into()),
        ("error", "".into()),
    ]);
    outbox.send(crate::wire::Message::from_value(&reply));
    outbox.set_pace(WritePace::at_once());
    state.peers.workers.insert(worker, WorkerLink { conn, outbox, touched: false, facts: joining.facts });
    state.peers.totals.workers_added += 1;
    state.peers.give_permits(conn, 1);
    take_metrics(state, worker, None, None);
}

fn refuse_worker(state: &mut State, call: Call, reason: &str) {
    state.warn(format!("a worker could not register: {reason}"));
    let reply =
        Value::map([("status", "error".into()), ("message", reason.into()), ("time", state.clock.wall().into())]);
    // Answered although it says `reply: false`: a worker waits for this map.
    state.finish(Call { reply: true, close: false, ..call }, Ok(reply));
}

/// The scheduler says that a worker is registered and known to everybody.
pub fn on_worker_added(state: &mut State, worker: WorkerId) {
    let Some(shown_identity) = identity::worker_identity(state, worker) else { return };
    let Some(view) = state.sched.worker(worker) else { return };
    let address = view.address.clone();
    info!(worker = %address, name = %shown(view.name), threads = view.nthreads, "worker registered");
    let told = format!("Register worker addr: {address} name: {}", shown(view.name));
    state.note(told);
    state.plugins.scheduler.tell("add_worker", vec![Value::Str(address.clone())], Value::Map(Vec::new()));
    let news = Value::Map(vec![(Value::Str(address), identity::without_metrics(shown_identity))]);
    state.peers.tell_watchers(&Value::Array(vec!["add".into(), Value::map([("workers", news)])]));
}

// ---- leaving --------------------------------------------------------------------------------------------

/// A worker is gone or must go.
pub fn remove_worker(state: &mut State, worker: WorkerId, expected: bool, close: bool, reason: &str) {
    if !expected {
        note_exit(state, worker);
    }
    state.step(Event::RemoveWorker { worker, expected, close, reason: reason.into() });
}

/// Keeps what a worker was doing, while the core still knows the worker.
fn note_exit(state: &mut State, worker: WorkerId) {
    let Some(view) = state.sched.worker(worker) else { return };
    let name = shown(view.name);
    let given = state.sched.processing(worker);
    let facts = state.peers.workers.get(&worker).map(|link| &link.facts);
    let executing = facts.map(|facts| facts.executing.as_slice()).unwrap_or_default();
    // A heartbeat is half a second old or more: what it told may have ended since.
    let running = executing.iter().map(|(key, _)| key).filter(|key| given.contains(key));
    let exit = WorkerExit {
        running: WorkerExit::named(running),
        given: WorkerExit::named(given.iter()),
        last: facts.and_then(|facts| WorkerExit::named(facts.last_key.iter()).pop()),
        peak_bytes: facts.map_or(0, |facts| facts.peak_bytes),
    };
    state.records.worker_exits.keep(name, exit);
}

/// The core forgot a worker. Its stream ends after what was sent, unless the worker is to end it: one that retires
/// itself would take the end for a broken connection, and close for good where it meant to start again.
pub fn on_worker_removed(state: &mut State, worker: WorkerId, address: &Text, close: bool) {
    state.peers.totals.workers_removed += 1;
    state.handle.forget(address);
    state.records.timeline.forget_worker(worker);
    state.records.worker_metrics.forget_worker(address);
    let stimulus = Value::map([("stimulus_id", state.pending.stimulus.to_string().into())]);
    state.plugins.scheduler.tell("remove_worker", vec![Value::Str(address.clone())], stimulus);
    state.peers.tell_watchers(&Value::Array(vec!["remove".into(), Value::Str(address.clone())]));
    if let Some(link) = state.peers.workers.remove(&worker) {
        link.outbox.kick();
        if close {
            link.outbox.close();
        }
        if let Some(found) = state.peers.conns.get_mut(&link.conn) {
            found.role = ConnRole::Quiet;
        }
    }
    for waiter in state.jobs.retiring.remove(&worker).unwrap_or_default() {
        // Whoever retires it need not wait any longer: there is nothing left to move.
        let _ = waiter.send(true);
    }
    state.peers.resolved.retain(|_, normal| normal != address);
    clients::forget_events_later(state, address.clone());
}

// ---- heartbeats -----------------------------------------------------------------------------------------

/// `heartbeat_worker`. `missing` makes a worker close itself, so only one that is truly unknown is told so.
fn heartbeat_worker(state: &mut State, body: &Value) -> Outcome {
    let address = body.get("address").and_then(Value::as_str).unwrap_or_default();
    let Some(worker) = state.worker_at(address) else {
        return Ok(Value::map([("status", "missing".into())]));
    };
    if let Some(resources) = body.field("resources").filter(|value| value.fields().is_some_and(|f| !f.is_empty())) {
        state.step(Event::SetResources { worker, resources: amounts(resources) });
    }
    let now = state.clock.wall();
    if let Some(link) = state.peers.workers.get_mut(&worker)
        && let Some(theirs) = body.get("now").and_then(Value::as_f64)
    {
        link.facts.time_delay = now - theirs;
    }
    if let (Some(extensions), Some(view)) = (body.get("extensions"), state.sched.worker(worker)) {
        state.records.worker_metrics.on_extensions(view.address, extensions);
    }
    take_metrics(state, worker, body.get("metrics"), body.get("executing"));
    let workers = state.sched.counts().workers.max(1);
    Ok(Value::map([
        ("status", "OK".into()),
        ("time", now.into()),
        ("heartbeat-interval", heartbeat_interval_secs(workers).into()),
    ]))
}

/// Hands what a heartbeat measured to the scheduler and keeps it for those who look.
fn take_metrics(state: &mut State, worker: WorkerId, metrics: Option<&Value>, executing: Option<&Value>) {
    let (now, workers) = (state.clock.wall(), state.peers.workers.len());
    let Some(link) = state.peers.workers.get_mut(&worker) else { return };
    link.facts.last_seen = now;
    if let Some(metrics) = metrics {
        link.facts.metrics = Arc::new(metrics.clone());
    }
    let metrics = link.facts.metrics.clone();
    if let Some(view) = state.sched.worker(worker) {
        state.records.worker_metrics.on_metrics(view.address, &metrics, workers);
    }
    let size = |value: Option<&Value>| value.and_then(Value::as_f64).map_or(0, |bytes| bytes.max(0.0) as u64);
    let spilled = |part: &str| size(metrics.get("spilled_bytes").and_then(|spilled| spilled.get(part)));
    let executing: Vec<(Key, f64)> = executing
        .and_then(Value::fields)
        .unwrap_or_default()
        .iter()
        .filter_map(|(key, secs)| Some((key.as_key()?, secs.as_f64()?)))
        .collect();
    link.facts.executing.clone_from(&executing);
    link.facts.peak_bytes = link.facts.peak_bytes.max(size(metrics.get("memory")));
    let beat = Heartbeat {
        executing,
        bandwidth: metrics.get("bandwidth").and_then(|all| all.get("total")).and_then(Value::as_f64),
        memory: size(metrics.get("memory")),
        spilled_memory: spilled("memory"),
        spilled_disk: spilled("disk"),
        managed: size(metrics.get("managed_bytes")),
    };
    state.step(Event::Heartbeat { worker, beat: Box::new(beat) });
}

// ---- nannies --------------------------------------------------------------------------------------------

/// `register_nanny`: its connection stays with it until its worker is up.
fn register_nanny(state: &mut State, call: Call, body: &Value) {
    let reply = Value::map([("status", "OK".into()), ("nanny-plugins", state.plugins.nannies.to_value())]);
    let address = body.get("address").and_then(Value::as_str).unwrap_or_default().into();
    let Some(found) = state.peers.conns.get_mut(&call.conn) else { return };
    found.line.outbox.send(crate::wire::Message::from_value(&reply));
    found.role = ConnRole::Nanny;
    state.peers.starting_nannies.insert(call.conn, address);
    state.peers.give_permits(call.conn, 1);
}

/// The nanny has its worker, or gave up.
pub fn nanny_started(state: &mut State, conn: ConnId) {
    state.peers.starting_nannies.remove(&conn);
    if state.peers.starting_nannies.is_empty() {
        for waiter in state.peers.nannies_waiters.drain(..) {
            let _ = waiter.send(());
        }
    }
}

fn unregister(state: &mut State, body: &Value) -> Outcome {
    let address = args::text(body, "address")?;
    let alias = Value::Str(address.clone());
    let Some(worker) = state.worker_at(&address).or_else(|| state.sched.worker_by_alias(&alias)) else {
        return Ok("already-removed".into());
    };
    let expected = args::flag(body, "expected", false);
    let close = args::flag(body, "close", true);
    remove_worker(state, worker, expected, close, "unregister");
    Ok("OK".into())
}

/// From now on this connection is told when workers come and go.
fn subscribe(state: &mut State, call: Call) -> Handled {
    let mut shown = identity::identity(state, None);
    if let Value::Map(fields) = &mut shown {
        for (name, value) in fields {
            if name.as_str() == Some("workers")
                && let Value::Map(workers) = value
            {
                for (_, worker) in workers {
                    *worker = identity::without_metrics(std::mem::take(worker));
                }
            }
        }
    }
    state.finish(call, Ok(shown));
    if let Some(found) = state.peers.conns.get(&call.conn) {
        state.peers.watchers.push(found.line.outbox.clone());
    }
    Ok(Done::Later)
}
