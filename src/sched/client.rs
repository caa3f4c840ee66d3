//! What clients want: desires, releases, cancels, retries, reports, restart.

use super::Scheduler;
use super::effect::{Answer, Effect, ToClient, ToWorker};
use super::event::PlacedData;
use super::task::{StateName, TaskState};
use super::worker::ClientState;
use crate::base::{CallId, ClientId, Key, TaskId, Text, Value, WorkerId};

impl Scheduler {
    pub(super) fn on_client_added(&mut self, name: Text) {
        // Whoever comes is about to do something: the idle time starts over.
        self.idle_since = None;
        self.client_named(&name);
    }

    /// The client of that name; made when there is none.
    pub(super) fn client_named(&mut self, name: &Text) -> ClientId {
        if let Some(&client) = self.client_by_name.get(name) {
            return client;
        }
        let client = self.clients.insert(ClientState { name: name.clone(), wants_what: Default::default() });
        self.client_by_name.insert(name.clone(), client);
        client
    }

    pub(super) fn on_client_removed(&mut self, client: ClientId) {
        if client == self.fire_and_forget || self.clients.get(client).is_none() {
            return;
        }
        self.release_everything(client);
        self.run_transitions();
        if let Some(client) = self.clients.remove(client) {
            self.client_by_name.remove(&client.name);
            self.with_coord(|coord, _, wishes| coord.on_client_removed(&client.name, wishes));
        }
    }

    pub(super) fn release_everything(&mut self, client: ClientId) {
        let mut wanted: Vec<TaskId> = self.clients[client].wants_what.iter().copied().collect();
        wanted.sort_unstable();
        for task in wanted {
            self.release_for_client(client, task);
        }
    }

    /// A task that rests because nobody wanted it starts again.
    ///
    /// Source: `distributed/scheduler.py`, `client_desires_keys`, which leaves it at rest.
    pub(super) fn client_desires(&mut self, client: ClientId, keys: &[Key]) {
        for key in keys {
            if let Some(task) = self.find(key) {
                let at_rest = matches!(self.tasks[task].state.name(), StateName::Memory | StateName::Erred);
                // Nobody would ever release for `fire-and-forget` what is done already.
                if client != self.fire_and_forget || !at_rest {
                    self.desire(client, task);
                }
                if self.tasks[task].state.name() == StateName::Released {
                    self.recommend(task, StateName::Waiting);
                }
                self.report(client, task);
            }
        }
    }

    pub(super) fn desire(&mut self, client: ClientId, task: TaskId) {
        let Some(entry) = self.clients.get_mut(client) else { return };
        if entry.wants_what.insert(task) {
            self.tasks[task].who_wants.push(client);
        }
    }

    /// Says how a task stands, if it is at rest. Source: `distributed/scheduler.py`, `report_on_key`.
    pub(super) fn report(&mut self, client: ClientId, task: TaskId) {
        let entry = &self.tasks[task];
        let key = entry.key.clone();
        let message = match entry.state.name() {
            StateName::Memory => ToClient::KeyInMemory { key, type_pickle: None },
            StateName::Erred => match self.failure_of(task) {
                Some(failure) => ToClient::TaskErred { key, failure: failure.clone() },
                None => return,
            },
            StateName::Released
            | StateName::Waiting
            | StateName::Queued
            | StateName::NoWorker
            | StateName::Processing
            | StateName::Forgotten => return,
        };
        self.out.push(Effect::ToClient { client, message });
    }

    pub(super) fn on_report_key(&mut self, client: ClientId, key: Key) {
        match self.find(&key) {
            Some(task) => self.report(client, task),
            None => {
                let message = ToClient::CancelledKeys { keys: vec![key], reason: Value::Nil, msg: Value::Nil };
                self.out.push(Effect::ToClient { client, message });
            }
        }
    }

    pub(super) fn on_client_releases(&mut self, client: ClientId, keys: &[Key]) {
        for key in keys {
            if let Some(task) = self.find(key) {
                self.release_for_client(client, task);
            }
        }
        self.run_transitions();
    }

