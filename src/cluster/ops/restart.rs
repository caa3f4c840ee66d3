//! Restarting workers through their nannies, and the end of the scheduler.
//!
//! Source: `distributed/scheduler.py`, `restart`, `restart_workers`, `terminate`.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::{error, info, warn};

use crate::base::{Failure, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::{failure_text, raise};
use crate::cluster::jobs::broadcast::{BroadcastTarget, OnError};
use crate::cluster::jobs::progress;
use crate::cluster::ops::handler::Operations;
use crate::cluster::ops::workers;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::state::{Handle, State};
use crate::sched::Event;

/// How often to look whether workers are back.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The operations of this family.
pub const OPS: Operations = &[
    ("restart", restart),
    ("restart_workers", restart_workers),
    ("terminate", |state, call, _| {
        state.finish(call, Ok(Value::Nil));
        state.close_because("unknown");
        Ok(Done::Later)
    }),
];

fn restart(state: &mut State, call: Call, body: &Value) -> Handled {
    info!("restarting: every task is forgotten");
    state.step(Event::Restart);
    state.records.task_metadata.on_restart();
    progress::end_progress(state);
    state.plugins.scheduler.tell("restart", Vec::new(), Value::Map(Vec::new()));
    let wish = Restart::parse(state, body)?;
    let handle = state.handle.clone();
    Ok(state.job(call, async move { wish.run(handle).await.map(|_| Value::Nil) }))
}

fn restart_workers(state: &mut State, call: Call, body: &Value) -> Handled {
    let wish = Restart::parse(state, body)?;
    let handle = state.handle.clone();
    Ok(state.job(call, wish.run(handle)))
}

/// A worker that said nothing for longer than its TTL: its nanny restarts it, or it is given up.
pub fn restart_silent(state: &mut State, worker: WorkerId) {
    let Some(address) = state.address_of(worker) else { return };
    info!(worker = %address, "restarting a silent worker through its nanny, or removing it");
    let wish = Restart {
        workers: vec![worker],
        timeout_secs: 30.0,
        wait: false,
        raise: false,
        client: None,
        stimulus: "check-worker-ttl".into(),
    };
    let handle = state.handle.clone();
    tokio::spawn(async move {
        if let Err(failure) = wish.run(handle).await {
            error!(reason = failure_text(&failure), "a silent worker could not be restarted");
        }
    });
}

struct Restart {
    workers: Vec<WorkerId>,
    timeout_secs: f64,
    wait: bool,
    raise: bool,
    client: Option<Text>,
    stimulus: Text,
}

impl Restart {
    fn parse(state: &State, body: &Value) -> Result<Self, Failure> {
        Ok(Self {
            workers: state.workers_meant(body.field("workers"))?,
            timeout_secs: args::timeout(body, "timeout")?.unwrap_or(30.0),
            wait: args::flag(body, "wait_for_workers", true),
            raise: OnError::parse(body.get("on_error"))? == OnError::Raise,
            client: args::optional_text(body, "client"),
            stimulus: args::optional_text(body, "stimulus_id").unwrap_or_else(|| "restart".into()),
        })
    }

    /// Kills workers through their nannies, removes those without, and waits until as many are back.
    ///
    /// Source: `distributed/scheduler.py`, `restart_workers`.
    async fn run(self, handle: Handle) -> Outcome {
        let deadline = handle.clock().now().plus_secs(self.timeout_secs);
        let ids = self.workers.clone();
        let seen = handle.ask(move |state| split_by_nanny(state, &ids)).await;
        let Some((count_before, with_nanny, without)) = seen else { return Ok(Value::Nil) };
        let mut out: Vec<(Text, &'static str)> = without.iter().cloned().map(|address| (address, "removed")).collect();
        let body =
            Value::map([("op", "kill".into()), ("reason", Value::Str(self.stimulus.clone())), ("reply", true.into())]);
        let timeout = Duration::from_secs_f64(self.timeout_secs.clamp(0.001, 1e6));
        let kills = with_nanny.iter().map(|target| handle.call(&target.address, &body, timeout));
        let mut stuck = Vec::new();
        for (target, answer) in with_nanny.iter().zip(join_all(kills).await) {
            match answer {
                Ok(_) => out.push((target.name.clone(), "OK")),
                Err(error) => {
                    warn!(worker = %target.name, %error, "a nanny did not restart its worker");
                    stuck.push(target.name.clone());
                    out.push((target.name.clone(), "timed out"));
                }
            }
        }
        if !stuck.is_empty() {
            let (count, all, names) = (stuck.len(), with_nanny.len(), stuck.join(", "));
            handle.ask(move |state| remove_all(state, &stuck)).await;
            if self.raise {
                let text = format!("{count}/{all} nanny worker(s) did not shut down in time: {names}");
                return Err(raise("TimeoutError", text));
            }
        }
        self.log(&handle, &out).await;
        if !self.wait {
            return Ok(statuses(&out));
        }
        loop {
            let old = self.workers.clone();
            let count = handle.ask(move |state| count_without(state, &old)).await.unwrap_or(usize::MAX);
            if count >= count_before {
                return Ok(statuses(&out));
            }
            if handle.clock().now() >= deadline {
                return self.give_up(&handle, count_before, count, &without, with_nanny, out).await;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn log(&self, handle: &Handle, out: &[(Text, &'static str)]) {
        let workers = Value::Array(out.iter().map(|(address, _)| Value::Str(address.clone())).collect());
        let client = self.client.clone();
        handle
            .tell(move |state| {
                let message = Value::map([
                    ("action", "restart-workers".into()),
                    ("workers", workers),
                    ("client", client.clone().into()),
                ]);
                let mut topics: Vec<Text> = vec!["all".into()];
                topics.extend(client);
                state.log_event(&topics, &message);
            })
            .await;
    }

    async fn give_up(
        &self,
        handle: &Handle,
        wanted: usize,
        count: usize,
        without: &[Text],
        with_nanny: Vec<BroadcastTarget>,
        mut out: Vec<(Text, &'static str)>,
    ) -> Outcome {
        let mut text = format!(
            "Waited for {} worker(s) to reconnect after restarting but, after {}s, {} have not returned. Consider a \
             longer timeout, or `wait_for_workers=False`.",
            out.len(),
            self.timeout_secs,
            wanted.saturating_sub(count)
        );
        if !without.is_empty() {
            text.push_str(&format!(
                " The {} worker(s) without a nanny were shut down and can't come back by themselves.",
                without.len()
            ));
        }
        if self.raise {
            return Err(raise("TimeoutError", text));
        }
        let nannies = handle
            .ask(|state| state.sched.workers().iter().filter_map(|view| view.nanny.cloned()).collect::<Vec<Text>>())
            .await
            .unwrap_or_default();
        for target in with_nanny.iter().filter(|target| !nannies.contains(&target.address)) {
            if let Some(entry) = out.iter_mut().find(|(address, _)| *address == target.name) {
                entry.1 = "timed out";
            }
        }
        Ok(statuses(&out))
    }
}

/// How many workers there are; those with a nanny; those without, which are removed at once.
fn split_by_nanny(state: &mut State, ids: &[WorkerId]) -> (usize, Vec<BroadcastTarget>, Vec<Text>) {
    let count = state.sched.counts().workers;
    let (mut with_nanny, mut without) = (Vec::new(), Vec::new());
    for id in ids {
        let Some(view) = state.sched.worker(*id) else { continue };
        match view.nanny {
            Some(nanny) => with_nanny.push(BroadcastTarget { name: view.address.clone(), address: nanny.clone() }),
            None => without.push(view.address.clone()),
        }
    }
    if !without.is_empty() {
        state.warn("workers without a nanny are closed and can't be restarted");
        remove_all(state, &without);
    }
    (count, with_nanny, without)
}

/// How many workers there are besides these. The end of a process is heard by its connection, which may be later than its
/// nanny's answer: whoever restarts must not be left with a worker that is gone.
fn count_without(state: &State, old: &[WorkerId]) -> usize {
    let left = old.iter().filter(|id| state.sched.worker(**id).is_some()).count();
    state.sched.counts().workers.saturating_sub(left)
}

fn remove_all(state: &mut State, addresses: &[Text]) {
    for address in addresses {
        if let Some(worker) = state.worker_at(address) {
            workers::remove_worker(state, worker, true, true, "restart");
        }
    }
}

fn statuses(out: &[(Text, &'static str)]) -> Value {
    Value::Map(out.iter().map(|(address, status)| (Value::Str(address.clone()), (*status).into())).collect())
}
