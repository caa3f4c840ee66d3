//! `feed`: somebody is sent news at an interval. Progress bars are recognised in their pickles and served here,
//! without Python; any other feed runs in pyhost.
//!
//! Source: `distributed/scheduler.py`, `feed`; `distributed/diagnostics/progressbar.py`, `progress.py`.

use std::time::Duration;

use crate::base::{Failure, Key, SeededSet, Value};
use crate::cluster::codec::args::seconds;
use crate::cluster::jobs::python::{carry_out, python_side};
use crate::cluster::records::progress::{Ended, ProgressWish, Tracker};
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::peers::{ConnRole, RpcLine};
use crate::cluster::state::{Handle, State};
use crate::cluster::views::python_snapshot;
use crate::pickle::{self, Kind};
use crate::pyhost::Pyhost;
use crate::wire::Message;

/// How long until the keys are looked for again that a progress bar is about.
///
/// Source: `distributed/diagnostics/progress.py`, `Progress.setup`.
const SETUP_PAUSE: Duration = Duration::from_millis(50);

/// Shortest interval; a shorter one would only keep the scheduler busy. Unit: seconds.
const INTERVAL_MIN_SECS: f64 = 0.005;

/// `feed`: from here on the connection is a push stream.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let interval = body.get("interval").and_then(seconds).unwrap_or(1.0).clamp(INTERVAL_MIN_SECS, 1e6);
    let interval = Duration::from_secs_f64(interval);
    let handle = state.handle.clone();
    let conn = call.conn;
    match body.get("setup").and_then(recognise) {
        Some(wish) => {
            state.jobs.progress.insert(conn, Tracker::new(wish));
            tokio::spawn(serve(handle, conn, interval));
        }
        None => {
            let pyhost = python_side(state)?;
            let field = |name: &str| body.get(name).cloned().unwrap_or_default();
            let request = Value::map([
                ("setup", field("setup")),
                ("function", field("function")),
                ("teardown", field("teardown")),
                ("snapshot", python_snapshot::snapshot(state)),
            ]);
            tokio::spawn(serve_python(handle, call, interval, pyhost, request));
        }
    }
    if let Some(found) = state.peers.conns.get_mut(&conn) {
        found.role = ConnRole::Quiet;
    }
    Ok(Done::Later)
}

/// What a pickled `ProgressBar.listen.<locals>.setup` closes over. None: it is another function.
fn recognise(setup: &Value) -> Option<ProgressWish> {
    let nodes = pickle::read(setup.as_bin()?, 0).ok()?;
    let named = |name: &str| nodes.ids().any(|id| nodes.text(id) == Some(name));
    let grouped = named("MultiProgressBar.listen.<locals>.setup");
    if !grouped && !named("ProgressBar.listen.<locals>.setup") {
        return None;
    }
    let (mut keys, mut complete) = (None, None);
    for id in nodes.ids() {
        let Some((function, arguments)) = nodes.reduce(id) else { continue };
        if nodes.global(function) != Some(("cloudpickle.cloudpickle", "_make_cell")) {
            continue;
        }
        let &[cell] = nodes.tuple(arguments)? else { continue };
        match nodes.kind(cell) {
            Kind::Set | Kind::FrozenSet => keys = nodes.value(cell).ok().and_then(|keys| keys.as_keys()),
            Kind::Atom => complete = nodes.value(cell).ok().and_then(|flag| flag.as_bool()).or(complete),
            // Grouping by the prefix of a key is ours too; by anything else it is not.
            Kind::Global if nodes.global(cell) == Some(("dask.utils", "key_split")) => {}
            _ => return None,
        }
    }
    Some(ProgressWish { keys: keys?, complete: complete?, grouped })
}

