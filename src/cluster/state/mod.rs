//! The driver: owns one scheduler and everything known about the peers, and runs the loop.
//!
//! It alone calls [`Scheduler::step`]. Effects are carried out in the order they were appended; what they lead to is
//! queued and stepped afterwards, so that no message overtakes another.

pub mod handle;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::base::{CallId, ClientId, Failure, Key, Now, SeededMap, SeededSet, Text, TicketId, Value, WorkerId};
use crate::clock::Clock;
use crate::cluster::jobs::prefetch::Ahead;
use crate::cluster::jobs::progress::Tracker;
use crate::cluster::ops::graphs::Graphs;
use crate::cluster::ops::info::TaskNotes;
use crate::cluster::ops::publish_barrier::Barriers;
use crate::cluster::ops::scheduler_plugins::Hooks;
use crate::cluster::ops::workers::{Joining, WorkerLink};
use crate::cluster::options::{Keep, Reporter};
use crate::cluster::records::computations::Computations;
use crate::cluster::records::metadata::Metadata;
use crate::cluster::records::task_stream::TaskStream;
use crate::cluster::records::timeline::Rects;
use crate::cluster::records::topics::Topics;
use crate::cluster::records::worker_exit::Departed;
use crate::cluster::records::worker_metrics::Notes;
use crate::cluster::state::handle::{ConnId, Desk, Inbound, Line};
use crate::net::Outbox;
use crate::pyhost::Pyhost;
use crate::sched::{Answer, Effect, Event, Scheduler, event_kind};
use crate::wire::op::StreamItem;

/// How a request ends: its value, or the exception for the caller.
pub type Outcome = Result<Value, Failure>;

/// A request that wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who asked.
    pub conn: ConnId,
    /// `reply`: whether to answer at all.
    pub reply: bool,
    /// `close`: whether to close the connection afterwards.
    pub close: bool,
}

/// One open connection.
#[derive(Debug)]
pub struct Conn {
    pub line: Line,
    pub role: Role,
    /// Permits of the gate that are given back once what waits here is done.
    pub owed: usize,
}

/// What a connection is used for.
#[derive(Debug)]
pub enum Role {
    /// Requests and replies; one at a time.
    Rpc(RpcLine),
    /// A client's stream.
    Client(ClientId),
    /// A worker's stream.
    Worker(WorkerId),
    /// A nanny that is starting its worker; its next message says how that went.
    Nanny,
    /// Nothing more is expected from it: a push stream, or a stream whose owner is gone.
    Quiet,
}

/// A request/reply connection.
#[derive(Debug, Default)]
pub struct RpcLine {
    /// A request is being worked on.
    pub busy: bool,
    /// It waits for the core's answer to this call.
    pub core_call: Option<CallId>,
    /// It waits for this job, which is of no use without the asker.
    pub job: Option<AbortHandle>,
    /// Requests that came before the answer to the last one.
    pub waiting: VecDeque<Value>,
}

/// A client with a stream.
#[derive(Debug)]
pub struct ClientLink {
    pub name: Text,
    pub conn: ConnId,
    pub outbox: Outbox,
    /// Something was pushed in this turn.
    pub touched: bool,
    /// The graph that must be read before the stream goes on, and what came behind it.
    pub held: Option<TicketId>,
    pub waiting: VecDeque<StreamItem>,
    /// The `versions` map it sent.
    pub versions: Value,
    /// Unit: seconds since the epoch.
    pub last_seen: f64,
}

/// Who waits for the core's answer to a call.
#[derive(Debug)]
pub enum Waiting {
    /// The asker, who gets the answer as it is.
    Asker(Call),
    /// The asker, who gets elements of a queue or a variable's value.
    Elements(Call),
    /// The asker, who gets the answer as shuffle requests are answered; for a barrier, its shuffle and run.
    Shuffle(Call, Option<(Text, i64)>),
    /// A worker that registers.
    Registration(Box<Joining>),
}

