//! `feed`: somebody is sent news at an interval. Progress bars are recognised in their pickles and served here,
//! without Python; any other feed runs in pyhost.
//!
//! Source: `distributed/scheduler.py`, `feed`; `distributed/diagnostics/progressbar.py`, `progress.py`.

use std::time::Duration;

use tracing::debug;

use crate::base::{Failure, Key, SeededMap, SeededSet, Value, key_prefix};
use crate::cluster::codec::seconds;
use crate::cluster::ops::{Done, python};
use crate::cluster::state::handle::{ConnId, Desk};
use crate::cluster::state::{Call, Driver, Role};
use crate::pickle::{self, Kind};
use crate::pyhost::Pyhost;
use crate::wire::Message;

/// How long until the keys are looked for again that a progress bar is about. Source: `Progress.setup`.
const SETUP_PAUSE: Duration = Duration::from_millis(50);

/// Shortest interval; a shorter one would only keep the scheduler busy. Unit: seconds.
const INTERVAL_MIN_SECS: f64 = 0.005;

/// What a progress bar wants to know.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    keys: Vec<Key>,
    /// Count the tasks that are done already.
    complete: bool,
    /// One count per prefix.
    grouped: bool,
}

/// One progress bar.
#[derive(Debug)]
pub struct Tracker {
    wish: Wish,
    /// False until all its keys are known.
    started: bool,
    all: SeededSet<Key>,
    remaining: SeededSet<Key>,
    ended: Option<Ended>,
}

#[derive(Clone, Debug, PartialEq)]
enum Ended {
    Finished,
    Erred { key: Key, exception: Value },
}

/// `feed`: from here on the connection is a push stream.
pub fn start(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let interval = body.get("interval").and_then(seconds).unwrap_or(1.0).clamp(INTERVAL_MIN_SECS, 1e6);
    let interval = Duration::from_secs_f64(interval);
    let desk = driver.desk.clone();
    let conn = call.conn;
    match body.get("setup").and_then(recognise) {
        Some(wish) => {
            let tracker = Tracker {
                wish,
                started: false,
                all: SeededSet::default(),
                remaining: SeededSet::default(),
                ended: None,
            };
            driver.progress.insert(conn, tracker);
            tokio::spawn(serve(desk, conn, interval));
        }
        None => {
            let pyhost = python::python(driver)?;
            let field = |name: &str| body.get(name).cloned().unwrap_or_default();
            let request = Value::map([
                ("setup", field("setup")),
                ("function", field("function")),
                ("teardown", field("teardown")),
                ("snapshot", python::snapshot(driver)),
            ]);
            tokio::spawn(serve_python(desk, conn, interval, pyhost, request));
        }
    }
    if let Some(found) = driver.conns.get_mut(&conn) {
        found.role = Role::Quiet;
    }
    Ok(Done::Later)
}

/// What a pickled `ProgressBar.listen.<locals>.setup` closes over. None: it is another function.
fn recognise(setup: &Value) -> Option<Wish> {
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
    Some(Wish { keys: keys?, complete: complete?, grouped })
}

