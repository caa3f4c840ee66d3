//! Worker and nanny plugins: pickles that are kept for newcomers and broadcast to those who are there.
//!
//! Source: `distributed/scheduler.py`, `register_worker_plugin`, `register_nanny_plugin`.

use tokio::sync::oneshot;

use crate::base::{Failure, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::raise;
use crate::cluster::jobs::broadcast::{OnError, broadcast};
use crate::cluster::ops::Done;
use crate::cluster::state::{Call, Driver};

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    let done = match op {
        "register_worker_plugin" => register_worker(driver, call, body),
        "unregister_worker_plugin" => unregister_worker(driver, call, body),
        "register_nanny_plugin" => register_nanny(driver, call, body),
        "unregister_nanny_plugin" => unregister_nanny(driver, call, body),
        _ => return None,
    };
    Some(done.unwrap_or_else(|failure| Done::Now(Err(failure))))
}

fn register_worker(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let (name, plugin) = named_plugin(body)?;
    if args::flag(body, "idempotent", false) && position(&driver.worker_plugins, &name).is_some() {
        return Ok(Done::Now(Ok(Value::Map(Vec::new()))));
    }
    // Kept before it is sent: a worker that registers meanwhile gets it one way or the other, maybe both.
    keep(&mut driver.worker_plugins, &name, &plugin);
    let message = Value::map([("op", "plugin-add".into()), ("plugin", plugin), ("name", Value::Str(name))]);
    let (desk, targets) = (driver.desk.clone(), driver.every_worker());
    Ok(driver.job(call, broadcast(desk, targets, message, OnError::Raise)))
}

fn unregister_worker(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let name = args::text(body, "name")?;
    match position(&driver.worker_plugins, &name) {
        Some(at) => driver.worker_plugins.remove(at),
        None => return Err(raise("ValueError", format!("The worker plugin {name} does not exist"))),
    };
    let message = Value::map([("op", "plugin-remove".into()), ("name", Value::Str(name))]);
    let (desk, targets) = (driver.desk.clone(), driver.every_worker());
    Ok(driver.job(call, broadcast(desk, targets, message, OnError::Raise)))
}

fn register_nanny(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let (name, plugin) = named_plugin(body)?;
    if args::flag(body, "idempotent", false) && position(&driver.nanny_plugins, &name).is_some() {
        return Ok(Done::Now(Ok(Value::Map(Vec::new()))));
    }
    keep(&mut driver.nanny_plugins, &name, &plugin);
    let message = Value::map([("op", "plugin_add".into()), ("plugin", plugin), ("name", Value::Str(name))]);
    // A nanny that is starting its worker got the plugins of a moment ago, and can't be reached through its worker
    // yet: wait for it.
    let started = (!driver.starting_nannies.is_empty()).then(|| {
        let (waiter, started) = oneshot::channel();
        driver.nannies_waiters.push(waiter);
        started
    });
    let desk = driver.desk.clone();
    Ok(driver.job(call, async move {
        if let Some(started) = started {
            // An error means that the scheduler closes.
            drop(started.await);
        }
        let targets = desk.ask(|driver| driver.every_nanny()).await.unwrap_or_default();
        broadcast(desk, targets, message, OnError::Raise).await
    }))
}

fn unregister_nanny(driver: &mut Driver, call: Call, body: &Value) -> Result<Done, Failure> {
    let name = args::text(body, "name")?;
    match position(&driver.nanny_plugins, &name) {
        Some(at) => driver.nanny_plugins.remove(at),
        None => return Err(raise("ValueError", format!("The nanny plugin {name} does not exist"))),
    };
    let message = Value::map([("op", "plugin_remove".into()), ("name", Value::Str(name))]);
    let (desk, targets) = (driver.desk.clone(), driver.every_nanny());
    Ok(driver.job(call, broadcast(desk, targets, message, OnError::Raise)))
}

fn named_plugin(body: &Value) -> Result<(Text, Value), Failure> {
    let plugin = body.get("plugin").cloned().ok_or_else(|| args::missing("plugin"))?;
    Ok((args::text(body, "name")?, plugin))
}

fn position(plugins: &[(Text, Value)], name: &str) -> Option<usize> {
    plugins.iter().position(|(known, _)| &**known == name)
}

fn keep(plugins: &mut Vec<(Text, Value)>, name: &Text, plugin: &Value) {
    match position(plugins, name).and_then(|at| plugins.get_mut(at)) {
        Some(entry) => entry.1 = plugin.clone(),
        None => plugins.push((name.clone(), plugin.clone())),
    }
}
