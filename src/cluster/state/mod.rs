//! The state of one scheduler: the core, everybody connected, what is remembered, what is under way.
//!
//! It alone calls [`Scheduler::step`]. A step appends its effects to [`State::pending`] and carries out none: `turn`
//! does, in order, after each handler. All methods of [`State`] stand in this file; whatever else works on the state is
//! a function in the layer above that it belongs to.

pub mod barriers;
pub mod call;
pub mod calls;
pub mod graphs;
pub mod handle;
pub mod peers;
pub mod pending;
pub mod prefetched;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::base::{CallId, ClientId, Failure, Key, PyError, SeededMap, SeededSet, Text, Value, WorkerId};
use crate::clock::Clock;
use crate::cluster::codec::args::iterated;
use crate::cluster::codec::failures::failure_reply;
use crate::cluster::codec::messages::{Stimulus, put_event};
use crate::cluster::options::{Keep, RebalanceRules, Reporter};
use crate::cluster::records::computations::Computations;
use crate::cluster::records::failures::Failures;
use crate::cluster::records::log::LogLines;
use crate::cluster::records::metadata::Metadata;
use crate::cluster::records::plugins::Plugins;
use crate::cluster::records::progress::Tracker;
use crate::cluster::records::task_metadata::TaskMetadata;
use crate::cluster::records::task_stream::TaskStream;
use crate::cluster::records::timeline::Timeline;
use crate::cluster::records::topics::Topics;
use crate::cluster::records::turns::Turns;
use crate::cluster::records::worker_exit::WorkerExits;
use crate::cluster::records::worker_metrics::WorkerMetrics;
use crate::cluster::state::call::{Call, Done, Outcome};
use crate::cluster::state::calls::{Calls, WaitingCall};
use crate::cluster::state::graphs::Graphs;
use crate::cluster::state::handle::{ConnId, HandleOn};
use crate::cluster::state::peers::{ClientLink, ConnectedPeers};
use crate::cluster::state::pending::Pending;
use crate::cluster::state::prefetched::Prefetched;
use crate::net::Address;
use crate::pyhost::Pyhost;
use crate::sched::{Event, PlacedData, Scheduler, StartStop, event_kind};
use crate::wire::Message;

/// A handle on the state, for connections and jobs.
pub type Handle = HandleOn<State>;

/// What this scheduler is called and where it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: Text,
    pub address: Text,
    /// Where the scheduler listens itself.
    pub listening: Vec<Text>,
    pub dashboard_port: Option<u16>,
}

/// What was decided when the scheduler started.
#[derive(Debug)]
pub struct SchedulerSetup {
    pub identity: Identity,
    /// Operations that are refused.
    pub blocked: SeededSet<Text>,
    /// Most tasks of a graph that enter the core in one step.
    pub graph_part_tasks: usize,
    /// How much is remembered of the past.
    pub keep: Keep,
    /// When `rebalance` moves data.
    pub rebalance: RebalanceRules,
    /// Graphs that are read here are read in Python too, and compared.
    pub check_ingest: bool,
    /// Makes performance reports.
    pub reporter: Option<Reporter>,
}

/// The Python side.
#[derive(Debug, Default)]
pub struct PythonSide {
    /// None: there is no interpreter, and what needs one is refused.
    pub pyhost: Option<Pyhost>,
    /// `versions` of the interpreter, once known.
    pub versions: Option<Value>,
    /// The interpreter was asked for its versions.
    pub versions_asked: bool,
}

/// What is remembered for people, each part bounded.
#[derive(Debug)]
pub struct Records {
    pub computations: Computations,
    pub topics: Topics,
    pub metadata: Metadata,
    pub task_stream: TaskStream,
    pub task_metadata: TaskMetadata,
    pub timeline: Timeline,
    /// Spans of the run that is being recorded. The list is used again for every run.
    pub run_spans: Vec<StartStop>,
    pub worker_metrics: WorkerMetrics,
    pub failures: Failures,
    pub worker_exits: WorkerExits,
    pub log: LogLines,
    pub turns: Turns,
}

/// What jobs keep here between two of their turns.
#[derive(Debug, Default)]
pub struct Jobs {
    /// Memory samplers by key: the job, and its samples.
    pub samples: SeededMap<Text, (AbortHandle, Vec<Value>)>,
    /// Who waits until a worker's data is elsewhere, and is told whether it could be moved.
    pub retiring: SeededMap<WorkerId, Vec<oneshot::Sender<bool>>>,
    /// Where the next scatter begins among the workers.
    pub round_robin: usize,
    pub prefetched: Prefetched,
    /// Progress bars by connection.
    pub progress: SeededMap<ConnId, Tracker>,
}

/// Why the scheduler closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing(pub Text);

/// See the module's documentation.
pub struct State {
    pub sched: Scheduler,
    pub clock: Clock,
    pub handle: Handle,
    pub setup: SchedulerSetup,
    pub python: PythonSide,
    pub plugins: Plugins,
    pub peers: ConnectedPeers,
    pub calls: Calls,
    pub graphs: Graphs,
    pub records: Records,
    pub jobs: Jobs,
    pub pending: Pending,
    pub closing: Option<Closing>,
}

