//! Which worker a task goes to.
//!
//! Source: `distributed/scheduler.py`, `decide_worker*`, `valid_workers`, `worker_objective`, `is_rootish`.

use std::collections::BTreeSet;

use super::Scheduler;
use super::task::StateName;
use super::worker::RegisteredWorker;
use crate::base::{Key, TaskId, Text, Value, WorkerId};

/// With fewer idle workers than this, the least occupied one is searched for; with more, they take turns.
const SEARCH_MAX: usize = 20;

impl Scheduler {
    /// Roots of big, wide graphs: held back so that what they feed runs first.
    pub(super) fn is_rootish(&self, task: TaskId) -> bool {
        let entry = &self.tasks[task];
        if entry.is_restricted() {
            return false;
        }
        if entry.data_producer {
            return true;
        }
        let group = &self.groups[entry.group as usize];
        if u64::from(group.len) <= self.total_nthreads * 2 || group.dependencies.len() >= self.config.rootish_taskgroup
        {
            return false;
        }
        let inputs: usize = group
            .dependencies
            .iter()
            .filter_map(|&(at, generation)| {
                let other = self.groups.get(at as usize)?;
                (other.generation == generation).then_some(other.len as usize)
            })
            .sum();
        inputs < self.config.rootish_taskgroup_dependencies
    }

    /// The next open slot, on the least loaded worker.
    pub(super) fn place_in_open_slot(&self) -> Option<WorkerId> {
        self.open_slots.first().map(|&(_, worker)| worker)
    }

    /// Without holding back: siblings go to one worker until it has its share.
    pub(super) fn place_with_siblings(&mut self, task: TaskId) -> Option<WorkerId> {
        let group = &self.groups[self.tasks[task].group as usize];
        let again = group.last_worker.filter(|&id| {
            group.last_worker_tasks_left > 0 && self.workers.get(id).is_some_and(RegisteredWorker::is_running)
        });
        let (len, at) = (f64::from(group.len), self.tasks[task].group as usize);
        let worker = match again {
            Some(worker) => worker,
            None => {
                let best = if self.idle.is_empty() {
                    self.least(task, self.running.iter().copied())
                } else {
                    self.least(task, self.idle.iter().copied())
                }?;
                let share = len / self.total_nthreads.max(1) as f64 * self.workers[best].nthreads();
                self.groups[at].last_worker_tasks_left = share as i64;
                best
            }
        };
        let group = &mut self.groups[at];
        let left = group.states[StateName::Released as usize] + group.states[StateName::Waiting as usize];
        group.last_worker = (left > 1).then_some(worker);
        group.last_worker_tasks_left -= 1;
        Some(worker)
    }

    /// Where the task is expected to start first, restrictions and inputs considered.
    pub(super) fn place(&self, task: TaskId) -> Option<WorkerId> {
        if self.running.is_empty() {
            return None;
        }
        let valid = self.valid_workers(task);
        let entry = &self.tasks[task];
        if entry.dependencies.is_empty() && valid.is_none() && self.running.len() == self.workers.len() {
            return self.place_anywhere();
        }
        if entry.actor {
            return self.least_valid(task, self.running.iter().copied(), valid.as_ref());
        }
        let mut holders: Vec<WorkerId> = entry
            .dependencies
            .iter()
            .flat_map(|&input| self.tasks[input].who_has().iter().copied())
            .filter(|id| self.running.contains(id))
            .collect();
        holders.sort_unstable();
        holders.dedup();
        if holders.is_empty() {
            return self.least_valid(task, self.running.iter().copied(), valid.as_ref());
        }
        let preferred = valid.as_ref().map_or_else(
            || self.least(task, holders.iter().copied()),
            |valid| self.least(task, holders.iter().copied().filter(|id| valid.contains(id))),
        );
        preferred.or_else(|| self.least_valid(task, holders.iter().copied(), valid.as_ref()))
    }

    /// The best of `candidates` that are valid, else of the valid, else (loose restrictions) of the candidates.
    fn least_valid(
        &self,
        task: TaskId,
        candidates: impl Iterator<Item = WorkerId> + Clone,
        valid: Option<&BTreeSet<WorkerId>>,
    ) -> Option<WorkerId> {
        let Some(valid) = valid else { return self.least(task, candidates) };
        self.least(task, candidates.clone().filter(|id| valid.contains(id)))
            .or_else(|| self.least(task, valid.iter().copied()))
            .or_else(|| if self.is_loose(task) { self.least(task, candidates) } else { None })
    }

    pub(super) fn is_loose(&self, task: TaskId) -> bool {
        self.tasks[task].rare.as_ref().is_some_and(|rare| rare.loose)
    }

