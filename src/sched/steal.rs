//! Work stealing: tasks that wait on a busy worker move to an idle one, if the victim agrees.
//!
//! Source: `distributed/stealing.py`, `WorkStealing`.

use std::collections::BTreeSet;

use super::Scheduler;
use super::effect::ToWorker;
use super::records::InFlight;
use super::task::{PrefixAt, StateName, TaskState};
use super::worker::STEAL_LEVELS;
use crate::base::{Key, TaskId, Text, Value, WorkerId};

/// Added to every transfer. Unit: seconds.
const LATENCY_SECS: f64 = 0.1;
/// Number of the busiest workers that are victims when no worker is saturated.
const VICTIMS: usize = 10;
/// Less occupancy than this is not worth stealing from. Unit: seconds.
const VICTIM_SECS: f64 = 0.2;

/// Steal requests of one level, since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StealTotal {
    /// What a steal costs compared to computing in place, roughly.
    pub multiplier: f64,
    pub count: u64,
    /// Expected run time and transfers of their tasks had they stayed. Unit: seconds.
    pub cost_secs: f64,
}

impl Scheduler {
    /// Files a processing task under what moving it would cost.
    ///
    /// Source: `distributed/stealing.py`, `put_key_in_stealable`.
    pub(super) fn make_stealable(&mut self, task: TaskId) {
        let Some(worker) = self.tasks[task].processing_on() else { return };
        let Some(level) = self.steal_level(task) else { return };
        let prefix = self.prefix_at(task);
        if let TaskState::Processing { steal_level, .. } = &mut self.tasks[task].state {
            *steal_level = Some(level);
        }
        self.workers[worker].stealable[usize::from(level)].insert(task);
        if self.prefixes[prefix as usize].duration < 0.0 {
            self.prefixes[prefix as usize].unknown.push(task);
        }
        if self.stealing.next.is_none() && self.config.work_stealing {
            self.stealing.next = Some(self.now.plus_secs(self.config.work_stealing_interval_secs));
        }
    }

