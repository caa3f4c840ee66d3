//! The scheduler of one cluster, as a value: event in, effects out.
//!
//! It opens nothing, reads no clock, rolls no dice and never waits. It may name nothing but `base`.
//!
//! | file | holds |
//! |---|---|
//! | `event`, `effect`, `config` | what can happen to it, what it can ask for, its settings |
//! | `task`, `worker`, `arena` | what it knows of tasks, workers and clients |
//! | `transition`, `settle` | moves between task states: the table, and the ways that end without a result |
//! | `graph`, `client`, `worker_events`, `timeout`, `unreachable` | what each event does |
//! | `place`, `queue`, `steal`, `replica`, `scale`, `shuffle`, `cost` | policies, and what work costs |
//! | `coord`, `coord_bridge` | locks, queues and the like, which know no tasks, and their bridge to the tasks |
//! | `view`, `inspect`, `story` | what may be read from outside |
//! | `check` | every rule that holds between steps |
//!
//! What it decides, and why, is in `tests/all/script`, one behaviour a file.
#![deny(clippy::wildcard_enum_match_arm)]

mod arena;
mod check;
mod client;
mod config;
pub mod coord;
mod coord_bridge;
mod cost;
mod effect;
mod event;
mod graph;
mod inspect;
mod place;
mod queue;
mod replica;
mod scale;
mod settle;
mod shuffle;
mod steal;
mod story;
mod task;
mod timeout;
mod transition;
mod unreachable;
mod view;
mod worker;
mod worker_events;

pub use config::{MemoryMeasure, SchedConfig};
pub use effect::{Answer, Compute, Effect, Located, Priority, ShuffleRun, ToClient, ToWorker};
pub use event::{
    Action, Actors, AmmAction, Erred, Event, Finished, GraphOpen, Heartbeat, PlacedData, ShuffleRequest, StartStop,
    WorkerHello, WorkerStatus,
};
pub use inspect::{GroupView, KeyState, NodeView, TaskDetail, TaskFilter};
pub use steal::StealTotal;
pub use story::StoryLine;
pub use timeout::heartbeat_interval_secs;
pub use view::{CloseWish, Counts, MemoryView, PrefixView, STATE_NAMES, TaskView, WorkerView};
pub use worker_events::event_kind;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arena::Arena;
use task::{Group, GroupAt, Prefix, PrefixAt, Rank, StateName, Task};
use worker::{Client, Worker};

use crate::base::{ClientId, Key, Now, RunId, SeededMap, TaskId, Text, TicketId, WorkerId};

/// The scheduler of one cluster.
pub struct Scheduler {
    config: SchedConfig,
    now: Now,
    /// Number of the step: names stimuli.
    step: u64,
    /// What kind of event this step handles, for stories.
    stimulus: &'static str,
    /// Effects of this step.
    out: Vec<Effect>,

    tasks: Arena<TaskId, Task>,
    by_key: SeededMap<Key, TaskId>,
    groups: Vec<Group>,
    group_by_name: SeededMap<Text, GroupAt>,
    free_groups: Vec<GroupAt>,
    prefixes: Vec<Prefix>,
    prefix_by_name: SeededMap<Text, PrefixAt>,
    /// Prefixes with processing tasks: what total occupancy sums over.
    active_prefixes: Vec<PrefixAt>,
    typenames: BTreeSet<Text>,

    workers: Arena<WorkerId, Worker>,
    by_address: BTreeMap<Text, WorkerId>,
    /// Names as canonical keys, so that `1` and `1.0` are one name.
    by_name: BTreeMap<Key, WorkerId>,
    running: BTreeSet<WorkerId>,
    /// Running workers that could take more, in an order that is arbitrary but reproducible.
    idle: Vec<WorkerId>,
    saturated: BTreeSet<WorkerId>,
    /// Running workers with free slots, least loaded first.
    open_slots: BTreeSet<(u64, WorkerId)>,
    /// Running workers, least loaded first; kept while there is a bound on what a worker may have.
    by_load: BTreeSet<(u64, WorkerId)>,
    /// The worker that is being given a supply of short tasks.
    supplied: Option<WorkerId>,
    total_nthreads: u64,
    network_bytes: i64,
    bandwidth: f64,

