//! What work costs: groups and prefixes of tasks, durations learnt per prefix, occupancy of workers.

use super::Scheduler;
use super::event::{Action, StartStop};
use super::task::{GroupAt, PrefixAt, STATES, StateName, Task, TaskGroup, TaskPrefix, TaskState};
use super::worker::RegisteredWorker;
use crate::base::{Key, TaskId, Text, WorkerId, key_group, key_prefix};

/// Prefixes known to take no longer are never worth moving. Unit: seconds. Source: `stealing.py`, `fast_tasks`.
const FAST_TASK_SECS: f64 = 1e-3;

impl Scheduler {
    /// Makes a task in `released` and counts it.
    pub(super) fn new_task(&mut self, key: Key) -> TaskId {
        let group = self.group_of(&key);
        let entry = &mut self.groups[group as usize];
        entry.states[StateName::Released as usize] += 1;
        entry.len += 1;
        let prefix = &mut self.prefixes[entry.prefix as usize];
        prefix.states[StateName::Released as usize] += 1;
        prefix.state_totals[StateName::Released as usize] += 1;
        let task = self.tasks.insert(Task::new(key.clone(), group));
        self.by_key.insert(key, task);
        task
    }

    fn group_of(&mut self, key: &Key) -> GroupAt {
        let name = key_group(key);
        if let Some(&group) = self.group_by_name.get(name.as_str()) {
            return group;
        }
        let prefix = self.prefix_of(key_prefix(key));
        let name: Text = name.into();
        let mut group = TaskGroup {
            name: name.clone(),
            prefix,
            states: [0; STATES],
            len: 0,
            dependencies: Vec::new(),
            last_worker: None,
            last_worker_tasks_left: 0,
            generation: 0,
        };
        let at = if let Some(at) = self.free_groups.pop() {
            group.generation = self.groups[at as usize].generation.wrapping_add(1);
            self.groups[at as usize] = group;
            at
        } else {
            self.groups.push(group);
            (self.groups.len() - 1) as GroupAt
        };
        self.group_by_name.insert(name, at);
        at
    }

    fn prefix_of(&mut self, name: String) -> PrefixAt {
        if let Some(&prefix) = self.prefix_by_name.get(name.as_str()) {
            return prefix;
        }
        let name: Text = name.into();
        let seed = self.config.default_task_durations.iter().find(|(prefix, _)| *prefix == name).map(|(_, secs)| *secs);
        self.prefixes.push(TaskPrefix {
            name: name.clone(),
            states: [0; STATES],
            state_totals: [0; STATES],
            duration: seed.unwrap_or(-1.0),
            max_exec: -1.0,
            spent: [0.0; 6],
            nbytes_total: 0,
            nbytes_memory: 0,
            suspicious: 0,
            processing: 0,
            active_at: None,
            fast: seed.is_some_and(|secs| secs <= FAST_TASK_SECS),
            unknown: Vec::new(),
        });
        let at = (self.prefixes.len() - 1) as PrefixAt;
        self.prefix_by_name.insert(name, at);
        at
    }

    /// Drops a group whose tasks are all forgotten.
    pub(super) fn drop_group_if_empty(&mut self, at: GroupAt) {
        let group = &self.groups[at as usize];
        let alive: u32 = group.states[..StateName::Forgotten as usize].iter().sum();
        if alive == 0 && self.group_by_name.remove(&group.name).is_some() {
            self.free_groups.push(at);
        }
    }

    /// Moves a task's count between states; nothing else may write `Task::state`.
    pub(super) fn set_state(&mut self, task: TaskId, new: TaskState) {
        let state = new.name();
        if state == StateName::Released {
            self.unsettled.push(task);
        }
        let entry = &mut self.tasks[task];
        let old = std::mem::replace(&mut entry.state, new).name();
        let nbytes = entry.nbytes.max(0);
        let group = &mut self.groups[entry.group as usize];
        group.states[old as usize] -= 1;
        group.states[state as usize] += 1;
        let prefix = &mut self.prefixes[group.prefix as usize];
        prefix.states[old as usize] -= 1;
        prefix.states[state as usize] += 1;
        prefix.state_totals[state as usize] += 1;
        if old == StateName::Memory {
            prefix.nbytes_memory -= nbytes;
        }
        if state == StateName::Memory {
            prefix.nbytes_memory += nbytes;
        }
    }

    pub(super) fn prefix_at(&self, task: TaskId) -> PrefixAt {
        self.groups[self.tasks[task].group as usize].prefix
    }

    /// Size of a result, or the size assumed for one that is not known. Unit: bytes.
    pub(super) fn size_of(&self, task: TaskId) -> i64 {
        let nbytes = self.tasks[task].nbytes;
        if nbytes >= 0 { nbytes } else { self.config.default_data_size }
    }

    /// Notes the size of a result. Workers that hold it already are corrected.
    pub(super) fn set_nbytes(&mut self, task: TaskId, nbytes: i64) {
        let old = self.tasks[task].nbytes;
        let diff = if old >= 0 { nbytes - old } else { nbytes };
        let held = nbytes - self.size_of(task);
        let is_held = self.tasks[task].state.name() == StateName::Memory;
        let prefix = self.prefix_at(task);
        let prefix = &mut self.prefixes[prefix as usize];
        prefix.nbytes_total += diff;
        if is_held {
            prefix.nbytes_memory += diff;
        }
        self.tasks[task].nbytes = nbytes;
        for &worker in self.tasks[task].who_has() {
            self.workers[worker].nbytes += held;
        }
    }

