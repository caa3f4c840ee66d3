//! What may be read of a scheduler from outside. Reads never change anything.

use std::sync::Arc;

use super::Scheduler;
use super::config::MemoryMeasure;
use super::coord::{CoordView, SemaphoreView};
use super::effect::Priority;
use super::event::{WorkerEngine, WorkerStatus};
use super::records::{StoryEntry, StoryLine};
use super::task::StateName;
use crate::base::{ClientId, Failure, Key, Opaque, RunId, SeededSet, TaskId, Text, Value, WorkerId};

/// A worker as seen from outside.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    pub id: WorkerId,
    pub address: &'a Text,
    /// Text or number.
    pub name: &'a Value,
    /// Host part of the address.
    pub host: &'a Text,
    /// Its nanny's address.
    pub nanny: Option<&'a Text>,
    /// Its process.
    pub server_id: &'a Text,
    /// Task slots.
    pub nthreads: u32,
    /// Unit: bytes; 0: no limit.
    pub memory_limit: u64,
    /// Where it is in its life.
    pub status: WorkerStatus,
    /// Total supply of resources.
    pub resources: &'a [(Text, f64)],
    /// What runs its tasks.
    pub engine: WorkerEngine,
    /// Size of the keys it holds. Unit: bytes.
    pub nbytes: i64,
    /// Number of keys it holds.
    pub nkeys: usize,
    /// Tasks sent to it and not finished.
    pub processing: usize,
    /// Of these, seceded.
    pub long_running: usize,
    /// Expected time to finish them. Unit: thread seconds.
    pub occupancy: f64,
    /// Memory parts. Unit: bytes.
    pub memory: MemoryView,
}

/// Source: `distributed/scheduler.py`, `MemoryState`. Unit: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryView {
    pub process: u64,
    /// Managed data in memory.
    pub managed: u64,
    /// Managed data on disk.
    pub spilled: u64,
    /// Unmanaged memory that has been there for a while.
    pub unmanaged_old: u64,
}

impl MemoryView {
    /// Unmanaged memory that came lately.
    pub const fn unmanaged_recent(&self) -> u64 {
        self.process.saturating_sub(self.managed).saturating_sub(self.unmanaged_old)
    }
    /// By one of the measures that settings name.
    pub const fn by(&self, measure: MemoryMeasure) -> u64 {
        match measure {
            MemoryMeasure::Process => self.process,
            MemoryMeasure::Optimistic => self.optimistic(),
            MemoryMeasure::Managed => self.managed,
            MemoryMeasure::ManagedTotal => self.managed.saturating_add(self.spilled),
        }
    }
    /// What will stay when recent unmanaged memory is gone.
    pub const fn optimistic(&self) -> u64 {
        self.managed.saturating_add(self.unmanaged_old)
    }
}

/// A task as seen from outside.
#[derive(Clone, Debug)]
pub struct TaskView<'a> {
    pub key: &'a Key,
    /// Dask's name of its state.
    pub state: &'static str,
    /// Size of its result; -1 when unknown. Unit: bytes.
    pub nbytes: i64,
    /// Name of the result's class.
    pub typename: Option<&'a Text>,
    /// Workers with a copy.
    pub holders: &'a [WorkerId],
    /// Worker that has been told to run it.
    pub processing_on: Option<WorkerId>,
    /// Its last run; 0: none yet.
    pub run_id: RunId,
    /// None before its graph gave it one.
    pub priority: Option<Priority>,
    /// Run spec frames.
    pub run_spec: Option<&'a Arc<Opaque>>,
    /// How it failed, when erred (the blamed task's failure).
    pub failure: Option<&'a Failure>,
    /// The task whose failure it is.
    pub blame: Option<&'a Key>,
    pub group: &'a Text,
    pub prefix: &'a Text,
    pub actor: bool,
    /// What the task noted about itself; nil when nothing.
    pub metadata: &'a Value,
}

