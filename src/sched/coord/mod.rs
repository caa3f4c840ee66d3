//! Coordination primitives: events, semaphores (and so locks), multi-locks, queues, variables, published datasets.
//!
//! A state machine of its own beside the tasks: requests in, answers and wishes about keys out. It may not know tasks;
//! what it must know of a key it asks through [`KeyWorld`].

mod event;
mod multi_lock;
mod publish;
mod queue;
mod request;
mod semaphore;
#[cfg(test)]
mod tests;
mod variable;
mod waiters;

use crate::base::{CallId, Key, Now, SeededMap, Text, Value};
pub use request::{CoordRequest, CoordView, CoordWish, Item, KeyWorld, QueueBatch};
pub use semaphore::SemaphoreView;

use waiters::{CoordStep, FutureTarget, Timer, Waiters, WaitingPlace, timed_out};

/// All coordination primitives of a scheduler.
pub struct Coord {
    waiters: Waiters,
    events: event::Events,
    semaphores: semaphore::Semaphores,
    multi_locks: multi_lock::MultiLocks,
    queues: queue::Queues,
    variables: variable::Variables,
    datasets: publish::Datasets,
    /// Calls that wait for a task to exist, in the order they came.
    unborn: SeededMap<Key, Vec<CallId>>,
}

impl Coord {
    /// No primitive exists yet. How long leases last is not said here: each semaphore is registered with its client's
    /// own timeout, and none means that its leases never end.
    pub fn new(lease_validation_secs: f64) -> Self {
        Self {
            waiters: Waiters::default(),
            events: event::Events::default(),
            semaphores: semaphore::Semaphores::new(lease_validation_secs),
            multi_locks: multi_lock::MultiLocks::default(),
            queues: queue::Queues::default(),
            variables: variable::Variables::default(),
            datasets: publish::Datasets::default(),
            unborn: SeededMap::default(),
        }
    }

    /// Does what is asked. The call is answered now or later, once; requests that came on a stream are answered too,
    /// for the driver to drop. `client` is who asks, where that is known.
    pub fn on_request(
        &mut self,
        now: Now,
        call: CallId,
        client: Option<&Text>,
        request: CoordRequest,
        world: &dyn KeyWorld,
        wishes: &mut Vec<CoordWish>,
    ) {
        use CoordRequest as R;
        let step = &mut CoordStep { now, waiters: &mut self.waiters, wishes };
        match request {
            R::EventWait { name, timeout } => self.events.wait(step, call, name, timeout),
            R::EventSet { name } => self.events.set(step, call, name),
            R::EventClear { name } => self.events.clear(step, call, &name),
            R::EventIsSet { name } => step.answer(call, self.events.is_set(&name)),
            R::SemaphoreRegister { name, max_leases, lease_timeout } => {
                self.semaphores.register(step, call, name, max_leases, lease_timeout);
            }
            R::SemaphoreAcquire { name, timeout, lease_id } => {
                self.semaphores.acquire(step, call, name, timeout, lease_id);
            }
            R::SemaphoreRelease { name, lease_id } => self.semaphores.release(step, call, &name, &lease_id),
            R::SemaphoreRefresh { name, lease_ids } => self.semaphores.refresh(step, call, &name, lease_ids),
            R::SemaphoreValue { name } => step.answer(call, self.semaphores.value(&name)),
            R::SemaphoreClose { name } => self.semaphores.close(step, call, &name),
            R::MultiLockAcquire { locks, id, timeout, num_locks } => {
                let wanted = multi_lock::LocksWanted { locks, count: num_locks, timeout };
                self.multi_locks.acquire(step, call, id, wanted);
            }
            R::MultiLockRelease { id } => self.multi_locks.release(step, call, &id),
            R::QueueCreate { name, maxsize } => self.queues.create(step, call, name, maxsize),
            R::QueueRelease { name } => self.queues.release(step, call, &name),
            R::QueuePut { name, item, timeout } => {
                let to = (name, item, step.deadline(timeout));
                self.queues.put(step, call, to, world);
            }
            R::QueueGet { name, timeout, batch } => self.queues.get(step, call, (name, timeout, batch), world),
            R::QueueSize { name } => self.queues.size(step, call, &name),
            R::QueueFutureRelease { name, key } => {
                self.queues.confirm(step, &name, key, client);
                step.answer(call, Value::Nil);
            }
            R::VariableSet { name, item, timeout } => {
                let to = (name, item, step.deadline(timeout));
                self.variables.set(step, call, to, world);
            }
            R::VariableGet { name, timeout } => self.variables.get(step, call, (name, timeout, client), world),
            R::VariableConfirm { name, key, token } => {
                self.variables.confirm(step, (&name, key, &token), client);
                step.answer(call, Value::Nil);
            }
            R::VariableDelete { name } => {
                self.variables.delete(step, &name);
                step.answer(call, Value::Nil);
            }
            R::PublishPut { names, keys, data, overwrite } => {
                self.datasets.put(step, call, publish::Published { names, keys, data, overwrite });
            }
            R::PublishDelete { names } => self.datasets.delete(step, call, &names),
            R::PublishList => step.answer(call, self.datasets.list()),
            R::PublishGet { names } => {
                let found = names.iter().map(|name| self.datasets.get(name)).collect();
                step.answer(call, Value::Array(found));
            }
            R::PublishGetOne { name } => step.answer(call, self.datasets.get(&name)),
        }
        self.note_unborn(call);
    }