/// A line of the scheduler's own log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Unit: seconds since the epoch.
    pub at_secs: f64,
    pub level: Text,
    pub text: Text,
}

/// Counters for `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub clients_added: u64,
    pub clients_removed: u64,
    pub workers_added: u64,
    pub workers_removed: u64,
}

/// What this scheduler is called and where it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: Text,
    pub address: Text,
    /// Where it listens itself.
    pub listening: Vec<Text>,
    pub dashboard_port: Option<u16>,
}

/// Why the scheduler closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing(pub Text);

/// See the module's documentation.
pub struct Driver {
    pub sched: Scheduler,
    pub clock: Clock,
    pub desk: Desk,
    pub identity: Identity,
    pub pyhost: Option<Pyhost>,
    pub blocked: SeededSet<Text>,
    pub graph_part_tasks: usize,
    /// How much is remembered of the past.
    pub keep: Keep,
    /// Makes performance reports.
    pub reporter: Option<Reporter>,

    pub conns: SeededMap<ConnId, Conn>,
    pub clients: SeededMap<ClientId, ClientLink>,
    pub workers: SeededMap<WorkerId, WorkerLink>,
    /// Connections that are told when workers come and go.
    pub watchers: Vec<Outbox>,
    /// Nannies that are starting a worker, and who waits for them.
    pub starting_nannies: SeededMap<ConnId, Text>,
    pub nannies_waiters: Vec<oneshot::Sender<()>>,
    /// Addresses with host names, as workers spell them, and what they resolved to.
    pub resolved: SeededMap<Text, Text>,

    pub graphs: Graphs,
    pub computations: Computations,
    pub topics: Topics,
    pub metadata: Metadata,
    pub task_stream: TaskStream,
    pub task_notes: TaskNotes,
    pub worker_plugins: Vec<(Text, Value)>,
    pub nanny_plugins: Vec<(Text, Value)>,
    pub hooks: Hooks,
    pub progress: SeededMap<ConnId, Tracker>,
    pub barriers: Barriers,
    pub logs: VecDeque<LogLine>,
    /// Lines so far, forgotten ones included.
    pub log_count: u64,
    /// What every thread did.
    pub rects: Rects,
    /// What heartbeats and failures told.
    pub notes: Notes,
    /// Workers that went without being told to.
    pub departed: Departed,
    /// Who inside this process waits for a request's answer.
    pub inner_calls: SeededMap<ConnId, oneshot::Sender<Outcome>>,
    pub next_inner: ConnId,
    pub totals: Totals,
    /// `versions` of pyhost's interpreter, once known.
    pub versions: Option<Value>,
    pub versions_asked: bool,
    pub samples: SeededMap<Text, (AbortHandle, Vec<Value>)>,
    pub retiring: SeededMap<WorkerId, Vec<oneshot::Sender<bool>>>,
    pub round_robin: usize,
    pub ahead: Ahead,

    calls: SeededMap<CallId, Waiting>,
    next_call: CallId,
    follow: VecDeque<Event>,
    spare_effects: Vec<Effect>,
    stepping: bool,
    /// Kind and number of the step whose effects are being carried out.
    pub stimulus: Stimulus,
    touched_clients: Vec<ClientId>,
    touched_workers: Vec<WorkerId>,
    touched_watchers: bool,
    /// Client streams that may go on, and requests that were answered while others waited behind them.
    pub resume: Vec<(ConnId, ClientId)>,
    /// Streams with items left for another turn.
    pub unfinished: VecDeque<(ConnId, ClientId)>,
    pub answered: Vec<ConnId>,
    pub closing: Option<Closing>,
}

/// Names a step in messages to workers: `task-finished-17`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stimulus {
    pub kind: &'static str,
    pub number: u64,
}

impl std::fmt::Display for Stimulus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.kind, self.number)
    }
}

