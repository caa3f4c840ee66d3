//! Calls that wait and the times at which something is due. Knows nothing of what the calls wait for.

use std::collections::BTreeSet;

use super::request::{CoordWish, Item, KeyWorld};
use crate::base::{CallId, Key, Now, PyError, SeededMap, Text, Value};

/// Where a waiting call stands in line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WaitingPlace {
    /// Waits for this event to be set.
    Event(Key),
    /// Waits for a lease of this semaphore.
    Semaphore(Key),
    /// Waits for the locks of the request with this id.
    MultiLock(Key),
    /// Waits for room in this queue.
    QueuePut(Key),
    /// Waits for elements of this queue.
    QueueGet(Key),
    /// Waits for this variable to be set.
    VariableGet(Key),
    /// Waits for the task `key` to exist, to put its future there.
    Unborn { key: Key, target: FutureTarget },
}

/// Where a future goes once its task exists.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FutureTarget {
    /// Into the queue of this name.
    Queue(Key),
    /// Into the variable of this name.
    Variable(Key),
}

/// A call that has no answer yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Where it stands.
    pub place: WaitingPlace,
    /// When it gives up; none: never.
    pub deadline: Option<Now>,
}

/// What is due at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// This call gives up.
    Call(CallId),
    /// The leases of this semaphore are looked over.
    Leases(Key),
    /// Elements came back to this queue while nobody could say how their tasks stand.
    Serve(Key),
}

/// All waiting calls and all timers.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: SeededMap<CallId, Waiting>,
    timers: BTreeSet<(Now, Timer)>,
}

impl Waiters {
    /// Stops waiting; the place in line is the caller's to clear.
    pub fn take(&mut self, call: CallId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&call)?;
        if let Some(deadline) = waiting.deadline {
            self.timers.remove(&(deadline, Timer::Call(call)));
        }
        Some(waiting)
    }

    /// Where the call stands.
    pub fn place(&self, call: CallId) -> Option<&WaitingPlace> {
        self.waiting.get(&call).map(|waiting| &waiting.place)
    }

    /// Sets a timer.
    pub fn arm(&mut self, at: Now, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Unsets a timer.
    pub fn disarm(&mut self, at: Now, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    /// The next timer that is due, unset.
    pub fn pop_due(&mut self, now: Now) -> Option<Timer> {
        if self.timers.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    /// When the first timer is due.
    pub fn next_deadline(&self) -> Option<Now> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Every deadline has its timer, and every timer of a call its call.
    pub fn check(&self) -> Result<(), String> {
        for (call, waiting) in &self.waiting {
            if let Some(deadline) = waiting.deadline
                && !self.timers.contains(&(deadline, Timer::Call(*call)))
            {
                return Err(format!("call {call} waits until {deadline:?} without a timer"));
            }
        }
        for (at, timer) in &self.timers {
            if let Timer::Call(call) = timer
                && self.waiting.get(call).and_then(|waiting| waiting.deadline) != Some(*at)
            {
                return Err(format!("a timer at {at:?} for call {call}, which does not wait for it"));
            }
        }
        Ok(())
    }
}

/// What every operation of a primitive needs at hand.
pub(super) struct CoordStep<'a> {
    /// The time.
    pub now: Now,
    /// Waiting calls and timers.
    pub waiters: &'a mut Waiters,
    /// Where wishes go.
    pub wishes: &'a mut Vec<CoordWish>,
}

impl CoordStep<'_> {
    /// Answers a call, whether it waited or not.
    pub fn answer(&mut self, call: CallId, answer: impl Into<Value>) {
        self.waiters.take(call);
        self.wishes.push(CoordWish::Answer(call, Ok(answer.into())));
    }

    /// Raises at the caller.
    pub fn fail(&mut self, call: CallId, error: PyError) {
        self.waiters.take(call);
        self.wishes.push(CoordWish::Answer(call, Err(error)));
    }

    /// Lets a client want keys, unless there are none.
    pub fn desire(&mut self, client: Text, keys: Vec<Key>) {
        if !keys.is_empty() {
            self.wishes.push(CoordWish::Desire(client, keys));
        }
    }

    /// Lets a client release keys, unless there are none.
    pub fn release(&mut self, client: Text, keys: Vec<Key>) {
        if !keys.is_empty() {
            self.wishes.push(CoordWish::Release(client, keys));
        }
    }

    /// When a call made now gives up.
    pub fn deadline(&self, timeout: Option<f64>) -> Option<Now> {
        timeout.map(|seconds| self.now.plus_secs(seconds))
    }

    /// Did the deadline come?
    pub fn is_past(&self, deadline: Option<Now>) -> bool {
        deadline.is_some_and(|at| at <= self.now)
    }

    /// Is the item a future of a task that nobody knows yet? Then the call waits for the task, or fails if its time is
    /// over.
    pub fn waits_for_task(
        &mut self,
        call: CallId,
        (item, deadline): (&Item, Option<Now>),
        world: &dyn KeyWorld,
        target: impl FnOnce() -> FutureTarget,
    ) -> bool {
        let Item::Future(key) = item else { return false };
        if world.key_state(key).is_some() {
            return false;
        }
        match self.is_past(deadline) {
            true => self.fail(call, timed_out(format!("Task {key} unknown to scheduler."))),
            false => self.park(call, WaitingPlace::Unborn { key: key.clone(), target: target() }, deadline),
        }
        true
    }

    /// Lets a call wait. The caller has checked that its deadline is ahead.
    pub fn park(&mut self, call: CallId, place: WaitingPlace, deadline: Option<Now>) {
        if let Some(at) = deadline {
            self.waiters.arm(at, Timer::Call(call));
        }
        self.waiters.waiting.insert(call, Waiting { place, deadline });
    }
}

/// What `asyncio` raises when a wait ends for lack of time.
pub(super) fn timed_out(message: impl Into<Text>) -> PyError {
    PyError::builtin("TimeoutError", message)
}

/// `AssertionError` without a text, as a bare `assert` raises it.
pub(super) fn assertion() -> PyError {
    PyError::builtin("AssertionError", "")
}
