//! P2P shuffles: which worker gets which output partition, and starting over when a participant is lost.
//!
//! Source: `distributed/shuffle/_scheduler_plugin.py`, `ShuffleSchedulerPlugin`; `pick_worker` of the shuffle specs.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::effect::{Answer, ShuffleRun, ToWorker};
use super::event::ShuffleRequest;
use super::records::Active;
use super::task::{Rare, StateName};
use crate::base::{CallId, Key, PyError, RunId, ShuffleLayout, ShuffleSpec, TaskId, Text, Value};

/// Every barrier task is named so.
const BARRIER: &str = "shuffle-barrier-";

impl Scheduler {
    pub(super) fn on_shuffle(&mut self, call: CallId, request: ShuffleRequest) {
        let answer = match request {
            ShuffleRequest::GetOrCreate { id, key, worker } => self.shuffle_get_or_create(&id, &key, &worker),
            ShuffleRequest::Get { id, worker } => match self.shuffle_get(&id, &worker) {
                Ok(None) => Err(p2p(format!("No active shuffle with id='{id}' found"))),
                Ok(Some(answer)) => Ok(answer),
                Err(error) => Err(error),
            },
            ShuffleRequest::Barrier { id, run_id, consistent } => self.shuffle_barrier(&id, run_id, consistent),
            ShuffleRequest::Restrict { id, run_id, key, worker } => self.shuffle_restrict(&id, run_id, &key, worker),
        };
        self.answer(call, answer.unwrap_or_else(Answer::Error));
    }

    fn shuffle_get(&mut self, id: &Text, worker: &Text) -> Result<Option<Answer>, PyError> {
        if !self.by_address.contains_key(worker) {
            return Err(p2p(format!("Scheduler is unaware of this worker '{worker}'")));
        }
        let Some(active) = self.shuffles.active.get_mut(id) else { return Ok(None) };
        active.participants.insert(worker.clone());
        Ok(Some(Answer::Shuffle(Box::new(active.run.clone()))))
    }

    fn shuffle_get_or_create(&mut self, id: &Text, key: &Key, worker: &Text) -> Result<Answer, PyError> {
        if let Some(answer) = self.shuffle_get(id, worker)? {
            return Ok(answer);
        }
        let barrier_key = Key::text(&format!("{BARRIER}{id}"));
        let unknown = || {
            p2p(format!(
                "Barrier task with key '{barrier_key}' does not exist. \
                 This may be caused by task fusion during graph generation."
            ))
        };
        let barrier = self.find(&barrier_key).ok_or_else(unknown)?;
        let spec = self.tasks[barrier].rare.as_ref().and_then(|rare| rare.shuffle.clone()).ok_or_else(unknown)?;
        let state = self.find(key).map(|task| self.tasks[task].state.name());
        if state != Some(StateName::Processing) {
            let state = state.map_or("unknown", StateName::as_str);
            return Err(p2p(format!("Expected task {key} to be processing, is {state}.")));
        }
        let worker_for = self.shuffle_layout(barrier, &spec)?;
        for dependent in self.tasks[barrier].dependents.iter().collect::<Vec<_>>() {
            self.tasks[dependent].queueable = false;
        }
        self.shuffles.run_id += 1;
        let run = ShuffleRun { run_id: self.shuffles.run_id, spec, worker_for };
        let mut participants: BTreeSet<Text> = run.worker_for.iter().map(|(_, address)| address.clone()).collect();
        participants.insert(worker.clone());
        let answer = Answer::Shuffle(Box::new(run.clone()));
        self.shuffles.active.insert(id.clone(), Active { run, participants, told_failed: false });
        Ok(answer)
    }

    /// Is it the barrier of a shuffle that runs?
    pub(super) fn is_barrier_of_active(&self, task: TaskId) -> bool {
        let active = &self.shuffles.active;
        let spec = |task: TaskId| self.tasks[task].rare.as_ref()?.shuffle.as_ref();
        !active.is_empty() && spec(task).is_some_and(|spec| active.contains_key(&spec.id))
    }

