//! All that a scheduler knows, and how it says what it wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::arena::Arena;
use super::config::SchedConfig;
use super::coord::Coord;
use super::effect::{Effect, ToClient, ToWorker};
use super::event::WorkerEngine;
use super::records::{Amm, AskedAgain, OpenGraph, Shuffles, Stealing, StoryEntry};
use super::task::{GroupAt, PrefixAt, Rank, StateName, Task, TaskGroup, TaskPrefix};
use super::worker::{ClientState, RegisteredWorker};
use crate::base::{ClientId, Key, Now, RunId, SeededMap, TaskId, Text, TicketId, Value, WorkerId};

/// The scheduler of one cluster.
pub struct Scheduler {
    pub(super) config: SchedConfig,
    pub(super) now: Now,
    /// Number of the step: names stimuli.
    pub(super) step: u64,
    /// What kind of event this step handles, for stories.
    pub(super) stimulus: &'static str,
    /// Effects of this step.
    pub(super) out: Vec<Effect>,

    pub(super) tasks: Arena<TaskId, Task>,
    pub(super) by_key: SeededMap<Key, TaskId>,
    pub(super) groups: Vec<TaskGroup>,
    pub(super) group_by_name: SeededMap<Text, GroupAt>,
    pub(super) free_groups: Vec<GroupAt>,
    pub(super) prefixes: Vec<TaskPrefix>,
    pub(super) prefix_by_name: SeededMap<Text, PrefixAt>,
    /// Prefixes with processing tasks: what total occupancy sums over.
    pub(super) active_prefixes: Vec<PrefixAt>,
    pub(super) typenames: BTreeSet<Text>,

    pub(super) workers: Arena<WorkerId, RegisteredWorker>,
    pub(super) by_address: BTreeMap<Text, WorkerId>,
    /// Names as canonical keys, so that `1` and `1.0` are one name.
    pub(super) by_name: BTreeMap<Key, WorkerId>,
    pub(super) running: BTreeSet<WorkerId>,
    /// Running workers that could take more, in an order that is arbitrary but reproducible.
    pub(super) idle: Vec<WorkerId>,
    pub(super) saturated: BTreeSet<WorkerId>,
    /// Running workers with free slots, least loaded first.
    pub(super) open_slots: BTreeSet<(u64, WorkerId)>,
    /// Running workers of each engine, least loaded first; kept while there is a bound on what a worker may have.
    pub(super) by_load: [BTreeSet<(u64, WorkerId)>; WorkerEngine::ALL.len()],
    /// The worker that is being given a supply of short tasks.
    pub(super) supplied: Option<WorkerId>,
    pub(super) total_nthreads: u64,
    pub(super) network_bytes: i64,
    pub(super) bandwidth: f64,

    pub(super) clients: Arena<ClientId, ClientState>,
    pub(super) client_by_name: SeededMap<Text, ClientId>,
    pub(super) fire_and_forget: ClientId,

    /// Recommendations, last one first.
    pub(super) recs: Vec<(TaskId, StateName)>,
    /// Tasks that came to `released` since the last recommendation ran.
    pub(super) unsettled: Vec<TaskId>,
    /// Tasks held back, best first.
    pub(super) queued: BTreeSet<(Rank, u64, TaskId)>,
    pub(super) queue_seq: u64,
    pub(super) unrunnable: BTreeSet<(Now, TaskId)>,
    pub(super) no_workers_since: Option<Now>,
    pub(super) replicated: BTreeSet<TaskId>,
    pub(super) run_id: RunId,
    /// Tasks ever sent to a worker: turns the round robin.
    pub(super) n_tasks: u64,
    pub(super) generation: f64,
    /// When the last generation began.
    pub(super) generation_at: Option<Now>,
    pub(super) asked_again: AskedAgain,
    pub(super) graphs: BTreeMap<TicketId, OpenGraph>,

    pub(super) stealing: Stealing,
    pub(super) amm: Amm,
    pub(super) shuffles: Shuffles,
    pub(super) coord: Coord,
    pub(super) story: VecDeque<StoryEntry>,
    pub(super) transitions: u64,
    pub(super) idle_since: Option<Now>,
    pub(super) idle_transitions: u64,
    pub(super) idle_told: bool,
    /// When silent workers were last looked for.
    pub(super) ttl_checked: Now,
    /// Tasks that have seceded and still run.
    pub(super) long_running: usize,
    pub(super) run_counted: bool,
}

impl Scheduler {
    /// An empty scheduler. Nothing in it is left to chance: ties go by id.
    pub fn new(config: SchedConfig) -> Self {
        let mut clients = Arena::new();
        let name: Text = "fire-and-forget".into();
        let fire_and_forget = clients.insert(ClientState { name: name.clone(), wants_what: Default::default() });
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
            by_load: Default::default(),
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
            asked_again: AskedAgain::new(),
            graphs: BTreeMap::new(),
            stealing: Stealing::default(),
            amm: Amm::new(config.amm_start),
            shuffles: Shuffles::default(),
            coord: Coord::new(config.lease_validation_interval_secs),
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

    pub(super) fn send_worker(&mut self, worker: WorkerId, message: ToWorker) {
        self.out.push(Effect::ToWorker { worker, message });
    }

    /// Tells every client that wants this task.
    pub(super) fn send_wanters(&mut self, task: TaskId, message: impl Fn(&Key) -> ToClient) {
        let task = &self.tasks[task];
        for &client in &task.who_wants {
            self.out.push(Effect::ToClient { client, message: message(&task.key) });
        }
    }

    pub(super) fn warn(&mut self, text: impl Into<Text>) {
        self.out.push(Effect::Warn { text: text.into() });
    }

    pub(super) fn log(&mut self, topics: Vec<Text>, message: Value) {
        self.out.push(Effect::Log { topics, message });
    }
}
