//! Multi-locks: a request waits in the line of each lock it names until it heads enough of them.
//!
//! Source: `distributed/multi_lock.py`, `MultiLockExtension`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::request::CoordView;
use super::waiters::{CoordStep, WaitingPlace, assertion};
use crate::base::{CallId, Key, PyError, Value};

struct Request {
    /// Lines it stands in.
    locks: BTreeSet<Key>,
    /// Locks it needs.
    needed: usize,
    /// Locks it has: lines it heads.
    held: usize,
    /// The call to answer; none once it was.
    call: Option<CallId>,
}

/// All multi-locks of a scheduler.
#[derive(Default)]
pub(super) struct MultiLocks {
    lines: BTreeMap<Key, VecDeque<Key>>,
    requests: BTreeMap<Key, Request>,
}

/// What a request asks for.
pub(super) struct LocksWanted {
    /// Names of locks.
    pub locks: Vec<Key>,
    /// How many of them; none: all.
    pub count: Option<usize>,
    /// Unit: seconds.
    pub timeout: Option<f64>,
}

impl MultiLocks {
    /// How each lock stands: who is first in line holds it.
    pub fn views(&self) -> impl Iterator<Item = CoordView> {
        self.lines.iter().map(|(name, line)| {
            let holder = line.front().map(Key::to_value);
            let fields = vec![("holder", holder.into()), ("waiting", line.len().saturating_sub(1).into())];
            CoordView { kind: "multilock", name: name.clone(), fields }
        })
    }

    pub fn acquire(&mut self, step: &mut CoordStep<'_>, call: CallId, id: Key, wanted: LocksWanted) {
        let asked = wanted.locks.len();
        let locks: BTreeSet<Key> = wanted.locks.into_iter().collect();
        let needed = wanted.count.unwrap_or(asked);
        if self.requests.contains_key(&id) || needed == 0 || needed > asked {
            return step.fail(call, assertion());
        }
        // Naming a lock twice does not make it two.
        let needed = needed.min(locks.len());
        let mut by_length: Vec<&Key> = locks.iter().collect();
        by_length.sort_by_key(|lock| self.lines.get(*lock).map_or(0, VecDeque::len));
        let mut held = 0;
        for lock in by_length {
            let line = self.lines.entry(lock.clone()).or_default();
            line.push_back(id.clone());
            held += usize::from(line.len() == 1);
            if held == needed {
                break;
            }
        }
        self.requests.insert(id.clone(), Request { locks, needed, held, call: Some(call) });
        if held == needed {
            return self.grant(step, &id);
        }
        let deadline = step.deadline(wanted.timeout);
        if step.is_past(deadline) {
            self.leave(step, &id);
            return step.answer(call, false);
        }
        step.park(call, WaitingPlace::MultiLock(id), deadline);
    }

    pub fn release(&mut self, step: &mut CoordStep<'_>, call: CallId, id: &Key) {
        let Some(request) = self.requests.get_mut(id) else {
            return step.fail(call, PyError::MissingKey(id.to_value()));
        };
        if let Some(waiter) = request.call.take() {
            step.answer(waiter, false);
        }
        self.leave(step, id);
        step.answer(call, Value::Nil);
    }

    pub fn withdraw(&mut self, step: &mut CoordStep<'_>, id: &Key) {
        self.leave(step, id);
    }

    /// Answers a request that heads enough lines, and takes it out of the others.
    fn grant(&mut self, step: &mut CoordStep<'_>, id: &Key) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let lines = &mut self.lines;
        request.locks.retain(|lock| {
            let Some(line) = lines.get_mut(lock) else { return false };
            let heads = line.front() == Some(id);
            if !heads {
                line.retain(|other| other != id);
            }
            heads
        });
        if let Some(call) = request.call.take() {
            step.answer(call, true);
        }
    }

    /// Ends a request, held or waiting; those behind it move up.
    fn leave(&mut self, step: &mut CoordStep<'_>, id: &Key) {
        let Some(request) = self.requests.remove(id) else { return };
        let mut ready = Vec::new();
        for lock in &request.locks {
            let Some(line) = self.lines.get_mut(lock) else { continue };
            let headed = line.front() == Some(id);
            line.retain(|other| other != id);
            let Some(next) = line.front().cloned() else {
                self.lines.remove(lock);
                continue;
            };
            if headed && let Some(heir) = self.requests.get_mut(&next) {
                heir.held += 1;
                if heir.held == heir.needed {
                    ready.push(next);
                }
            }
        }
        for heir in ready {
            self.grant(step, &heir);
        }
    }

    /// Lists who waits where; returns the first broken rule.
    pub fn check(&self, waiting: &mut Vec<(CallId, WaitingPlace)>) -> Result<(), String> {
        for (lock, line) in &self.lines {
            if line.is_empty() {
                return Err(format!("nobody is in the line of lock {lock}"));
            }
            if line.iter().any(|id| self.requests.get(id).is_none_or(|request| !request.locks.contains(lock))) {
                return Err(format!("lock {lock} has a stranger in its line"));
            }
        }
        for (id, request) in &self.requests {
            let held =
                request.locks.iter().filter(|lock| self.lines.get(*lock).and_then(VecDeque::front) == Some(id)).count();
            if held != request.held {
                return Err(format!("multi-lock {id} heads {held} lines but counted {}", request.held));
            }
            if request.call.is_some() != (held < request.needed) {
                return Err(format!("multi-lock {id} has {held} of {} locks", request.needed));
            }
            waiting.extend(request.call.map(|call| (call, WaitingPlace::MultiLock(id.clone()))));
        }
        Ok(())
    }
}
