//! Scheduler plugins live in pyhost; what happens here is told to those that asked for it, in order.
//!
//! Source: `distributed/diagnostics/plugin.py`, `SchedulerPlugin`.

use crate::base::Value;
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::jobs::python::{add_hooks, carry_out, python_side};
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Done, Handled};
use crate::cluster::views::python_snapshot;

/// The operations of this family.
pub const OPS: Operations =
    &[("register_scheduler_plugin", register_plugin), ("unregister_scheduler_plugin", unregister_plugin)];

/// Hooks that must give an answer before the scheduler can go on; a plugin in another process can't.
const SYNCHRONOUS_HOOKS: [&str; 1] = ["valid_workers_downscaling"];

fn register_plugin(state: &mut State, call: Call, body: &Value) -> Handled {
    let pyhost = python_side(state)?;
    let name = args::optional_text(body, "name");
    let idempotent = args::flag(body, "idempotent", false);
    if idempotent && name.as_ref().is_some_and(|name| state.plugins.scheduler.contains(name)) {
        return Ok(Done::Now(Value::Nil));
    }
    let request = Value::map([
        ("plugin", body.get("plugin").cloned().ok_or_else(|| args::missing("plugin"))?),
        ("name", name.into()),
        ("idempotent", idempotent.into()),
        ("snapshot", python_snapshot::snapshot(state)),
    ]);
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let answer = pyhost.call("plugin_add", request).await?;
        carry_out(&handle, &answer).await;
        let name = args::text(&answer, "name")?;
        let hooks = args::texts(answer.get("hooks"));
        if let Some(hook) = hooks.iter().find(|hook| SYNCHRONOUS_HOOKS.contains(&&***hook)) {
            let text = format!("the hook {hook} of a scheduler plugin is not supported here");
            // The plugin must not stay in Python, where nobody would ask it.
            drop(pyhost.call("plugin_remove", Value::map([("name", Value::Str(name))])).await);
            return Err(raise("NotImplementedError", text));
        }
        handle.ask(move |state| add_hooks(state, &pyhost, name, hooks)).await;
        Ok(Value::Nil)
    }))
}

fn unregister_plugin(state: &mut State, call: Call, body: &Value) -> Handled {
    let name = args::text(body, "name")?;
    if !state.plugins.scheduler.contains(&name) {
        let text = format!("Could not find plugin '{name}' among the current scheduler plugins");
        return Err(raise("ValueError", text));
    }
    state.plugins.scheduler.remove(&name);
    let pyhost = python_side(state)?;
    let request = Value::map([("name", Value::Str(name))]);
    Ok(state.job(call, async move { pyhost.call("plugin_remove", request).await.map(|_| Value::Nil) }))
}

/// Tells plugins of the transitions of this turn.
pub fn hook_transitions(state: &mut State) {
    if !state.plugins.scheduler.wants("transition") {
        return;
    }
    let mut runs = state.plugins.scheduler.take_runs();
    let told = state.plugins.scheduler.told_step;
    state.plugins.scheduler.told_step = state.pending.steps;
    let lines: Vec<_> = state.sched.story_since(told).collect();
    for line in lines {
        let stimulus = format!("{}-{}", line.stimulus.0, line.stimulus.1);
        let args = vec![line.key.to_value(), line.start.into(), line.finish.into()];
        let mut more = vec![("stimulus_id".into(), stimulus.into())];
        if line.start == "processing" {
            more.extend(runs.remove(&line.key).unwrap_or_default());
        }
        state.plugins.scheduler.tell("transition", args, Value::Map(more));
    }
}
