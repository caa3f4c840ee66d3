//! What must be true when faults have stopped: everything wanted is settled, everyone knows it, nothing leaks.

use std::collections::BTreeSet;

use rask::base::Key;
use rask::sched::WorkerStatus;

use super::World;
use crate::sim::client::Belief;
use crate::sim::graphs::Fails;

impl World<'_> {
    /// Is nothing wanted under way, and has nobody anything left to do?
    pub(super) fn settled(&self) -> bool {
        let clients = self.clients.iter().filter(|client| client.alive);
        let at_rest = |client: &crate::sim::client::Client| {
            client.acts_left == 0 && client.settled() && client.up_last < self.now && client.down_last < self.now
        };
        self.readings.is_empty() && clients.into_iter().all(at_rest) && !self.under_way()
    }

    /// Tasks between released and rest, wanted by clients real or not.
    fn under_way(&self) -> bool {
        let [_, waiting, queued, no_worker, processing, _, _] = self.sched.counts().by_state;
        waiting + queued + no_worker + processing > 0
    }

    pub(super) fn stuck(&self) -> String {
        let mut lines = vec!["wanted work is still not done long after faults stopped".to_owned()];
        for client in self.clients.iter().filter(|client| client.alive && !client.settled()) {
            for (key, belief) in client.futures.iter().filter(|(_, belief)| **belief == Belief::Pending) {
                let state = self.sched.task(key).map(|task| (task.state, task.processing_on));
                lines.push(format!("{} thinks {key} {belief:?}; it is {state:?}", client.name));
            }
            if client.open_graph.is_some() {
                lines.push(format!("{} waits for its graph {:?}", client.name, client.open_graph));
            }
        }
        for task in self.sched.tasks() {
            let edges = self.sched.edges(task.key);
            if !matches!(task.state, "memory" | "erred" | "released") {
                let state = |key: &Key| (key.clone(), self.sched.task(key).map(|task| task.state));
                let needs: Vec<_> = edges.0.iter().map(state).filter(|(_, state)| *state != Some("memory")).collect();
                lines.push(format!(
                    "task {} is {} on {:?}, wanted by {:?}, lacks {needs:?}, needed by {:?}",
                    task.key,
                    task.state,
                    task.processing_on,
                    self.sched.who_wants(task.key),
                    edges.1
                ));
            }
        }
        for (worker, &proc) in &self.registered {
            let entry = &self.procs[proc];
            lines.push(format!(
                "{worker:?} at {} alive: {}, {:?} (scheduler: {:?}): {:?}",
                entry.node.address,
                entry.alive,
                entry.status,
                self.sched.worker(*worker).map(|view| view.status),
                entry.node.describe()
            ));
        }
        lines.truncate(40);
        lines.join("\n")
    }

    /// Beliefs, states and data agree.
    pub(super) fn check_rest(&mut self) -> Result<(), String> {
        for client in self.clients.iter().filter(|client| client.alive) {
            for (key, belief) in &client.futures {
                let state = self.sched.task(key).map(|task| task.state);
                let agrees = match belief {
                    Belief::Finished => state == Some("memory"),
                    // A graph that could not be read fails keys that never became tasks, and others that did.
                    Belief::Erred => state == Some("erred") || self.in_unreadable(key),
                    Belief::Pending => false,
                };
                if !agrees {
                    return Err(format!("{} thinks {key} {belief:?}, but it is {state:?}", client.name));
                }
                if *belief == Belief::Erred && state == Some("erred") && !self.may_err(key) {
                    let failure = self.sched.task(key).and_then(|task| task.failure.cloned());
                    return Err(format!("{key} erred, but nothing calls for that: {failure:?}"));
                }
                match belief {
                    Belief::Finished => self.report.finished += 1,
                    Belief::Erred | Belief::Pending => self.report.erred += 1,
                }
            }
        }
        self.check_data()
    }

    /// What the scheduler says workers hold is what they hold.
    fn check_data(&self) -> Result<(), String> {
        for (&worker, &proc) in &self.registered {
            let entry = &self.procs[proc];
            if !entry.alive {
                continue;
            }
            let said: BTreeSet<Key> = self.sched.has_what(worker).into_iter().collect();
            let held: BTreeSet<Key> = entry.node.held().into_iter().collect();
            if let Some(key) = said.difference(&held).next() {
                return Err(format!("{key} is said to be at {}, but is not", entry.node.address));
            }
            // Data that was scattered for a client that left before it could say so is not the scheduler's to know.
            let unsaid = |key: &&Key| self.sched.task(key).is_some() || !self.truths[*key].scattered;
            if let Some(key) = held.difference(&said).find(unsaid) {
                let state = self.sched.task(key).map(|task| task.state);
                return Err(format!("{} holds {key} ({state:?}) and nobody knows", entry.node.address));
            }
            let status = self.sched.worker(worker).map(|view| view.status);
            if status != Some(entry.status) && entry.status == WorkerStatus::Running {
                return Err(format!("{} runs, but is said to be {status:?}", entry.node.address));
            }
        }
        Ok(())
    }

    /// Nobody wants anything: nothing may be left.
    pub(super) fn check_empty(&mut self) -> Result<(), String> {
        let left: Vec<String> = self
            .sched
            .tasks()
            .into_iter()
            .map(|task| {
                let (needs, needed_by) = self.sched.edges(task.key);
                let wanted = self.sched.who_wants(task.key);
                format!("{} ({}, wanted by {wanted:?}, needs {needs:?}, needed by {needed_by:?})", task.key, task.state)
            })
            .collect();
        if !left.is_empty() {
            return Err(format!("{} tasks are left though nobody wants them: {}", left.len(), left.join(", ")));
        }
        self.check_data()?;
        if let Some(deadline) = self.sched.next_deadline()
            && deadline < self.now
        {
            return Err(format!("the next deadline {deadline:?} lies in the past"));
        }
        Ok(())
    }

    /// May clients be told that this future is cancelled?
    pub(super) fn may_be_cancelled(&self, key: &Key) -> bool {
        self.report.restarts > 0
            || self.above(key).iter().any(|key| {
                self.excused.contains(key)
                    || self.truths.get(key).is_none_or(|truth| truth.cancelled || truth.scattered)
            })
    }

    fn in_unreadable(&self, key: &Key) -> bool {
        self.graphs.iter().any(|graph| graph.unreadable && graph.wanted.contains(key))
    }

    /// Was the key submitted in a graph whose inputs may be gone? Such a graph is given up as a whole.
    pub(super) fn may_lose_inputs(&self, key: &Key) -> bool {
        let mut seen = BTreeSet::from([key]);
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            if self.may_be_cancelled(key) {
                return true;
            }
            for graph in self.graphs.iter().filter(|graph| graph.wanted.contains(key)) {
                let inputs = graph.tasks.iter().flat_map(|task| &task.dependencies);
                stack.extend(inputs.chain(&graph.wanted).filter(|key| seen.insert(*key)));
            }
        }
        false
    }

    /// May this task end in failure?
    fn may_err(&self, key: &Key) -> bool {
        self.report.deaths > 0
            || self.config.no_workers_timeout_secs.is_some()
            || self
                .above(key)
                .iter()
                .any(|key| self.truths.get(key).is_none_or(|truth| truth.fails != Fails::Never || truth.actor))
    }

    /// The key and all that it needs.
    fn above(&self, key: &Key) -> BTreeSet<Key> {
        let mut seen = BTreeSet::from([key.clone()]);
        let mut stack = vec![key.clone()];
        while let Some(key) = stack.pop() {
            for input in self.truths.get(&key).map_or(&[][..], |truth| &truth.dependencies) {
                if seen.insert(input.clone()) {
                    stack.push(input.clone());
                }
            }
        }
        seen
    }
}
