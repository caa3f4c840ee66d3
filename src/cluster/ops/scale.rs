//! Questions about scaling: which workers could be closed, how many the work wants, since when nothing happens.
//!
//! Source: `distributed/scheduler.py`, `workers_to_close`, `adaptive_target`, `check_idle`.

use std::future::Future;

use crate::base::{Failure, Text, Value, WorkerId};
use crate::cluster::codec::args;
use crate::cluster::jobs::python::python_side;
use crate::cluster::ops::handler::{Operations, now};
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled, Outcome};
use crate::cluster::views::{identity, python_snapshot};
use crate::sched::CloseWish;

/// The operations of this family.
pub const OPS: Operations = &[
    ("workers_to_close", workers_to_close),
    ("adaptive_target", |state, _, body| now(adaptive_target(state, body))),
    ("check_idle", |state, _, _| now(Ok(identity::idle_since(state).into()))),
];

/// Which workers could be closed, by the attribute that was asked for.
fn workers_to_close(state: &mut State, call: Call, body: &Value) -> Handled {
    let attribute = args::optional_text(body, "attribute").unwrap_or_else(|| "address".into());
    if body.field("key").is_none() {
        let ids = state.sched.workers_to_close(&close_wish(body));
        return Ok(Done::Now(attributes(state, &ids, &attribute)));
    }
    let groups = closable_groups(state, body)?;
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let ids = groups.await?;
        Ok(handle.ask(move |state| attributes(state, &ids, &attribute)).await.unwrap_or_default())
    }))
}

fn attributes(state: &State, ids: &[WorkerId], attribute: &str) -> Value {
    let value = |id: &WorkerId| {
        let view = state.sched.worker(*id)?;
        Some(match attribute {
            "name" => view.name.clone(),
            "host" => Value::Str(view.host.clone()),
            "nanny" => view.nanny.cloned().into(),
            "server_id" => Value::Str(view.server_id.clone()),
            _ => Value::Str(view.address.clone()),
        })
    };
    Value::Array(ids.iter().filter_map(value).collect())
}

/// The numbers of a wish to close workers.
pub fn close_wish(body: &Value) -> CloseWish {
    CloseWish {
        n: args::count(body, "n"),
        minimum: args::count(body, "minimum"),
        target: args::count(body, "target"),
        memory_ratio: body.field("memory_ratio").and_then(Value::as_f64),
    }
}

/// Workers to close when a Python function says which belong together: only whole groups go.
///
/// Errors: no Python to run it in, or it raises.
pub fn closable_groups(
    state: &State,
    body: &Value,
) -> Result<impl Future<Output = Result<Vec<WorkerId>, Failure>> + Send + use<>, Failure> {
    let pyhost = python_side(state)?;
    let wish = close_wish(body);
    let request = Value::map([
        ("function", body.get("key").cloned().unwrap_or_default()),
        ("workers", Value::Array(state.worker_addresses().into_iter().map(Value::Str).collect())),
        ("snapshot", python_snapshot::snapshot(state)),
    ]);
    let handle = state.handle.clone();
    Ok(async move {
        let answer = pyhost.call("keycall", request).await?;
        let groups: Vec<Vec<Text>> = answer
            .get("groups")
            .and_then(Value::items)
            .unwrap_or_default()
            .iter()
            .map(|group| args::texts(Some(group)))
            .collect();
        let closed = handle.ask(move |state| {
            let wanted = state.sched.workers_to_close(&wish);
            let addresses: Vec<Text> = wanted.iter().filter_map(|id| state.address_of(*id)).collect();
            let whole = groups.iter().filter(|group| group.iter().all(|address| addresses.contains(address)));
            whole.flatten().filter_map(|address| state.worker_at(address)).collect()
        });
        Ok(closed.await.unwrap_or_default())
    })
}

fn adaptive_target(state: &State, body: &Value) -> Outcome {
    let secs = args::timeout(body, "target_duration")?.unwrap_or(DEFAULT_TARGET_SECS);
    Ok(state.sched.adaptive_target(secs).into())
}
