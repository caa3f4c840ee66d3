//! Graphs come in: parts are collected, the last part turns them into tasks and edges and sets them going.
//!
//! Nothing of a graph exists before it is complete, so no other event can meet half of it.
//! Source: `update_graph`, `_create_taskstate_from_graph`, `_generate_taskstates`, `_apply_annotations`, `_set_priorities`.

use super::Scheduler;
use super::effect::{Effect, Priority, ToClient};
use super::event::{Actors, GraphOpen};
use super::task::TaskState;
use crate::base::{
    Annotations, ClientId, Failure, GraphTask, Key, Now, SeededMap, SeededSet, TaskId, Text, TicketId, Value,
};

/// A graph that is being read.
#[derive(Debug)]
pub(super) struct OpenGraph {
    open: GraphOpen,
    /// When it was submitted: decides its generation.
    at: Now,
    tasks: Vec<GraphTask>,
}

/// A graph on its way into the scheduler.
struct Intake {
    open: GraphOpen,
    at: Now,
    /// Tasks of the graph, with their place in its order.
    touched: Vec<(TaskId, Option<f64>)>,
    /// Tasks that did not exist before.
    made: SeededSet<TaskId>,
    /// Dependencies named before their own task came; none may be left at the end.
    promised: SeededMap<Key, TaskId>,
    /// A key of it is taken by another computation, and that was said.
    collided: bool,
}

/// What part of [`Annotations::workers`] names: workers or hosts.
#[derive(Default)]
struct Restrictions {
    workers: Vec<Text>,
    hosts: Vec<Text>,
}

impl Scheduler {
    pub(super) fn on_graph_opened(&mut self, ticket: TicketId, open: GraphOpen) {
        let graph = OpenGraph { open, at: self.now, tasks: Vec::new() };
        self.graphs.insert(ticket, graph);
        self.out.push(Effect::ReadGraph { ticket });
    }

    pub(super) fn on_graph_failed(&mut self, ticket: TicketId, failure: Failure) {
        let Some(graph) = self.graphs.remove(&ticket) else { return };
        self.log_graph(graph.open.client, "error", 0);
        let failure = std::sync::Arc::new(failure);
        for key in graph.open.keys {
            let message = ToClient::TaskErred { key, failure: failure.clone() };
            self.out.push(Effect::ToClient { client: graph.open.client, message });
        }
        self.out.push(Effect::GraphClosed { ticket });
    }

    pub(super) fn on_graph_part(&mut self, ticket: TicketId, tasks: Vec<GraphTask>, last: bool) {
        let Some(graph) = self.graphs.get_mut(&ticket) else { return };
        if graph.tasks.is_empty() {
            graph.tasks = tasks;
        } else {
            graph.tasks.extend(tasks);
        }
        if last && let Some(graph) = self.graphs.remove(&ticket) {
            self.close_graph(graph);
            self.out.push(Effect::GraphClosed { ticket });
        }
    }

    /// Makes one task of a graph, or finds it, and draws its edges.
    fn take_in(&mut self, graph: &mut Intake, new: GraphTask) {
        let promised = graph.promised.remove(&new.key);
        let (task, is_new) = match promised.or_else(|| self.find(&new.key)) {
            Some(task) => (task, promised.is_some() && graph.made.contains(&task)),
            None => {
                let task = self.new_task(new.key.clone());
                graph.made.insert(task);
                (task, true)
            }
        };
        graph.touched.push((task, new.order));
        let mut dependencies: Vec<TaskId> = Vec::with_capacity(new.dependencies.len());
        for key in &new.dependencies {
            let dependency = self.find(key).unwrap_or_else(|| {
                let dependency = self.new_task(key.clone());
                graph.made.insert(dependency);
                graph.promised.insert(key.clone(), dependency);
                dependency
            });
            dependencies.push(dependency);
        }
        dependencies.sort_unstable();
        dependencies.dedup();
        dependencies.retain(|&id| id != task);
        if !is_new && self.tasks[task].run_spec.is_some() {
            let mut old = self.tasks[task].dependencies.clone();
            old.sort_unstable();
            if old != dependencies && !std::mem::replace(&mut graph.collided, true) {
                let text = format!(
                    "Detected different dependencies for {}: the key is taken by another computation, \
                     which is kept. Was a name used twice?",
                    new.key
                );
                self.warn(text);
            }
            return;
        }
        self.adopt(task, new, is_new);
        for &dependency in &dependencies {
            self.tasks[dependency].dependents.insert(task);
            self.link_groups(task, dependency);
        }
        dependencies.shrink_to_fit();
        self.tasks[task].dependencies = dependencies;
    }