    pub(super) fn make_unstealable(&mut self, task: TaskId, worker: WorkerId) {
        let TaskState::Processing { steal_level, .. } = &mut self.tasks[task].state else { return };
        if let Some(level) = steal_level.take()
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.stealable[usize::from(level)].remove(&task);
        }
    }

    /// Source: `distributed/stealing.py`, `steal_time_ratio`.
    fn steal_level(&self, task: TaskId) -> Option<u8> {
        let prefix = self.prefix_at(task);
        if self.prefixes[prefix as usize].fast {
            return None;
        }
        let entry = &self.tasks[task];
        if entry.dependencies.is_empty() {
            return Some(0);
        }
        let compute = self.duration(prefix);
        if compute <= 0.0 {
            return None;
        }
        let bytes: i64 = entry.dependencies.iter().map(|&id| self.size_of(id)).sum();
        let ratio = (bytes as f64 / self.bandwidth + LATENCY_SECS) / compute;
        let level = (ratio.log2() + 6.0).round().max(1.0);
        (level < STEAL_LEVELS as f64).then_some(level as u8)
    }

    /// The first of a prefix is done: its siblings were filed by guess.
    pub(super) fn relevel_unknown(&mut self, prefix: PrefixAt) {
        if self.prefixes[prefix as usize].duration < 0.0 {
            return;
        }
        for task in std::mem::take(&mut self.prefixes[prefix as usize].unknown) {
            let processing = self.tasks.get(task).and_then(|entry| entry.processing_on());
            if let Some(worker) = processing
                && !self.stealing.in_flight.contains_key(&task)
                && !self.workers[worker].long_running.contains(&task)
            {
                self.make_unstealable(task, worker);
                self.make_stealable(task);
            }
        }
    }

    /// The task leaves its worker: an unanswered request for it is void.
    pub(super) fn forget_steal(&mut self, task: TaskId) {
        self.settle_steal(task);
    }

    fn settle_steal(&mut self, task: TaskId) -> Option<InFlight> {
        let info = self.stealing.in_flight.remove(&task)?;
        let calm = self.stealing.in_flight.is_empty();
        for (id, secs, tasks) in [(info.thief, -info.thief_secs, -1), (info.victim, info.victim_secs, 1)] {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.in_flight_tasks += tasks;
                worker.in_flight_secs = if calm { 0.0 } else { worker.in_flight_secs + secs };
            }
        }
        Some(info)
    }

    /// The victim's answer. Source: `distributed/stealing.py`, `move_task_confirm`.
    pub(super) fn on_steal_response(&mut self, worker: WorkerId, key: &Key, state: Option<&str>, stimulus: &str) {
        let Some(task) = self.find(key) else { return };
        let current = self.stealing.in_flight.get(&task);
        if current.is_none_or(|info| &*info.stimulus != stimulus || info.victim != worker) {
            return;
        }
        let Some(info) = self.settle_steal(task) else { return };
        let thief_lives = self.is_registered(info.thief);
        let outcome = match state {
            Some("ready" | "constrained" | "waiting") if thief_lives => {
                self.move_task(task, info.victim, info.thief);
                "confirm"
            }
            None | Some("released" | "ready" | "constrained" | "waiting") => {
                self.recommend(task, StateName::Released);
                self.run_transitions();
                "reschedule"
            }
            Some(_) => "already-computing",
        };
        let address = |id| self.workers.get(id).map_or_else(|| "".into(), |entry| entry.hello.address.clone());
        let (victim, thief) = (address(info.victim), address(info.thief));
        let message = vec![
            outcome.into(),
            key.to_value(),
            Value::from(state.map(Value::from)),
            Value::Str(victim),
            Value::Str(thief),
            Value::Str(info.stimulus),
        ];
        self.log(vec!["stealing".into()], Value::Array(message));
        self.check_idle_saturated(info.thief);
        self.check_idle_saturated(info.victim);
    }

    fn move_task(&mut self, task: TaskId, victim: WorkerId, thief: WorkerId) {
        self.unassign(task, victim);
        self.workers[victim].actors.remove(&task);
        if let TaskState::Processing { on, .. } = &mut self.tasks[task].state {
            *on = thief;
        }
        self.assign(task, thief);
        if self.tasks[task].actor {
            self.workers[thief].actors.insert(task);
        }
        self.send_compute(task, thief);
    }

    /// Looks for work to move. Source: `distributed/stealing.py`, `balance`.
    pub(super) fn balance(&mut self) {
        let interval = self.config.work_stealing_interval_secs;
        self.stealing.next = (!self.active_prefixes.is_empty()).then(|| self.now.plus_secs(interval));
        let mut thieves: BTreeSet<WorkerId> = self.idle.iter().copied().collect();
        if thieves.is_empty() || thieves.len() == self.by_address.len() {
            return;
        }
        let mut victims: Vec<(f64, WorkerId)> = if self.saturated.is_empty() {
            self.busiest(&thieves)
        } else {
            self.saturated.iter().map(|&id| (self.combined(id), id)).collect()
        };
        victims.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut moved = Vec::new();
        for level in 0..STEAL_LEVELS {
            for &(_, victim) in &victims {
                if thieves.is_empty() {
                    break;
                }
                self.steal_from(victim, level, &mut thieves, &mut moved);
                let occupancy = self.combined(victim);
                self.check_idle_saturated_at(victim, occupancy);
            }
        }
        if !moved.is_empty() {
            self.log(vec!["stealing".into()], Value::Array(vec!["request".into(), Value::Array(moved)]));
        }
    }

    fn busiest(&self, thieves: &BTreeSet<WorkerId>) -> Vec<(f64, WorkerId)> {
        let mut loads: Vec<(f64, WorkerId)> = self.by_address.values().map(|&id| (self.combined(id), id)).collect();
        loads.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        loads.truncate(VICTIMS);
        loads.retain(|&(load, id)| {
            let worker = &self.workers[id];
            let processing = worker.processing.len() as i64 + worker.in_flight_tasks;
            load > VICTIM_SECS && processing > i64::from(worker.hello.nthreads) && !thieves.contains(&id)
        });
        loads
    }

    /// Occupancy with what is about to come and go. Unit: seconds.
    fn combined(&self, id: WorkerId) -> f64 {
        let worker = &self.workers[id];
        self.occupancy(worker) + worker.in_flight_secs
    }

    fn steal_from(&mut self, victim: WorkerId, level: usize, thieves: &mut BTreeSet<WorkerId>, moved: &mut Vec<Value>) {
        let mut tasks: Vec<TaskId> = self.workers[victim].stealable[level].iter().copied().collect();
        tasks.sort_unstable();
        for task in tasks {
            if thieves.is_empty() {
                return;
            }
            let Some(thief) = self.thief_for(task, thieves) else { continue };
            let compute = self.duration(self.prefix_at(task));
            let (load_thief, load_victim) = (self.combined(thief), self.combined(victim));
            let (cost_thief, cost_victim) = (self.comm_cost(task, thief), self.comm_cost(task, victim));
            if load_thief + cost_thief + compute > load_victim - (cost_victim + compute) / 2.0 {
                continue;
            }
            self.request_steal(task, victim, thief, (compute + cost_victim, compute + cost_thief));
            self.stealing.asked[level].0 += 1;
            self.stealing.asked[level].1 += compute + cost_victim;
            moved.push(Value::Array(vec![
                self.tasks[task].key.to_value(),
                level.into(),
                (compute + cost_victim).into(),
                Value::Str(self.workers[victim].hello.address.clone()),
                load_victim.into(),
                Value::Str(self.workers[thief].hello.address.clone()),
                load_thief.into(),
            ]));
            let worker = &self.workers[thief];
            let processing = worker.processing.len() as i64 + worker.in_flight_tasks;
            if !self.is_unoccupied(worker, self.combined(thief), processing) {
                thieves.remove(&thief);
            }
        }
    }

    /// Source: `distributed/stealing.py`, `_get_thief`, `stealing_objective`.
    fn thief_for(&self, task: TaskId, thieves: &BTreeSet<WorkerId>) -> Option<WorkerId> {
        let valid = self.valid_workers(task);
        let objective = |&id: &WorkerId| {
            let worker = &self.workers[id];
            (self.combined(id) / worker.nthreads() + self.comm_cost(task, id), worker.nbytes, id)
        };
        let least = |ids: &mut dyn Iterator<Item = WorkerId>| {
            ids.map(|id| objective(&id))
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)))
                .map(|best| best.2)
        };
        match valid {
            None => least(&mut thieves.iter().copied()),
            Some(valid) => least(&mut thieves.iter().copied().filter(|id| valid.contains(id)))
                .or_else(|| if self.is_loose(task) { least(&mut thieves.iter().copied()) } else { None }),
        }
    }

    fn request_steal(&mut self, task: TaskId, victim: WorkerId, thief: WorkerId, secs: (f64, f64)) {
        self.make_unstealable(task, victim);
        let stimulus: Text = format!("steal-{}", self.stealing.requests).into();
        self.stealing.requests += 1;
        let key = self.tasks[task].key.clone();
        self.send_worker(victim, ToWorker::StealRequest { key, stimulus: stimulus.clone() });
        let (victim_secs, thief_secs) = secs;
        self.workers[victim].in_flight_secs -= victim_secs;
        self.workers[victim].in_flight_tasks -= 1;
        self.workers[thief].in_flight_secs += thief_secs;
        self.workers[thief].in_flight_tasks += 1;
        self.stealing.in_flight.insert(task, InFlight { victim, thief, victim_secs, thief_secs, stimulus });
    }

    /// Requests so far by what moving costs compared to computing, cheapest first.
    ///
    /// Source: `distributed/stealing.py`, `cost_multipliers`.
    pub fn steal_totals(&self) -> impl Iterator<Item = StealTotal> {
        self.stealing.asked.iter().enumerate().map(|(level, &(count, cost_secs))| StealTotal {
            multiplier: if level == 0 { 1.0 } else { 1.0 + 2f64.powi(level as i32 - 6) },
            count,
            cost_secs,
        })
    }

    /// Tasks that are on their way to another worker.
    pub(super) fn steals_in_flight(&self) -> impl Iterator<Item = (TaskId, WorkerId, WorkerId)> {
        self.stealing.in_flight.iter().map(|(&task, info)| (task, info.victim, info.thief))
    }
}