async fn serve(handle: Handle, conn: ConnId, interval: Duration) {
    loop {
        let pause = match handle.ask(move |state| push_progress(state, conn)).await {
            Some(Some(true)) => interval,
            Some(Some(false)) => SETUP_PAUSE,
            Some(None) | None => return,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn serve_python(handle: Handle, call: Call, interval: Duration, pyhost: Pyhost, request: Value) {
    let conn = call.conn;
    let feed = match pyhost.call("feed_open", request).await {
        Ok(answer) => {
            carry_out(&handle, &answer).await;
            answer.get("feed").cloned().unwrap_or_default()
        }
        Err(failure) => return handle.tell(move |state| end_feed(state, call, failure)).await,
    };
    while let Some(Some(snapshot)) =
        handle.ask(move |state| state.peers.conns.contains_key(&conn).then(|| python_snapshot::snapshot(state))).await
    {
        let poll = Value::map([("feed", feed.clone()), ("snapshot", snapshot)]);
        match pyhost.call("feed_poll", poll).await {
            Ok(answer) => {
                carry_out(&handle, &answer).await;
                let news = answer.get("result").cloned().unwrap_or_default();
                handle.tell(move |state| push_to(state, conn, &news)).await;
            }
            Err(failure) => {
                handle.tell(move |state| end_feed(state, call, failure)).await;
                break;
            }
        }
        tokio::time::sleep(interval).await;
    }
    // Nobody listens any more: whether its teardown fails interests no one.
    if let Ok(answer) = pyhost.call("feed_close", Value::map([("feed", feed)])).await {
        carry_out(&handle, &answer).await;
    }
}

fn push_to(state: &State, conn: ConnId, news: &Value) {
    if let Some(found) = state.peers.conns.get(&conn) {
        found.line.outbox.send(Message::from_value(news));
    }
}

/// A feed failed: its caller is told why, and may go on to ask for something else.
fn end_feed(state: &mut State, call: Call, failure: Failure) {
    if let Some(found) = state.peers.conns.get_mut(&call.conn) {
        found.role = ConnRole::Rpc(RpcLine::default());
        state.finish(call, Err(failure));
    }
}

/// Sends the state of a progress bar. None: nobody listens. False: its keys are not known yet.
fn push_progress(state: &mut State, conn: ConnId) -> Option<bool> {
    if !state.peers.conns.contains_key(&conn) {
        state.jobs.progress.remove(&conn);
        return None;
    }
    let mut tracker = state.jobs.progress.remove(&conn)?;
    if !tracker.started && tracker.wish.keys.iter().all(|key| state.sched.task(key).is_some()) {
        start_tracker(state, &mut tracker);
    }
    let started = tracker.started;
    if started {
        look_after(state, &mut tracker);
        push_to(state, conn, &tracker.news());
    }
    state.jobs.progress.insert(conn, tracker);
    Some(started)
}

/// Source: `distributed/diagnostics/progress.py`, `dependent_keys`, `Progress.setup`.
fn start_tracker(state: &State, tracker: &mut Tracker) {
    let (mut all, errors) = needed(state, &tracker.wish.keys, tracker.wish.complete);
    tracker.remaining = if tracker.wish.complete { needed(state, &tracker.wish.keys, false).0 } else { all.clone() };
    all.extend(tracker.wish.keys.iter().cloned());
    tracker.all = all;
    tracker.started = true;
    if let Some(key) = errors.iter().find(|key| tracker.all.contains(*key)) {
        tracker.ended = Some(erred(state, key));
    } else if tracker.remaining.is_empty() {
        tracker.ended = Some(Ended::Finished);
    }
}

fn needed(state: &State, keys: &[Key], complete: bool) -> (SeededSet<Key>, Vec<Key>) {
    let (mut out, mut errors) = (SeededSet::default(), Vec::new());
    let mut stack = keys.to_vec();
    while let Some(key) = stack.pop() {
        if out.contains(&key) {
            continue;
        }
        let Some(task) = state.sched.task(&key) else { continue };
        if !complete && !task.holders.is_empty() {
            continue;
        }
        if task.state == "erred" {
            errors.push(key.clone());
            if !complete {
                continue;
            }
        }
        stack.extend(state.sched.edges(&key).0);
        out.insert(key);
    }
    (out, errors)
}

/// What no end of a run tells: inherited errors, and keys that were dropped.
fn look_after(state: &State, tracker: &mut Tracker) {
    if tracker.ended.is_some() {
        return;
    }
    for key in &tracker.wish.keys {
        match state.sched.task(key).map(|task| task.state) {
            Some("erred") => tracker.ended = Some(erred(state, key)),
            None if tracker.remaining.contains(key) => {
                tracker.ended = Some(Ended::Erred { key: key.clone(), exception: Value::Nil });
            }
            _ => {}
        }
    }
    if tracker.ended.is_none() && tracker.remaining.is_empty() {
        tracker.ended = Some(Ended::Finished);
    }
}

fn erred(state: &State, key: &Key) -> Ended {
    let task = state.sched.task(key);
    let exception = match task.and_then(|task| task.failure.cloned()) {
        Some(Failure::Remote { exception, .. }) => exception,
        Some(Failure::Raised(error)) => Value::Bin(pickle::error(&error)),
        None => Value::Nil,
    };
    Ended::Erred { key: key.clone(), exception }
}

/// A run ended well: progress bars count it.
pub fn count_progress(state: &mut State, key: &Key) {
    for tracker in state.jobs.progress.values_mut() {
        tracker.remaining.remove(key);
    }
}

/// Every task is forgotten.
pub fn end_progress(state: &mut State) {
    for tracker in state.jobs.progress.values_mut() {
        tracker.started = true;
        tracker.ended.get_or_insert(Ended::Finished);
    }
}
