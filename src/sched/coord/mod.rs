//! Coordination primitives: events, semaphores (and so locks), multi-locks, queues, variables, published datasets.
//!
//! A state machine of its own beside the tasks: requests in, answers and wishes about keys out. It may not know tasks;
//! what it must know of a key it asks through [`KeyWorld`].

mod event;
mod multi_lock;
mod publish;
mod queue;
mod semaphore;
#[cfg(test)]
mod tests;
mod variable;
mod waiters;

use serde::{Deserialize, Serialize};

use crate::base::{CallId, Failure, Key, Now, PyError, SeededMap, Text, Value};
pub use semaphore::SemaphoreView;

use waiters::{Desk, Place, Step, Target, Timer, timed_out};

/// A request; names are keys (a list name is a tuple). Source: the scheduler side of `distributed`'s `event.py`,
/// `semaphore.py`, `multi_lock.py`, `queues.py`, `variable.py`, `publish.py`. Timeouts in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CoordRequest {
    /// `event_wait`: true, or false after the timeout.
    EventWait { name: Key, timeout: Option<f64> },
    /// `event_set`.
    EventSet { name: Key },
    /// `event_clear`.
    EventClear { name: Key },
    /// `event_is_set`.
    EventIsSet { name: Key },
    /// `semaphore_register`.
    SemaphoreRegister { name: Key, max_leases: i64, lease_timeout: Option<f64> },
    /// `semaphore_acquire`: true, or false after the timeout. Holding `lease_id` already counts as success.
    SemaphoreAcquire { name: Key, timeout: Option<f64>, lease_id: Key },
    /// `semaphore_release`: whether the lease was held.
    SemaphoreRelease { name: Key, lease_id: Key },
    /// `semaphore_refresh_leases`.
    SemaphoreRefresh { name: Key, lease_ids: Vec<Key> },
    /// `semaphore_value`: leases taken.
    SemaphoreValue { name: Key },
    /// `semaphore_close`.
    SemaphoreClose { name: Key },
    /// `multi_lock_acquire`.
    MultiLockAcquire { locks: Vec<Key>, id: Key, timeout: Option<f64>, num_locks: Option<usize> },
    /// `multi_lock_release`.
    MultiLockRelease { id: Key },
    /// `queue_create`; 0: unbounded.
    QueueCreate { name: Key, maxsize: usize },
    /// `queue_release` (stream): one user less; the last one deletes the queue.
    QueueRelease { name: Key },
    /// `queue_put`.
    QueuePut { name: Key, item: Item, timeout: Option<f64> },
    /// `queue_get`.
    QueueGet { name: Key, timeout: Option<f64>, batch: Batch },
    /// `queue_qsize`.
    QueueSize { name: Key },
    /// `queue-future-release` (stream).
    QueueFutureRelease { name: Key, key: Key },
    /// `variable_set`.
    VariableSet { name: Key, item: Item, timeout: Option<f64> },
    /// `variable_get`.
    VariableGet { name: Key, timeout: Option<f64> },
    /// `variable-future-received-confirm` (stream).
    VariableConfirm { name: Key, key: Key, token: Text },
    /// `variable_delete` (stream).
    VariableDelete { name: Key },
    /// `publish_put`.
    PublishPut { names: Vec<Key>, keys: Vec<Vec<Key>>, data: Vec<Value>, overwrite: bool },
    /// `publish_delete`.
    PublishDelete { names: Vec<Key> },
    /// `publish_list`.
    PublishList,
    /// `publish_get`.
    PublishGet { names: Vec<Key> },
    /// `publish_get` of one, whose answer is no list: of clients before distributed 2026.6.
    PublishGetOne { name: Key },
}

/// What travels through queues and variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// A future: the key of a task.
    Future(Key),
    /// Any other value.
    Data(Value),
}

/// The `batch` argument of `queue_get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batch {
    /// One element, not in a list.
    One,
    /// Whatever is there now, possibly nothing.
    All,
    /// Exactly so many: waits for them.
    Count(usize),
}

