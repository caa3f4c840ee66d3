//! Closer looks for pages and `explain`: one task with all that decides its fate, groups, and the graph's shape.
//!
//! Reads only, like `view`. Each look is bounded by what its caller asks for, or says that it goes over all tasks.

use super::Scheduler;
use super::task::{StateName, Task};
use super::view::{STATE_NAMES, TaskView};
use crate::base::{Key, TaskId, Text, Value};

/// A group of tasks as seen from outside.
#[derive(Clone, Debug)]
pub struct GroupView<'a> {
    pub name: &'a Text,
    /// Index and name of its prefix.
    pub prefix: (u32, &'a Text),
    /// Tasks by state, in the order of [`STATE_NAMES`].
    pub states: [u32; 7],
    pub forgotten: u32,
    /// All ever, forgotten ones included.
    pub total: u32,
    /// Groups that its tasks depend on, as far as they still exist.
    pub dependencies: Vec<&'a Text>,
}

/// A task and its state.
pub type KeyState = (Key, &'static str);

/// Everything about one task.
#[derive(Clone, Debug)]
pub struct TaskDetail<'a> {
    /// What every look shows.
    pub view: TaskView<'a>,
    /// Inputs that are not there yet, and how many there are in all.
    pub waiting_on: (Vec<KeyState>, usize),
    /// Its inputs, and how many.
    pub dependencies: (Vec<KeyState>, usize),
    /// Tasks that need it, and how many.
    pub dependents: (Vec<KeyState>, usize),
    /// Clients that want it.
    pub wanted_by: Vec<Text>,
    /// Retries that are left.
    pub retries: u32,
    /// Workers that died while they ran it.
    pub suspicious: u32,
    /// Addresses it is restricted to.
    pub worker_restrictions: &'a [Text],
    /// Hosts it is restricted to.
    pub host_restrictions: &'a [Text],
    pub resources: &'a [(Text, f64)],
    /// Restrictions are wishes only.
    pub loose: bool,
    /// Running workers that it may use; none: all of them.
    pub allowed_workers: Option<usize>,
    /// Its annotations as sent.
    pub annotations: Option<&'a Value>,
    /// An input was forgotten: it can't run any more.
    pub lost_dependencies: bool,
    /// How many queued tasks come before it.
    pub ahead_in_queue: Option<usize>,
    /// Its graph is still being read.
    pub graph_open: bool,
}

/// A node of the graph: a task.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// Its place; reused after the task is forgotten.
    pub slot: u32,
    pub key: &'a Key,
    /// Index of its prefix.
    pub prefix: u32,
    /// Dask's name of its state.
    pub state: &'static str,
    /// Places of what it depends on.
    pub dependencies: Vec<u32>,
}

/// Which tasks a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub state: Option<Text>,
    pub prefix: Option<Text>,
    /// Processing on or held by the worker at this address.
    pub worker: Option<Text>,
    /// Whose key contains this text.
    pub contains: Option<Text>,
}

/// Looking for a place in the queue stops here.
const QUEUE_LOOK_MAX: usize = 100_000;

impl Scheduler {
    /// Index of the prefix of a task.
    pub fn prefix_index(&self, key: &Key) -> Option<u32> {
        self.find(key).map(|task| self.prefix_at(task))
    }

    /// Expected time to finish all that workers were told. Unit: thread seconds.
    pub fn occupancy_total_secs(&self) -> f64 {
        self.total_occupancy()
    }

    /// Tasks that came to memory, and to erred, since the start.
    pub fn ended_totals(&self) -> (u64, u64) {
        let sum = |state: StateName| self.prefixes.iter().map(|prefix| prefix.state_totals[state as usize]).sum();
        (sum(StateName::Memory), sum(StateName::Erred))
    }

    /// How many keys a client wants.
    pub fn wanted_count(&self, client: crate::base::ClientId) -> usize {
        self.clients.get(client).map_or(0, |client| client.wants_what.len())
    }

    /// Tasks that have seceded and still run.
    pub const fn long_running_total(&self) -> usize {
        self.long_running
    }