    /// Source: `distributed/shuffle/_scheduler_plugin.py`, `_calculate_worker_for`.
    fn shuffle_layout(&mut self, barrier: TaskId, spec: &ShuffleSpec) -> Result<Vec<(Vec<i64>, Text)>, PyError> {
        let pinned = self.tasks[barrier].rare.as_ref().map(|rare| rare.worker_restrictions.clone()).unwrap_or_default();
        let mut workers: Vec<Text> = if pinned.is_empty() { self.by_address.keys().cloned().collect() } else { pinned };
        if workers.is_empty() {
            return Err(p2p("There are no workers to shuffle to".to_owned()));
        }
        let shift = self.shuffles.shift % workers.len();
        self.shuffles.shift += 1;
        workers.rotate_left(shift);
        let shared = self.shared_outputs(barrier);
        let pick = |partition: &[i64], index: usize, of: usize| {
            shared.get(partition).cloned().unwrap_or_else(|| workers[workers.len() * index / of.max(1)].clone())
        };
        Ok(match &spec.layout {
            ShuffleLayout::DataFrame { npartitions, parts_out } => parts_out
                .iter()
                .map(|&part| {
                    let (index, of) = (usize::try_from(part).unwrap_or(0), usize::try_from(*npartitions).unwrap_or(1));
                    (vec![part], pick(&[part], index.min(of.saturating_sub(1)), of))
                })
                .collect(),
            ShuffleLayout::Rechunk { new_chunks } => {
                let of: usize = new_chunks.iter().product();
                (0..of)
                    .map(|index| nd_index(index, new_chunks))
                    .map(|(index, at)| {
                        let worker = pick(&at, index, of);
                        (at, worker)
                    })
                    .collect()
            }
        })
    }

    /// Where running shuffles that feed the same output tasks put their partitions.
    fn shared_outputs(&self, barrier: TaskId) -> BTreeMap<Vec<i64>, Text> {
        let mut seen = BTreeSet::from([barrier]);
        let mut shared = BTreeMap::new();
        for dependent in self.tasks[barrier].dependents.iter() {
            for &other in &self.tasks[dependent].dependencies {
                if !seen.insert(other) {
                    continue;
                }
                let id = self.tasks[other].key.as_text().and_then(|key| key.strip_prefix(BARRIER));
                if let Some(active) = id.and_then(|id| self.shuffles.active.get(id)) {
                    shared.extend(active.run.worker_for.iter().cloned());
                }
            }
        }
        shared
    }

    fn shuffle_barrier(&mut self, id: &Text, run_id: RunId, consistent: bool) -> Result<Answer, PyError> {
        let active = self.shuffles.active.get(id).ok_or_else(|| PyError::MissingKey(Value::Str(id.clone())))?;
        if active.run.run_id != run_id {
            let text = format!("run_id={run_id} does not match shuffle {id} with run_id={}", active.run.run_id);
            return Err(PyError::builtin("ValueError", text));
        }
        if consistent {
            return Ok(Answer::Participants(active.participants.iter().cloned().collect()));
        }
        self.warn(format!("Shuffle {id} restarted: a participant saw inconsistent data at its barrier"));
        self.restart_shuffle(&id.clone());
        Ok(Answer::Value(Value::Nil))
    }

    fn shuffle_restrict(&mut self, id: &Text, run_id: RunId, key: &Key, worker: Text) -> Result<Answer, PyError> {
        let active =
            self.shuffles.active.get(id).ok_or_else(|| p2p(format!("No active shuffle with id='{id}' found")))?;
        let current = active.run.run_id;
        if current != run_id {
            let kind = if current > run_id { "stale" } else { "invalid" };
            return Err(p2p(format!("Request {kind}, expected run_id={current} for shuffle {id}, got {run_id}")));
        }
        let task = self.find(key).ok_or_else(|| PyError::MissingKey(key.to_value()))?;
        let rare = self.tasks[task].rare_mut();
        if rare.unpinned.is_none() {
            rare.unpinned = Some(std::mem::replace(&mut rare.worker_restrictions, vec![worker]));
        }
        Ok(Answer::Value(Value::map([("status", "OK".into())])))
    }

    // ---- ends ------------------------------------------------------------------------------------------------

    /// A barrier task came to `released` or `erred`: its run is over.
    pub(super) fn shuffle_barrier_moved(&mut self, task: TaskId) {
        let Some(id) =
            self.tasks[task].rare.as_ref().and_then(|rare| rare.shuffle.as_ref()).map(|spec| spec.id.clone())
        else {
            return;
        };
        self.end_shuffle(&id, "forgotten");
    }

    /// A task is about to go; if it was a barrier, so does its shuffle.
    pub(super) fn shuffle_task_forgotten(&mut self, rare: Option<&Rare>) {
        if let Some(spec) = rare.and_then(|rare| rare.shuffle.as_ref()) {
            let id = spec.id.clone();
            self.end_shuffle(&id, "forgotten");
            self.shuffles.archived.retain(|(_, other)| *other != id);
        }
    }

