//! `retire_workers`: moves what only these workers hold elsewhere, then lets them go.
//!
//! Source: `distributed/scheduler.py`, `retire_workers`, `_track_retire_worker`.

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing::info;

use crate::base::{Failure, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::codec::args::{repr, shown, text_list};
use crate::cluster::codec::failures::raise;
use crate::cluster::codec::messages::{Stimulus, put_to_worker};
use crate::cluster::ops::handler::Operations;
use crate::cluster::ops::{scale, workers};
use crate::cluster::state::call::{Call, Handled, Outcome};
use crate::cluster::state::{Handle, State};
use crate::cluster::views::identity;
use crate::sched::{Event, ToWorker};

/// What becomes of a worker when its data is safe.
#[derive(Clone, Copy)]
struct After {
    close: bool,
    remove: bool,
}

/// A worker that is being retired.
struct Retiree {
    worker: WorkerId,
    address: Text,
    identity: Value,
    moved: oneshot::Receiver<bool>,
}

/// The operations of this family.
pub const OPS: Operations = &[("retire_workers", start)];

/// `retire_workers`: `{address: identity}` of those that could be retired.
fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let after = After { close: args::flag(body, "close_workers", false), remove: args::flag(body, "remove", true) };
    let handle = state.handle.clone();
    let chosen = chosen(state, body)?;
    if let Some(names) = body.field("names") {
        state.note(format!("Retire worker names {}", repr(names)));
    }
    Ok(match chosen {
        Chosen::These(workers) => {
            let retirees = retire(state, workers);
            state.job(call, run(handle, retirees, after))
        }
        Chosen::ByPython => {
            let groups = scale::closable_groups(state, body)?;
            state.job(call, async move {
                let workers = groups.await?;
                let retirees = handle.ask(move |state| retire(state, workers)).await.unwrap_or_default();
                run(handle, retirees, after).await
            })
        }
    })
}

/// Retires these workers and closes them, as [`start`] does, for nobody who waits.
pub fn and_close(state: &mut State, workers: Vec<WorkerId>) {
    let retirees = retire(state, workers);
    let handle = state.handle.clone();
    tokio::spawn(async move { drop(run(handle, retirees, After { close: true, remove: true }).await) });
}

/// Tells the core to empty these workers.
fn retire(state: &mut State, workers: Vec<WorkerId>) -> Vec<Retiree> {
    let mut retirees = Vec::with_capacity(workers.len());
    for worker in &workers {
        let Some(identity) = identity::worker_identity(state, *worker) else { continue };
        let Some(address) = state.address_of(*worker) else { continue };
        let (waiter, moved) = oneshot::channel();
        state.jobs.retiring.entry(*worker).or_default().push(waiter);
        retirees.push(Retiree { worker: *worker, address, identity, moved });
    }
    if !workers.is_empty() {
        info!(workers = retirees.len(), "retiring workers");
        let addresses: Vec<&str> = retirees.iter().map(|retiree| &*retiree.address).collect();
        let told = format!("Retire worker addresses {}", addresses.join(", "));
        state.note(told);
        state.step(Event::Retire { workers });
    }
    retirees
}

/// Which workers a request means.
enum Chosen {
    These(Vec<WorkerId>),
    /// A function groups them, and it must run first.
    ByPython,
}

/// Arguments of `workers_to_close`, which choose when neither workers nor names are given.
const RULES: [&str; 6] = ["memory_ratio", "n", "key", "minimum", "target", "attribute"];
/// Arguments of the request itself.
const OWN: [&str; 9] =
    ["op", "reply", "close", "serializers", "workers", "names", "close_workers", "remove", "stimulus_id"];

/// The arguments that are none of [`OWN`].
fn others(body: &Value) -> Vec<(&str, &Value)> {
    let fields = body.fields().unwrap_or_default().iter();
    let named = fields.filter_map(|(name, value)| Some((name.as_str()?, value)));
    named.filter(|(name, _)| !OWN.contains(name)).collect()
}