    /// Groups that have tasks; at most `max`, the ones made last.
    pub fn groups(&self, max: usize) -> Vec<GroupView<'_>> {
        let mut alive: Vec<u32> = self.group_by_name.values().copied().collect();
        alive.sort_unstable_by(|left, right| right.cmp(left));
        alive.truncate(max);
        alive.into_iter().filter_map(|at| self.group_view(at)).collect()
    }

    fn group_view(&self, at: u32) -> Option<GroupView<'_>> {
        let group = self.groups.get(at as usize)?;
        let of = |&(at, generation): &(u32, u32)| {
            let other = self.groups.get(at as usize).filter(|other| other.generation == generation)?;
            Some(&other.name)
        };
        Some(GroupView {
            name: &group.name,
            prefix: (group.prefix, &self.prefixes.get(group.prefix as usize)?.name),
            states: std::array::from_fn(|state| group.states[state]),
            forgotten: group.states[StateName::Forgotten as usize],
            total: group.len,
            dependencies: group.dependencies.iter().filter_map(of).collect(),
        })
    }

    /// One task, with at most `max` of each list.
    pub fn task_detail(&self, key: &Key, max: usize) -> Option<TaskDetail<'_>> {
        let id = self.find(key)?;
        let task = &self.tasks[id];
        let some = |ids: &mut dyn Iterator<Item = TaskId>| -> Vec<KeyState> {
            ids.take(max).map(|id| (self.tasks[id].key.clone(), self.tasks[id].state.name().as_str())).collect()
        };
        let rare = task.rare.as_deref();
        Some(TaskDetail {
            view: self.task(key)?,
            waiting_on: task
                .waiting_on()
                .map_or_else(Default::default, |missing| (some(&mut missing.iter()), missing.len())),
            dependencies: (some(&mut task.dependencies.iter().copied()), task.dependencies.len()),
            dependents: (some(&mut task.dependents.iter()), task.dependents.len()),
            wanted_by: self.who_wants(key),
            retries: task.retries,
            suspicious: task.suspicious,
            worker_restrictions: rare.map_or(&[], |rare| &rare.worker_restrictions),
            host_restrictions: rare.map_or(&[], |rare| &rare.host_restrictions),
            resources: rare.map_or(&[], |rare| &rare.resources),
            loose: rare.is_some_and(|rare| rare.loose),
            allowed_workers: self.valid_workers(id).map(|valid| valid.len()),
            annotations: task.annotations.as_deref().map(|annotations| &annotations.wire),
            lost_dependencies: task.lost_dependencies,
            ahead_in_queue: (task.state.name() == StateName::Queued).then(|| self.ahead_of(id)),
            graph_open: !self.graphs.is_empty(),
        })
    }

    fn ahead_of(&self, id: TaskId) -> usize {
        self.queued.iter().take(QUEUE_LOOK_MAX).take_while(|(_, _, other)| *other != id).count()
    }

    /// All tasks as nodes. None when there are more than `max`.
    pub fn graph_nodes(&self, max: usize) -> Option<Vec<NodeView<'_>>> {
        if self.tasks.len() > max {
            return None;
        }
        let node = |(id, task): (TaskId, &'_ Task)| (id, task.dependencies.iter().map(|id| id.slot).collect());
        let nodes = self.tasks.iter().map(node).collect::<Vec<(TaskId, Vec<u32>)>>();
        let view = |(id, dependencies): (TaskId, Vec<u32>)| {
            let task = &self.tasks[id];
            NodeView {
                slot: id.slot,
                key: &task.key,
                prefix: self.prefix_at(id),
                state: task.state.name().as_str(),
                dependencies,
            }
        };
        Some(nodes.into_iter().map(view).collect())
    }

    /// The tasks that pass `filter`, from the `offset`th on, and how many pass in all. Looks at every task.
    pub fn tasks_where(&self, filter: &TaskFilter, offset: usize, max: usize) -> (Vec<TaskView<'_>>, usize) {
        let worker = filter.worker.as_ref().map(|address| self.worker_by_address(address));
        let state = filter.state.as_deref();
        if state.is_some_and(|state| !STATE_NAMES.contains(&state)) {
            return (Vec::new(), 0);
        }
        let passes = |task: &Task| {
            state.is_none_or(|state| task.state.name().as_str() == state)
                && filter.prefix.as_ref().is_none_or(|prefix| {
                    self.prefixes[self.groups[task.group as usize].prefix as usize].name == *prefix
                })
                && worker.is_none_or(|worker| {
                    worker.is_some_and(|id| task.processing_on() == Some(id) || task.who_has().contains(&id))
                })
                && filter.contains.as_ref().is_none_or(|text| match task.key.as_text() {
                    Some(key) => key.contains(&**text),
                    None => task.key.to_string().contains(&**text),
                })
        };
        let (mut total, mut found) = (0, Vec::new());
        for (_, task) in self.tasks.iter().filter(|(_, task)| passes(task)) {
            if total >= offset && found.len() < max {
                found.extend(self.task(&task.key));
            }
            total += 1;
        }
        (found, total)
    }
}