/// What a driver is made of.
pub struct Parts {
    pub sched: Scheduler,
    pub clock: Clock,
    pub desk: Desk,
    pub identity: Identity,
    pub pyhost: Option<Pyhost>,
    pub blocked: Vec<Text>,
    pub keep: Keep,
    pub reporter: Option<Reporter>,
}

impl Driver {
    pub fn new(parts: Parts) -> Self {
        let limits = parts.desk.limits();
        let (topic_events, runs, rects) = (parts.keep.topic_events, parts.keep.runs, parts.keep.rectangles);
        Self {
            graph_part_tasks: usize::try_from(limits.graph_part_tasks).unwrap_or(usize::MAX).max(1),
            sched: parts.sched,
            clock: parts.clock,
            desk: parts.desk,
            identity: parts.identity,
            pyhost: parts.pyhost,
            blocked: parts.blocked.into_iter().collect(),
            keep: parts.keep,
            reporter: parts.reporter,
            conns: SeededMap::default(),
            clients: SeededMap::default(),
            workers: SeededMap::default(),
            watchers: Vec::new(),
            starting_nannies: SeededMap::default(),
            nannies_waiters: Vec::new(),
            resolved: SeededMap::default(),
            graphs: Graphs::default(),
            computations: Computations::default(),
            topics: Topics::new(topic_events),
            metadata: Metadata::default(),
            task_stream: TaskStream::new(runs),
            task_notes: TaskNotes::default(),
            worker_plugins: vec![("shuffle".into(), Value::Bin(crate::pickle::shuffle_worker_plugin()))],
            nanny_plugins: Vec::new(),
            hooks: Hooks::default(),
            progress: SeededMap::default(),
            barriers: Barriers::default(),
            logs: VecDeque::new(),
            log_count: 0,
            rects: Rects::new(rects),
            notes: Notes::default(),
            departed: Departed::default(),
            inner_calls: SeededMap::default(),
            next_inner: ConnId::MAX,
            totals: Totals::default(),
            versions: None,
            versions_asked: false,
            samples: SeededMap::default(),
            retiring: SeededMap::default(),
            round_robin: 0,
            ahead: Ahead::default(),
            calls: SeededMap::default(),
            next_call: 1,
            follow: VecDeque::new(),
            spare_effects: Vec::new(),
            stepping: false,
            stimulus: Stimulus::default(),
            touched_clients: Vec::new(),
            touched_workers: Vec::new(),
            touched_watchers: false,
            resume: Vec::new(),
            unfinished: VecDeque::new(),
            answered: Vec::new(),
            closing: None,
        }
    }

    // ---- the loop's parts -----------------------------------------------------------------------------------

