//! Every invariant, in one function that returns the first broken one. Run after each step of a simulation.

use super::Scheduler;
use super::task::{StateName, Task, TaskState};
use crate::base::{TaskId, WorkerId};

macro_rules! ensure {
    ($rule:expr, $($what:tt)*) => {
        if !$rule {
            return Err(format!($($what)*));
        }
    };
}

impl Scheduler {
    /// Checks every rule that must hold between steps. Cost: everything is visited.
    ///
    /// Errors: the first broken rule, in words.
    pub fn check(&self) -> Result<(), String> {
        ensure!(self.recs.is_empty(), "{} recommendations were left over", self.recs.len());
        ensure!(self.by_key.len() == self.tasks.len(), "keys and tasks are not one to one");
        for (id, task) in self.tasks.iter() {
            self.check_task(id, task)
                .map_err(|rule| format!("task {} ({}): {rule}", task.key, task.state.name().as_str()))?;
        }
        for (&id, address) in self.by_address.iter().map(|(address, id)| (id, address)) {
            self.check_worker(id).map_err(|rule| format!("worker {address}: {rule}"))?;
        }
        ensure!(self.workers.len() == self.by_address.len(), "a worker that is gone still has a record");
        self.check_totals()?;
        for (id, client) in self.clients.iter() {
            for &task in &client.wants_what {
                let known = self.tasks.get(task).is_some_and(|task| task.who_wants.contains(&id));
                ensure!(known, "client {} wants a task that does not know it", client.name);
            }
        }
        for (task, victim, _) in self.steals_in_flight() {
            let on = self.tasks.get(task).and_then(|task| task.processing_on());
            ensure!(on == Some(victim), "a steal is under way for a task that left its victim");
        }
        self.coord.check()
    }

    fn check_task(&self, id: TaskId, task: &Task) -> Result<(), String> {
        ensure!(self.by_key.get(&task.key) == Some(&id), "its key names another task");
        ensure!(task.rec_at.is_none(), "a recommendation is left");
        for &dependency in &task.dependencies {
            let known = self.tasks.get(dependency).is_some_and(|other| other.dependents.contains(id));
            ensure!(known, "a dependency does not know it");
        }
        for dependent in task.dependents.iter() {
            let known = self.tasks.get(dependent).is_some_and(|other| other.dependencies.contains(&id));
            ensure!(known, "a dependent does not know it");
        }
        for waiter in task.waiters.iter() {
            ensure!(task.dependents.contains(waiter), "a waiter is no dependent");
            let state = self.tasks[waiter].state.name();
            let waits =
                matches!(state, StateName::Waiting | StateName::Queued | StateName::NoWorker | StateName::Processing);
            ensure!(waits, "its waiter {} is {}", self.tasks[waiter].key, state.as_str());
        }
        for &client in &task.who_wants {
            let known = self.clients.get(client).is_some_and(|client| client.wants_what.contains(&id));
            ensure!(known, "a wanter does not know it");
        }
        for &worker in task.who_has() {
            let known = self.workers.get(worker).is_some_and(|worker| worker.has_what.contains(&id));
            ensure!(known, "a holder does not know it");
        }
        ensure!(self.replicated.contains(&id) == (task.who_has().len() > 1), "replicated is wrong");
        self.check_state(id, task)
    }

    fn check_state(&self, id: TaskId, task: &Task) -> Result<(), String> {
        match &task.state {
            TaskState::Waiting { missing } => {
                ensure!(!missing.is_empty(), "waits for nothing");
                for &dependency in &task.dependencies {
                    let other = &self.tasks[dependency];
                    let is_missing = other.who_has().is_empty();
                    ensure!(is_missing == missing.contains(dependency), "what is missing of {} is wrong", other.key);
                    ensure!(other.waiters.contains(id), "{} does not know that it waits", other.key);
                    ensure!(other.state.name() != StateName::Released, "waits for {}, which nothing starts", other.key);
                    ensure!(other.state.name() != StateName::Erred, "waits for {}, which failed", other.key);
                }
                ensure!(task.is_needed(), "nobody needs it");
            }
            TaskState::Queued { seq } => {
                ensure!(self.queued.contains(&(task.rank(), *seq, id)), "is not in the queue");
                self.check_runnable(id, task)?;
            }
            TaskState::NoWorker { since } => {
                ensure!(self.unrunnable.contains(&(*since, id)), "is not among those without a worker");
                self.check_runnable(id, task)?;
            }
            TaskState::Processing { on, .. } => {
                let known = self.workers.get(*on).is_some_and(|worker| worker.processing.contains(&id));
                ensure!(known, "its worker does not know it");
                self.check_runnable(id, task)?;
            }
            TaskState::Memory { replicas } => ensure!(!replicas.is_empty(), "nobody holds it"),
            TaskState::Erred => {
                ensure!(task.rare.as_ref().is_some_and(|rare| rare.failure.is_some()), "has no failure");
            }
            TaskState::Released => {
                let wanted = task.is_needed() && !task.lost_dependencies;
                ensure!(!wanted, "is needed and nothing starts it");
            }
            TaskState::Forgotten => ensure!(false, "is still known"),
        }
        Ok(())
    }

