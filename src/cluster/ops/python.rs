//! Requests that carry Python to run "on the scheduler": they run in pyhost, with a picture of the scheduler.
//!
//! Source: `distributed/scheduler.py`, `run_function`, `register_scheduler_plugin`, `feed`.

use crate::base::{Failure, Key, Value};
use crate::cluster::NO_PYTHON;
use crate::cluster::codec::args;
use crate::cluster::codec::{failure_reply, raise};
use crate::cluster::jobs::{dump, progress};
use crate::cluster::ops::Done;
use crate::cluster::state::handle::Desk;
use crate::cluster::state::{Call, Driver};
use crate::cluster::turn::streams::topic_names;
use crate::pyhost::Pyhost;
use crate::sched::{TaskView, WorkerView};

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    let done = match op {
        "run_function" => run_function(driver, call, body),
        "register_scheduler_plugin" => register_plugin(driver, call, body),
        "unregister_scheduler_plugin" => unregister_plugin(driver, call, body),
        "feed" => progress::start(driver, call, body),
        "dump_cluster_state_to_url" => dump::start_to_url(driver, call, body),
        _ => return None,
    };
    Some(done.unwrap_or_else(|failure| Done::Now(Err(failure))))
}

/// The Python side, or the error that says that there is none.
pub fn python(driver: &Driver) -> Result<Pyhost, Failure> {
    driver.pyhost.clone().ok_or_else(|| raise("RuntimeError", NO_PYTHON))
}

/// Most tasks that are shown to user code. A picture of more would take seconds to make and to read.
const TASKS_SHOWN_MAX: usize = 20_000;

/// What user code can see of the scheduler.
pub fn snapshot(driver: &Driver) -> Value {
    let workers = driver.sched.workers();
    let workers = workers.iter().map(|view| (Value::Str(view.address.clone()), worker_shown(driver, view)));
    let tasks = driver.sched.tasks();
    let tasks = tasks.iter().take(TASKS_SHOWN_MAX).map(|task| (task.key.to_value(), task_shown(driver, task)));
    let clients = driver.sched.clients().into_iter().map(|(_, name)| (Value::Str(name), Value::Map(Vec::new())));
    let services = driver.identity.dashboard_port.map(|port| ("dashboard".into(), i64::from(port).into()));
    Value::map([
        ("address", Value::Str(driver.identity.address.clone())),
        ("id", Value::Str(driver.identity.id.clone())),
        ("status", "running".into()),
        ("services", Value::Map(services.into_iter().collect())),
        ("time_started", driver.clock.started_wall().into()),
        ("workers", Value::Map(workers.collect())),
        ("tasks", Value::Map(tasks.collect())),
        ("clients", Value::Map(clients.collect())),
        ("monitor", Value::map([("count", Value::Int(0))])),
        ("transition_counter", driver.sched.counts().transitions.into()),
    ])
}

fn worker_shown(driver: &Driver, view: &WorkerView<'_>) -> Value {
    let keys = |keys: Vec<Key>| Value::Array(keys.iter().map(Key::to_value).collect());
    let mut shown = match driver.worker_identity(view.id) {
        Some(Value::Map(fields)) => fields,
        _ => Vec::new(),
    };
    shown.retain(|(name, _)| !matches!(name.as_str(), Some("type" | "id")));
    shown.extend([
        ("address".into(), Value::Str(view.address.clone())),
        ("server_id".into(), Value::Str(view.server_id.clone())),
        ("nbytes".into(), view.nbytes.into()),
        ("occupancy".into(), view.occupancy.into()),
        ("processing".into(), keys(driver.sched.processing(view.id))),
        ("has_what".into(), keys(driver.sched.has_what(view.id))),
    ]);
    Value::Map(shown)
}