fn chosen(state: &State, body: &Value) -> Result<Chosen, Failure> {
    let (workers, names) = (body.field("workers"), body.field("names"));
    let by_rule = others(body);
    Ok(Chosen::These(match (workers, names) {
        (Some(_), Some(_)) => return Err(raise("TypeError", "names and workers are mutually exclusive")),
        (Some(_), None) | (None, Some(_)) if !by_rule.is_empty() => {
            let given: Vec<String> = by_rule.iter().map(|(name, value)| format!("'{name}': {}", repr(value))).collect();
            let text = "Parameters for workers_to_close() are mutually exclusive with names and workers";
            return Err(raise("TypeError", format!("{text}: {{{}}}", given.join(", "))));
        }
        (None, None) if by_rule.iter().any(|(name, _)| !RULES.contains(name)) => {
            let name = by_rule.iter().map(|(name, _)| *name).find(|name| !RULES.contains(name)).unwrap_or_default();
            let text = format!("Scheduler.workers_to_close() got an unexpected keyword argument '{name}'");
            return Err(raise("TypeError", text));
        }
        (Some(workers), None) => {
            args::texts(Some(workers)).iter().filter_map(|address| state.worker_at(address)).collect()
        }
        (None, Some(names)) => {
            // Names that went through a command line are texts, even when they were numbers.
            let wanted: Vec<String> = names.items().unwrap_or_default().iter().map(shown).collect();
            let views = state.sched.workers();
            views.iter().filter(|view| wanted.contains(&shown(view.name))).map(|view| view.id).collect()
        }
        (None, None) if body.field("key").is_some() => return Ok(Chosen::ByPython),
        (None, None) => state.sched.workers_to_close(&scale::close_wish(body)),
    }))
}

async fn run(handle: Handle, retirees: Vec<Retiree>, after: After) -> Outcome {
    if retirees.is_empty() {
        return Ok(Value::Map(Vec::new()));
    }
    let results = join_all(retirees.into_iter().map(|retiree| track(&handle, retiree, after))).await;
    let (mut retired, mut kept) = (Vec::new(), Vec::new());
    for (address, identity) in results {
        match identity {
            Some(identity) => retired.push((address, identity)),
            None => kept.push(address),
        }
    }
    let gone: Vec<Text> = retired.iter().map(|(address, _)| address.clone()).collect();
    handle
        .tell(move |state| {
            let stimulus = Value::from(format!("retire-workers-{}", state.clock.wall()));
            let message = Value::map([
                ("action", "retire-workers".into()),
                ("retired", text_list(&gone)),
                ("could-not-retire", text_list(&kept)),
                ("stimulus_id", stimulus.clone()),
            ]);
            state.log_event(&["all".into()], &message);
            let event = |action: &str| Value::map([("action", action.into()), ("stimulus_id", stimulus.clone())]);
            state.log_event(&gone, &event("retired"));
            state.log_event(&kept, &event("could-not-retire"));
        })
        .await;
    Ok(Value::Map(retired.into_iter().map(|(address, identity)| (Value::Str(address), identity)).collect()))
}

/// Waits until the worker's data is elsewhere. None: it could not be moved, the worker stays.
async fn track(handle: &Handle, retiree: Retiree, after: After) -> (Text, Option<Value>) {
    let Retiree { worker, address, mut identity, moved } = retiree;
    // A dropped sender means that the scheduler is closing: nobody waits for the answer.
    if !moved.await.unwrap_or(true) {
        handle
            .ask(move |state| {
                state.step(Event::RetireAborted { worker });
                state.warn("a worker could not be retired: its data could not be moved to any other worker");
            })
            .await;
        return (address, None);
    }
    let status = handle
        .ask(move |state| {
            if after.remove {
                workers::remove_worker(state, worker, true, after.close, "retire-workers");
            } else if after.close
                && let Some(outbox) = state.peers.worker_outbox(worker)
            {
                let close = ToWorker::Close { reason: "scheduler-close-worker".into() };
                outbox.push(|encoder| {
                    put_to_worker(encoder, &close, Stimulus::default());
                });
            }
            state.sched.worker(worker).map(|view| view.status.name())
        })
        .await
        .flatten();
    if let Value::Map(fields) = &mut identity {
        for (name, value) in fields {
            if name.as_str() == Some("status") {
                *value = status.unwrap_or("closed").into();
            }
        }
    }
    (address, Some(identity))
}