/// What coordination may ask about tasks.
pub trait KeyWorld {
    /// How the key stands: its state's name, and how it failed when erred. None: unknown.
    fn key_state(&self, key: &Key) -> Option<(&'static str, Option<&Failure>)>;
}

/// What coordination wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Answer this call.
    Answer(CallId, Result<Value, PyError>),
    /// Let the pseudo client want these keys.
    Desire(Text, Vec<Key>),
    /// Let the pseudo client release these keys.
    Release(Text, Vec<Key>),
}

/// One element of a queue or value of a variable, as it goes to a reader.
///
/// A failure of our own ([`Failure::Raised`]) is not a pickle yet: then `state` is `erred` and `exception` is nil,
/// and whoever writes the answer puts the pickle there (the key is `value`).
fn record(item: &Item, world: &dyn KeyWorld) -> Value {
    let key = match item {
        Item::Data(data) => return Value::map([("type", Value::str("msgpack")), ("value", data.clone())]),
        Item::Future(key) => key,
    };
    let (state, failure) = world.key_state(key).unwrap_or(("lost", None));
    let mut fields = vec![
        (Value::str("type"), Value::str("Future")),
        (Value::str("value"), key.to_value()),
        (Value::str("state"), Value::str(state)),
    ];
    if state == "erred" {
        let (exception, traceback) = match failure {
            Some(Failure::Remote { exception, traceback, .. }) => (exception.clone(), traceback.clone()),
            Some(Failure::Raised(_)) | None => (Value::Nil, Value::Nil),
        };
        fields.push((Value::str("exception"), exception));
        fields.push((Value::str("traceback"), traceback));
    }
    Value::Map(fields)
}

/// One primitive as pages show it.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordView {
    /// `lock`, `semaphore`, `event`, `queue`, `variable`, `multilock` or `dataset`.
    pub kind: &'static str,
    /// Its name.
    pub name: Key,
    /// What there is to say of this kind.
    pub fields: Vec<(&'static str, Value)>,
}