/// Numbers for `counts.json` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub tasks: usize,
    /// By state: released, waiting, queued, no-worker, processing, memory, erred.
    pub by_state: [usize; 7],
    /// Bytes held by workers.
    pub bytes: i64,
    /// Clients, pseudo clients included.
    pub clients: usize,
    pub workers: usize,
    /// Threads of all workers.
    pub threads: u64,
    /// Workers that could take more.
    pub idle: usize,
    /// Workers with a backlog.
    pub saturated: usize,
    /// Transitions since start.
    pub transitions: u64,
}

/// Names of the states counted in [`Counts::by_state`], in its order.
pub const STATE_NAMES: [&str; 7] = ["released", "waiting", "queued", "no-worker", "processing", "memory", "erred"];

/// Totals of one prefix, for durations, metrics and pages.
#[derive(Clone, Debug)]
pub struct PrefixView<'a> {
    pub name: &'a Text,
    /// Tasks by state, in the order of [`STATE_NAMES`].
    pub states: [usize; 7],
    /// Average compute time; none when unknown. Unit: seconds.
    pub duration_secs: Option<f64>,
    /// Bytes of all results that were made and are not forgotten, held or not.
    pub nbytes_total: i64,
    /// Bytes of its results in memory.
    pub nbytes_memory: i64,
    /// Seconds spent, by action: compute, transfer, disk-read, disk-write, deserialize, other.
    pub spent_secs: [f64; 6],
    /// Deaths of workers it was involved in.
    pub suspicious: u64,
    /// Tasks that came into each state since start, same order as `states`.
    pub state_totals: [u64; 7],
}

impl Scheduler {
    /// The client of that name.
    pub fn client_id(&self, name: &str) -> Option<ClientId> {
        self.client_by_name.get(name).copied()
    }

    pub fn client_name(&self, client: ClientId) -> Option<&Text> {
        self.clients.get(client).map(|client| &client.name)
    }

    /// Every client, pseudo clients with a name included.
    pub fn clients(&self) -> Vec<(ClientId, Text)> {
        self.clients
            .iter()
            .filter(|(id, client)| self.client_by_name.get(&client.name) == Some(id))
            .map(|(id, client)| (id, client.name.clone()))
            .collect()
    }

    /// Names of the clients that want this key.
    pub fn who_wants(&self, key: &Key) -> Vec<Text> {
        let Some(task) = self.find(key) else { return Vec::new() };
        self.tasks[task].who_wants.iter().map(|&id| self.clients[id].name.clone()).collect()
    }

    pub fn worker_by_address(&self, address: &str) -> Option<WorkerId> {
        self.by_address.get(address).copied()
    }

    /// The worker meant by an address, a name, or `host:port` without scheme.
    pub fn worker_by_alias(&self, alias: &Value) -> Option<WorkerId> {
        if let Some(&id) = alias.as_key().and_then(|name| self.by_name.get(&name)) {
            return Some(id);
        }
        let address = alias.as_str()?;
        self.worker_by_address(address).or_else(|| {
            let ends = format!("://{address}");
            self.by_address.iter().find(|(known, _)| known.ends_with(&ends)).map(|(_, &id)| id)
        })
    }

    /// Workers meant by addresses, names or hosts; a host means all its workers.
    ///
    /// Source: `distributed/scheduler.py`, `workers_list`.
    pub fn workers_by_alias(&self, aliases: &[Value]) -> Vec<WorkerId> {
        let mut ids = Vec::new();
        for alias in aliases {
            if let Some(id) = self.worker_by_alias(alias) {
                ids.push(id);
            } else if let Some(host) = alias.as_str() {
                ids.extend(self.by_address.values().filter(|&&id| *self.workers[id].hello.host == *host));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|&id| seen.insert(id));
        ids
    }

    pub fn worker(&self, id: WorkerId) -> Option<WorkerView<'_>> {
        let worker = self.workers.get(id)?;
        Some(WorkerView {
            id,
            address: &worker.hello.address,
            name: &worker.hello.name,
            host: &worker.hello.host,
            nanny: worker.hello.nanny.as_ref(),
            server_id: &worker.hello.server_id,
            nthreads: worker.hello.nthreads,
            memory_limit: worker.hello.memory_limit,
            status: worker.status,
            resources: &worker.hello.resources,
            engine: worker.hello.engine,
            nbytes: worker.nbytes,
            nkeys: worker.has_what.len(),
            processing: worker.processing.len(),
            long_running: worker.long_running.len(),
            occupancy: self.occupancy(worker),
            memory: MemoryView {
                process: worker.memory.process,
                managed: worker.managed(),
                spilled: worker.memory.spilled_disk,
                unmanaged_old: worker.memory.unmanaged_old,
            },
        })
    }

