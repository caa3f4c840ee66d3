//! Semaphores, and so locks: leases by name that end when they are not refreshed.
//!
//! Waiters are served in the order they came; a newcomer never overtakes.
//! Source: `distributed/semaphore.py`, `SemaphoreExtension`.

use std::collections::{BTreeMap, VecDeque};

use super::waiters::{CoordStep, Timer, WaitingPlace};
use crate::base::{CallId, Key, Now, PyError, Value};

struct Semaphore {
    max_leases: i64,
    /// None: leases never end by themselves. Unit: seconds.
    lease_timeout: Option<f64>,
    /// When each lease was last refreshed.
    leases: BTreeMap<Key, Now>,
    /// Calls in line, each with the lease it wants and since when.
    pending: VecDeque<(CallId, Key, Now)>,
    /// When leases are looked over next.
    looked_over: Option<Now>,
    /// Leases given so far, also those that were asked for again.
    acquired: u64,
    /// Leases given back so far.
    released: u64,
    /// Moving average of how long a call was in line. Unit: seconds.
    pending_secs: f64,
}

/// A semaphore as metrics show it. Source: `distributed/semaphore.py`, `SemaphoreExtension.metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct SemaphoreView {
    pub name: Key,
    /// Most leases at once.
    pub max_leases: i64,
    /// Leases taken.
    pub active: usize,
    /// Calls in line.
    pub pending: usize,
    /// Leases given since it was made.
    pub acquired: u64,
    /// Leases given back since it was made.
    pub released: u64,
    /// Moving average of the time in line, each call weighing half. Unit: seconds.
    pub pending_secs: f64,
    /// Who holds a lease: some of the lease ids.
    pub holders: Vec<Key>,
}

impl Semaphore {
    /// Refreshing may take more leases than there are, hence the comparison of signed numbers.
    fn has_room(&self) -> bool {
        i64::try_from(self.leases.len()).unwrap_or(i64::MAX) < self.max_leases
    }

    /// Gives free leases to those first in line.
    fn serve(&mut self, step: &mut CoordStep<'_>) {
        while self.has_room() {
            let Some((call, lease, since)) = self.pending.pop_front() else { return };
            self.waited(step.now.secs_since(since));
            self.leases.insert(lease, step.now);
            self.acquired = self.acquired.saturating_add(1);
            step.answer(call, true);
            self.serve_twins(step);
        }
    }

    /// A lease asked for twice (a retry over another connection) is one lease.
    fn serve_twins(&mut self, step: &mut CoordStep<'_>) {
        let leases = &self.leases;
        self.pending.retain(|(call, wanted, _)| {
            let held = leases.contains_key(wanted);
            if held {
                step.answer(*call, true);
            }
            !held
        });
    }

    /// Source: `distributed/semaphore.py`, `SemaphoreExtension.acquire`, `average_pending_lease_time`.
    fn waited(&mut self, secs: f64) {
        self.pending_secs = f64::midpoint(self.pending_secs, secs);
    }
}

/// Lease ids that a look at a semaphore names.
const HOLDERS_MAX: usize = 20;

/// All semaphores of a scheduler.
pub(super) struct Semaphores {
    by_name: BTreeMap<Key, Semaphore>,
    validation_us: u64,
}

fn unknown(name: &Key) -> PyError {
    PyError::builtin("RuntimeError", format!("Semaphore or Lock `{name}` not known."))
}

impl Semaphores {
    pub fn new(validation_secs: f64) -> Self {
        let validation_us = Now(0).plus_secs(validation_secs).0.max(1);
        Self { by_name: BTreeMap::new(), validation_us }
    }

    pub fn register(
        &mut self,
        step: &mut CoordStep<'_>,
        call: CallId,
        name: Key,
        max_leases: i64,
        lease_timeout: Option<f64>,
    ) {
        let semaphore = self.by_name.entry(name).or_insert_with(|| Semaphore {
            max_leases,
            // Dask reads a timeout of zero as none.
            lease_timeout: lease_timeout.filter(|seconds| *seconds > 0.0),
            leases: BTreeMap::new(),
            pending: VecDeque::new(),
            looked_over: None,
            acquired: 0,
            released: 0,
            pending_secs: 0.0,
        });
        if semaphore.max_leases == max_leases {
            return step.answer(call, Value::Nil);
        }
        let text = format!("Inconsistent max leases: {max_leases}, expected: {}", semaphore.max_leases);
        step.fail(call, PyError::builtin("ValueError", text));
    }

    pub fn acquire(&mut self, step: &mut CoordStep<'_>, call: CallId, name: Key, timeout: Option<f64>, lease: Key) {
        let Some(semaphore) = self.by_name.get_mut(&name) else {
            return step.fail(call, unknown(&name));
        };
        if semaphore.leases.contains_key(&lease) || semaphore.has_room() {
            semaphore.leases.insert(lease, step.now);
            semaphore.acquired = semaphore.acquired.saturating_add(1);
            semaphore.waited(0.0);
            step.answer(call, true);
            return self.arm(step, &name);
        }
        let deadline = step.deadline(timeout);
        if step.is_past(deadline) {
            return step.answer(call, false);
        }
        semaphore.pending.push_back((call, lease, step.now));
        step.park(call, WaitingPlace::Semaphore(name), deadline);
    }