    fn adopt(&mut self, task: TaskId, new: GraphTask, is_new: bool) {
        let entry = &mut self.tasks[task];
        entry.run_spec = new.run_spec;
        entry.data_producer = new.data_producer;
        if let Some(shuffle) = new.shuffle {
            entry.rare_mut().shuffle = Some(shuffle);
        }
        if let Some(annotations) = new.annotations.filter(|_| is_new) {
            let restrictions = self.restrictions_of(&annotations);
            let entry = &mut self.tasks[task];
            entry.retries = annotations.retries;
            if annotations.allow_other_workers || !annotations.workers.is_empty() || !annotations.resources.is_empty() {
                let rare = entry.rare_mut();
                rare.worker_restrictions = restrictions.workers;
                rare.host_restrictions = restrictions.hosts;
                rare.resources = annotations.resources.clone();
                rare.loose = annotations.allow_other_workers;
            }
            entry.annotations = Some(annotations);
        }
    }

    /// Names and `host:port` mean workers, anything else a host. Source: `_apply_annotations`, `coerce_address`.
    fn restrictions_of(&self, annotations: &Annotations) -> Restrictions {
        let mut restrictions = Restrictions::default();
        for name in &annotations.workers {
            if let Some(&id) = self.by_name.get(&Key::text(name)) {
                restrictions.workers.push(self.workers[id].hello.address.clone());
            } else if name.contains("://") {
                restrictions.workers.push(name.clone());
            } else if name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                restrictions.workers.push(format!("tcp://{name}").into());
            } else {
                restrictions.hosts.push(name.clone());
            }
        }
        restrictions
    }

    /// Notes that a group depends on another, as far as [`Self::is_rootish`] wants to know.
    fn link_groups(&mut self, task: TaskId, dependency: TaskId) {
        let (group, other) = (self.tasks[task].group, self.tasks[dependency].group);
        let link = (other, self.groups[other as usize].generation);
        let links = &mut self.groups[group as usize].dependencies;
        if links.len() < self.config.rootish_taskgroup && !links.contains(&link) {
            links.push(link);
        }
    }

    fn close_graph(&mut self, graph: OpenGraph) {
        let client = graph.open.client;
        if self.clients.get(client).is_none() {
            return;
        }
        let OpenGraph { open, at, tasks } = graph;
        let mut graph = Intake {
            open,
            at,
            touched: Vec::with_capacity(tasks.len()),
            made: SeededSet::default(),
            promised: SeededMap::default(),
            collided: false,
        };
        for task in tasks {
            self.take_in(&mut graph, task);
        }
        if self.lost_dependencies(&graph) {
            let keys = graph.open.keys.clone();
            let message = ToClient::CancelledKeys { keys, reason: "lost dependencies".into(), msg: Value::Nil };
            self.out.push(Effect::ToClient { client, message });
            self.log_graph(client, "cancelled", graph.touched.len());
            self.on_client_releases(client, &graph.open.keys);
            return self.give_up(graph.made.into_iter().collect());
        }
        self.set_priorities(&graph);
        for key in &graph.open.keys {
            if let Some(task) = self.find(key) {
                self.desire(client, task);
            }
        }
        self.set_actors(&graph.open);
        self.announce(&graph);
        self.start_graph(&graph);
        self.run_transitions();
        for &(task, _) in &graph.touched {
            if self.tasks.get(task).is_some_and(|entry| entry.who_wants.contains(&client)) {
                self.report(client, task);
            }
        }
        self.report_external(&graph);
        self.log_graph(client, "OK", graph.touched.len());
        self.forget_unused(graph.made.into_iter().collect());
    }

    /// Queues and variables may wait for a key to exist.
    fn announce(&mut self, graph: &Intake) {
        for &(task, _) in &graph.touched {
            if !self.coord_awaits_keys() {
                return;
            }
            if graph.made.contains(&task) {
                let key = self.tasks[task].key.clone();
                self.key_is_known(&key);
            }
        }
    }

    /// Wanted keys that the graph did not contain, and that exist already.
    fn report_external(&mut self, graph: &Intake) {
        let touched: SeededSet<TaskId> = graph.touched.iter().map(|(task, _)| *task).collect();
        for key in &graph.open.keys {
            if let Some(task) = self.find(key).filter(|task| !touched.contains(task)) {
                self.report(graph.open.client, task);
            }
        }
    }

    /// A dependency that nobody can deliver: promised and never sent, or a wanted key that does not exist.
    fn lost_dependencies(&self, graph: &Intake) -> bool {
        graph.open.keys.iter().any(|key| self.find(key).is_none())
            || graph.promised.values().any(|&task| {
                self.tasks.get(task).is_none_or(|entry| entry.run_spec.is_none() && entry.who_has.is_empty())
            })
            || graph.touched.iter().any(|&(task, _)| self.tasks.get(task).is_none_or(|entry| entry.lost_dependencies))
    }

    fn set_priorities(&mut self, graph: &Intake) {
        let parent = graph.open.submitting_task.as_ref();
        let generation = match parent.map(|key| self.find(key).and_then(|task| self.tasks[task].priority)) {
            // Sub-tasks run before anything else of equal user priority.
            Some(Some(priority)) => priority.user - 0.01,
            Some(None) => self.generation,
            None => self.next_generation(graph),
        };
        for &(task, order) in &graph.touched {
            let entry = &mut self.tasks[task];
            if let (None, Some(order)) = (entry.priority, order) {
                let user = entry.annotations.as_ref().map_or(0.0, |annotations| -annotations.priority);
                entry.priority = Some(Priority { user, generation, order });
            }
        }
    }

    fn next_generation(&mut self, graph: &Intake) -> f64 {
        let fresh = self.generation_at.is_none_or(|last| last.plus_secs(graph.open.fifo_timeout_secs) < graph.at);
        if fresh {
            self.generation += 1.0;
            self.generation_at = Some(graph.at);
        }
        self.generation
    }

    fn set_actors(&mut self, open: &GraphOpen) {
        let keys = match &open.actors {
            Actors::None => return,
            Actors::All => &open.keys,
            Actors::Keys(keys) => keys,
        };
        for key in keys {
            if let Some(task) = self.find(key) {
                self.tasks[task].actor = true;
            }
        }
    }

    fn start_graph(&mut self, graph: &Intake) {
        let mut roots: Vec<_> = graph
            .open
            .keys
            .iter()
            .filter_map(|key| self.find(key))
            .filter(|&task| self.tasks[task].state == TaskState::Released)
            .map(|task| (self.tasks[task].rank(), task))
            .collect();
        roots.sort_unstable_by(|a, b| b.cmp(a));
        for (_, task) in roots {
            self.recommend(task, TaskState::Waiting);
        }
        for &(task, _) in &graph.touched {
            let blame = self.tasks[task].dependencies.iter().find(|&&id| self.tasks[id].blame().is_some()).copied();
            if let Some(dependency) = blame
                && matches!(self.tasks[task].state, TaskState::Released)
            {
                self.inherit_blame(task, dependency);
                self.recommend(task, TaskState::Erred);
            }
        }
    }

    /// What a graph made that came to nothing.
    fn give_up(&mut self, made: Vec<TaskId>) {
        for task in made {
            if self.tasks.get(task).is_some_and(|entry| entry.state == TaskState::Released) {
                self.recommend(task, TaskState::Forgotten);
            }
        }
        self.run_transitions();
    }

    /// Tasks that were made and that nothing needs: parts of a graph that no wanted key reaches.
    fn forget_unused(&mut self, made: Vec<TaskId>) {
        let mut made = made;
        made.sort_unstable();
        for task in made {
            let unused = self.tasks.get(task).is_some_and(|entry| {
                // An input may have erred before, and taken this one along.
                matches!(entry.state, TaskState::Released | TaskState::Erred) && entry.is_of_no_use()
            });
            if unused {
                self.recommend(task, TaskState::Forgotten);
            }
        }
        self.run_transitions();
    }

    fn log_graph(&mut self, client: ClientId, status: &str, tasks: usize) {
        let message = Value::map([
            ("action", "update-graph".into()),
            ("stimulus_id", Value::from(format!("update-graph-{}", self.step))),
            ("status", status.into()),
            ("metrics", Value::map([("tasks", tasks.into())])),
        ]);
        let mut topics: Vec<Text> = vec!["scheduler".into()];
        topics.extend(self.clients.get(client).map(|client| client.name.clone()));
        self.log(topics, message);
    }
}