    /// Source: `distributed/scheduler.py`, `_client_releases_keys`.
    pub(super) fn release_for_client(&mut self, client: ClientId, task: TaskId) {
        if !self.clients.get_mut(client).is_some_and(|entry| entry.wants_what.remove(&task)) {
            return;
        }
        let entry = &mut self.tasks[task];
        entry.who_wants.retain(|&other| other != client);
        if !entry.who_wants.is_empty() {
            return;
        }
        if entry.dependents.is_empty() {
            self.recommend(task, StateName::Forgotten);
        } else if entry.state.name() != StateName::Erred && entry.waiters.is_empty() {
            self.recommend(task, StateName::Released);
        }
    }

    /// Source: `distributed/scheduler.py`, `stimulus_cancel`. What other clients want stays; everybody is told.
    pub(super) fn on_cancel_keys(&mut self, client: ClientId, keys: &[Key], force: bool, reason: &Value, msg: &Value) {
        if self.clients.get(client).is_none() {
            return;
        }
        // Dependents go first, each level with its own notice.
        let mut levels = vec![keys.iter().filter_map(|key| self.find(key)).collect::<Vec<_>>()];
        let mut seen = crate::base::SeededSet::default();
        while let Some(level) = levels.last() {
            let mut above = Vec::new();
            for &task in level {
                if self.may_cancel(client, task, force) {
                    above.extend(self.tasks[task].dependents.iter().filter(|&id| seen.insert(id)));
                }
            }
            if above.is_empty() {
                break;
            }
            levels.push(above);
        }
        for level in levels.into_iter().rev() {
            self.cancel_level(client, &level, force, reason, msg);
        }
    }

    fn may_cancel(&self, client: ClientId, task: TaskId, force: bool) -> bool {
        self.tasks.get(task).is_some_and(|entry| force || entry.who_wants == [client] || entry.who_wants.is_empty())
    }

    fn cancel_level(&mut self, client: ClientId, level: &[TaskId], force: bool, reason: &Value, msg: &Value) {
        let mut cancelled = Vec::new();
        for &task in level {
            if !self.may_cancel(client, task, force) {
                continue;
            }
            cancelled.push(self.tasks[task].key.clone());
            let wanters = if force { self.tasks[task].who_wants.clone() } else { vec![client] };
            for wanter in wanters {
                self.release_for_client(wanter, task);
            }
        }
        self.run_transitions();
        let message = ToClient::CancelledKeys { keys: cancelled, reason: reason.clone(), msg: msg.clone() };
        self.out.push(Effect::ToAllClients { message });
    }

    /// Source: `distributed/scheduler.py`, `stimulus_retry`. Unknown keys are skipped.
    ///
    /// The answer names what is tried again: the client makes these futures wait for news. What did not fail and is in
    /// memory is computed again, as in Dask; what is under way already is not named, since its news may be on its way.
    pub(super) fn on_retry(&mut self, call: CallId, client: ClientId, keys: &[Key]) {
        let mut stack: Vec<TaskId> = keys.iter().filter_map(|key| self.find(key)).collect();
        let mut seen = crate::base::SeededSet::default();
        let mut tried_again = Vec::new();
        while let Some(task) = stack.pop() {
            if !seen.insert(task) {
                continue;
            }
            let entry = &self.tasks[task];
            stack.extend(entry.dependencies.iter().filter(|&&id| self.tasks[id].state.name() == StateName::Erred));
            let at_rest = matches!(entry.state.name(), StateName::Erred | StateName::Memory);
            // Scattered data and actors cannot be made again: that they are lost is told on the client's stream alone.
            if at_rest && entry.run_spec.is_some() && !entry.actor && entry.who_wants.contains(&client) {
                tried_again.push(entry.key.clone());
            }
            // All of them, roots last and so first to go: what waits for several must know that each is tried again.
            if at_rest {
                self.recommend(task, StateName::Waiting);
            }
        }
        self.run_transitions();
        self.out.push(Effect::Answer { call, answer: Answer::Keys(tried_again) });
    }