fn task_shown(driver: &Driver, task: &TaskView<'_>) -> Value {
    let (needs, needed_by) = driver.sched.edges(task.key);
    let keys = |keys: Vec<Key>| Value::Array(keys.iter().map(Key::to_value).collect());
    let address = |worker| driver.address_of(worker).map(Value::Str);
    Value::map([
        ("state", task.state.into()),
        ("nbytes", task.nbytes.into()),
        ("type", task.typename.cloned().into()),
        ("who_has", Value::Array(task.holders.iter().filter_map(|worker| address(*worker)).collect())),
        ("processing_on", task.processing_on.and_then(address).unwrap_or_default()),
        ("dependencies", keys(needs)),
        ("dependents", keys(needed_by)),
        ("group_key", task.group.to_string().into()),
        ("prefix_key", task.prefix.to_string().into()),
        ("actor", task.actor.into()),
    ])
}

/// What user code asked the real scheduler to do meanwhile.
pub async fn carry_out(desk: &Desk, answer: &Value) {
    let actions = answer.get("actions").and_then(Value::items).unwrap_or_default().to_vec();
    if actions.is_empty() {
        return;
    }
    desk.tell(move |driver| {
        for action in &actions {
            let Some([name, topic, message]) = action.items() else { continue };
            if name.as_str() == Some("log_event") {
                driver.log_event(&topic_names(topic), message);
            }
        }
    })
    .await;
}

fn run_function(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let pyhost = python(driver)?;
    let field = |name: &str| body.get(name).cloned().unwrap_or_default();
    let request = Value::map([
        ("function", field("function")),
        ("args", field("args")),
        ("kwargs", field("kwargs")),
        ("wait", args::flag(body, "wait", true).into()),
        ("snapshot", snapshot(driver)),
    ]);
    let message = Value::map([("action", "run-function".into()), ("function", field("function"))]);
    driver.log_event(&["all".into()], &message);
    let desk = driver.desk.clone();
    Ok(driver.job(call, async move {
        match pyhost.call("call", request).await {
            Ok(answer) => {
                carry_out(&desk, &answer).await;
                let result = answer.get("result").cloned().unwrap_or_default();
                Ok(Value::map([("status", "OK".into()), ("result", result)]))
            }
            // As stock: an exception in the function is an answer, not a failure of the request.
            Err(failure) => Ok(failure_reply("error", &failure)),
        }
    }))
}

/// Hooks that must give an answer before the scheduler can go on; a plugin in another process can't.
const SYNCHRONOUS_HOOKS: [&str; 1] = ["valid_workers_downscaling"];

fn register_plugin(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let pyhost = python(driver)?;
    let name = args::optional_text(body, "name");
    let idempotent = args::flag(body, "idempotent", false);
    if idempotent && name.as_ref().is_some_and(|name| driver.hooks.contains(name)) {
        return Ok(Done::Now(Ok(Value::Nil)));
    }
    let request = Value::map([
        ("plugin", body.get("plugin").cloned().ok_or_else(|| args::missing("plugin"))?),
        ("name", name.into()),
        ("idempotent", idempotent.into()),
        ("snapshot", snapshot(driver)),
    ]);
    let desk = driver.desk.clone();
    Ok(driver.job(call, async move {
        let answer = pyhost.call("plugin_add", request).await?;
        carry_out(&desk, &answer).await;
        let name = args::text(&answer, "name")?;
        let hooks = args::texts(answer.get("hooks"));
        if let Some(hook) = hooks.iter().find(|hook| SYNCHRONOUS_HOOKS.contains(&&***hook)) {
            let text = format!("the hook {hook} of a scheduler plugin is not supported here");
            // It must not stay there without being asked.
            drop(pyhost.call("plugin_remove", Value::map([("name", Value::Str(name))])).await);
            return Err(raise("NotImplementedError", text));
        }
        desk.ask(move |driver| driver.add_hooks(&pyhost, name, hooks)).await;
        Ok(Value::Nil)
    }))
}

fn unregister_plugin(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let name = args::text(body, "name")?;
    if !driver.hooks.contains(&name) {
        let text = format!("Could not find plugin '{name}' among the current scheduler plugins");
        return Err(raise("ValueError", text));
    }
    driver.hooks.remove(&name);
    let pyhost = python(driver)?;
    let request = Value::map([("name", Value::Str(name))]);
    Ok(driver.job(call, async move { pyhost.call("plugin_remove", request).await.map(|_| Value::Nil) }))
}