impl State {
    /// The state of a scheduler to which nothing has happened yet.
    pub fn new(sched: Scheduler, handle: Handle, setup: SchedulerSetup, pyhost: Option<Pyhost>) -> Self {
        let keep = &setup.keep;
        let records = Records {
            computations: Computations::default(),
            topics: Topics::new(keep.topic_events),
            metadata: Metadata::default(),
            task_stream: TaskStream::new(keep.runs),
            task_metadata: TaskMetadata::default(),
            timeline: Timeline::new(keep.rectangles),
            run_spans: Vec::new(),
            worker_metrics: WorkerMetrics::default(),
            failures: Failures::default(),
            worker_exits: WorkerExits::default(),
            log: LogLines::new(keep.log_lines),
            turns: Turns::default(),
        };
        let mut plugins = Plugins::default();
        plugins.workers.keep("shuffle".into(), Value::Bin(crate::pickle::shuffle_worker_plugin()));
        Self {
            sched,
            clock: handle.clock(),
            handle,
            setup,
            python: PythonSide { pyhost, ..PythonSide::default() },
            plugins,
            peers: ConnectedPeers::default(),
            calls: Calls::default(),
            graphs: Graphs::default(),
            records,
            jobs: Jobs::default(),
            pending: Pending::default(),
            closing: None,
        }
    }

    // ---- stepping -------------------------------------------------------------------------------------------

    /// Steps the core with `event`. What the core asks for is appended to the pending effects; `turn` carries it out.
    pub fn step(&mut self, event: Event) {
        self.pending.steps = self.pending.steps.wrapping_add(1);
        let stimulus = Stimulus { kind: event_kind(&event), number: self.pending.steps };
        self.sched.step(self.clock.now(), event, self.pending.effects.list());
        self.pending.effects.end_step(stimulus);
    }

    /// Steps the core with `event` once the effects that are pending now are carried out.
    pub fn step_later(&mut self, event: Event) {
        self.pending.events.push_back(event);
    }

    /// A fresh call, and who gets the core's answer.
    pub fn open_call(&mut self, waiting: WaitingCall) -> CallId {
        let call = self.calls.number();
        if let Some(line) = waiting.conn().and_then(|conn| self.peers.rpc_line(conn)) {
            line.core_call = Some(call);
        }
        self.calls.open(call, waiting);
        call
    }

    // ---- requests -------------------------------------------------------------------------------------------

    /// Answers a request. Nothing happens when the asker is gone.
    pub fn finish(&mut self, call: Call, outcome: Outcome) {
        if let Some(reply) = self.calls.close_inner(call.conn) {
            // Whoever asked may have gone away.
            return drop(reply.send(outcome));
        }
        let Some(line) = self.peers.rpc_line(call.conn) else { return };
        line.busy = false;
        line.core_call = None;
        line.job = None;
        if !line.waiting.is_empty() {
            self.pending.answered.push(call.conn);
        }
        let Some(found) = self.peers.conns.get(&call.conn) else { return };
        if call.reply {
            let reply = outcome.unwrap_or_else(|failure| failure_reply("uncaught-error", &failure));
            found.line.outbox.send(Message::from_value(&reply));
        }
        if call.close {
            found.line.outbox.close();
        }
        found.line.gate.add_permits(1);
    }

