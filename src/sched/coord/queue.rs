//! Queues: elements, those who wait for them, and those who wait for room.
//!
//! A future in a queue is wanted by the pseudo client `queue-<name>`, once per element, from before it is put until
//! its receiver says that it wants the key itself. Source: `distributed/queues.py`, `QueueExtension`.

use std::collections::{BTreeMap, VecDeque};

use super::request::{CoordView, Item, KeyWorld, QueueBatch, record};
use super::waiters::{CoordStep, FutureTarget, Timer, WaitingPlace, timed_out};
use crate::base::{CallId, Key, Now, PyError, Text, Value};

#[derive(Default)]
struct Queue {
    /// 0: unbounded.
    maxsize: usize,
    /// How often it was created, less how often it was released.
    users: usize,
    items: VecDeque<Item>,
    getters: VecDeque<Getter>,
    putters: VecDeque<(CallId, Item)>,
}

struct Getter {
    call: CallId,
    want: Want,
}

enum Want {
    One,
    /// Elements are set aside as they come, so that a queue shorter than the batch can still fill it.
    Many {
        count: usize,
        got: Vec<Item>,
    },
}

impl Queue {
    fn has_room(&self) -> bool {
        self.maxsize == 0 || self.items.len() < self.maxsize
    }

    /// Hands elements to getters and room to putters, first come first served, until neither can go on.
    fn serve(&mut self, step: &mut CoordStep<'_>, mut claims: Claims<'_>, world: &dyn KeyWorld) {
        loop {
            while let Some(getter) = self.getters.front_mut()
                && let Some(item) = self.items.pop_front()
            {
                let answer = match &mut getter.want {
                    Want::One => claims.hand_out(&item, world),
                    Want::Many { count, got } => {
                        got.push(item);
                        if got.len() < *count {
                            continue;
                        }
                        Value::Array(got.iter().map(|item| claims.hand_out(item, world)).collect())
                    }
                };
                step.answer(getter.call, answer);
                self.getters.pop_front();
            }
            let mut moved = false;
            while self.has_room()
                && let Some((call, item)) = self.putters.pop_front()
            {
                self.items.push_back(item);
                step.answer(call, Value::Nil);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }
}

/// How many elements claim a key for a queue: those that are in it, and those handed out but not yet confirmed.
#[derive(Default)]
struct Claim {
    inside: usize,
    handed: usize,
}

/// The claims of all queues, as one queue sees them.
struct Claims<'a> {
    name: &'a Key,
    all: &'a mut BTreeMap<(Key, Key), Claim>,
}

impl Claims<'_> {
    /// The element as it goes to its reader, who has to confirm a future.
    fn hand_out(&mut self, item: &Item, world: &dyn KeyWorld) -> Value {
        if let Item::Future(key) = item
            && let Some(claim) = self.all.get_mut(&(self.name.clone(), key.clone()))
        {
            claim.inside = claim.inside.saturating_sub(1);
            claim.handed = claim.handed.saturating_add(1);
        }
        record(item, world)
    }

    fn add(&mut self, step: &mut CoordStep<'_>, key: &Key) {
        let claim = self.all.entry((self.name.clone(), key.clone())).or_default();
        claim.inside = claim.inside.saturating_add(1);
        step.desire(pseudo_client(self.name), vec![key.clone()]);
    }

    /// One element less claims the key: it was thrown away, or confirmed. Confirming what was not handed out is a
    /// mistake of the caller, or late news.
    fn drop(&mut self, step: &mut CoordStep<'_>, key: &Key, confirmed: bool) {
        let place = (self.name.clone(), key.clone());
        let Some(claim) = self.all.get_mut(&place) else { return };
        let count = if confirmed { &mut claim.handed } else { &mut claim.inside };
        *count = count.saturating_sub(1);
        if claim.inside == 0 && claim.handed == 0 {
            self.all.remove(&place);
            step.release(pseudo_client(self.name), vec![key.clone()]);
        }
    }
}

fn unknown(name: &Key) -> PyError {
    PyError::MissingKey(name.to_value())
}

fn pseudo_client(name: &Key) -> Text {
    format!("queue-{name}").into()
}