    /// Source: `distributed/scheduler.py`, `update_data`.
    pub(super) fn on_update_data(&mut self, client: Option<ClientId>, data: Vec<PlacedData>) {
        for placed in data {
            let holders: Vec<WorkerId> = placed.holders.into_iter().filter(|&id| self.is_registered(id)).collect();
            if holders.is_empty() {
                // Lost before it was known: whoever waits for it would wait for ever.
                if let (Some(client), None) = (client, self.find(&placed.key)) {
                    let keys = vec![placed.key];
                    let message = ToClient::CancelledKeys { keys, reason: "lost data".into(), msg: Value::Nil };
                    self.out.push(Effect::ToClient { client, message });
                }
                continue;
            }
            let task = self.find(&placed.key).unwrap_or_else(|| {
                let task = self.new_task(placed.key.clone());
                self.key_is_known(&placed.key);
                task
            });
            if self.tasks[task].state.name() != StateName::Memory {
                self.enter_memory_from_outside(task);
            }
            if placed.nbytes >= 0 {
                self.set_nbytes(task, placed.nbytes);
            }
            for worker in holders {
                self.add_replica(task, worker);
            }
            self.wake_dependents(task);
            if let Some(client) = client {
                self.desire(client, task);
            }
            let key = self.tasks[task].key.clone();
            self.out.push(Effect::ToAllClients { message: ToClient::KeyInMemory { key, type_pickle: None } });
        }
    }

    /// Data for a task came from outside while it was in some other state: it leaves that state's structures.
    fn enter_memory_from_outside(&mut self, task: TaskId) {
        // Through `released`, but without what that recommends: the data is here.
        if self.tasks[task].state.name() != StateName::Released {
            self.transition(task, StateName::Released);
            self.withdraw(task);
        }
        self.set_state(task, TaskState::Memory { replicas: Vec::new() });
    }

    /// Takes back what is recommended for a task by pointing it at the state it is about to have.
    fn withdraw(&mut self, task: TaskId) {
        if let Some(at) = self.tasks[task].rec_at {
            self.recs[at.index()].1 = StateName::Memory;
        }
    }

    /// Source: `distributed/scheduler.py`, `restart`, the part that forgets.
    pub(super) fn on_restart(&mut self) {
        for client in self.clients.ids() {
            self.release_everything(client);
        }
        self.run_transitions();
        // Whatever is left is held by nobody: graphs that are being read, erred tasks with dependents.
        for (ticket, graph) in std::mem::take(&mut self.graphs) {
            self.close_graph(ticket, &graph);
        }
        self.shuffles.clear();
        for task in self.tasks.ids() {
            if self.tasks.get(task).is_some() {
                self.force_forget(task);
            }
        }
        self.recs.clear();
        self.out.push(Effect::ToAllClients { message: ToClient::Restart });
        self.with_coord(|coord, _, _| coord.on_restart());
    }

    fn force_forget(&mut self, task: TaskId) {
        let state = self.tasks[task].state.name();
        if state != StateName::Released && state != StateName::Memory {
            self.transition(task, StateName::Released);
        }
        if self.tasks.get(task).is_some() {
            self.transition(task, StateName::Forgotten);
        }
    }

    /// Lifts or sets pins. Source: `distributed/scheduler.py`, `set_restrictions`.
    pub(super) fn on_set_restrictions(&mut self, restrictions: Vec<(Key, Vec<Text>)>) {
        for (key, workers) in restrictions {
            if let Some(task) = self.find(&key) {
                let workers = workers.iter().map(|name| self.address_of(name)).collect();
                self.tasks[task].rare_mut().worker_restrictions = workers;
            }
        }
    }

    /// Tells one worker to drop these keys.
    pub(super) fn free_keys(&mut self, worker: WorkerId, keys: Vec<Key>) {
        if !keys.is_empty() && self.is_registered(worker) {
            self.send_worker(worker, ToWorker::FreeKeys { keys });
        }
    }
}
