//! Worker processes: they start, register, talk, serve data and die.

use rask::base::{Key, Now, Text, Value};
use rask::sched::{Action, Erred, Event, Finished, Heartbeat, StartStop, ToWorker, WorkerHello, WorkerStatus};

use super::{Call, MS, Proc, SEC, Thing, World};
use crate::sim::worker::{Machine, Transfer, Up};

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
        let machine = Machine::new(address.clone(), slot.nthreads as usize);
        self.listening.insert(address, self.procs.len());
        self.procs.push(Proc {
            slot: at,
            alive: true,
            machine,
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
            address: entry.machine.address.clone(),
            name: slot.name.clone(),
            server_id: format!("Worker-{proc}").into(),
            host: slot.host.as_str().into(),
            nanny: Some(format!("tcp://{}:9000", slot.host).into()),
            nthreads: slot.nthreads,
            memory_limit: 0,
            status,
            resources: slot.resources.clone(),
        };
        let call = self.call(None, Call::Worker(proc));
        self.step(Event::AddWorker { call, worker: Box::new(hello) })
    }

    pub(super) fn start_serving(&mut self, proc: usize) {
        if !self.procs[proc].alive {
            return;
        }
        if self.procs[proc].status == WorkerStatus::Init {
            self.set_status(proc, WorkerStatus::Running);
        }
        self.push(SEC, Thing::FindMissing(proc));
        self.push(100 * MS, Thing::Beat(proc));
    }

    pub fn set_status(&mut self, proc: usize, status: WorkerStatus) {
        if !self.procs[proc].alive || self.procs[proc].status == status {
            return;
        }
        self.procs[proc].status = status;
        self.push_up(proc, Thing::StatusUp(proc, status));
        let mut acts = Vec::new();
        self.procs[proc].machine.set_running(status == WorkerStatus::Running, &mut acts);
        self.worker_acts(proc, acts);
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
        let (at, address) = (entry.slot, entry.machine.address.clone());
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

    pub(super) fn hear_worker(&mut self, proc: usize, up: Up) -> Result<(), String> {
        let Some(worker) = self.procs[proc].worker else { return Ok(()) };
        if self.is_cut(proc) {
            return Ok(());
        }
        let truth = |key: &Key| self.truths.get(key);
        let event = match up {
            Up::Finished { key, run } => {
                let (run_us, nbytes) = truth(&key).map_or((1, 1), |truth| (truth.run_us, truth.nbytes));
                let stop = self.now.0 as f64 / 1e6;
                let startstops = vec![StartStop { action: Action::Compute, start: stop - run_us as f64 / 1e6, stop }];
                let done = Finished {
                    key,
                    run_id: run,
                    nbytes: Some(nbytes),
                    type_pickle: bytes::Bytes::new(),
                    typename: "int".into(),
                    metadata: Value::Nil,
                    startstops,
                };
                Event::TaskFinished { worker, done }
            }
            Up::Erred { key, run } => {
                let failure = rask::base::Failure::Remote {
                    exception: Value::Nil,
                    traceback: Value::Nil,
                    exception_text: "ValueError()".into(),
                    traceback_text: "".into(),
                };
                Event::TaskErred { worker, erred: Box::new(Erred { key, run_id: run, failure }) }
            }
            Up::Release { key } => Event::ReleaseWorkerData { worker, key },
            Up::AddKeys { key } => Event::AddKeys { worker, keys: vec![key] },
            Up::LongRunning { key, run } => Event::LongRunning { worker, key, run_id: run, compute_secs: Some(0.01) },
            Up::Reschedule { key } => Event::Reschedule { worker, key },
            Up::StealResponse { key, state, stimulus } => {
                Event::StealResponse { worker, key, state: state.map(Into::into), stimulus }
            }
            Up::Refresh { keys } => Event::RefreshWhoHas { worker, keys },
        };
        self.step(event)
    }

    pub(super) fn tell_worker(&mut self, proc: usize, message: ToWorker) -> Result<(), String> {
        if !self.procs[proc].alive {
            return Ok(());
        }
        let mut acts = Vec::new();
        let machine = &mut self.procs[proc].machine;
        match message {
            ToWorker::Compute(compute) => machine.on_compute(&compute, &mut acts),
            ToWorker::FreeKeys { keys } => machine.on_free_keys(&keys, &mut acts),
            ToWorker::RemoveReplicas { keys } => machine.on_remove_replicas(&keys, &mut acts),
            ToWorker::AcquireReplicas { data } => machine.on_acquire_replicas(&data, &mut acts),
            ToWorker::StealRequest { key, stimulus } => machine.on_steal_request(&key, &stimulus, &mut acts),
            ToWorker::RefreshWhoHas { data } => machine.on_refresh_who_has(&data, &mut acts),
            ToWorker::RemoveWorker { address } => machine.on_remove_worker(&address, &mut acts),
            ToWorker::Status { status } => {
                let able = matches!(self.procs[proc].status, WorkerStatus::Running | WorkerStatus::Paused);
                if status == WorkerStatus::ClosingGracefully && !able {
                    let status = self.procs[proc].status;
                    self.push_up(proc, Thing::StatusUp(proc, status));
                } else {
                    self.set_status(proc, status);
                }
            }
            ToWorker::Close { .. } => self.kill(proc, false),
            ToWorker::ShuffleFail { .. } => {}
        }
        self.worker_acts(proc, acts);
        Ok(())
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
        let machine = &self.procs[proc].machine;
        let nbytes: i64 = machine.held().iter().filter_map(|key| self.truths.get(key)).map(|truth| truth.nbytes).sum();
        let executing = machine.executing().into_iter().map(|key| (key, 0.01)).collect();
        let beat = Heartbeat {
            executing,
            bandwidth: Some(1e8),
            memory: 100_000_000 + nbytes as u64,
            managed: nbytes as u64,
            ..Heartbeat::default()
        };
        self.step(Event::Heartbeat { worker, beat: Box::new(beat) })
    }

    pub(super) fn serve_data(&mut self, asker: usize, from: Text, keys: &[Key]) {
        let transfer = match self.listening.get(&from).map(|&proc| &self.procs[proc]) {
            None => Transfer::Broken,
            Some(peer) => {
                let busy = if peer.status == WorkerStatus::Running { 30 } else { 3 };
                let held = keys.iter().filter(|key| peer.machine.has(key)).cloned().collect();
                if self.rng.below(busy) == 0 { Transfer::Busy } else { Transfer::Data(held) }
            }
        };
        let delay = self.lag() + self.rng.below(50_000) as u64;
        self.push(delay, Thing::Gathered(asker, from, transfer));
    }
}