    clients: Arena<ClientId, Client>,
    client_by_name: SeededMap<Text, ClientId>,
    fire_and_forget: ClientId,

    /// Recommendations, last one first.
    recs: Vec<(TaskId, StateName)>,
    /// Tasks that came to `released` since the last recommendation ran.
    unsettled: Vec<TaskId>,
    /// Tasks held back, best first.
    queued: BTreeSet<(Rank, u64, TaskId)>,
    queue_seq: u64,
    unrunnable: BTreeSet<(Now, TaskId)>,
    no_workers_since: Option<Now>,
    replicated: BTreeSet<TaskId>,
    run_id: RunId,
    /// Tasks ever sent to a worker: turns the round robin.
    n_tasks: u64,
    generation: f64,
    /// When the last generation began.
    generation_at: Option<Now>,
    asked_again: unreachable::Asked,
    graphs: BTreeMap<TicketId, graph::OpenGraph>,

    stealing: steal::Stealing,
    amm: replica::Amm,
    shuffles: shuffle::Shuffles,
    coord: coord::Coord,
    story: VecDeque<story::Entry>,
    transitions: u64,
    idle_since: Option<Now>,
    idle_transitions: u64,
    idle_told: bool,
    /// When silent workers were last looked for.
    ttl_checked: Now,
    /// Tasks that have seceded and still run.
    long_running: usize,
    run_counted: bool,
}

impl Scheduler {
    /// An empty scheduler. Nothing in it is left to chance: ties go by id.
    pub fn new(config: SchedConfig) -> Self {
        let mut clients = Arena::new();
        let name: Text = "fire-and-forget".into();
        let fire_and_forget = clients.insert(Client { name: name.clone(), wants_what: Default::default() });
        let mut client_by_name = SeededMap::default();
        client_by_name.insert(name, fire_and_forget);
        Self {
            now: Now(0),
            step: 0,
            stimulus: "start",
            out: Vec::new(),
            tasks: Arena::new(),
            by_key: SeededMap::default(),
            groups: Vec::new(),
            group_by_name: SeededMap::default(),
            free_groups: Vec::new(),
            prefixes: Vec::new(),
            prefix_by_name: SeededMap::default(),
            active_prefixes: Vec::new(),
            typenames: BTreeSet::new(),
            workers: Arena::new(),
            by_address: BTreeMap::new(),
            by_name: BTreeMap::new(),
            running: BTreeSet::new(),
            idle: Vec::new(),
            saturated: BTreeSet::new(),
            open_slots: BTreeSet::new(),
            by_load: BTreeSet::new(),
            supplied: None,
            total_nthreads: 0,
            network_bytes: 0,
            bandwidth: config.bandwidth,
            clients,
            client_by_name,
            fire_and_forget,
            recs: Vec::new(),
            unsettled: Vec::new(),
            queued: BTreeSet::new(),
            queue_seq: 0,
            unrunnable: BTreeSet::new(),
            no_workers_since: None,
            replicated: BTreeSet::new(),
            run_id: 0,
            n_tasks: 0,
            generation: 0.0,
            generation_at: None,
            asked_again: unreachable::Asked::new(),
            graphs: BTreeMap::new(),
            stealing: steal::Stealing::default(),
            amm: replica::Amm::new(config.amm_start),
            shuffles: shuffle::Shuffles::default(),
            coord: coord::Coord::new(config.lease_validation_interval_secs),
            story: VecDeque::new(),
            transitions: 0,
            idle_since: Some(Now(0)),
            idle_transitions: 0,
            idle_told: false,
            ttl_checked: Now(0),
            long_running: 0,
            run_counted: false,
            config,
        }
    }

