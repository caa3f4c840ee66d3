//! Events: a flag by name that calls can wait for. Exists only while it is set or waited for.
//!
//! Source: `distributed/event.py`, `EventExtension`.

use std::collections::BTreeMap;

use super::request::CoordView;
use super::waiters::{CoordStep, WaitingPlace};
use crate::base::{CallId, Key, Value};

#[derive(Default)]
struct Flag {
    set: bool,
    waiters: Vec<CallId>,
}

/// All events of a scheduler.
#[derive(Default)]
pub(super) struct Events {
    flags: BTreeMap<Key, Flag>,
}

impl Events {
    pub fn wait(&mut self, step: &mut CoordStep<'_>, call: CallId, name: Key, timeout: Option<f64>) {
        if self.is_set(&name) {
            return step.answer(call, true);
        }
        let deadline = step.deadline(timeout);
        if step.is_past(deadline) {
            return step.answer(call, false);
        }
        self.flags.entry(name.clone()).or_default().waiters.push(call);
        step.park(call, WaitingPlace::Event(name), deadline);
    }

    pub fn set(&mut self, step: &mut CoordStep<'_>, call: CallId, name: Key) {
        let flag = self.flags.entry(name).or_default();
        flag.set = true;
        for waiter in std::mem::take(&mut flag.waiters) {
            step.answer(waiter, true);
        }
        step.answer(call, Value::Nil);
    }

    /// Nobody waits for an event that is set, so clearing it always ends it.
    pub fn clear(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        if self.is_set(name) {
            self.flags.remove(name);
        }
        step.answer(call, Value::Nil);
    }

    pub fn is_set(&self, name: &Key) -> bool {
        self.flags.get(name).is_some_and(|flag| flag.set)
    }

    pub fn withdraw(&mut self, call: CallId, name: &Key) {
        if let Some(flag) = self.flags.get_mut(name) {
            flag.waiters.retain(|waiter| *waiter != call);
            if flag.waiters.is_empty() && !flag.set {
                self.flags.remove(name);
            }
        }
    }

    /// How each of them stands.
    pub fn views(&self) -> impl Iterator<Item = CoordView> {
        self.flags.iter().map(|(name, flag)| {
            let fields = vec![("is_set", flag.set.into()), ("waiting", flag.waiters.len().into())];
            CoordView { kind: "event", name: name.clone(), fields }
        })
    }

    /// Lists who waits where; returns the first broken rule.
    pub fn check(&self, waiting: &mut Vec<(CallId, WaitingPlace)>) -> Result<(), String> {
        for (name, flag) in &self.flags {
            if flag.set != flag.waiters.is_empty() {
                return Err(format!("event {name} is set: {}, with {} waiters", flag.set, flag.waiters.len()));
            }
            waiting.extend(flag.waiters.iter().map(|call| (*call, WaitingPlace::Event(name.clone()))));
        }
        Ok(())
    }
}
