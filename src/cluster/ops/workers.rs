//! Workers and nannies: how they register, beat, finish runs and leave, and what is kept of them besides scheduling.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::info;

use crate::base::{Failure, Key, Text, Value, WorkerId, key_prefix};
use crate::cluster::codec::{RunFacts, action_name, raise};
use crate::cluster::records::task_stream::Run;
use crate::cluster::records::timeline::Ran;
use crate::cluster::records::worker_exit;
use crate::cluster::records::worker_metrics::Failed;
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::{Call, Driver, Outcome, Role, Waiting};
use crate::net::{Address, Outbox, Pace};
use crate::sched::{
    Answer, Erred, Event, Finished, Heartbeat, StartStop, WorkerHello, WorkerStatus, heartbeat_interval_secs,
};

/// A registered worker's connection, and what it said of itself.
#[derive(Debug)]
pub struct WorkerLink {
    pub conn: ConnId,
    pub outbox: Outbox,
    /// Something was pushed in this turn.
    pub touched: bool,
    pub facts: Facts,
}

/// What is shown of a worker and does not matter to scheduling.
#[derive(Clone, Debug, Default)]
pub struct Facts {
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
    /// The task that it ended last.
    pub last_key: Option<Key>,
    /// Most memory that a heartbeat told. Unit: bytes.
    pub peak_bytes: u64,
}

/// A worker whose registration the scheduler is looking at.
#[derive(Debug)]
pub struct Joining {
    pub call: Call,
    pub facts: Facts,
    pub name: Text,
}

impl Driver {
    // ---- registration ---------------------------------------------------------------------------------------

    /// `register-worker`: resolves its address if need be, then asks the scheduler.
    pub fn register_worker(&mut self, call: Call, body: Value) {
        let Some(sent) = body.get("address").and_then(Value::as_str) else {
            return self.refuse_worker(call, "register-worker needs an address");
        };
        let address = match Address::parse(sent) {
            Ok(address) => address,
            Err(error) => return self.refuse_worker(call, &error.to_string()),
        };
        if address.host.parse::<IpAddr>().is_ok() {
            let normal = Text::from(address.to_string());
            return self.add_worker(call, normal, &body);
        }
        let desk = self.desk.clone();
        let sent = Text::from(sent);
        tokio::spawn(async move {
            let resolved = address.resolved().await;
            desk.tell(move |driver| match resolved {
                Ok(resolved) => {
                    let normal = Text::from(resolved.to_string());
                    driver.resolved.insert(sent, normal.clone());
                    driver.add_worker(call, normal, &body);
                }
                Err(error) => driver.refuse_worker(call, &error.to_string()),
            })
            .await;
        });
    }

    fn add_worker(&mut self, call: Call, address: Text, body: &Value) {
        let nil = Value::Nil;
        let field = |name: &str| body.get(name).unwrap_or(&nil);
        let text = |name: &str| field(name).as_str().map(Text::from);
        let facts = Facts {
            metrics: Arc::new(field("metrics").clone()),
            services: field("services").clone(),
            local_directory: field("local_directory").clone(),
            versions: field("versions").clone(),
            extra: field("extra").clone(),
            last_seen: self.clock.wall(),
            time_delay: field("now").as_f64().map_or(0.0, |theirs| self.clock.wall() - theirs),
            executing: Vec::new(),
            ..Facts::default()
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
            address,
        };
        let name = Text::from(shown(&name));
        let joining = Joining { call, facts, name };
        let id = self.open_call(Waiting::Registration(Box::new(joining)));
        self.apply(Event::AddWorker { call: id, worker: Box::new(hello) });
    }