    /// Applies one event and runs to rest. Appends to `out`; the caller carries effects out in order.
    ///
    /// `now` may not go back; when it does, the time of the last step is used.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        self.step += 1;
        std::mem::swap(&mut self.out, out);
        self.on_event(event);
        self.run_transitions();
        // Whatever ended a run may have opened a slot.
        self.fill_open_slots();
        self.refresh_idle_since();
        std::mem::swap(&mut self.out, out);
        if self.config.validate
            && let Err(broken) = self.check()
        {
            panic!("the scheduler broke its own rules: {broken}");
        }
    }

    fn on_event(&mut self, event: Event) {
        self.stimulus = worker_events::event_kind(&event);
        match event {
            Event::ClientAdded { name } => self.on_client_added(name),
            Event::ClientRemoved { client } => self.on_client_removed(client),
            Event::ClientDesires { client, keys } => self.client_desires(client, &keys),
            Event::ClientReleases { client, keys } => self.on_client_releases(client, &keys),
            Event::CancelKeys { client, keys, force, reason, msg } => {
                self.on_cancel_keys(client, &keys, force, &reason, &msg);
            }
            Event::ReportKey { client, key } => self.on_report_key(client, key),
            Event::Retry { call, client: _, keys } => self.on_retry(call, &keys),
            Event::Restart => self.on_restart(),
            Event::GraphOpened { ticket, graph } => self.on_graph_opened(ticket, *graph),
            Event::GraphPart { ticket, part, last } => self.on_graph_part(ticket, part, last),
            Event::GraphFailed { ticket, failure } => self.on_graph_failed(ticket, failure),
            Event::AddWorker { call, worker } => self.on_add_worker(call, *worker),
            Event::RemoveWorker { worker, expected, close, reason } => {
                self.on_remove_worker(worker, expected, close, reason);
            }
            Event::WorkerStatus { worker, status } => self.on_worker_status(worker, status),
            Event::WorkerSilent { worker, silent } => self.on_worker_silent(worker, silent),
            Event::Heartbeat { worker, beat } => self.on_heartbeat(worker, *beat),
            Event::SetResources { worker, resources } => self.on_set_resources(worker, resources),
            Event::TaskFinished { worker, done } => self.on_task_finished(worker, done),
            Event::TaskErred { worker, erred } => self.on_task_erred(worker, *erred),
            Event::ReleaseWorkerData { worker, key } => self.on_release_worker_data(worker, &key),
            Event::AddKeys { worker, keys } | Event::AddReplicas { worker, keys } => self.on_add_keys(worker, keys),
            Event::LongRunning { worker, key, run_id, compute_secs } => {
                self.on_long_running(worker, &key, run_id, compute_secs);
            }
            Event::Reschedule { worker, key } => self.on_reschedule(worker, &key),
            Event::RefreshWhoHas { worker, keys } => self.on_refresh_who_has(worker, keys),
            Event::StealResponse { worker, key, state, stimulus } => {
                self.on_steal_response(worker, &key, state.as_deref(), &stimulus);
            }
            Event::UpdateData { client, data } => self.on_update_data(client, data),
            Event::DropReplicas { worker, keys } => {
                for key in &keys {
                    self.on_release_worker_data(worker, key);
                }
            }
            Event::SetRestrictions { restrictions } => self.on_set_restrictions(restrictions),
            Event::Retire { workers } => self.on_retire(workers),
            Event::RetireAborted { worker } => self.on_retire_aborted(worker),
            Event::Coord { call, client, request } => self.on_coord(call, client, request),
            Event::CallAbandoned { call } => self.on_call_abandoned(call),
            Event::Shuffle { call, request } => self.on_shuffle(call, request),
            Event::Amm { action } => self.on_amm(action),
            Event::Tick => self.on_tick(),
        }
    }

    fn send_worker(&mut self, worker: WorkerId, message: ToWorker) {
        self.out.push(Effect::ToWorker { worker, message });
    }

    /// Tells every client that wants this task.
    fn send_wanters(&mut self, task: TaskId, message: impl Fn(&Key) -> ToClient) {
        let task = &self.tasks[task];
        for &client in &task.who_wants {
            self.out.push(Effect::ToClient { client, message: message(&task.key) });
        }
    }

    fn warn(&mut self, text: impl Into<Text>) {
        self.out.push(Effect::Warn { text: text.into() });
    }

    fn log(&mut self, topics: Vec<Text>, message: crate::base::Value) {
        self.out.push(Effect::Log { topics, message });
    }
}