    /// Releasing what is not held is only worth a warning, and the caller is told nothing either way.
    pub fn release(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key, lease: &Key) {
        if let Some(semaphore) = self.by_name.get_mut(name) {
            if semaphore.leases.remove(lease).is_some() {
                semaphore.released = semaphore.released.saturating_add(1);
            }
            semaphore.serve(step);
        }
        self.arm(step, name);
        step.answer(call, Value::Nil);
    }

    /// A lease that ran out meanwhile is taken again, even beyond the maximum: its holder believes in it.
    pub fn refresh(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key, leases: Vec<Key>) {
        if let Some(semaphore) = self.by_name.get_mut(name) {
            semaphore.leases.extend(leases.into_iter().map(|lease| (lease, step.now)));
            semaphore.serve_twins(step);
        }
        self.arm(step, name);
        step.answer(call, Value::Nil);
    }

    pub fn value(&self, name: &Key) -> usize {
        self.by_name.get(name).map_or(0, |semaphore| semaphore.leases.len())
    }

    /// Whoever still waits would wait for ever: they are told that the semaphore is gone.
    pub fn close(&mut self, step: &mut CoordStep<'_>, call: CallId, name: &Key) {
        if let Some(semaphore) = self.by_name.remove(name) {
            for (waiter, _, _) in semaphore.pending {
                step.fail(waiter, unknown(name));
            }
            if let Some(at) = semaphore.looked_over {
                step.waiters.disarm(at, Timer::Leases(name.clone()));
            }
        }
        step.answer(call, Value::Nil);
    }

    pub fn withdraw(&mut self, call: CallId, name: &Key) {
        if let Some(semaphore) = self.by_name.get_mut(name) {
            semaphore.pending.retain(|(waiter, _, _)| *waiter != call);
        }
    }

    /// Ends the leases that were not refreshed in time.
    pub fn look_over(&mut self, step: &mut CoordStep<'_>, name: &Key) {
        let Some(semaphore) = self.by_name.get_mut(name) else { return };
        semaphore.looked_over = None;
        if let Some(timeout) = semaphore.lease_timeout {
            semaphore.leases.retain(|_, refreshed| refreshed.plus_secs(timeout) >= step.now);
            semaphore.serve(step);
        }
        self.arm(step, name);
    }

    /// Sets the next look-over: no later than the first that could find the oldest lease over its time,
    /// and only while there are leases. Looks happen at whole validation intervals, as Dask's do.
    fn arm(&mut self, step: &mut CoordStep<'_>, name: &Key) {
        let Some(semaphore) = self.by_name.get_mut(name) else { return };
        let oldest = semaphore.leases.values().min().copied();
        let due = match (semaphore.lease_timeout, oldest) {
            (Some(timeout), Some(oldest)) => Some(oldest.plus_secs(timeout).plus_us(1)),
            _ => None,
        };
        let Some(due) = due else {
            if let Some(at) = semaphore.looked_over.take() {
                step.waiters.disarm(at, Timer::Leases(name.clone()));
            }
            return;
        };
        // A timer that is early does no harm: it only looks and is set again.
        if semaphore.looked_over.is_some_and(|at| at <= due) {
            return;
        }
        let at = Now(due.0.div_ceil(self.validation_us).saturating_mul(self.validation_us));
        if let Some(old) = semaphore.looked_over.replace(at) {
            step.waiters.disarm(old, Timer::Leases(name.clone()));
        }
        step.waiters.arm(at, Timer::Leases(name.clone()));
    }

    /// How each of them stands.
    pub fn list(&self) -> Vec<SemaphoreView> {
        let view = |(name, one): (&Key, &Semaphore)| SemaphoreView {
            name: name.clone(),
            max_leases: one.max_leases,
            active: one.leases.len(),
            pending: one.pending.len(),
            acquired: one.acquired,
            released: one.released,
            pending_secs: one.pending_secs,
            holders: one.leases.keys().take(HOLDERS_MAX).cloned().collect(),
        };
        self.by_name.iter().map(view).collect()
    }

    /// Lists who waits where; returns the first broken rule.
    pub fn check(&self, waiting: &mut Vec<(CallId, WaitingPlace)>) -> Result<(), String> {
        for (name, semaphore) in &self.by_name {
            if !semaphore.pending.is_empty() && semaphore.has_room() {
                return Err(format!("semaphore {name} has a lease to give and calls that wait for it"));
            }
            if semaphore.pending.iter().any(|(_, lease, _)| semaphore.leases.contains_key(lease)) {
                return Err(format!("semaphore {name} keeps a call waiting for a lease that is held"));
            }
            let expires = semaphore.lease_timeout.is_some() && !semaphore.leases.is_empty();
            if expires != semaphore.looked_over.is_some() {
                return Err(format!("semaphore {name} is looked over at {:?}", semaphore.looked_over));
            }
            waiting.extend(semaphore.pending.iter().map(|(call, _, _)| (*call, WaitingPlace::Semaphore(name.clone()))));
        }
        Ok(())
    }
}
