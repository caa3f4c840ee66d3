//! The world around one scheduler: worker processes, clients, connections between them, and what goes wrong.
//!
//! A heap of `(Now, sequence, thing)`. Order is kept within a connection and nowhere else.

mod effects;
mod faults;
mod procs;
mod runs;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use rask::base::{CallId, GraphPart, Key, Now, Rng, Text, TicketId, Value, WorkerId};
use rask::sched::{Event, GraphOpen, SchedConfig, Scheduler, ToClient, ToWorker, WorkerStatus};
use rask::worker_state::{Outcome, WorkerEvent, WorkerMessage};

use super::TRACE_LENGTH;
use super::client::{Client, Send};
use super::graphs::{Places, Truths};
use super::worker::{Handed, News, Node};

pub const MS: u64 = 1_000;
pub const SEC: u64 = 1_000_000;

/// What happened in a run, to see that enough did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub digest: u64,
    pub steps: u64,
    pub computes: u64,
    pub steals: u64,
    pub deaths: u64,
    pub crashes: u64,
    pub retired: u64,
    pub restarts: u64,
    pub erred: u64,
    pub cancelled: u64,
    pub finished: u64,
    pub queued: u64,
    /// Runs that were handed to a slot behind another one.
    pub pushed_ahead: u64,
    pub recalls: u64,
    pub seconds: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.computes += other.computes;
        self.steals += other.steals;
        self.deaths += other.deaths;
        self.crashes += other.crashes;
        self.retired += other.retired;
        self.restarts += other.restarts;
        self.erred += other.erred;
        self.cancelled += other.cancelled;
        self.finished += other.finished;
        self.queued += other.queued;
        self.pushed_ahead += other.pushed_ahead;
        self.recalls += other.recalls;
        self.seconds += other.seconds;
    }
}

/// A place where a worker process may run, with a name and perhaps an address that never change.
pub struct Slot {
    pub name: Value,
    pub host: String,
    /// Comes back under its old address.
    pub sticky: bool,
    pub nthreads: u32,
    pub resources: Vec<(Text, f64)>,
    /// How many processes ran here.
    pub boots: usize,
    pub proc: Option<usize>,
    /// Starts again when its process is gone.
    pub enabled: bool,
}

/// A worker process and its stream.
pub struct Proc {
    pub slot: usize,
    pub alive: bool,
    pub node: Node,
    pub worker: Option<WorkerId>,
    pub status: WorkerStatus,
    /// News sent before this arrives only if it arrives before this.
    pub cut_at: Option<Now>,
    pub up_last: Now,
    pub down_last: Now,
    pub mute_until: Now,
}

/// What may happen next.
pub enum Thing {
    Boot(usize),
    Register(usize),
    Serving(usize),
    Up(usize, WorkerMessage),
    StatusUp(usize, WorkerStatus),
    EofUp(usize),
    Unregister(WorkerId),
    Down(usize, ToWorker),
    EofDown(usize),
    /// The process, a slot of its executor, and what reaches that.
    Handed(usize, u32, Handed),
    Recall(usize, u32),
    /// What the process's executor says of a slot.
    News(usize, u32, News),
    /// The run with this number ends; it began in this slot.
    RunEnds(usize, u32, u64, Outcome),
    /// The run with this number secedes, this many microseconds after it began.
    Secede(usize, u64, u64),
    /// The run with this number wants a thread again, this slot's.
    Rejoin(usize, u32, u64),
    Ask {
        asker: usize,
        from: Text,
        keys: Vec<Key>,
    },
    Transferred(usize, WorkerEvent),
    NodeTick(usize),
    Beat(usize),
    Resume(usize),
    Heard(WorkerId),
    Join(usize),
    Act(usize),
    Stream(usize, Send),
    Pump(usize),
    Tell(usize, ToClient),
    Part(TicketId),
    Rpc(usize, Event),
    Driver(Event),
    Fault,
}

/// A graph between `ReadGraph` and its last part.
pub struct Reading {
    pub client: usize,
    pub parts: VecDeque<GraphPart>,
    pub unreadable: bool,
}

/// What a call is about, for its answer.
pub enum Call {
    Worker(usize),
    Retry,
    VariableGet(usize),
    QueueGet(usize),
    Other,
}