    /// No inputs, no restrictions, no big group.
    fn place_anywhere(&self) -> Option<WorkerId> {
        let running: Vec<WorkerId>;
        let pool: &[WorkerId] = if self.idle.is_empty() {
            running = self.running.iter().copied().collect();
            &running
        } else {
            &self.idle
        };
        let turn = |n: usize| (self.n_tasks % n as u64) as usize;
        if pool.len() >= SEARCH_MAX {
            return Some(pool[turn(pool.len())]);
        }
        let loads: Vec<f64> = pool.iter().map(|&id| self.occupancy(&self.workers[id])).collect();
        let (best, least) = loads.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        if least > 0.0 {
            return Some(pool[best]);
        }
        let start = turn(pool.len());
        (0..pool.len()).map(|step| (start + step) % pool.len()).find(|&at| loads[at] == 0.0).map(|at| pool[at])
    }

    fn least(&self, task: TaskId, candidates: impl Iterator<Item = WorkerId>) -> Option<WorkerId> {
        let mut best: Option<(Objective, WorkerId)> = None;
        for id in candidates {
            let objective = self.objective(task, id);
            if best.as_ref().is_none_or(|(least, _)| objective.less(least)) {
                best = Some((objective, id));
            }
        }
        best.map(|(_, id)| id)
    }

    fn objective(&self, task: TaskId, id: WorkerId) -> Objective {
        let worker = &self.workers[id];
        let start = self.occupancy(worker) / worker.nthreads() + self.comm_cost(task, id);
        let actors = if self.tasks[task].actor { worker.actors.len() } else { 0 };
        Objective { actors, start, nbytes: worker.nbytes }
    }

    /// Time to fetch the inputs that are not on this worker. Unit: seconds.
    ///
    /// Source: `distributed/scheduler.py`, `get_comm_cost`.
    pub(super) fn comm_cost(&self, task: TaskId, worker: WorkerId) -> f64 {
        let missing: i64 = self.tasks[task]
            .dependencies
            .iter()
            .filter(|&&input| !self.tasks[input].who_has().contains(&worker))
            .map(|&input| self.size_of(input))
            .sum();
        missing as f64 / self.bandwidth
    }

    /// Running workers that the task may use; none: all of them.
    pub(super) fn valid_workers(&self, task: TaskId) -> Option<BTreeSet<WorkerId>> {
        let rare = self.tasks[task].rare.as_deref()?;
        let mut valid: Option<BTreeSet<WorkerId>> = None;
        if !rare.worker_restrictions.is_empty() || !rare.host_restrictions.is_empty() {
            let mut named: BTreeSet<WorkerId> =
                rare.worker_restrictions.iter().filter_map(|address| self.by_address.get(address).copied()).collect();
            for host in &rare.host_restrictions {
                // A name that was unknown when the graph came may be a worker's by now.
                let alias = self.worker_named(host).map(|id| self.workers[id].hello.host.clone());
                let host = alias.as_ref().unwrap_or(host);
                named.extend(self.by_address.values().filter(|&&id| self.workers[id].hello.host == *host));
            }
            valid = Some(named);
        }
        if !rare.resources.is_empty() {
            let able: BTreeSet<WorkerId> = self
                .by_address
                .values()
                .copied()
                .filter(|&id| {
                    rare.resources.iter().all(|(name, need)| supply(&self.workers[id].hello.resources, name) >= *need)
                })
                .collect();
            valid = Some(match valid {
                Some(named) => named.intersection(&able).copied().collect(),
                None => able,
            });
        }
        valid.map(|ids| ids.into_iter().filter(|id| self.running.contains(id)).collect())
    }

    /// The worker of that name. Names may be numbers, and are compared as texts here: a name that is one wins.
    pub(super) fn worker_named(&self, name: &str) -> Option<WorkerId> {
        let as_number = || {
            let whole = name.parse().ok().map(Value::Int);
            let number = whole.or_else(|| name.parse().ok().map(Value::Float))?;
            self.by_name.get(&Key::from_value(&number)?)
        };
        self.by_name.get(&Key::text(name)).or_else(as_number).copied()
    }

    /// The address that a name, alias or address means; unknown names stay unchanged.
    pub(super) fn address_of(&self, name: &Text) -> Text {
        match self.worker_named(name) {
            Some(id) => self.workers[id].hello.address.clone(),
            None => name.clone(),
        }
    }
}

fn supply(resources: &[(Text, f64)], name: &Text) -> f64 {
    resources.iter().find(|(other, _)| other == name).map_or(f64::NEG_INFINITY, |(_, amount)| *amount)
}

/// What placement minimises, compared in this order.
struct Objective {
    actors: usize,
    start: f64,
    nbytes: i64,
}

impl Objective {
    fn less(&self, other: &Self) -> bool {
        (self.actors.cmp(&other.actors))
            .then(self.start.total_cmp(&other.start))
            .then(self.nbytes.cmp(&other.nbytes))
            .is_lt()
    }
}
