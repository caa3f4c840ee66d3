//! Graphs come in, part by part: a part becomes tasks and edges and is set going in one step.
//!
//! A part is a whole graph, so other events between two parts meet nothing unusual. What later parts need is wanted
//! meanwhile by a pseudo client of the graph's own.
//! Source: `distributed/scheduler.py`, `update_graph`, `_create_taskstate_from_graph`, `_generate_taskstates`,
//! `_apply_annotations`, `_set_priorities`.

use super::Scheduler;
use super::effect::{Effect, Priority, ToClient};
use super::event::{Actors, GraphOpen};
use super::records::OpenGraph;
use super::task::StateName;
use super::worker::ClientState;
use crate::base::{
    Annotations, ClientId, Failure, GraphPart, GraphTask, Key, SeededMap, SeededSet, TaskId, Text, TicketId, Value,
};

/// A part on its way into the scheduler.
struct Intake {
    /// Tasks of the part, with their place in its order.
    touched: Vec<(TaskId, Option<f64>)>,
    /// Tasks that did not exist before.
    made: SeededSet<TaskId>,
    /// Dependencies named before their own task came; none may be left at the end.
    promised: SeededMap<Key, TaskId>,
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
        let graph = OpenGraph { open, at: self.now, generation: None, holder: None, tasks: 0, collided: false };
        self.graphs.insert(ticket, graph);
        self.out.push(Effect::ReadGraph { ticket });
    }

    pub(super) fn on_graph_failed(&mut self, ticket: TicketId, failure: Failure) {
        let Some(graph) = self.graphs.remove(&ticket) else { return };
        self.log_graph(graph.open.client, "error", graph.tasks);
        let failure = std::sync::Arc::new(failure);
        if graph.tasks > 0 {
            self.on_client_releases(graph.open.client, &graph.open.keys);
        }
        for key in &graph.open.keys {
            let message = ToClient::TaskErred { key: key.clone(), failure: failure.clone() };
            self.out.push(Effect::ToClient { client: graph.open.client, message });
        }
        self.close_graph(ticket, &graph);
    }

    pub(super) fn on_graph_part(&mut self, ticket: TicketId, part: GraphPart, last: bool) {
        let Some(mut graph) = self.graphs.remove(&ticket) else { return };
        graph.tasks += part.tasks.len();
        let client = graph.open.client;
        let is_in = self.clients.get(client).is_some() && self.take_part(ticket, &mut graph, part);
        if is_in && !last {
            self.graphs.insert(ticket, graph);
            return;
        }
        if is_in {
            self.log_graph(client, "OK", graph.tasks);
        }
        self.close_graph(ticket, &graph);
    }

    /// Nothing more of it comes.
    pub(super) fn close_graph(&mut self, ticket: TicketId, graph: &OpenGraph) {
        if let Some(holder) = graph.holder {
            self.release_everything(holder);
            self.run_transitions();
            self.clients.remove(holder);
        }
        self.out.push(Effect::GraphClosed { ticket });
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
        if dependencies.iter().any(|&dependency| self.is_barrier_of_active(dependency)) {
            self.tasks[task].queueable = false;
        }
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

    /// Names and `host:port` mean workers, anything else a host.
    ///
    /// Source: `distributed/scheduler.py`, `_apply_annotations`, `coerce_address`.
    fn restrictions_of(&self, annotations: &Annotations) -> Restrictions {
        let mut restrictions = Restrictions::default();
        for name in &annotations.workers {
            if let Some(id) = self.worker_named(name) {
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

    /// False: it can't run, and everything of its graph was given up.
    fn take_part(&mut self, ticket: TicketId, graph: &mut OpenGraph, part: GraphPart) -> bool {
        let client = graph.open.client;
        let mut intake = Intake {
            touched: Vec::with_capacity(part.tasks.len()),
            made: SeededSet::default(),
            promised: SeededMap::default(),
            collided: graph.collided,
        };
        for task in part.tasks {
            self.take_in(&mut intake, task);
        }
        graph.collided = intake.collided;
        if self.lost_dependencies(&intake, &part.wanted) {
            let keys = graph.open.keys.clone();
            let message = ToClient::CancelledKeys { keys, reason: "lost dependencies".into(), msg: Value::Nil };
            self.out.push(Effect::ToClient { client, message });
            self.log_graph(client, "cancelled", graph.tasks);
            self.on_client_releases(client, &graph.open.keys);
            self.give_up(intake.made.into_iter().collect());
            return false;
        }
        self.set_priorities(graph, &intake);
        self.desire_all(client, &part.wanted);
        if !part.hold.is_empty() {
            let holder = self.holder_of(ticket, graph);
            self.desire_all(holder, &part.hold);
        }
        self.set_actors(&graph.open, &part.wanted);
        self.announce(&intake);
        self.start_part(&intake, part.wanted.iter().chain(&part.hold));
        self.run_transitions();
        for &(task, _) in &intake.touched {
            if self.tasks.get(task).is_some_and(|entry| entry.who_wants.contains(&client)) {
                self.report(client, task);
            }
        }
        self.report_external(client, &intake, &part.wanted);
        if let Some(holder) = graph.holder.filter(|_| !part.free.is_empty()) {
            self.on_client_releases(holder, &part.free);
        }
        self.forget_unused(intake.made.into_iter().collect());
        true
    }

    fn desire_all(&mut self, client: ClientId, keys: &[Key]) {
        for key in keys {
            if let Some(task) = self.find(key) {
                self.desire(client, task);
            }
        }
    }

    /// The pseudo client of a graph. Nobody finds it by its name.
    fn holder_of(&mut self, ticket: TicketId, graph: &mut OpenGraph) -> ClientId {
        *graph.holder.get_or_insert_with(|| {
            let name = format!("graph-{ticket}").into();
            self.clients.insert(ClientState { name, wants_what: Default::default() })
        })
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
    fn report_external(&mut self, client: ClientId, part: &Intake, wanted: &[Key]) {
        let touched: SeededSet<TaskId> = part.touched.iter().map(|(task, _)| *task).collect();
        for key in wanted {
            if let Some(task) = self.find(key).filter(|task| !touched.contains(task)) {
                self.report(client, task);
            }
        }
    }

    /// A dependency that nobody can deliver: promised and never sent, or a wanted key that does not exist.
    fn lost_dependencies(&self, part: &Intake, wanted: &[Key]) -> bool {
        wanted.iter().any(|key| self.find(key).is_none())
            || part.promised.values().any(|&task| {
                self.tasks.get(task).is_none_or(|entry| entry.run_spec.is_none() && entry.who_has().is_empty())
            })
            || part.touched.iter().any(|&(task, _)| self.tasks.get(task).is_none_or(|entry| entry.lost_dependencies))
    }

    fn set_priorities(&mut self, graph: &mut OpenGraph, part: &Intake) {
        let generation = graph.generation.unwrap_or_else(|| self.generation_of(graph));
        graph.generation = Some(generation);
        for &(task, order) in &part.touched {
            let entry = &self.tasks[task];
            if let (None, Some(order)) = (entry.priority, order) {
                let user = entry.annotations.as_ref().map_or(0.0, |annotations| -annotations.priority);
                self.give_priority(task, Priority { user, generation, order });
            }
        }
    }

    fn generation_of(&mut self, graph: &OpenGraph) -> f64 {
        let parent = graph.open.submitting_task.as_ref();
        match parent.map(|key| self.find(key).and_then(|task| self.tasks[task].priority)) {
            // Sub-tasks run before anything else of equal user priority.
            Some(Some(priority)) => priority.user - 0.01,
            Some(None) => self.generation,
            None => self.next_generation(graph),
        }
    }

    fn next_generation(&mut self, graph: &OpenGraph) -> f64 {
        let fresh = self.generation_at.is_none_or(|last| last.plus_secs(graph.open.fifo_timeout_secs) < graph.at);
        if fresh {
            self.generation += 1.0;
            self.generation_at = Some(graph.at);
        }
        self.generation
    }

    fn set_actors(&mut self, open: &GraphOpen, wanted: &[Key]) {
        let keys = match &open.actors {
            Actors::None => return,
            Actors::All => wanted,
            Actors::Keys(keys) => keys,
        };
        for key in keys {
            if let Some(task) = self.find(key) {
                self.tasks[task].actor = true;
            }
        }
    }

    fn start_part<'a>(&mut self, part: &Intake, wanted: impl Iterator<Item = &'a Key>) {
        let mut roots: Vec<_> = wanted
            .filter_map(|key| self.find(key))
            .filter(|&task| self.tasks[task].state.name() == StateName::Released)
            .map(|task| (self.tasks[task].rank(), task))
            .collect();
        roots.sort_unstable_by(|a, b| b.cmp(a));
        for (_, task) in roots {
            self.recommend(task, StateName::Waiting);
        }
        for &(task, _) in &part.touched {
            let blame = self.tasks[task].dependencies.iter().find(|&&id| self.tasks[id].blame().is_some()).copied();
            if let Some(dependency) = blame
                && matches!(self.tasks[task].state.name(), StateName::Released)
            {
                self.inherit_blame(task, dependency);
                self.recommend(task, StateName::Erred);
            }
        }
    }

    /// What a graph made that came to nothing.
    fn give_up(&mut self, made: Vec<TaskId>) {
        for task in made {
            if self.tasks.get(task).is_some_and(|entry| entry.state.name() == StateName::Released) {
                self.recommend(task, StateName::Forgotten);
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
                matches!(entry.state.name(), StateName::Released | StateName::Erred) && entry.is_of_no_use()
            });
            if unused {
                self.recommend(task, StateName::Forgotten);
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