pub struct World<'t> {
    pub rng: Rng,
    pub sched: Scheduler,
    pub now: Now,
    sequence: u64,
    heap: BTreeMap<(Now, u64), Thing>,
    pub config: SchedConfig,
    pub slots: Vec<Slot>,
    pub procs: Vec<Proc>,
    pub listening: BTreeMap<Text, usize>,
    /// Workers as the effects so far say.
    pub registered: BTreeMap<WorkerId, usize>,
    pub clients: Vec<Client>,
    pub truths: Truths,
    pub places: Places,
    pub graphs: Vec<super::graphs::Graph>,
    pub readings: BTreeMap<TicketId, Reading>,
    pub calls: BTreeMap<CallId, (Option<usize>, Call)>,
    pub next_call: u64,
    /// How slow the network is now: messages take up to this long. Unit: microseconds.
    pub lag_us: u64,
    pub faults: bool,
    pub faults_until: Now,
    pub excused: BTreeSet<Key>,
    /// Workers hand short tasks to slots that are not free, as ours do and stock ones do not.
    pub push_ahead: bool,
    pub report: Report,
    digesting: bool,
    /// Invariants are checked after every so many steps. Checking takes longer than the steps; a broken rule mostly
    /// stays broken, and the run that explains a failure checks after each step.
    check_every: u64,
    node_steps: u64,
    idle_ticks: u32,
    trace: Option<&'t mut VecDeque<String>>,
}

struct Digest(u64);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl<'t> World<'t> {
    pub fn new(seed: u64, trace: Option<&'t mut VecDeque<String>>) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        let config = any_config(&mut rng);
        let slots: Vec<Slot> = (0..1 + rng.below(6)).map(|at| any_slot(at, &mut rng)).collect();
        let addresses: Vec<Text> =
            slots.iter().filter(|slot| slot.sticky).map(|slot| format!("tcp://{}:4000", slot.host).into()).collect();
        let faults_until = Now((2 + rng.below(40) as u64) * SEC);
        let sched = Scheduler::new(config.clone());
        let mut world = Self {
            sched,
            now: Now(0),
            sequence: 0,
            heap: BTreeMap::new(),
            config,
            procs: Vec::new(),
            listening: BTreeMap::new(),
            registered: BTreeMap::new(),
            clients: Vec::new(),
            truths: Truths::new(),
            places: Places { addresses },
            graphs: Vec::new(),
            readings: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            lag_us: 2 * MS,
            faults: true,
            faults_until,
            excused: BTreeSet::new(),
            push_ahead: rng.below(3) > 0,
            report: Report { digest: 0xcbf2_9ce4_8422_2325, ..Report::default() },
            digesting: seed.is_multiple_of(8),
            check_every: if trace.is_some() || seed.is_multiple_of(16) { 1 } else { 16 },
            node_steps: 0,
            idle_ticks: 0,
            trace,
            slots,
            rng,
        };
        for slot in 0..world.slots.len() {
            let at = world.rng.below(2_000_000) as u64;
            world.push(at, Thing::Boot(slot));
        }
        for _ in 0..1 + world.rng.below(3) {
            world.add_client();
        }
        let rate = [0, 2, 6, 15][world.rng.below(4)];
        for _ in 0..rate {
            let at = world.rng.below(faults_until.0 as usize) as u64;
            world.push(at, Thing::Fault);
        }
        world
    }

    /// Faults and work, then only work until everything wanted is settled, then the end of all clients.
    pub fn run(mut self) -> Result<Report, String> {
        self.run_until(self.faults_until)?;
        self.heal()?;
        let patience = self.now.plus_us(1_500 * SEC);
        loop {
            while !self.settled() {
                if self.now > patience {
                    return Err(self.stuck());
                }
                self.run_until(self.now.plus_us(SEC))?;
            }
            // A worker may still go, and take results along.
            self.run_until(self.now.plus_us(15 * SEC))?;
            if self.settled() {
                break;
            }
        }
        self.check_rest()?;
        self.everyone_leaves()?;
        self.run_until(self.now.plus_us(20 * SEC))?;
        self.check_empty()?;
        self.report.seconds = self.now.0 / SEC;
        Ok(self.report)
    }

    pub fn push(&mut self, delay_us: u64, thing: Thing) {
        self.push_at(self.now.plus_us(delay_us), thing);
    }

    pub fn push_at(&mut self, at: Now, thing: Thing) {
        self.sequence += 1;
        self.heap.insert((at, self.sequence), thing);
    }

    /// How long a message takes.
    pub fn lag(&mut self) -> u64 {
        50 + self.rng.below(self.lag_us as usize) as u64
    }

    /// Sends to the scheduler on a worker's stream.
    pub fn push_up(&mut self, proc: usize, thing: Thing) {
        let at = self.procs[proc].up_last.max(self.now.plus_us(self.rng_lag()));
        self.procs[proc].up_last = at;
        self.push_at(at, thing);
    }