    /// Files a call that waits for a task under the task's key.
    fn note_unborn(&mut self, call: CallId) {
        if let Some(WaitingPlace::Unborn { key, .. }) = self.waiters.place(call) {
            self.unborn.entry(key.clone()).or_default().push(call);
        }
    }

    /// The asker's connection died: its place in line is free. Calls that were answered are not known any more.
    pub fn on_abandoned(&mut self, call: CallId, wishes: &mut Vec<CoordWish>) {
        // Leaving a line needs no time: nothing that it sets in motion has a deadline of its own.
        let Some(waiting) = self.waiters.take(call) else { return };
        self.leave(Now(0), call, waiting.place, wishes);
    }

    /// Clears a call's place in line.
    fn leave(&mut self, now: Now, call: CallId, place: WaitingPlace, wishes: &mut Vec<CoordWish>) {
        let step = &mut CoordStep { now, waiters: &mut self.waiters, wishes };
        match place {
            WaitingPlace::Event(name) => self.events.withdraw(call, &name),
            WaitingPlace::Semaphore(name) => self.semaphores.withdraw(call, &name),
            WaitingPlace::MultiLock(id) => self.multi_locks.withdraw(step, &id),
            WaitingPlace::QueuePut(name) => self.queues.withdraw_putter(step, call, &name),
            WaitingPlace::QueueGet(name) => self.queues.withdraw_getter(step, call, &name),
            WaitingPlace::VariableGet(name) => self.variables.withdraw(call, &name),
            WaitingPlace::Unborn { key, .. } => {
                if let Some(calls) = self.unborn.get_mut(&key) {
                    calls.retain(|other| *other != call);
                    if calls.is_empty() {
                        self.unborn.remove(&key);
                    }
                }
            }
        }
    }

    /// A client is gone for good: it will not confirm the futures it was handed.
    pub fn on_client_removed(&mut self, client: &Text, wishes: &mut Vec<CoordWish>) {
        let step = &mut CoordStep { now: Now(0), waiters: &mut self.waiters, wishes };
        self.variables.forget_client(step, client);
    }

    /// A task with this key exists now: puts of its future go on.
    pub fn on_key_known(&mut self, now: Now, key: &Key, world: &dyn KeyWorld, wishes: &mut Vec<CoordWish>) {
        let Some(calls) = self.unborn.remove(key) else { return };
        for call in calls {
            let Some(waiting) = self.waiters.take(call) else { continue };
            let WaitingPlace::Unborn { target, .. } = waiting.place else { continue };
            let step = &mut CoordStep { now, waiters: &mut self.waiters, wishes };
            let item = Item::Future(key.clone());
            match target {
                FutureTarget::Queue(name) => self.queues.put(step, call, (name, item, waiting.deadline), world),
                FutureTarget::Variable(name) => self.variables.set(step, call, (name, item, waiting.deadline), world),
            }
            self.note_unborn(call);
        }
    }

    /// Does anybody wait for a task to exist? While not, [`Coord::on_key_known`] need not be called.
    pub fn awaits_keys(&self) -> bool {
        !self.unborn.is_empty()
    }