    /// Expected compute time of a prefix. Unit: seconds. Source: `distributed/scheduler.py`, `_get_prefix_duration`.
    pub(super) fn duration(&self, prefix: PrefixAt) -> f64 {
        let prefix = &self.prefixes[prefix as usize];
        if prefix.duration >= 0.0 {
            prefix.duration
        } else if prefix.max_exec > 0.0 {
            2.0 * prefix.max_exec
        } else {
            self.config.unknown_task_duration_secs
        }
    }

    /// Learns from the spans of one run. Source: `distributed/scheduler.py`, `TaskPrefix.add_duration`.
    pub(super) fn add_durations(&mut self, prefix: PrefixAt, spans: &[StartStop]) {
        let entry = &mut self.prefixes[prefix as usize];
        for span in spans {
            let secs = (span.stop - span.start).max(0.0);
            entry.spent[span.action as usize] += secs;
            if span.action == Action::Compute {
                entry.duration = if entry.duration < 0.0 { secs } else { 0.5 * secs + 0.5 * entry.duration };
            }
        }
    }

    /// A run of this prefix has taken so long already. Source: `distributed/scheduler.py`, `TaskPrefix.add_exec_time`.
    pub(super) fn add_exec_time(&mut self, prefix: PrefixAt, secs: f64) {
        let entry = &mut self.prefixes[prefix as usize];
        entry.max_exec = entry.max_exec.max(secs);
        if secs > 2.0 * entry.duration {
            entry.duration = -1.0;
        }
    }

    /// Expected time until a worker has done what it was told. Unit: thread seconds.
    pub(super) fn occupancy(&self, worker: &RegisteredWorker) -> f64 {
        let compute: f64 =
            worker.prefix_counts.iter().map(|&(prefix, count)| f64::from(count) * self.duration(prefix)).sum();
        compute + worker.network_bytes.max(0) as f64 / self.bandwidth
    }

    /// The same for all workers together.
    pub(super) fn total_occupancy(&self) -> f64 {
        let compute: f64 = self
            .active_prefixes
            .iter()
            .map(|&prefix| f64::from(self.prefixes[prefix as usize].processing) * self.duration(prefix))
            .sum();
        compute + self.network_bytes.max(0) as f64 / self.bandwidth
    }

    pub(super) fn count_processing(&mut self, worker: WorkerId, prefix: PrefixAt) {
        let counts = &mut self.workers[worker].prefix_counts;
        match counts.iter_mut().find(|(at, _)| *at == prefix) {
            Some((_, count)) => *count += 1,
            None => counts.push((prefix, 1)),
        }
        let entry = &mut self.prefixes[prefix as usize];
        entry.processing += 1;
        if entry.active_at.is_none() {
            entry.active_at = Some(self.active_prefixes.len());
            self.active_prefixes.push(prefix);
        }
    }

    pub(super) fn uncount_processing(&mut self, worker: WorkerId, prefix: PrefixAt) {
        // A worker that is gone took its counts with it; the cluster's are still to be corrected.
        if let Some(entry) = self.workers.get_mut(worker)
            && let Some(at) = entry.prefix_counts.iter().position(|(at, _)| *at == prefix)
        {
            entry.prefix_counts[at].1 -= 1;
            if entry.prefix_counts[at].1 == 0 {
                entry.prefix_counts.swap_remove(at);
            }
        }
        let entry = &mut self.prefixes[prefix as usize];
        entry.processing -= 1;
        if entry.processing == 0
            && let Some(at) = entry.active_at.take()
        {
            self.active_prefixes.swap_remove(at);
            if let Some(&moved) = self.active_prefixes.get(at) {
                self.prefixes[moved as usize].active_at = Some(at);
            }
        }
    }

    /// A task on this worker needs an input that is elsewhere.
    ///
    /// Source: `distributed/scheduler.py`, `_inc_needs_replica`.
    pub(super) fn need_input(&mut self, worker: WorkerId, input: TaskId) {
        let size = self.size_of(input);
        let entry = &mut self.workers[worker];
        let count = entry.needs_what.entry(input).or_insert(0);
        *count += 1;
        if *count == 1 {
            entry.network_bytes += size;
            self.network_bytes += size;
        }
    }

    /// One task less needs this input here. Source: `distributed/scheduler.py`, `_dec_needs_replica`.
    pub(super) fn unneed_input(&mut self, worker: WorkerId, input: TaskId) {
        let size = self.size_of(input);
        let Some(entry) = self.workers.get_mut(worker) else { return };
        let Some(count) = entry.needs_what.get_mut(&input) else { return };
        *count -= 1;
        if *count == 0 {
            entry.needs_what.remove(&input);
            self.forget_network(worker, size);
        }
    }

    /// Takes bytes off the network occupancy, never below zero: sizes may have changed meanwhile.
    pub(super) fn forget_network(&mut self, worker: WorkerId, size: i64) {
        let entry = &mut self.workers[worker];
        let size = size.min(entry.network_bytes);
        entry.network_bytes -= size;
        self.network_bytes -= size.min(self.network_bytes);
    }

    /// Keeps one copy of each class name.
    pub(super) fn intern_typename(&mut self, name: Text) -> Text {
        if let Some(known) = self.typenames.get(&name) {
            return known.clone();
        }
        self.typenames.insert(name.clone());
        name
    }
}