    /// Sends to a worker on its stream.
    pub fn push_down(&mut self, proc: usize, thing: Thing) {
        let at = self.procs[proc].down_last.max(self.now.plus_us(self.rng_lag()));
        self.procs[proc].down_last = at;
        self.push_at(at, thing);
    }

    fn rng_lag(&mut self) -> u64 {
        self.lag()
    }

    /// Sends to the scheduler on a client's stream.
    pub fn push_stream(&mut self, client: usize, send: Send) {
        let at = self.clients[client].up_last.max(self.now.plus_us(self.rng_lag()));
        self.clients[client].up_last = at;
        self.push_at(at, Thing::Stream(client, send));
    }

    pub fn run_until(&mut self, until: Now) -> Result<(), String> {
        loop {
            let next = self.heap.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.sched.next_deadline();
            if let Some(deadline) = deadline
                && deadline <= until.max(self.now)
                && next.is_none_or(|next| deadline <= next)
            {
                self.idle_ticks = if deadline <= self.now { self.idle_ticks + 1 } else { 0 };
                if self.idle_ticks > 1000 {
                    return Err(format!("ticks at {:?} without end: the deadline stays {deadline:?}", self.now));
                }
                self.now = self.now.max(deadline);
                self.step(Event::Tick)?;
                continue;
            }
            if next.is_none_or(|next| next > until) {
                self.now = self.now.max(until);
                return Ok(());
            }
            if let Some(((at, _), thing)) = self.heap.pop_first() {
                if at > self.now {
                    self.idle_ticks = 0;
                }
                self.now = self.now.max(at);
                self.happen(thing)?;
            }
        }
    }