async fn serve(desk: Desk, conn: ConnId, interval: Duration) {
    loop {
        let pause = match desk.ask(move |driver| driver.push_progress(conn)).await {
            Some(Some(true)) => interval,
            Some(Some(false)) => SETUP_PAUSE,
            Some(None) | None => return,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn serve_python(desk: Desk, conn: ConnId, interval: Duration, pyhost: Pyhost, request: Value) {
    let opened = pyhost.call("feed_open", request).await;
    let feed = match &opened {
        Ok(answer) => answer.get("feed").cloned().unwrap_or_default(),
        Err(failure) => {
            debug!(?failure, "a feed could not be opened");
            desk.tell(move |driver| driver.end_feed(conn)).await;
            return;
        }
    };
    while let Some(Some(snapshot)) =
        desk.ask(move |driver| driver.conns.contains_key(&conn).then(|| python::snapshot(driver))).await
    {
        let poll = Value::map([("feed", feed.clone()), ("snapshot", snapshot)]);
        match pyhost.call("feed_poll", poll).await {
            Ok(answer) => {
                let news = answer.get("result").cloned().unwrap_or_default();
                desk.tell(move |driver| driver.push_to(conn, &news)).await;
            }
            Err(failure) => {
                debug!(?failure, "a feed failed");
                desk.tell(move |driver| driver.end_feed(conn)).await;
                break;
            }
        }
        tokio::time::sleep(interval).await;
    }
    // Nobody listens any more: whether its teardown fails interests no one.
    drop(pyhost.call("feed_close", Value::map([("feed", feed)])).await);
}

impl Driver {
    fn push_to(&self, conn: ConnId, news: &Value) {
        if let Some(found) = self.conns.get(&conn) {
            found.line.outbox.send(Message::from_value(news));
        }
    }

    fn end_feed(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get(&conn) {
            found.line.outbox.close();
        }
    }

    /// Sends the state of a progress bar. None: nobody listens. False: its keys are not known yet.
    fn push_progress(&mut self, conn: ConnId) -> Option<bool> {
        if !self.conns.contains_key(&conn) {
            self.progress.remove(&conn);
            return None;
        }
        let mut tracker = self.progress.remove(&conn)?;
        if !tracker.started && tracker.wish.keys.iter().all(|key| self.sched.task(key).is_some()) {
            self.start_tracker(&mut tracker);
        }
        let started = tracker.started;
        if started {
            self.look_after(&mut tracker);
            self.push_to(conn, &tracker.news());
        }
        self.progress.insert(conn, tracker);
        Some(started)
    }

    /// Source: `dependent_keys`, `Progress.setup`.
    fn start_tracker(&self, tracker: &mut Tracker) {
        let (mut all, errors) = self.needed(&tracker.wish.keys, tracker.wish.complete);
        tracker.remaining = if tracker.wish.complete { self.needed(&tracker.wish.keys, false).0 } else { all.clone() };
        all.extend(tracker.wish.keys.iter().cloned());
        tracker.all = all;
        tracker.started = true;
        if let Some(key) = errors.iter().find(|key| tracker.all.contains(*key)) {
            tracker.ended = Some(self.erred(key));
        } else if tracker.remaining.is_empty() {
            tracker.ended = Some(Ended::Finished);
        }
    }

    fn needed(&self, keys: &[Key], complete: bool) -> (SeededSet<Key>, Vec<Key>) {
        let (mut out, mut errors) = (SeededSet::default(), Vec::new());
        let mut stack = keys.to_vec();
        while let Some(key) = stack.pop() {
            if out.contains(&key) {
                continue;
            }
            let Some(task) = self.sched.task(&key) else { continue };
            if !complete && !task.holders.is_empty() {
                continue;
            }
            if task.state == "erred" {
                errors.push(key.clone());
                if !complete {
                    continue;
                }
            }
            stack.extend(self.sched.edges(&key).0);
            out.insert(key);
        }
        (out, errors)
    }

    /// What no end of a run tells: inherited errors, and keys that were dropped.
    fn look_after(&self, tracker: &mut Tracker) {
        if tracker.ended.is_some() {
            return;
        }
        for key in &tracker.wish.keys {
            match self.sched.task(key).map(|task| task.state) {
                Some("erred") => tracker.ended = Some(self.erred(key)),
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

    fn erred(&self, key: &Key) -> Ended {
        let task = self.sched.task(key);
        let exception = match task.and_then(|task| task.failure.cloned()) {
            Some(Failure::Remote { exception, .. }) => exception,
            Some(Failure::Raised(error)) => Value::Bin(pickle::error(&error)),
            None => Value::Nil,
        };
        Ended::Erred { key: key.clone(), exception }
    }

    /// A run ended well: progress bars count it.
    pub fn count_progress(&mut self, key: &Key) {
        for tracker in self.progress.values_mut() {
            tracker.remaining.remove(key);
        }
    }

    /// Every task is forgotten.
    pub fn end_progress(&mut self) {
        for tracker in self.progress.values_mut() {
            tracker.started = true;
            tracker.ended.get_or_insert(Ended::Finished);
        }
    }
}

impl Tracker {
    fn news(&self) -> Value {
        let counts = |keys: &SeededSet<Key>| match self.wish.grouped {
            false => Value::from(keys.len()),
            true => {
                // Every group is there from the start, also when nothing of it is left.
                let mut groups: SeededMap<String, usize> = self.all.iter().map(|key| (key_prefix(key), 0)).collect();
                for key in keys {
                    *groups.entry(key_prefix(key)).or_default() += 1;
                }
                Value::Map(groups.into_iter().map(|(group, n)| (group.into(), n.into())).collect())
            }
        };
        let status = match &self.ended {
            None => Value::Nil,
            Some(Ended::Finished) => "finished".into(),
            Some(Ended::Erred { .. }) => "error".into(),
        };
        let mut fields = vec![
            ("all".into(), counts(&self.all)),
            ("remaining".into(), counts(&self.remaining)),
            ("status".into(), status),
        ];
        if let Some(Ended::Erred { key, exception }) = &self.ended {
            fields.push(("exception".into(), exception.clone()));
            fields.push(("key".into(), key.to_value()));
        }
        Value::Map(fields)
    }
}