    /// Tells the participants that this run is void, and lifts the pins of its outputs.
    fn end_shuffle(&mut self, id: &Text, why: &str) {
        let Some(active) = self.shuffles.active.remove(id) else { return };
        let run_id = active.run.run_id;
        let message: Text = format!("Shuffle {id} (run {run_id}) {why}").into();
        for address in &active.participants {
            if let Some(&worker) = self.by_address.get(address) {
                let message = message.clone();
                self.send_worker(worker, ToWorker::ShuffleFail { id: id.clone(), run_id, message });
            }
        }
        let step = self.step;
        self.shuffles.archived.retain(|(archived_by, _)| *archived_by == step);
        self.shuffles.archived.push((step, id.clone()));
        let Some(barrier) = self.find(&Key::text(&format!("{BARRIER}{id}"))) else { return };
        for output in self.tasks[barrier].dependents.iter().collect::<Vec<_>>() {
            if let Some(rare) = self.tasks[output].rare.as_mut()
                && let Some(original) = rare.unpinned.take()
            {
                rare.worker_restrictions = original;
            }
        }
    }

    /// Shuffles that this worker took part in start over.
    pub(super) fn shuffles_lose_worker(&mut self, address: &Text) {
        let hit: Vec<Text> = self
            .shuffles
            .active
            .iter()
            .filter(|(_, active)| active.participants.contains(address))
            .map(|(id, _)| id.clone())
            .collect();
        for id in hit {
            self.end_shuffle(&id, &format!("lost worker {address}"));
        }
        let step = self.step;
        let ended: Vec<Text> =
            self.shuffles.archived.iter().filter(|(by, _)| *by == step).map(|(_, id)| id.clone()).collect();
        for id in ended {
            self.restart_shuffle(&id);
        }
    }

    /// Source: `distributed/shuffle/_scheduler_plugin.py`, `_restart_recommendations`, `_restart_shuffle`.
    fn restart_shuffle(&mut self, id: &Text) {
        let Some(barrier) = self.find(&Key::text(&format!("{BARRIER}{id}"))) else { return };
        let outputs: Vec<TaskId> = self.tasks[barrier].dependents.iter().collect();
        let transfers = self.tasks[barrier].dependencies.clone();
        let around = outputs.iter().chain([&barrier]).chain(&transfers);
        if around.clone().any(|&task| self.tasks[task].state.name() == StateName::Erred) {
            return;
        }
        for &task in around {
            if self.tasks[task].state.name() != StateName::Released {
                self.recommend(task, StateName::Released);
            }
        }
        self.run_transitions();
        self.warn(format!("Shuffle {id} started over"));
    }

    /// Says once per shuffle that one of its tasks failed.
    pub(super) fn shuffle_task_erred(&mut self, task: TaskId) {
        if self.shuffles.active.is_empty() {
            return;
        }
        let mut failed = Vec::new();
        for (id, active) in &self.shuffles.active {
            let Some(barrier) = self.find(&Key::text(&format!("{BARRIER}{id}"))) else { continue };
            let near = task == barrier
                || self.tasks[barrier].dependents.contains(task)
                || self.tasks[barrier].dependencies.contains(&task);
            if near && !active.told_failed {
                failed.push(id.clone());
            }
        }
        for id in failed {
            if let Some(active) = self.shuffles.active.get_mut(&id) {
                active.told_failed = true;
            }
            let message = Value::map([("action", "p2p-failed".into()), ("shuffle", Value::Str(id))]);
            self.log(vec!["p2p".into()], message);
        }
    }

    pub(super) fn shuffle_participants(&self) -> BTreeSet<Text> {
        self.shuffles.active.values().flat_map(|active| active.participants.iter().cloned()).collect()
    }

    /// Active P2P shuffles: id, run number, participants.
    pub fn shuffles(&self) -> Vec<(Text, RunId, Vec<Text>)> {
        let active = self.shuffles.active.iter();
        active
            .map(|(id, active)| (id.clone(), active.run.run_id, active.participants.iter().cloned().collect()))
            .collect()
    }
}

fn p2p(text: String) -> PyError {
    PyError::P2pConsistency(text.into())
}

/// The place along each axis of the chunk with that number, counted with the first axis fastest, as
/// `ArrayRechunkSpec.pick_worker` does.
fn nd_index(index: usize, lengths: &[usize]) -> (usize, Vec<i64>) {
    let mut rest = index;
    let at = lengths
        .iter()
        .map(|&len| {
            let place = rest % len.max(1);
            rest /= len.max(1);
            place as i64
        })
        .collect();
    (index, at)
}