    /// Works on a request in a task of its own. The request goes on even when the asker is gone.
    pub fn job<F>(&mut self, call: Call, work: F) -> Done
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.start_job(call, work);
        Done::Later
    }

    /// As [`State::job`], for work that is of no use without its asker.
    pub fn job_for_asker<F>(&mut self, call: Call, work: F) -> Done
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let job = self.start_job(call, work);
        if let Some(line) = self.peers.rpc_line(call.conn) {
            line.job = Some(job);
        }
        Done::Later
    }

    fn start_job<F>(&self, call: Call, work: F) -> AbortHandle
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let handle = self.handle.clone();
        let task = tokio::spawn(async move {
            let outcome = work.await;
            handle.tell(move |state| state.finish(call, outcome)).await;
        });
        task.abort_handle()
    }

    // ---- telling --------------------------------------------------------------------------------------------

    /// Publishes an event and pushes it to the clients that listen.
    pub fn log_event(&mut self, topics: &[Text], message: &Value) {
        let at_secs = self.clock.wall();
        for topic in topics {
            if self.plugins.scheduler.wants("log_event") {
                let args = vec![Value::Str(topic.clone()), message.clone()];
                self.plugins.scheduler.tell("log_event", args, Value::Map(Vec::new()));
            }
            for name in self.records.topics.publish(topic, at_secs, message) {
                let Some(client) = self.sched.client_id(&name) else { continue };
                if let Some(outbox) = self.peers.client_outbox(client) {
                    outbox.push(|encoder| put_event(encoder, topic, at_secs, message));
                }
            }
        }
    }

    /// A line for the log and for `get_logs`.
    pub fn warn(&mut self, text: impl Into<Text>) {
        let text = text.into();
        warn!("{text}");
        self.records.log.push(self.clock.wall(), "WARNING".into(), text);
    }

    /// A line for `get_logs` that Dask's scheduler logs too; our own log says the same in its way.
    pub fn note(&mut self, text: impl Into<Text>) {
        self.records.log.push(self.clock.wall(), "INFO".into(), text.into());
    }

    /// Closes a connection without a word and forgets what it was for.
    pub fn drop_conn(&mut self, conn: ConnId, reason: &str) {
        if let Some(found) = self.peers.conns.get(&conn) {
            warn!(peer = %found.line.peer.address, reason, "closing a connection whose messages are malformed");
            found.line.outbox.abort();
            found.line.gate.close();
        }
    }

    /// The scheduler should end.
    pub fn close_because(&mut self, reason: impl Into<Text>) {
        self.closing.get_or_insert(Closing(reason.into()));
    }

    // ---- clients, workers, keys -----------------------------------------------------------------------------

    /// The client of that name, if it has a stream.
    pub fn client_link(&self, name: &str) -> Option<(ClientId, &ClientLink)> {
        let client = self.sched.client_id(name)?;
        Some((client, self.peers.clients.get(&client)?))
    }

    /// The client of that name, made on the fly when it is a new pseudo client.
    pub fn client_named(&mut self, name: &Text) -> ClientId {
        if let Some(client) = self.sched.client_id(name) {
            return client;
        }
        self.step(Event::ClientAdded { name: name.clone() });
        // Can't be missing; a stale id would be ignored by the core.
        self.sched.client_id(name).unwrap_or(ClientId { slot: u32::MAX, generation: u32::MAX })
    }

    /// The worker at an address, as peers spell addresses.
    pub fn worker_at(&self, address: &str) -> Option<WorkerId> {
        if let Some(worker) = self.sched.worker_by_address(address) {
            return Some(worker);
        }
        if let Some(normal) = self.peers.resolved.get(address) {
            return self.sched.worker_by_address(normal);
        }
        let normal = Address::parse(address).ok()?.to_string();
        self.sched.worker_by_address(&normal)
    }

    /// Address of a worker.
    pub fn address_of(&self, worker: WorkerId) -> Option<Text> {
        self.sched.worker(worker).map(|view| view.address.clone())
    }

    /// Addresses of all workers, in the order they came.
    pub fn worker_addresses(&self) -> Vec<Text> {
        self.sched.workers().into_iter().map(|view| view.address.clone()).collect()
    }

    /// The workers that `workers` names (addresses, names, hosts); all of them when it is not given. Those that are not
    /// here are passed over.
    pub fn workers_meant(&self, workers: Option<&Value>) -> Result<Vec<WorkerId>, Failure> {
        match workers {
            None | Some(Value::Nil) => Ok(self.sched.workers().into_iter().map(|view| view.id).collect()),
            Some(given) => Ok(self.sched.workers_by_alias(&iterated(given)?)),
        }
    }

    /// As [`State::workers_meant`], but one that is not here is an error, if it `matters`.
    pub fn workers_named(
        &self,
        workers: Option<&Value>,
        matters: impl Fn(&Value) -> bool,
    ) -> Result<Vec<WorkerId>, Failure> {
        let named = workers.filter(|given| !given.is_nil()).map(iterated).transpose()?.unwrap_or_default();
        let absent = |one: &Value| self.sched.workers_by_alias(std::slice::from_ref(one)).is_empty();
        match named.iter().find(|one| matters(one) && absent(one)) {
            Some(unknown) => Err(Failure::Raised(PyError::MissingKey(unknown.clone()))),
            None => self.workers_meant(workers),
        }
    }

    /// Addresses of the workers that hold a key.
    pub fn holders(&self, key: &Key) -> Vec<Text> {
        let holders = self.sched.task(key).map(|task| task.holders.to_vec()).unwrap_or_default();
        holders.into_iter().filter_map(|id| self.address_of(id)).collect()
    }

    /// `update_data`: data that was placed on workers from outside.
    pub fn update_data(&mut self, client: Option<ClientId>, who_has: Vec<(Key, Vec<Text>)>, nbytes: &[(Key, i64)]) {
        let sizes: SeededMap<&Key, i64> = nbytes.iter().map(|(key, size)| (key, *size)).collect();
        let mut data = Vec::with_capacity(who_has.len());
        for (key, holders) in who_has {
            let nbytes = sizes.get(&key).copied().unwrap_or(-1);
            let holders = holders.iter().filter_map(|address| self.worker_at(address)).collect();
            data.push(PlacedData { key, holders, nbytes });
        }
        self.step(Event::UpdateData { client, data });
    }

    /// Bounds on what peers may send.
    pub fn limits(&self) -> Arc<crate::base::Limits> {
        self.handle.limits().clone()
    }
}