    /// One thing from the inbox.
    pub fn on_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Opened { conn, line } => {
                let role = Role::Rpc(RpcLine::default());
                self.conns.insert(conn, Conn { line, role, owed: 0 });
            }
            Inbound::Single { conn, body } => self.on_single(conn, body),
            Inbound::Items { conn, items } => self.on_items(conn, items),
            Inbound::Closed { conn } => self.on_closed(conn),
            Inbound::Errand(errand) => errand(self),
        }
        self.go_on();
    }

    /// What waited for something that this turn settled.
    fn go_on(&mut self) {
        while let Some((conn, client)) = self.resume.pop() {
            self.run_client_stream(conn, client);
        }
        while let Some(conn) = self.answered.pop() {
            if let Some(body) = self.rpc_line(conn).filter(|line| !line.busy).and_then(|line| line.waiting.pop_front())
            {
                self.on_request(conn, body);
            }
        }
    }

    /// A deadline passed, or there are parts of graphs or of streams left.
    pub fn on_turn(&mut self) {
        self.next_graph_part();
        if let Some((conn, client)) = self.unfinished.pop_front() {
            self.run_client_stream(conn, client);
        }
        if self.sched.next_deadline().is_some_and(|at| at <= self.clock.now()) {
            self.apply(Event::Tick);
        }
        self.go_on();
    }

    /// When to call [`Driver::on_turn`] although nothing arrived.
    pub fn deadline(&self) -> Option<Now> {
        let is_left = self.graphs.has_parts() || !self.unfinished.is_empty();
        if is_left { Some(Now(0)) } else { self.sched.next_deadline() }
    }

    /// What was pushed in this turn may be written now.
    pub fn flush(&mut self) {
        self.hook_transitions();
        self.close_computation();
        self.flush_clients();
        for worker in self.touched_workers.drain(..) {
            if let Some(link) = self.workers.get_mut(&worker) {
                link.touched = false;
                link.outbox.kick();
            }
        }
        if std::mem::take(&mut self.touched_watchers) {
            self.watchers.retain(|outbox| !outbox.is_closed());
            for outbox in &self.watchers {
                outbox.kick();
            }
        }
    }

    fn flush_clients(&mut self) {
        let (clients, touched) = (&mut self.clients, self.touched_clients.drain(..));
        let outboxes = touched.filter_map(|id| {
            let link = clients.get_mut(&id)?;
            link.touched = false;
            Some(link.outbox.clone())
        });
        let outboxes: Vec<Outbox> = outboxes.collect();
        if self.fetch_ahead() {
            // The worker is asked first: it is awake, and the client takes its time to ask.
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                outboxes.iter().for_each(Outbox::kick);
            });
        } else {
            outboxes.iter().for_each(Outbox::kick);
        }
    }

    // ---- stepping -------------------------------------------------------------------------------------------

    /// Steps the core with `event` and carries out what it wants. Called while effects are being carried out, the
    /// event waits for its turn.
    pub fn apply(&mut self, event: Event) {
        self.follow.push_back(event);
        if self.stepping {
            return;
        }
        self.stepping = true;
        while let Some(event) = self.follow.pop_front() {
            self.step(event);
        }
        self.stepping = false;
    }

    fn step(&mut self, event: Event) {
        self.stimulus = Stimulus { kind: event_kind(&event), number: self.stimulus.number.wrapping_add(1) };
        let mut effects = std::mem::take(&mut self.spare_effects);
        self.sched.step(self.clock.now(), event, &mut effects);
        // A registration is answered before anything is sent on the new stream.
        if let Some(at) = effects.iter().position(is_registration)
            && at > 0
        {
            let answer = effects.remove(at);
            self.carry(answer);
        }
        for effect in effects.drain(..) {
            self.carry(effect);
        }
        self.spare_effects = effects;
    }

    /// A fresh call, and who gets the core's answer.
    pub fn open_call(&mut self, waiting: Waiting) -> CallId {
        let call = self.next_call;
        self.next_call = self.next_call.wrapping_add(1);
        let asker = match &waiting {
            Waiting::Asker(asker) | Waiting::Elements(asker) | Waiting::Shuffle(asker, _) => Some(asker.conn),
            Waiting::Registration(_) => None,
        };
        if let Some(line) = asker.and_then(|conn| self.rpc_line(conn)) {
            line.core_call = Some(call);
        }
        self.calls.insert(call, waiting);
        call
    }

    /// A call whose answer nobody wants.
    pub fn open_silent_call(&mut self) -> CallId {
        let call = self.next_call;
        self.next_call = self.next_call.wrapping_add(1);
        call
    }

    /// Who waits for this answer.
    pub fn close_call(&mut self, call: CallId) -> Option<Waiting> {
        self.calls.remove(&call)
    }

    // ---- talking to peers -----------------------------------------------------------------------------------

    /// The outbox of a client's stream; it is written at the end of the turn.
    pub fn client_outbox(&mut self, client: ClientId) -> Option<&Outbox> {
        let link = self.clients.get_mut(&client)?;
        if !std::mem::replace(&mut link.touched, true) {
            self.touched_clients.push(client);
        }
        Some(&link.outbox)
    }

    /// The outbox of a worker's stream; it is written at the end of the turn.
    pub fn worker_outbox(&mut self, worker: WorkerId) -> Option<&Outbox> {
        let link = self.workers.get_mut(&worker)?;
        if !std::mem::replace(&mut link.touched, true) {
            self.touched_workers.push(worker);
        }
        Some(&link.outbox)
    }

    /// Tells every watcher of workers.
    pub fn tell_watchers(&mut self, message: &Value) {
        for outbox in &self.watchers {
            outbox.push(|encoder| encoder.put_value(message));
        }
        self.touched_watchers |= !self.watchers.is_empty();
    }

    /// Publishes an event and pushes it to the clients that listen.
    pub fn log_event(&mut self, topics: &[Text], message: &Value) {
        let at_secs = self.clock.wall();
        for topic in topics {
            if self.hooks.wants("log_event") {
                self.hook("log_event", vec![Value::Str(topic.clone()), message.clone()], Value::Map(Vec::new()));
            }
            for name in self.topics.publish(topic, at_secs, message) {
                let Some(client) = self.sched.client_id(&name) else { continue };
                if let Some(outbox) = self.client_outbox(client) {
                    outbox.push(|encoder| crate::cluster::codec::put_event(encoder, topic, at_secs, message));
                }
            }
        }
    }

    /// A line for the log and for `get_logs`.
    pub fn warn(&mut self, text: impl Into<Text>) {
        let text = text.into();
        warn!("{text}");
        if self.logs.len() >= self.keep.log_lines {
            self.logs.pop_front();
        }
        if self.keep.log_lines > 0 {
            self.logs.push_back(LogLine { at_secs: self.clock.wall(), level: "WARNING".into(), text });
        }
        self.log_count = self.log_count.saturating_add(1);
    }

    /// Lines of the log from number `after` on.
    pub fn log_lines_since(&self, after: u64) -> Vec<(u64, f64, (Text, Text))> {
        let first = self.log_count.saturating_sub(self.logs.len() as u64);
        let numbered = self.logs.iter().zip(first..).filter(|(_, number)| *number >= after);
        numbered.map(|(line, number)| (number, line.at_secs, (line.level.clone(), line.text.clone()))).collect()
    }

    /// The request/reply side of a connection, if that is what it is.
    pub fn rpc_line(&mut self, conn: ConnId) -> Option<&mut RpcLine> {
        match &mut self.conns.get_mut(&conn)?.role {
            Role::Rpc(line) => Some(line),
            Role::Client(_) | Role::Worker(_) | Role::Nanny | Role::Quiet => None,
        }
    }

    /// Closes a connection without a word and forgets what it was for.
    pub fn drop_conn(&mut self, conn: ConnId, why: &str) {
        if let Some(found) = self.conns.get(&conn) {
            warn!(peer = %found.line.peer.address, why, "closing a connection that makes no sense");
            found.line.outbox.abort();
            found.line.gate.close();
        }
    }

    /// The client of that name, if it has a stream.
    pub fn client_link(&self, name: &str) -> Option<(ClientId, &ClientLink)> {
        let client = self.sched.client_id(name)?;
        Some((client, self.clients.get(&client)?))
    }

    /// Addresses of the workers that hold a key.
    pub fn holders(&self, key: &Key) -> Vec<Text> {
        let holders = self.sched.task(key).map(|task| task.holders.to_vec()).unwrap_or_default();
        holders.into_iter().filter_map(|id| self.sched.worker(id).map(|worker| worker.address.clone())).collect()
    }

    /// The scheduler should end.
    pub fn close_because(&mut self, reason: impl Into<Text>) {
        self.closing.get_or_insert(Closing(reason.into()));
    }

    /// Bounds on what peers may send.
    pub fn limits(&self) -> Arc<crate::base::Limits> {
        self.desk.limits().clone()
    }
}

fn is_registration(effect: &Effect) -> bool {
    matches!(effect, Effect::Answer { answer: Answer::Worker(_), .. })
}