    /// The scheduler decided about a newcomer. The reply is a bare map; after it the connection is a stream.
    pub fn on_registered(&mut self, joining: Joining, answer: Answer) {
        let worker = match answer {
            Answer::Worker(worker) => worker,
            Answer::Refused(why) => return self.refuse_worker(joining.call, &why),
            other => {
                let why = format!("registration failed: {other:?}");
                return self.refuse_worker(joining.call, &why);
            }
        };
        let conn = joining.call.conn;
        let warning = self.version_warning(&joining.name, &joining.facts.versions);
        let Some(found) = self.conns.get_mut(&conn) else {
            // Gone while we were resolving its address.
            return self.apply(Event::RemoveWorker {
                worker,
                expected: false,
                close: false,
                reason: "connection lost".into(),
            });
        };
        let outbox = found.line.outbox.clone();
        found.role = Role::Worker(worker);
        let workers = self.sched.counts().workers.max(1);
        let reply = Value::map([
            ("status", "OK".into()),
            ("time", self.clock.wall().into()),
            ("heartbeat-interval", heartbeat_interval_secs(workers).into()),
            ("worker-plugins", named(&self.worker_plugins)),
            ("warning", warning.unwrap_or_default().into()),
            ("error", "".into()),
        ]);
        outbox.send(crate::wire::Message::from_value(&reply));
        outbox.set_pace(Pace::at_once());
        self.workers.insert(worker, WorkerLink { conn, outbox, touched: false, facts: joining.facts });
        self.totals.workers_added += 1;
        self.give_permits(conn, 1);
        self.take_metrics(worker, None, None);
    }

    fn refuse_worker(&mut self, call: Call, why: &str) {
        self.warn(format!("a worker could not register: {why}"));
        let reply =
            Value::map([("status", "error".into()), ("message", why.into()), ("time", self.clock.wall().into())]);
        // Answered although it says `reply: false`: a worker waits for this map.
        self.finish(Call { reply: true, close: false, ..call }, Ok(reply));
    }

    /// The scheduler says that a worker is registered and known to everybody.
    pub fn on_worker_added(&mut self, worker: WorkerId) {
        let Some(identity) = self.worker_identity(worker) else { return };
        let Some(view) = self.sched.worker(worker) else { return };
        let address = view.address.clone();
        info!(worker = %address, name = %shown(view.name), threads = view.nthreads, "worker registered");
        self.hook("add_worker", vec![Value::Str(address.clone())], Value::Map(Vec::new()));
        let news = Value::Map(vec![(Value::Str(address), without_metrics(identity))]);
        self.tell_watchers(&Value::Array(vec!["add".into(), Value::map([("workers", news)])]));
    }

    // ---- leaving --------------------------------------------------------------------------------------------

    /// A worker is gone or must go.
    pub fn remove_worker(&mut self, worker: WorkerId, expected: bool, close: bool, reason: &str) {
        if !expected {
            worker_exit::note(self, worker);
        }
        self.apply(Event::RemoveWorker { worker, expected, close, reason: reason.into() });
    }

    /// The scheduler forgot a worker: its stream ends after what was sent.
    pub fn on_worker_removed(&mut self, worker: WorkerId, address: &Text, expected: bool) {
        info!(worker = %address, expected, "worker removed");
        self.totals.workers_removed += 1;
        self.desk.forget(address);
        self.rects.forget_worker(worker);
        self.notes.forget_worker(address);
        let stimulus = Value::map([("stimulus_id", self.stimulus.to_string().into())]);
        self.hook("remove_worker", vec![Value::Str(address.clone())], stimulus);
        self.tell_watchers(&Value::Array(vec!["remove".into(), Value::Str(address.clone())]));
        if let Some(link) = self.workers.remove(&worker) {
            link.outbox.kick();
            link.outbox.close();
            if let Some(found) = self.conns.get_mut(&link.conn) {
                found.role = Role::Quiet;
            }
        }
        for waiter in self.retiring.remove(&worker).unwrap_or_default() {
            // Whoever retires it need not wait any longer: there is nothing left to move.
            let _ = waiter.send(true);
        }
        self.resolved.retain(|_, normal| normal != address);
        self.forget_events_later(address.clone());
    }