    /// One step of the scheduler, its check, and what it asks for.
    pub fn step(&mut self, event: Event) -> Result<(), String> {
        self.report.steps += 1;
        let quiet = matches!(event, Event::Heartbeat { .. } | Event::Tick);
        let told = (self.trace.is_some()).then(|| format!("{:>12.6} {event:?}", self.now.0 as f64 / 1e6));
        let mut out = Vec::new();
        self.sched.step(self.now, event, &mut out);
        if self.digesting {
            let mut digest = Digest(self.report.digest);
            for effect in &out {
                let _ = write!(digest, "{effect:?}");
            }
            self.report.digest = digest.0;
        }
        if let Some(told) = told.filter(|_| !quiet || !out.is_empty()) {
            self.note(told);
            for effect in &out {
                let text = format!("                 -> {effect:?}");
                self.note(text);
            }
        }
        if self.report.steps.is_multiple_of(self.check_every)
            && let Err(broken) = self.sched.check()
        {
            self.note_story();
            return Err(format!("check: {broken}"));
        }
        for effect in out {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    /// The moves between states that led to a broken rule.
    fn note_story(&mut self) {
        let story = self.sched.story(&[]);
        let step = story.last().map(|line| line.stimulus.1);
        for line in story.iter().filter(|line| Some(line.stimulus.1) == step) {
            self.note(format!("                 == {} {} -> {}", line.key, line.start, line.finish));
        }
    }

    pub fn note(&mut self, mut text: String) {
        if let Some(trace) = &mut self.trace {
            if std::env::var("RASK_SIM_GREP").is_ok_and(|wanted| !text.contains(&wanted)) {
                return;
            }
            if trace.len() >= TRACE_LENGTH {
                trace.pop_front();
            }
            if text.len() > 2000 {
                let cut = (0..2000).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text.truncate(cut);
            }
            trace.push_back(text);
        }
    }

    pub fn call(&mut self, client: Option<usize>, about: Call) -> CallId {
        self.next_call += 1;
        self.calls.insert(self.next_call, (client, about));
        self.next_call
    }

    pub fn add_client(&mut self) {
        let acts = 2 + self.rng.below(10);
        self.clients.push(Client::new(format!("Client-{}", self.clients.len()).into(), acts));
        let at = self.rng.below(1_000_000) as u64;
        self.push(at, Thing::Join(self.clients.len() - 1));
    }

    fn happen(&mut self, thing: Thing) -> Result<(), String> {
        match thing {
            Thing::Boot(slot) => self.boot(slot),
            Thing::Register(proc) => self.register(proc)?,
            Thing::Serving(proc) => self.start_serving(proc)?,
            Thing::Up(proc, up) => self.hear_worker(proc, up)?,
            Thing::StatusUp(proc, status) => {
                if let Some(worker) = self.procs[proc].worker.filter(|_| !self.is_cut(proc)) {
                    self.step(Event::WorkerStatus { worker, status })?;
                }
            }
            Thing::EofUp(proc) => {
                if let Some(worker) = self.procs[proc].worker {
                    let reason = "stream ended".into();
                    self.step(Event::RemoveWorker { worker, expected: false, close: false, reason })?;
                }
            }
            Thing::Unregister(worker) => {
                let reason = "unregister".into();
                self.step(Event::RemoveWorker { worker, expected: false, close: false, reason })?;
            }
            Thing::Down(proc, message) => self.tell_worker(proc, message)?,
            Thing::EofDown(proc) => self.kill(proc, false),
            Thing::Handed(proc, slot, handed) => self.hand_over(proc, slot, handed)?,
            Thing::Recall(proc, slot) => self.recall(proc, slot),
            Thing::News(proc, slot, news) => self.hear_executor(proc, slot, news)?,
            Thing::RunEnds(proc, slot, stamp, outcome) => self.end_run(proc, slot, stamp, outcome)?,
            Thing::Secede(proc, stamp, after_us) => self.secede(proc, stamp, after_us)?,
            Thing::Rejoin(proc, slot, stamp) => self.rejoin(proc, slot, stamp)?,
            Thing::Ask { asker, from, keys } => self.serve_data(asker, from, &keys),
            Thing::Transferred(proc, got) => self.tell_machine(proc, got)?,
            Thing::NodeTick(proc) => self.tick_node(proc)?,
            Thing::Beat(proc) => self.beat(proc)?,
            Thing::Resume(proc) => self.set_status(proc, WorkerStatus::Running)?,
            Thing::Heard(worker) => self.step(Event::WorkerSilent { worker, silent: false })?,
            Thing::Join(client) => {
                let name = self.clients[client].name.clone();
                self.step(Event::ClientAdded { name: name.clone() })?;
                self.clients[client].id = self.sched.client_id(&name);
                self.push(0, Thing::Act(client));
            }
            Thing::Act(client) => self.act(client)?,
            Thing::Stream(client, send) => {
                self.clients[client].held_back.push_back(send);
                self.pump(client)?;
            }
            Thing::Pump(client) => self.pump(client)?,
            Thing::Tell(client, message) => self.tell_client(client, &message)?,
            Thing::Part(ticket) => self.read_part(ticket)?,
            Thing::Rpc(client, event) => {
                if self.clients[client].alive {
                    self.step(event)?;
                } else if let Event::Coord { call, .. } | Event::Retry { call, .. } = event {
                    self.calls.remove(&call);
                }
            }
            Thing::Driver(event) => self.step(event)?,
            Thing::Fault => {
                if self.faults {
                    self.go_wrong()?;
                }
            }
        }
        Ok(())
    }
}

fn any_config(rng: &mut Rng) -> SchedConfig {
    SchedConfig {
        allowed_failures: rng.below(4) as u32,
        idle_timeout_secs: [None, Some(1.0), Some(60.0)][rng.below(3)],
        no_workers_timeout_secs: [None, None, None, Some(5.0)][rng.below(4)],
        work_stealing: rng.below(3) > 0,
        work_stealing_interval_secs: [0.1, 1.0][rng.below(2)],
        worker_saturation: [1.1, 1.1, f64::INFINITY, 0.5, 2.0][rng.below(5)],
        worker_ttl_secs: [None, Some(5.0), Some(300.0)][rng.below(3)],
        unknown_task_duration_secs: [0.5, 0.01][rng.below(2)],
        validate: false,
        amm_start: rng.below(4) > 0,
        amm_interval_secs: [0.2, 2.0][rng.below(2)],
        amm_reduce_replicas: rng.below(4) > 0,
        story_length: 1_000,
        ..SchedConfig::default()
    }
}

fn any_slot(at: usize, rng: &mut Rng) -> Slot {
    // The first always comes back, and has everything, so that nothing waits for ever once faults end.
    let resources = if at == 0 || rng.below(3) == 0 { vec![("GPU".into(), 2.0)] } else { Vec::new() };
    Slot {
        name: if rng.below(2) == 0 { Value::Int(at as i64) } else { Value::from(format!("w{at}")) },
        host: format!("10.0.0.{}", at + 1),
        sticky: at == 0 || rng.below(3) == 0,
        nthreads: 1 + rng.below(4) as u32,
        resources,
        boots: 0,
        proc: None,
        enabled: true,
    }
}

/// The request that opens a graph.
pub fn opening(
    client: rask::base::ClientId,
    graph: &super::graphs::Graph,
    submitting_task: Option<Key>,
) -> Box<GraphOpen> {
    Box::new(GraphOpen {
        client,
        keys: graph.wanted.clone(),
        submitting_task,
        fifo_timeout_secs: 0.1,
        actors: graph.actors.clone(),
    })
}
