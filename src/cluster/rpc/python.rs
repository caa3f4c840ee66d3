//! Requests that carry Python to run "on the scheduler": they run in pyhost, with a picture of the scheduler.
//!
//! Source: `distributed/scheduler.py`, `run_function`, `register_scheduler_plugin`, `feed`.

use super::{Done, args};
use crate::base::{Failure, Value};
use crate::cluster::driver::{Call, Driver, Outcome};
use crate::cluster::progress;
use crate::cluster::rpc::info;
use crate::cluster::translate::{failure_reply, raise};
use crate::pyhost::Pyhost;

/// The operations of this family.
pub(in crate::cluster) fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    let done = match op {
        "run_function" => run_function(driver, call, body),
        "register_scheduler_plugin" => register_plugin(driver, call, body),
        "unregister_scheduler_plugin" => unregister_plugin(driver, call, body),
        "feed" => progress::start(driver, call, body),
        "dump_cluster_state_to_url" => {
            Err(raise("NotImplementedError", "dump the state to a local file instead: client.dump_cluster_state(path)"))
        }
        _ => return None,
    };
    Some(done.unwrap_or_else(|failure| Done::Now(Err(failure))))
}

/// The Python side, or the error that says that there is none.
fn python(driver: &Driver) -> Result<Pyhost, Failure> {
    driver
        .pyhost
        .clone()
        .ok_or_else(|| raise("RuntimeError", "this scheduler was started without a Python interpreter to run this in"))
}

/// What user code can see of the scheduler.
pub(in crate::cluster) fn snapshot(driver: &Driver) -> Value {
    let tasks = driver.sched.tasks();
    let tasks = tasks.iter().map(|task| (task.key.to_value(), task.state.into())).collect();
    let clients = driver.sched.clients().into_iter().map(|(_, name)| Value::Str(name)).collect();
    Value::map([
        ("identity", info::identity(driver, None)),
        ("tasks", Value::Map(tasks)),
        ("clients", Value::Array(clients)),
        ("plugins", Value::Array(driver.scheduler_plugins.iter().cloned().map(Value::Str).collect())),
        ("transition_counter", driver.sched.counts().transitions.into()),
    ])
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
    Ok(driver.job(call, async move {
        match pyhost.call("run_function", request).await {
            Ok(answer) if answer.get("status").is_some() => Ok(answer),
            Ok(result) => Ok(Value::map([("status", "OK".into()), ("result", result)])),
            // As stock: an exception in the function is an answer, not a failure of the request.
            Err(failure) => Ok(failure_reply("error", &failure)),
        }
    }))
}

fn register_plugin(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let pyhost = python(driver)?;
    let request = Value::map([
        ("plugin", body.get("plugin").cloned().ok_or_else(|| args::missing("plugin"))?),
        ("name", body.get("name").cloned().unwrap_or_default()),
        ("idempotent", args::flag(body, "idempotent", false).into()),
        ("snapshot", snapshot(driver)),
    ]);
    let name = args::optional_text(body, "name");
    let desk = driver.desk.clone();
    Ok(driver.job(call, async move {
        let answer: Outcome = pyhost.call("register_plugin", request).await;
        let answer = answer?;
        let name = name.or_else(|| args::optional_text(&answer, "name"));
        if let Some(name) = name {
            desk.ask(move |driver| {
                if !driver.scheduler_plugins.contains(&name) {
                    driver.scheduler_plugins.push(name);
                }
            })
            .await;
        }
        Ok(Value::Nil)
    }))
}

fn unregister_plugin(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let name = args::text(body, "name")?;
    let Some(at) = driver.scheduler_plugins.iter().position(|known| *known == name) else {
        let text = format!("Could not find plugin '{name}' among the current scheduler plugins");
        return Err(raise("ValueError", text));
    };
    driver.scheduler_plugins.remove(at);
    let pyhost = python(driver)?;
    let request = Value::map([("name", Value::Str(name))]);
    Ok(driver.job(call, async move { pyhost.call("unregister_plugin", request).await.map(|_| Value::Nil) }))
}