/// All queues of a scheduler.
#[derive(Default)]
pub(super) struct Queues {
    by_name: BTreeMap<Key, Queue>,
    /// By queue and key. A claim may outlive its queue.
    claims: BTreeMap<(Key, Key), Claim>,
}

impl Queues {
    /// How each of them stands.
    pub fn views(&self) -> impl Iterator<Item = CoordView> {
        self.by_name.iter().map(|(name, queue)| {
            let fields = vec![
                ("size", queue.items.len().into()),
                ("maxsize", queue.maxsize.into()),
                ("waiting", queue.getters.len().saturating_add(queue.putters.len()).into()),
                ("users", queue.users.into()),
            ];
            CoordView { kind: "queue", name: name.clone(), fields }
        })
    }

    pub fn create(&mut self, step: &mut CoordStep<'_>, call: CallId, name: Key, maxsize: usize) {
        let queue = self.by_name.entry(name).or_insert_with(|| Queue { maxsize, ..Queue::default() });
        queue.users = queue.users.saturating_add(1);
        step.answer(call, Value::Nil);
    }

    /// The last user deletes the queue. Whoever still waits is told so, rather than left waiting for ever.
    pub fn release(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        step.answer(call, Value::Nil);
        let Some(queue) = self.by_name.get_mut(name) else { return };
        queue.users = queue.users.saturating_sub(1);
        if queue.users > 0 {
            return;
        }
        let Some(queue) = self.by_name.remove(name) else { return };
        step.waiters.disarm(Now(0), Timer::Serve(name.clone()));
        let mut items: Vec<Item> = queue.items.into();
        for getter in queue.getters {
            step.fail(getter.call, unknown(name));
            if let Want::Many { got, .. } = getter.want {
                items.extend(got);
            }
        }
        for (putter, item) in queue.putters {
            step.fail(putter, unknown(name));
            items.push(item);
        }
        let mut claims = Claims { name, all: &mut self.claims };
        for item in items {
            if let Item::Future(key) = item {
                claims.drop(step, &key, false);
            }
        }
    }

    /// `deadline` comes apart from `step` because waiting for the future's task may have used some of it up.
    pub fn put(&mut self, step: &mut CoordStep<'_>, call: CallId, to: (Key, Item, Option<Now>), world: &dyn KeyWorld) {
        let (name, item, deadline) = to;
        if step.waits_for_task(call, (&item, deadline), world, || FutureTarget::Queue(name.clone())) {
            return;
        }
        let Some(queue) = self.by_name.get_mut(&name) else {
            return step.fail(call, unknown(&name));
        };
        let mut claims = Claims { name: &name, all: &mut self.claims };
        if let Item::Future(key) = &item {
            claims.add(step, key);
        }
        queue.putters.push_back((call, item));
        queue.serve(step, claims, world);
        if queue.putters.back().is_none_or(|(last, _)| *last != call) {
            return;
        }
        if step.is_past(deadline) {
            self.withdraw_putter(step, call, &name);
            return step.fail(call, timed_out(""));
        }
        step.park(call, WaitingPlace::QueuePut(name), deadline);
    }

    pub fn get(
        &mut self,
        step: &mut CoordStep<'_>,
        call: CallId,
        from: (Key, Option<f64>, QueueBatch),
        world: &dyn KeyWorld,
    ) {
        let (name, timeout, batch) = from;
        let Some(queue) = self.by_name.get_mut(&name) else {
            return step.fail(call, unknown(&name));
        };
        let mut claims = Claims { name: &name, all: &mut self.claims };
        let want = match batch {
            QueueBatch::One => Want::One,
            QueueBatch::All | QueueBatch::Count(0) => {
                let count = if batch == QueueBatch::All { queue.items.len() } else { 0 };
                let items: Vec<Value> = queue.items.drain(..count).map(|item| claims.hand_out(&item, world)).collect();
                step.answer(call, items);
                return queue.serve(step, claims, world);
            }
            QueueBatch::Count(count) => {
                if timeout.is_some() {
                    let text = "Dask queues don't support simultaneous use of integer batch sizes and timeouts";
                    return step.fail(call, PyError::builtin("NotImplementedError", text));
                }
                Want::Many { count, got: Vec::new() }
            }
        };
        queue.getters.push_back(Getter { call, want });
        queue.serve(step, claims, world);
        if queue.getters.back().is_none_or(|last| last.call != call) {
            return;
        }
        let deadline = step.deadline(timeout);
        if step.is_past(deadline) {
            queue.getters.pop_back();
            return step.fail(call, timed_out(""));
        }
        step.park(call, WaitingPlace::QueueGet(name), deadline);
    }

