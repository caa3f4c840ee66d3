//! What clients asked for, one after another: graphs that overlap in time are one computation.
//!
//! Data only, bounded. Source: `distributed/scheduler.py`, `Computation`;
//! `distributed.diagnostics.computations.max-history`.

use std::collections::VecDeque;

use crate::base::{GraphTask, Text, key_group};

/// Computations that are kept.
const KEPT: usize = 100;

/// Groups that are named.
const GROUPS_MAX: usize = 20;

/// Tasks of a graph whose groups are looked at: graphs hold few groups and many tasks of each.
const LOOKED_AT: usize = 200;

/// One stretch of work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Computation {
    /// Counts up.
    pub id: u64,
    /// Unit: seconds since the epoch.
    pub start_secs: f64,
    /// None while it runs.
    pub stop_secs: Option<f64>,
    /// Tasks that were submitted.
    pub tasks: u64,
    /// Some of their groups.
    pub groups: Vec<Text>,
    /// Tasks that came to memory and to erred meanwhile.
    pub done: u64,
    /// See [`Computation::done`].
    pub erred: u64,
}

/// All that are kept.
#[derive(Debug, Default)]
pub struct Computations {
    list: VecDeque<Computation>,
    next: u64,
    /// Totals when the last one began.
    base: (u64, u64),
}

impl Computations {
    /// Does one run?
    pub fn is_open(&self) -> bool {
        self.list.back().is_some_and(|last| last.stop_secs.is_none())
    }

    /// Tasks came. `totals` are those of done and erred tasks so far.
    pub fn on_tasks(&mut self, at_secs: f64, tasks: &[GraphTask], totals: impl FnOnce() -> (u64, u64)) {
        if !self.is_open() {
            if self.list.len() >= KEPT {
                self.list.pop_front();
            }
            self.base = totals();
            self.list.push_back(Computation { id: self.next, start_secs: at_secs, ..Computation::default() });
            self.next += 1;
        }
        let Some(last) = self.list.back_mut() else { return };
        last.tasks = last.tasks.saturating_add(tasks.len() as u64);
        let mut known: Option<String> = None;
        for task in tasks.iter().take(LOOKED_AT) {
            if last.groups.len() >= GROUPS_MAX {
                return;
            }
            let group = key_group(&task.key);
            if known.as_ref() != Some(&group) && !last.groups.iter().any(|other| **other == *group) {
                last.groups.push(group.as_str().into());
            }
            known = Some(group);
        }
    }

    /// No task is left to do.
    pub fn close(&mut self, at_secs: f64, (done, erred): (u64, u64)) {
        if let Some(last) = self.list.back_mut().filter(|last| last.stop_secs.is_none()) {
            last.stop_secs = Some(at_secs.max(last.start_secs));
            (last.done, last.erred) = (done.saturating_sub(self.base.0), erred.saturating_sub(self.base.1));
        }
    }

    /// All of them; the one that runs with its counts so far.
    pub fn list(&self, (done, erred): (u64, u64)) -> Vec<Computation> {
        let mut all: Vec<Computation> = self.list.iter().cloned().collect();
        if let Some(last) = all.last_mut().filter(|last| last.stop_secs.is_none()) {
            (last.done, last.erred) = (done.saturating_sub(self.base.0), erred.saturating_sub(self.base.1));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Key;

    fn tasks(name: &str, n: i64) -> Vec<GraphTask> {
        let key = |at| Key::tuple(&[Key::text(name), Key::int(at)]);
        (0..n).map(|at| GraphTask { key: key(at), ..GraphTask::default() }).collect()
    }

    /// Goal: graphs that overlap are one computation, later ones another, with counts of their own.
    #[test]
    fn graphs_that_overlap_are_one_computation() {
        let mut all = Computations::default();
        all.on_tasks(1.0, &tasks("a", 3), || (10, 0));
        all.on_tasks(2.0, &tasks("b", 2), || panic!("it runs already"));
        assert_eq!(all.list((12, 1)).last().map(|last| (last.tasks, last.done, last.erred)), Some((5, 2, 1)));
        all.close(3.0, (14, 1));
        all.on_tasks(4.0, &tasks("a", 1), || (14, 1));
        let list = all.list((14, 1));
        let [first, second] = list.as_slice() else { panic!("two") };
        assert_eq!((first.stop_secs, first.done, first.groups.len()), (Some(3.0), 4, 2));
        assert_eq!((second.stop_secs, second.tasks, second.done), (None, 1, 0));
    }
}