/// All coordination primitives of a scheduler.
pub struct Coord {
    desk: Desk,
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
    /// Nothing is there yet. `_lease_timeout_secs` is for the record: each semaphore is registered with its client's
    /// own timeout, and none means that its leases never end.
    pub fn new(lease_validation_secs: f64, _lease_timeout_secs: f64) -> Self {
        Self {
            desk: Desk::default(),
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
        wishes: &mut Vec<Wish>,
    ) {
        use CoordRequest as R;
        let step = &mut Step { now, desk: &mut self.desk, wishes };
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
                let wanted = multi_lock::Wanted { locks, count: num_locks, timeout };
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
        if let Some(Place::Unborn { key, .. }) = self.desk.place(call) {
            self.unborn.entry(key.clone()).or_default().push(call);
        }
    }

    /// The asker's connection died: its place in line is free. Calls that were answered are not known any more.
    pub fn on_abandoned(&mut self, call: CallId, wishes: &mut Vec<Wish>) {
        // Leaving a line needs no time: nothing that it sets in motion has a deadline of its own.
        let Some(waiting) = self.desk.take(call) else { return };
        self.leave(Now(0), call, waiting.place, wishes);
    }

    /// Clears a call's place in line.
    fn leave(&mut self, now: Now, call: CallId, place: Place, wishes: &mut Vec<Wish>) {
        let step = &mut Step { now, desk: &mut self.desk, wishes };
        match place {
            Place::Event(name) => self.events.withdraw(call, &name),
            Place::Semaphore(name) => self.semaphores.withdraw(call, &name),
            Place::MultiLock(id) => self.multi_locks.withdraw(step, &id),
            Place::QueuePut(name) => self.queues.withdraw_putter(step, call, &name),
            Place::QueueGet(name) => self.queues.withdraw_getter(step, call, &name),
            Place::VariableGet(name) => self.variables.withdraw(call, &name),
            Place::Unborn { key, .. } => {
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
    pub fn on_client_removed(&mut self, client: &Text, wishes: &mut Vec<Wish>) {
        let step = &mut Step { now: Now(0), desk: &mut self.desk, wishes };
        self.variables.forget_client(step, client);
    }

    /// A task with this key exists now: puts of its future go on.
    pub fn on_key_known(&mut self, now: Now, key: &Key, world: &dyn KeyWorld, wishes: &mut Vec<Wish>) {
        let Some(calls) = self.unborn.remove(key) else { return };
        for call in calls {
            let Some(waiting) = self.desk.take(call) else { continue };
            let Place::Unborn { target, .. } = waiting.place else { continue };
            let step = &mut Step { now, desk: &mut self.desk, wishes };
            let item = Item::Future(key.clone());
            match target {
                Target::Queue(name) => self.queues.put(step, call, (name, item, waiting.deadline), world),
                Target::Variable(name) => self.variables.set(step, call, (name, item, waiting.deadline), world),
            }
            self.note_unborn(call);
        }
    }

    /// Does anybody wait for a task to exist? While not, [`Coord::on_key_known`] need not be called.
    pub fn awaits_keys(&self) -> bool {
        !self.unborn.is_empty()
    }

    /// Lets calls give up whose time is over, and ends leases.
    pub fn on_tick(&mut self, now: Now, world: &dyn KeyWorld, wishes: &mut Vec<Wish>) {
        while let Some(timer) = self.desk.pop_due(now) {
            match timer {
                Timer::Call(call) => self.give_up(now, call, wishes),
                Timer::Leases(name) => {
                    let step = &mut Step { now, desk: &mut self.desk, wishes };
                    self.semaphores.look_over(step, &name);
                }
                Timer::Serve(name) => {
                    let step = &mut Step { now, desk: &mut self.desk, wishes };
                    self.queues.serve(step, &name, world);
                }
            }
        }
    }

    fn give_up(&mut self, now: Now, call: CallId, wishes: &mut Vec<Wish>) {
        let Some(waiting) = self.desk.take(call) else { return };
        let answer = match &waiting.place {
            Place::Event(_) | Place::Semaphore(_) | Place::MultiLock(_) => Ok(Value::Bool(false)),
            Place::QueuePut(_) | Place::QueueGet(_) | Place::VariableGet(_) => Err(timed_out("")),
            Place::Unborn { key, .. } => Err(timed_out(format!("Task {key} unknown to scheduler."))),
        };
        wishes.push(Wish::Answer(call, answer));
        self.leave(now, call, waiting.place, wishes);
    }

    /// When [`Coord::on_tick`] has something to do; none while nothing waits and no lease can end.
    pub fn next_deadline(&self) -> Option<Now> {
        self.desk.next_deadline()
    }

    /// Every task was forgotten (`Client.restart`). As in Dask all primitives stay as they are, with their waiting
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
        self.desk.check()?;
        let mut waiting = Vec::new();
        self.events.check(&mut waiting)?;
        self.semaphores.check(&mut waiting)?;
        self.multi_locks.check(&mut waiting)?;
        self.queues.check(&mut waiting, self.desk.next_deadline() == Some(Now(0)))?;
        self.variables.check(&mut waiting)?;
        for (key, calls) in &self.unborn {
            for call in calls {
                match self.desk.place(*call) {
                    Some(place @ Place::Unborn { key: other, .. }) if other == key => {
                        waiting.push((*call, place.clone()));
                    }
                    place => return Err(format!("call {call} should wait for {key} but stands at {place:?}")),
                }
            }
        }
        for (call, place) in &waiting {
            if self.desk.place(*call) != Some(place) {
                return Err(format!("call {call} stands at {place:?} but waits at {:?}", self.desk.place(*call)));
            }
        }
        if waiting.len() != self.desk.len() {
            return Err(format!("{} calls wait, {} stand in line", self.desk.len(), waiting.len()));
        }
        Ok(())
    }
}
