//! Worker processes: they start, register, talk, serve data and die.

use rask::base::{Now, Text, Value};
use rask::sched::{
    Action, Erred, Event, Finished, Heartbeat, StartStop, ToWorker, WorkerEngine, WorkerHello, WorkerStatus,
};
use rask::worker_state::{MachineConfig, TaskPhase, WorkerEvent, WorkerMessage};

use super::{Call, MS, Proc, Thing, World};
use crate::sim::worker::{Node, compute_event, inputs};

impl World<'_> {
    pub(super) fn boot(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if !slot.enabled || slot.proc.is_some() {
            return;
        }
        let port = 4000 + if slot.sticky { 0 } else { slot.boots };
        slot.boots += 1;
        slot.proc = Some(self.procs.len());
        let address: Text = format!("tcp://{}:{port}", slot.host).into();
        let config = MachineConfig {
            address: address.clone(),
            slots: slot.nthreads,
            resources: slot.resources.clone(),
            seed: Some(self.rng.below(1 << 30) as u64),
            push_ahead: self.push_ahead,
            ..MachineConfig::default()
        };
        self.listening.insert(address, self.procs.len());
        self.procs.push(Proc {
            slot: at,
            alive: true,
            node: Node::new(config),
            worker: None,
            status: WorkerStatus::Init,
            cut_at: None,
            up_last: self.now,
            down_last: self.now,
            mute_until: Now(0),
        });
        self.push_up(self.procs.len() - 1, Thing::Register(self.procs.len() - 1));
    }

    pub(super) fn register(&mut self, proc: usize) -> Result<(), String> {
        let status = if self.rng.below(4) == 0 { WorkerStatus::Running } else { WorkerStatus::Init };
        let entry = &mut self.procs[proc];
        entry.status = status;
        let slot = &self.slots[entry.slot];
        let hello = WorkerHello {
            address: entry.node.address.clone(),
            name: slot.name.clone(),
            server_id: format!("Worker-{proc}").into(),
            host: slot.host.as_str().into(),
            nanny: Some(format!("tcp://{}:9000", slot.host).into()),
            nthreads: slot.nthreads,
            memory_limit: 0,
            status,
            resources: slot.resources.clone(),
            engine: if self.push_ahead { WorkerEngine::Rask } else { WorkerEngine::Stock },
        };
        let call = self.call(None, Call::Worker(proc));
        self.step(Event::AddWorker { call, worker: Box::new(hello) })
    }

    pub(super) fn start_serving(&mut self, proc: usize) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        self.push(100 * MS, Thing::Beat(proc));
        match self.procs[proc].status {
            WorkerStatus::Init => self.set_status(proc, WorkerStatus::Running),
            _ => Ok(()),
        }
    }

    pub fn set_status(&mut self, proc: usize, status: WorkerStatus) -> Result<(), String> {
        if !self.procs[proc].alive || self.procs[proc].status == status {
            return Ok(());
        }
        self.procs[proc].status = status;
        self.push_up(proc, Thing::StatusUp(proc, status));
        self.tell_machine(proc, WorkerEvent::SetRunning { running: status == WorkerStatus::Running })
    }

    /// The process ends. With `cut`, news on its way is lost.
    pub fn kill(&mut self, proc: usize, cut: bool) {
        let entry = &mut self.procs[proc];
        if !entry.alive {
            return;
        }
        entry.alive = false;
        if cut {
            entry.cut_at = Some(self.now);
        }
        let (at, address) = (entry.slot, entry.node.address.clone());
        if self.listening.get(&address) == Some(&proc) {
            self.listening.remove(&address);
        }
        self.report.deaths += 1;
        let text = format!("                 worker {address} (process {proc}) dies, news cut: {cut}");
        self.note(text);
        self.push_up(proc, Thing::EofUp(proc));
        if let Some(worker) = self.procs[proc].worker
            && self.rng.below(4) == 0
        {
            let delay = self.lag();
            self.push(delay, Thing::Unregister(worker));
        }
        self.slots[at].proc = None;
        let delay = 10 * MS + self.rng.below(3_000_000) as u64;
        self.push(delay, Thing::Boot(at));
    }

    pub(super) fn is_cut(&self, proc: usize) -> bool {
        self.procs[proc].cut_at.is_some()
    }

    pub(super) fn hear_worker(&mut self, proc: usize, message: WorkerMessage) -> Result<(), String> {
        let Some(worker) = self.procs[proc].worker else { return Ok(()) };
        if self.is_cut(proc) {
            return Ok(());
        }
        let event = match message {
            WorkerMessage::Finished { key, run, size_bytes } => {
                let run_us = self.truths.get(&key).map_or(1, |truth| truth.run_us);
                let stop = self.now.0 as f64 / 1e6;
                let startstops = vec![StartStop { action: Action::Compute, start: stop - run_us as f64 / 1e6, stop }];
                let done = Finished {
                    key,
                    run_id: run,
                    nbytes: i64::try_from(size_bytes).ok(),
                    type_pickle: bytes::Bytes::new(),
                    typename: "int".into(),
                    metadata: Value::Nil,
                    startstops,
                };
                Event::TaskFinished { worker, done }
            }
            WorkerMessage::Erred { key, run } => {
                let failure = rask::base::Failure::Remote {
                    exception: Value::Nil,
                    traceback: Value::Nil,
                    exception_text: "ValueError()".into(),
                    traceback_text: "".into(),
                };
                Event::TaskErred { worker, erred: Box::new(Erred { key, run_id: run, failure }) }
            }
            WorkerMessage::ReleaseData { key } => Event::ReleaseWorkerData { worker, key },
            WorkerMessage::AddKeys { keys } => Event::AddKeys { worker, keys },
            WorkerMessage::LongRunning { key, run, compute_secs } => {
                Event::LongRunning { worker, key, run_id: run, compute_secs }
            }
            WorkerMessage::Reschedule { key } => Event::Reschedule { worker, key },
            WorkerMessage::StealResponse { key, state, stimulus } => {
                Event::StealResponse { worker, key, state: state.map(phase_name), stimulus }
            }
            WorkerMessage::RefreshWhoHas { keys } => Event::RefreshWhoHas { worker, keys },
        };
        self.step(event)
    }

    pub(super) fn tell_worker(&mut self, proc: usize, message: ToWorker) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let event = match message {
            ToWorker::Compute(compute) => compute_event(&compute),
            ToWorker::FreeKeys { keys } => WorkerEvent::FreeKeys { keys },
            ToWorker::RemoveReplicas { keys } => WorkerEvent::RemoveReplicas { keys },
            ToWorker::AcquireReplicas { data } => WorkerEvent::AcquireReplicas { inputs: inputs(&data) },
            ToWorker::StealRequest { key, stimulus } => WorkerEvent::StealRequest { key, stimulus },
            ToWorker::RefreshWhoHas { data } => {
                let holders = data.iter().map(|(key, _, holders)| (key.clone(), holders.to_vec())).collect();
                WorkerEvent::RefreshWhoHas { holders }
            }
            ToWorker::RemoveWorker { address } => WorkerEvent::RemoveWorker { address },
            ToWorker::Status { status } => {
                let able = matches!(self.procs[proc].status, WorkerStatus::Running | WorkerStatus::Paused);
                if status == WorkerStatus::ClosingGracefully && !able {
                    let status = self.procs[proc].status;
                    self.push_up(proc, Thing::StatusUp(proc, status));
                    return Ok(());
                }
                return self.set_status(proc, status);
            }
            ToWorker::Close { .. } => {
                self.kill(proc, false);
                return Ok(());
            }
            ToWorker::ShuffleFail { .. } => return Ok(()),
        };
        self.tell_machine(proc, event)
    }

    pub(super) fn beat(&mut self, proc: usize) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let pause = 300 * MS + self.rng.below(400_000) as u64;
        self.push(pause, Thing::Beat(proc));
        if self.procs[proc].mute_until > self.now {
            return Ok(());
        }
        let Some(worker) = self.procs[proc].worker else { return Ok(()) };
        if !self.registered.contains_key(&worker) {
            // Answered with `missing`: the worker closes.
            self.kill(proc, false);
            return Ok(());
        }
        let node = &self.procs[proc].node;
        let nbytes: i64 = node.held().iter().filter_map(|key| self.truths.get(key)).map(|truth| truth.nbytes).sum();
        let executing = node.executing().into_iter().map(|key| (key, 0.01)).collect();
        let beat = Heartbeat {
            executing,
            bandwidth: Some(1e8),
            memory: 100_000_000 + nbytes as u64,
            managed: nbytes as u64,
            ..Heartbeat::default()
        };
        self.step(Event::Heartbeat { worker, beat: Box::new(beat) })
    }
}

/// A state's name on the wire: what waits in a slot's queue is ready, as far as schedulers know.
fn phase_name(phase: TaskPhase) -> Text {
    let phase = if phase == TaskPhase::Pushed { TaskPhase::Ready } else { phase };
    let name = serde_json::to_value(phase).expect("a name is text");
    name.as_str().expect("a name is text").into()
}