    pub fn size(&self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        match self.by_name.get(name) {
            Some(queue) => step.answer(call, queue.items.len()),
            None => step.fail(call, unknown(name)),
        }
    }

    /// The receiver of a future says that it wants the key itself from now on.
    pub fn confirm(&mut self, step: &mut CoordStep<'_>, name: &Key, key: Key, client: Option<&Text>) {
        if let Some(client) = client {
            step.desire(client.clone(), vec![key.clone()]);
        }
        Claims { name, all: &mut self.claims }.drop(step, &key, true);
    }

    pub fn withdraw_putter(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        let Some(at) = queue.putters.iter().position(|(putter, _)| *putter == call) else { return };
        if let Some((_, Item::Future(key))) = queue.putters.remove(at) {
            Claims { name, all: &mut self.claims }.drop(step, &key, false);
        }
    }

    /// What was set aside for the getter goes back to where it came from. It is handed on a moment later, at the
    /// next tick: only there the states of tasks can be asked for.
    pub fn withdraw_getter(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        let Some(at) = queue.getters.iter().position(|getter| getter.call == call) else { return };
        let Some(Getter { want: Want::Many { got, .. }, .. }) = queue.getters.remove(at) else { return };
        for item in got.into_iter().rev() {
            queue.items.push_front(item);
        }
        if !queue.items.is_empty() && !queue.getters.is_empty() {
            step.waiters.arm(Now(0), Timer::Serve(name.clone()));
        }
    }

    /// See [`Queues::withdraw_getter`].
    pub fn serve(&mut self, step: &mut CoordStep<'_>, name: &Key, world: &dyn KeyWorld) {
        if let Some(queue) = self.by_name.get_mut(name) {
            queue.serve(step, Claims { name, all: &mut self.claims }, world);
        }
    }

    /// Lists who waits where; returns the first broken rule.
    pub fn check(&self, waiting: &mut Vec<(CallId, WaitingPlace)>, deferred: bool) -> Result<(), String> {
        let mut futures: BTreeMap<(Key, Key), usize> = BTreeMap::new();
        for (name, queue) in &self.by_name {
            if queue.users == 0 {
                return Err(format!("queue {name} outlived its users"));
            }
            if !queue.items.is_empty() && !queue.getters.is_empty() && !deferred {
                return Err(format!("queue {name} has elements and calls that wait for them"));
            }
            if !queue.putters.is_empty() && queue.has_room() {
                return Err(format!("queue {name} has room and calls that wait for it"));
            }
            waiting.extend(queue.getters.iter().map(|getter| (getter.call, WaitingPlace::QueueGet(name.clone()))));
            waiting.extend(queue.putters.iter().map(|(call, _)| (*call, WaitingPlace::QueuePut(name.clone()))));
            let aside = queue.getters.iter().flat_map(|getter| match &getter.want {
                Want::One => [].iter(),
                Want::Many { got, .. } => got.iter(),
            });
            for item in queue.items.iter().chain(queue.putters.iter().map(|(_, item)| item)).chain(aside) {
                if let Item::Future(key) = item {
                    *futures.entry((name.clone(), key.clone())).or_default() += 1;
                }
            }
        }
        for (place, claim) in &self.claims {
            let inside = futures.remove(place).unwrap_or(0);
            if inside != claim.inside || inside + claim.handed == 0 {
                let (name, key) = place;
                return Err(format!("queue {name} holds {key} {inside} times but counted {}", claim.inside));
            }
        }
        if let Some(((name, key), count)) = futures.pop_first() {
            return Err(format!("queue {name} holds {key} {count} times but never counted it"));
        }
        Ok(())
    }
}