    /// The worker at an address, as peers spell addresses.
    pub fn worker_at(&self, address: &str) -> Option<WorkerId> {
        if let Some(worker) = self.sched.worker_by_address(address) {
            return Some(worker);
        }
        if let Some(normal) = self.resolved.get(address) {
            return self.sched.worker_by_address(normal);
        }
        let normal = Address::parse(address).ok()?.to_string();
        self.sched.worker_by_address(&normal)
    }

    // ---- heartbeats -----------------------------------------------------------------------------------------

    /// `heartbeat_worker`. `missing` makes a worker close itself, so only one that is truly unknown is told so.
    pub fn heartbeat_worker(&mut self, body: &Value) -> Outcome {
        let address = body.get("address").and_then(Value::as_str).unwrap_or_default();
        let Some(worker) = self.worker_at(address) else {
            return Ok(Value::map([("status", "missing".into())]));
        };
        if let Some(resources) = body.field("resources").filter(|value| value.fields().is_some_and(|f| !f.is_empty())) {
            self.apply(Event::SetResources { worker, resources: amounts(resources) });
        }
        let now = self.clock.wall();
        if let Some(link) = self.workers.get_mut(&worker)
            && let Some(theirs) = body.get("now").and_then(Value::as_f64)
        {
            link.facts.time_delay = now - theirs;
        }
        if let (Some(extensions), Some(view)) = (body.get("extensions"), self.sched.worker(worker)) {
            self.notes.on_extensions(view.address, extensions);
        }
        self.take_metrics(worker, body.get("metrics"), body.get("executing"));
        let workers = self.sched.counts().workers.max(1);
        Ok(Value::map([
            ("status", "OK".into()),
            ("time", now.into()),
            ("heartbeat-interval", heartbeat_interval_secs(workers).into()),
        ]))
    }