    /// All workers, by address.
    pub fn workers(&self) -> Vec<WorkerView<'_>> {
        self.by_address.values().filter_map(|&id| self.worker(id)).collect()
    }

    /// Keys a worker holds.
    pub fn has_what(&self, id: WorkerId) -> Vec<Key> {
        self.keys_of(self.workers.get(id).map(|worker| &worker.has_what))
    }

    /// Keys a worker was told to compute.
    pub fn processing(&self, id: WorkerId) -> Vec<Key> {
        self.keys_of(self.workers.get(id).map(|worker| &worker.processing))
    }

    fn keys_of(&self, tasks: Option<&SeededSet<TaskId>>) -> Vec<Key> {
        let mut ids: Vec<TaskId> = tasks.into_iter().flatten().copied().collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| self.tasks[id].key.clone()).collect()
    }

    pub fn task(&self, key: &Key) -> Option<TaskView<'_>> {
        self.find(key).map(|task| self.task_view(task))
    }

    fn task_view(&self, id: TaskId) -> TaskView<'_> {
        let task = &self.tasks[id];
        let group = &self.groups[task.group as usize];
        let blame = task.blame().and_then(|blame| self.tasks.get(blame));
        TaskView {
            key: &task.key,
            state: task.state.name().as_str(),
            nbytes: task.nbytes,
            typename: task.typename.as_ref(),
            holders: task.who_has(),
            processing_on: task.processing_on(),
            run_id: task.run_id,
            priority: task.priority,
            run_spec: task.run_spec.as_ref(),
            failure: self.failure_of(id).map(|failure| &**failure),
            blame: blame.map(|blame| &blame.key),
            group: &group.name,
            prefix: &self.prefixes[group.prefix as usize].name,
            actor: task.actor,
            metadata: task.rare.as_ref().map_or(&Value::Nil, |rare| &rare.metadata),
        }
    }

    /// All tasks, in no particular order.
    pub fn tasks(&self) -> Vec<TaskView<'_>> {
        self.tasks.iter().map(|(id, _)| self.task_view(id)).collect()
    }

    /// Keys a task needs and keys that need it.
    pub fn edges(&self, key: &Key) -> (Vec<Key>, Vec<Key>) {
        let Some(task) = self.find(key).map(|id| &self.tasks[id]) else { return Default::default() };
        let key_of = |id: TaskId| self.tasks[id].key.clone();
        (task.dependencies.iter().map(|&id| key_of(id)).collect(), task.dependents.iter().map(key_of).collect())
    }

    /// Of these keys and what they wait for, those that are processing now (`get_call_stack`).
    pub fn processing_below(&self, keys: &[Key]) -> Vec<Key> {
        let mut stack: Vec<TaskId> = keys.iter().filter_map(|key| self.find(key)).collect();
        let mut seen = SeededSet::default();
        let mut processing = Vec::new();
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            let task = &self.tasks[id];
            match task.state.name() {
                StateName::Waiting => stack.extend(task.dependencies.iter()),
                StateName::Processing => processing.push(task.key.clone()),
                StateName::Released
                | StateName::Queued
                | StateName::NoWorker
                | StateName::Memory
                | StateName::Erred
                | StateName::Forgotten => {}
            }
        }
        processing
    }

    /// Totals.
    pub fn counts(&self) -> Counts {
        let mut by_state = [0; STATE_NAMES.len()];
        for prefix in &self.prefixes {
            for (total, count) in by_state.iter_mut().zip(prefix.states) {
                *total += count;
            }
        }
        Counts {
            tasks: self.tasks.len(),
            by_state,
            bytes: self.by_address.values().map(|&id| self.workers[id].nbytes).sum(),
            clients: self.client_by_name.len(),
            workers: self.by_address.len(),
            threads: self.total_nthreads,
            idle: self.idle.len(),
            saturated: self.saturated.len(),
            transitions: self.transitions,
        }
    }

    /// Totals by prefix.
    pub fn prefixes(&self) -> Vec<PrefixView<'_>> {
        let head = |states: &[u64]| std::array::from_fn(|at| states[at]);
        self.prefixes
            .iter()
            .map(|prefix| PrefixView {
                name: &prefix.name,
                states: std::array::from_fn(|at| prefix.states[at]),
                duration_secs: (prefix.duration >= 0.0).then_some(prefix.duration),
                nbytes_total: prefix.nbytes_total,
                nbytes_memory: prefix.nbytes_memory,
                spent_secs: prefix.spent,
                suspicious: prefix.suspicious,
                state_totals: head(&prefix.state_totals),
            })
            .collect()
    }

    /// How many tasks were forgotten since start.
    pub fn forgotten_total(&self) -> u64 {
        self.prefixes.iter().map(|prefix| prefix.state_totals[StateName::Forgotten as usize]).sum()
    }

    /// Number of groups that have tasks.
    pub fn group_count(&self) -> usize {
        self.group_by_name.len()
    }

    /// Transitions of the tasks named here, oldest first; all when empty.
    pub fn story(&self, keys: &[Key]) -> Vec<StoryLine> {
        let told = |entry: &&StoryEntry| keys.is_empty() || keys.contains(&entry.key);
        self.story.iter().filter(told).map(StoryEntry::line).collect()
    }

    /// The last `count` transitions, oldest first.
    pub fn story_latest(&self, count: usize) -> impl Iterator<Item = StoryLine> + use<'_> {
        self.story.iter().skip(self.story.len().saturating_sub(count)).map(StoryEntry::line)
    }

    /// Transitions of the steps after this one, oldest first.
    pub fn story_since(&self, step: u64) -> impl Iterator<Item = StoryLine> + use<'_> {
        let start = self.story.partition_point(|entry| entry.step <= step);
        self.story.range(start..).map(StoryEntry::line)
    }

    /// Since when nothing happens; none when something does. Unit: microseconds since creation.
    pub fn idle_since_us(&self) -> Option<u64> {
        self.idle_since.map(|at| at.0)
    }

    /// Is the active memory manager running?
    pub const fn amm_running(&self) -> bool {
        self.amm.running
    }

    /// Did the last [`super::Event::TaskFinished`] or [`super::Event::TaskErred`] count (rather than being old news)?
    pub const fn run_counted(&self) -> bool {
        self.run_counted
    }

    /// How many tasks others wait for. Looks at every task.
    pub fn waited_for(&self) -> usize {
        self.tasks.iter().filter(|(_, task)| !task.waiters.is_empty()).count()
    }

    /// Semaphores, for metrics.
    pub fn semaphores(&self) -> Vec<SemaphoreView> {
        self.coord.semaphores()
    }

    /// Locks, queues and the like, for pages; at most `max`.
    pub fn coordination(&self, max: usize) -> Vec<CoordView> {
        self.coord.views(max)
    }

    /// Scheduler-wide bandwidth. Unit: bytes per second.
    pub const fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// The settings it was made with.
    pub const fn config(&self) -> &super::SchedConfig {
        &self.config
    }
}

/// Arguments of `workers_to_close`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloseWish {
    /// How many; none: by memory.
    pub n: Option<usize>,
    /// Keep this many.
    pub minimum: Option<usize>,
    /// End with this many.
    pub target: Option<usize>,
    /// Keep this number of times the memory that data takes; none: 2.
    pub memory_ratio: Option<f64>,
}