    /// Lets calls give up whose time is over, and ends leases.
    pub fn on_tick(&mut self, now: Now, world: &dyn KeyWorld, wishes: &mut Vec<CoordWish>) {
        while let Some(timer) = self.waiters.pop_due(now) {
            match timer {
                Timer::Call(call) => self.give_up(now, call, wishes),
                Timer::Leases(name) => {
                    let step = &mut CoordStep { now, waiters: &mut self.waiters, wishes };
                    self.semaphores.look_over(step, &name);
                }
                Timer::Serve(name) => {
                    let step = &mut CoordStep { now, waiters: &mut self.waiters, wishes };
                    self.queues.serve(step, &name, world);
                }
            }
        }
    }

    fn give_up(&mut self, now: Now, call: CallId, wishes: &mut Vec<CoordWish>) {
        let Some(waiting) = self.waiters.take(call) else { return };
        let answer = match &waiting.place {
            WaitingPlace::Event(_) | WaitingPlace::Semaphore(_) | WaitingPlace::MultiLock(_) => Ok(Value::Bool(false)),
            WaitingPlace::QueuePut(_) | WaitingPlace::QueueGet(_) | WaitingPlace::VariableGet(_) => Err(timed_out("")),
            WaitingPlace::Unborn { key, .. } => Err(timed_out(format!("Task {key} unknown to scheduler."))),
        };
        wishes.push(CoordWish::Answer(call, answer));
        self.leave(now, call, waiting.place, wishes);
    }

    /// When [`Coord::on_tick`] has something to do; none while nothing waits and no lease can end.
    pub fn next_deadline(&self) -> Option<Now> {
        self.waiters.next_deadline()
    }

    /// Every task was forgotten (`Client.restart`). As in Dask all primitives stay unchanged, with their waiting
    /// calls; their futures read as `lost`. What was wanted on behalf of readers is wanted no more.
    pub fn on_restart(&mut self) {
        self.variables.forget_wants();
    }

    /// How each semaphore stands, for metrics.
    pub fn semaphores(&self) -> Vec<SemaphoreView> {
        self.semaphores.list()
    }

    /// How all of them stand, for pages; at most `max`.
    pub fn views(&self, max: usize) -> Vec<CoordView> {
        let semaphores = self.semaphores.list().into_iter().map(|view| {
            let holders = Value::Array(view.holders.iter().map(Key::to_value).collect());
            let fields = vec![
                ("leases", view.active.into()),
                ("max_leases", view.max_leases.into()),
                ("waiting", view.pending.into()),
                ("holder", holders),
            ];
            // A lock is a semaphore with one lease.
            CoordView { kind: if view.max_leases == 1 { "lock" } else { "semaphore" }, name: view.name, fields }
        });
        semaphores
            .chain(self.events.views())
            .chain(self.multi_locks.views())
            .chain(self.queues.views())
            .chain(self.variables.views())
            .chain(self.datasets.views())
            .take(max)
            .collect()
    }

    /// Every rule that must hold between two requests. Returns the first broken one.
    pub fn check(&self) -> Result<(), String> {
        self.waiters.check()?;
        let mut waiting = Vec::new();
        self.events.check(&mut waiting)?;
        self.semaphores.check(&mut waiting)?;
        self.multi_locks.check(&mut waiting)?;
        self.queues.check(&mut waiting, self.waiters.next_deadline() == Some(Now(0)))?;
        self.variables.check(&mut waiting)?;
        for (key, calls) in &self.unborn {
            for call in calls {
                match self.waiters.place(*call) {
                    Some(place @ WaitingPlace::Unborn { key: other, .. }) if other == key => {
                        waiting.push((*call, place.clone()));
                    }
                    place => return Err(format!("call {call} should wait for {key} but stands at {place:?}")),
                }
            }
        }
        for (call, place) in &waiting {
            if self.waiters.place(*call) != Some(place) {
                return Err(format!("call {call} stands at {place:?} but waits at {:?}", self.waiters.place(*call)));
            }
        }
        if waiting.len() != self.waiters.len() {
            return Err(format!("{} calls wait, {} stand in line", self.waiters.len(), waiting.len()));
        }
        Ok(())
    }
}