    /// Hands what a heartbeat measured to the scheduler and keeps it for those who look.
    fn take_metrics(&mut self, worker: WorkerId, metrics: Option<&Value>, executing: Option<&Value>) {
        let (now, workers) = (self.clock.wall(), self.workers.len());
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.facts.last_seen = now;
        if let Some(metrics) = metrics {
            link.facts.metrics = Arc::new(metrics.clone());
        }
        let metrics = link.facts.metrics.clone();
        if let Some(view) = self.sched.worker(worker) {
            self.notes.on_metrics(view.address, &metrics, workers);
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
        self.apply(Event::Heartbeat { worker, beat: Box::new(beat) });
    }

    // ---- finished runs --------------------------------------------------------------------------------------

    /// Steps the end of a run, and keeps a record of it for those who asked.
    pub fn apply_run(&mut self, worker: WorkerId, event: Event, facts: &RunFacts) {
        let record = if self.task_stream.is_recording() { self.run_record(worker, &event, facts) } else { None };
        self.record_rects(worker, &event, facts);
        let failed = self.failed_of(worker, &event);
        let noted = if self.task_notes.is_empty() && self.progress.is_empty() { None } else { ended(&event) };
        self.apply(event);
        if !self.sched.run_counted() {
            self.rects.undo();
            return;
        }
        if let Some(failed) = failed {
            self.note_failure(failed);
        }
        if let Some(run) = record {
            self.task_stream.push(run);
        }
        if let Some((key, metadata, state)) = noted {
            if state == "memory" {
                self.count_progress(&key);
            }
            self.task_notes.on_ended(&key, metadata, state);
        }
    }

    /// Notes what a run spent its time on. Taken back if the scheduler says that the run is old news.
    fn record_rects(&mut self, worker: WorkerId, event: &Event, facts: &RunFacts) {
        let (key, spans, failed) = match event {
            Event::TaskFinished { done, .. } => (&done.key, &done.startstops, false),
            Event::TaskErred { erred, .. } => (&erred.key, &facts.spans, true),
            _ => return,
        };
        if let Some(link) = self.workers.get_mut(&worker) {
            link.facts.last_key = Some(key.clone());
        }
        let prefix = self.sched.prefix_index(key).unwrap_or(u32::MAX);
        let (sched, thread) = (&self.sched, facts.thread);
        self.rects.push(&Ran { worker, thread, key, prefix, failed, spans }, || {
            let view = sched.worker(worker)?;
            Some((view.address.clone(), shown(view.name).into(), view.host.clone()))
        });
    }

    fn failed_of(&self, worker: WorkerId, event: &Event) -> Option<(Text, Box<Erred>)> {
        let Event::TaskErred { erred, .. } = event else { return None };
        Some((self.sched.worker(worker)?.address.clone(), erred.clone()))
    }

    /// A run failed. It counts as a failure of the task unless the task is tried again.
    fn note_failure(&mut self, (worker, erred): (Text, Box<Erred>)) {
        let state = self.sched.task(&erred.key).map(|task| task.state);
        if state.is_some_and(|state| state != "erred") {
            return;
        }
        let Failure::Remote { exception_text, traceback_text, .. } = &erred.failure else { return };
        self.notes.on_failed(&Failed {
            key: &erred.key,
            prefix: key_prefix(&erred.key).into(),
            worker,
            text: exception_text,
            traceback: traceback_text,
            at_secs: self.clock.wall(),
        });
    }

    fn run_record(&self, worker: WorkerId, event: &Event, facts: &RunFacts) -> Option<Run> {
        let address = self.sched.worker(worker)?.address.clone();
        match event {
            Event::TaskFinished { done, .. } => Some(finished_record(address, done, facts.thread)),
            Event::TaskErred { erred, .. } => {
                let ended = facts.spans.iter().map(|span| span.stop).reduce(f64::max);
                let record = Value::map([
                    ("key", erred.key.to_value()),
                    ("worker", Value::Str(address)),
                    ("status", "error".into()),
                    ("startstops", spans_value(&facts.spans)),
                    ("thread", Value::Int(facts.thread)),
                ]);
                Some(Run { record, stop_secs: ended.unwrap_or_else(|| self.clock.wall()) })
            }
            _ => None,
        }
    }

    // ---- nannies --------------------------------------------------------------------------------------------

    /// `register_nanny`: its connection stays with it until its worker is up.
    pub fn register_nanny(&mut self, call: Call, body: &Value) {
        let reply = Value::map([("status", "OK".into()), ("nanny-plugins", named(&self.nanny_plugins))]);
        let address = body.get("address").and_then(Value::as_str).unwrap_or_default().into();
        let Some(found) = self.conns.get_mut(&call.conn) else { return };
        found.line.outbox.send(crate::wire::Message::from_value(&reply));
        found.role = Role::Nanny;
        self.starting_nannies.insert(call.conn, address);
        self.give_permits(call.conn, 1);
    }

    /// The nanny has its worker, or gave up.
    pub fn nanny_started(&mut self, conn: ConnId) {
        self.starting_nannies.remove(&conn);
        if self.starting_nannies.is_empty() {
            for waiter in self.nannies_waiters.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    // ---- what is shown --------------------------------------------------------------------------------------

    /// The map that `identity` holds for a worker.
    pub fn worker_identity(&self, worker: WorkerId) -> Option<Value> {
        let view = self.sched.worker(worker)?;
        let facts = self.workers.get(&worker).map(|link| link.facts.clone()).unwrap_or_default();
        let resources = view.resources.iter().map(|(name, amount)| (Value::Str(name.clone()), (*amount).into()));
        let mut fields = vec![
            ("type".into(), "Worker".into()),
            ("id".into(), view.name.clone()),
            ("host".into(), Value::Str(view.host.clone())),
            ("resources".into(), Value::Map(resources.collect())),
            ("local_directory".into(), facts.local_directory),
            ("name".into(), view.name.clone()),
            ("nthreads".into(), i64::from(view.nthreads).into()),
            ("memory_limit".into(), view.memory_limit.into()),
            ("last_seen".into(), facts.last_seen.into()),
            ("services".into(), facts.services),
            ("metrics".into(), (*facts.metrics).clone()),
            ("status".into(), view.status.name().into()),
            ("nanny".into(), view.nanny.cloned().into()),
        ];
        if let Value::Map(extra) = facts.extra {
            fields.extend(extra);
        }
        Some(Value::Map(fields))
    }

    /// Addresses of all workers, in the order they came.
    pub fn worker_addresses(&self) -> Vec<Text> {
        self.sched.workers().into_iter().map(|view| view.address.clone()).collect()
    }

    /// The workers that `workers` names (addresses, names, hosts); all of them when it is not given.
    pub fn workers_meant(&self, workers: Option<&Value>) -> Result<Vec<WorkerId>, crate::base::Failure> {
        match workers {
            None | Some(Value::Nil) => Ok(self.sched.workers().into_iter().map(|view| view.id).collect()),
            Some(given @ (Value::Str(_) | Value::Int(_))) => {
                Ok(self.sched.workers_by_alias(std::slice::from_ref(given)))
            }
            Some(given) => match given.items() {
                Some(items) => Ok(self.sched.workers_by_alias(items)),
                None => Err(raise("TypeError", "workers must be a list of addresses or names")),
            },
        }
    }

    /// Address of a worker.
    pub fn address_of(&self, worker: WorkerId) -> Option<Text> {
        self.sched.worker(worker).map(|view| view.address.clone())
    }
}

fn ended(event: &Event) -> Option<(crate::base::Key, Value, &'static str)> {
    match event {
        Event::TaskFinished { done, .. } => Some((done.key.clone(), done.metadata.clone(), "memory")),
        Event::TaskErred { erred, .. } => Some((erred.key.clone(), Value::Nil, "erred")),
        _ => None,
    }
}

fn finished_record(address: Text, done: &Finished, thread: i64) -> Run {
    let record = Value::map([
        ("key", done.key.to_value()),
        ("worker", Value::Str(address)),
        ("startstops", spans_value(&done.startstops)),
        ("type", Value::Bin(done.type_pickle.clone())),
        ("typename", Value::Str(done.typename.clone())),
        ("nbytes", done.nbytes.into()),
        ("metadata", done.metadata.clone()),
        ("status", "OK".into()),
        ("thread", Value::Int(thread)),
    ]);
    Run { record, stop_secs: done.startstops.iter().map(|span| span.stop).fold(0.0, f64::max) }
}

fn spans_value(spans: &[StartStop]) -> Value {
    let span = |span: &StartStop| {
        Value::map([
            ("action", action_name(span.action).into()),
            ("start", span.start.into()),
            ("stop", span.stop.into()),
        ])
    };
    Value::Array(spans.iter().map(span).collect())
}

/// `{name: number}` as pairs; what is no number is left out.
pub fn amounts(value: &Value) -> Vec<(Text, f64)> {
    let fields = value.fields().unwrap_or_default();
    fields
        .iter()
        .filter_map(|(name, amount)| match name {
            Value::Str(name) => Some((name.clone(), amount.as_f64()?)),
            _ => None,
        })
        .collect()
}

/// The identity that watchers get: without what changes all the time.
pub fn without_metrics(identity: Value) -> Value {
    match identity {
        Value::Map(mut fields) => {
            fields.retain(|(name, _)| !matches!(name.as_str(), Some("metrics" | "last_seen")));
            Value::Map(fields)
        }
        other => other,
    }
}

/// `{name: bytes}` of plugins.
pub fn named(plugins: &[(Text, Value)]) -> Value {
    Value::Map(plugins.iter().map(|(name, plugin)| (Value::Str(name.clone()), plugin.clone())).collect())
}

/// The host part of `scheme://host:port`.
pub fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A name as people read it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => other.as_key().map_or_else(|| format!("{other:?}"), |key| key.to_string()),
    }
}