    /// What must be true of a task that could run, or runs.
    fn check_runnable(&self, id: TaskId, task: &Task) -> Result<(), String> {
        for &dependency in &task.dependencies {
            let other = &self.tasks[dependency];
            ensure!(!other.who_has().is_empty(), "its input {} is nowhere", other.key);
            ensure!(other.waiters.contains(id), "{} does not know that it waits", other.key);
        }
        ensure!(task.is_needed(), "nobody needs it");
        ensure!(task.run_spec.is_some(), "has nothing to run");
        Ok(())
    }

    fn check_worker(&self, id: WorkerId) -> Result<(), String> {
        let worker = &self.workers[id];
        let nbytes: i64 = worker.has_what.iter().map(|&task| self.size_of(task)).sum();
        ensure!(worker.nbytes == nbytes, "nbytes {} instead of {nbytes}", worker.nbytes);
        for &task in &worker.has_what {
            ensure!(self.tasks[task].who_has().contains(&id), "has a key that does not know it");
        }
        for &task in &worker.processing {
            ensure!(self.tasks[task].processing_on() == Some(id), "processes a task that does not know it");
        }
        for &task in &worker.long_running {
            ensure!(worker.processing.contains(&task), "a long-running task is not processing");
        }
        let counted: u32 = worker.prefix_counts.iter().map(|(_, count)| count).sum();
        let expected = worker.processing.len() - worker.long_running.len();
        ensure!(counted as usize == expected, "counts {counted} tasks by prefix instead of {expected}");
        for (&task, &count) in &worker.needs_what {
            let users =
                worker.processing.iter().filter(|&&other| self.tasks[other].dependencies.contains(&task)).count();
            ensure!(count as usize <= users, "fetches {} for {users} tasks and counts {count}", self.tasks[task].key);
            ensure!(!worker.has_what.contains(&task), "fetches what it has");
        }
        for (level, tasks) in worker.stealable.iter().enumerate() {
            for &task in tasks {
                let entry = &self.tasks[task];
                ensure!(entry.steal_level().map(usize::from) == Some(level), "a stealable task is on the wrong level");
                ensure!(entry.processing_on() == Some(id), "a stealable task is elsewhere");
            }
        }
        let stealable: usize = worker.stealable.iter().map(|tasks| tasks.len()).sum();
        let marked = worker.processing.iter().filter(|&&task| self.tasks[task].steal_level().is_some()).count();
        ensure!(stealable == marked, "{marked} tasks are marked stealable, {stealable} are filed");
        ensure!(worker.is_running() == self.running.contains(&id), "running is wrong");
        ensure!(worker.idle_at.is_none_or(|at| self.idle.get(at) == Some(&id)), "idle is wrong");
        ensure!(worker.is_running() || worker.idle_at.is_none(), "is idle but does not run");
        ensure!(worker.saturated == self.saturated.contains(&id), "saturated is wrong");
        let slot = worker.slot_load.is_none_or(|load| self.open_slots.contains(&(load, id)));
        ensure!(slot, "its open slot is lost");
        let load = worker.load.is_none_or(|load| self.by_load[worker.hello.engine as usize].contains(&(load, id)));
        ensure!(load && (worker.is_running() || worker.load.is_none()), "its load is filed wrong");
        Ok(())
    }

    fn check_totals(&self) -> Result<(), String> {
        let threads: u64 = self.by_address.values().map(|&id| u64::from(self.workers[id].hello.nthreads)).sum();
        ensure!(threads == self.total_nthreads, "{} threads instead of {threads}", self.total_nthreads);
        let queued = self.queued.len();
        let unrunnable = self.unrunnable.len();
        let counts = self.counts();
        ensure!(queued == counts.by_state[StateName::Queued as usize], "the queue holds {queued} tasks");
        ensure!(unrunnable == counts.by_state[StateName::NoWorker as usize], "{unrunnable} tasks are unrunnable");
        let long_running: usize = self.by_address.values().map(|&id| self.workers[id].long_running.len()).sum();
        ensure!(long_running == self.long_running, "{} tasks have seceded, not {long_running}", self.long_running);
        let place = self.queued.first().is_some_and(|&(_, _, task)| self.has_place(task));
        ensure!(!place, "{queued} tasks are held back while workers have room");
        ensure!(self.supplied.is_none(), "a worker is still being supplied");
        let held = self.tasks.iter().filter(|(_, task)| task.state.name() == StateName::Memory);
        let held: i64 = held.map(|(_, task)| task.nbytes.max(0)).sum();
        let by_prefix: i64 = self.prefixes.iter().map(|prefix| prefix.nbytes_memory).sum();
        ensure!(held == by_prefix, "prefixes hold {by_prefix} bytes instead of {held}");
        for prefix in &self.prefixes {
            ensure!((prefix.processing > 0) == prefix.active_at.is_some(), "prefix {} is filed wrong", prefix.name);
        }
        Ok(())
    }
}
