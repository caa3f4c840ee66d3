//! The Python side, for jobs that need it, and what user code asks of the scheduler from there.

use tokio::sync::mpsc;
use tracing::warn;

use crate::base::{Failure, Text, Value};
use crate::cluster::codec::args::{self, topic_names};
use crate::cluster::codec::failures::{failure_text, raise};
use crate::cluster::options::NO_PYTHON;
use crate::cluster::state::{Handle, State};
use crate::cluster::views::python_snapshot;
use crate::pyhost::Pyhost;

/// News that wait for Python. More means that a plugin is slower than the scheduler: then news are dropped, not kept.
const QUEUE_MAX: usize = 100_000;

/// News in one request.
const BATCH_MAX: usize = 1_000;

/// The Python side, or the error that says that there is none.
pub fn python_side(state: &State) -> Result<Pyhost, Failure> {
    state.python.pyhost.clone().ok_or_else(|| raise("RuntimeError", NO_PYTHON))
}

/// What user code asked the real scheduler to do meanwhile.
pub async fn carry_out(handle: &Handle, answer: &Value) {
    let actions = answer.get("actions").and_then(Value::items).unwrap_or_default().to_vec();
    if actions.is_empty() {
        return;
    }
    handle.tell(move |state| actions.iter().for_each(|action| act(state, action))).await;
}

fn act(state: &mut State, action: &Value) {
    let Some([Value::Str(name), first, second]) = action.items() else { return };
    match &**name {
        "log_event" => state.log_event(&topic_names(first), second),
        "add_plugin" => {
            if let (Value::Str(name), Some(pyhost)) = (first, state.python.pyhost.clone()) {
                add_hooks(state, &pyhost, name.clone(), args::texts(Some(second)));
            }
        }
        "remove_plugin" => state.plugins.scheduler.remove(first.as_str().unwrap_or_default()),
        "operations" => {
            state.plugins.scheduler.set_operations(args::texts(Some(first)), args::texts(Some(second)));
            if let Some(pyhost) = state.python.pyhost.clone() {
                ensure_told(state, &pyhost);
            }
        }
        _ => {}
    }
}

/// A plugin started in pyhost.
pub fn add_hooks(state: &mut State, pyhost: &Pyhost, name: Text, hooks: Vec<Text>) {
    state.plugins.scheduler.add(name, hooks);
    state.plugins.scheduler.told_step = state.pending.steps;
    ensure_told(state, pyhost);
}

/// From now on somebody takes news to Python.
fn ensure_told(state: &mut State, pyhost: &Pyhost) {
    if !state.plugins.scheduler.has_queue() {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        state.plugins.scheduler.set_queue(sender);
        tokio::spawn(tell(state.handle.clone(), pyhost.clone(), receiver));
    }
}

async fn tell(handle: Handle, pyhost: Pyhost, mut queue: mpsc::Receiver<Value>) {
    let mut events = Vec::new();
    while queue.recv_many(&mut events, BATCH_MAX).await > 0 {
        let Some(snapshot) = handle.ask(|state| python_snapshot::snapshot(state)).await else { return };
        let request = Value::map([("events", Value::Array(std::mem::take(&mut events))), ("snapshot", snapshot)]);
        match pyhost.call("plugin_event", request).await {
            Ok(answer) => carry_out(&handle, &answer).await,
            Err(failure) => warn!(reason = failure_text(&failure), "plugins could not be told what happened"),
        }
    }
}
