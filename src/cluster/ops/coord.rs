//! Requests to locks, events, queues, variables and published datasets: all state lives in the scheduler.
//!
//! Source: `client-ops`: `distributed/event.py`, `semaphore.py`, `multi_lock.py`, `queues.py`, `variable.py`,
//! `publish.py`.

use crate::base::{ClientId, Failure, Key, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::raise;
use crate::cluster::ops::Done;
use crate::cluster::state::{Call, Driver, Waiting};
use crate::cluster::turn::effects::plain;
use crate::pickle;
use crate::sched::coord::{Batch, CoordRequest, Item};
use crate::sched::{Answer, Event};

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    let request = match op {
        "event_wait" | "event_set" | "event_clear" | "event_is_set" => event(op, body),
        "semaphore_register"
        | "semaphore_acquire"
        | "semaphore_release"
        | "semaphore_refresh_leases"
        | "semaphore_value"
        | "semaphore_close" => semaphore(op, body),
        "multi_lock_acquire" | "multi_lock_release" => multi_lock(op, body),
        "queue_create" | "queue_put" | "queue_get" | "queue_qsize" | "queue_release" => queue(op, body),
        "variable_set" | "variable_get" | "variable_delete" => variable(op, body),
        "publish_put" | "publish_delete" => {
            match dataset(op, body) {
                Ok(request) => driver.after_flush(call, body, request),
                Err(failure) => return Some(Done::Now(Err(failure))),
            }
            return Some(Done::Later);
        }
        "publish_wait_flush" => {
            driver.wait_flush(call, body.get("uid").cloned().unwrap_or_default());
            return Some(Done::Later);
        }
        "publish_list" | "publish_get" => dataset(op, body),
        _ => return None,
    };
    Some(match request {
        Ok(request) => {
            let client = asker(driver, body);
            let waiting = match op {
                "queue_get" | "variable_get" => Waiting::Elements(call),
                _ => Waiting::Asker(call),
            };
            let id = driver.open_call(waiting);
            driver.apply(Event::Coord { call: id, client, request });
            Done::Later
        }
        Err(failure) => Done::Now(Err(failure)),
    })
}

/// Elements of a queue, or a variable's value. Failures of our own come without their pickle: it is put there.
pub fn on_elements(driver: &mut Driver, asker: Call, answer: Answer) {
    let mut outcome = plain(answer);
    match &mut outcome {
        Ok(Value::Array(elements)) => elements.iter_mut().for_each(|element| add_exception(driver, element)),
        Ok(element) => add_exception(driver, element),
        Err(_) => (),
    }
    driver.finish(asker, outcome);
}

fn add_exception(driver: &Driver, element: &mut Value) {
    let Value::Map(fields) = element else { return };
    let value_of = |fields: &[(Value, Value)], name: &str| {
        fields.iter().find(|(field, _)| field.as_str() == Some(name)).map(|(_, value)| value.clone())
    };
    if value_of(fields, "exception") != Some(Value::Nil) {
        return;
    }
    let Some(key) = value_of(fields, "value").and_then(|value| value.as_key()) else { return };
    if let Some(Failure::Raised(error)) = driver.sched.task(&key).and_then(|task| task.failure) {
        fields.retain(|(field, _)| field.as_str() != Some("exception"));
        fields.push((Value::str("exception"), Value::Bin(pickle::error(error))));
    }
}

fn asker(driver: &Driver, body: &Value) -> Option<ClientId> {
    driver.sched.client_id(body.get("client").and_then(Value::as_str)?)
}

fn event(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let name = args::key(body, "name")?;
    Ok(match op {
        "event_wait" => CoordRequest::EventWait { name, timeout: args::timeout(body, "timeout")? },
        "event_set" => CoordRequest::EventSet { name },
        "event_clear" => CoordRequest::EventClear { name },
        _ => CoordRequest::EventIsSet { name },
    })
}

fn semaphore(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let name = args::key(body, "name")?;
    Ok(match op {
        "semaphore_register" => CoordRequest::SemaphoreRegister {
            name,
            max_leases: body.get("max_leases").and_then(Value::as_i64).unwrap_or(1),
            lease_timeout: args::timeout(body, "lease_timeout")?,
        },
        "semaphore_acquire" => CoordRequest::SemaphoreAcquire {
            name,
            timeout: args::timeout(body, "timeout")?,
            lease_id: args::key(body, "lease_id")?,
        },
        "semaphore_release" => CoordRequest::SemaphoreRelease { name, lease_id: args::key(body, "lease_id")? },
        "semaphore_refresh_leases" => {
            CoordRequest::SemaphoreRefresh { name, lease_ids: args::keys(body, "lease_ids")? }
        }
        "semaphore_value" => CoordRequest::SemaphoreValue { name },
        _ => CoordRequest::SemaphoreClose { name },
    })
}

fn multi_lock(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let id = args::key(body, "id")?;
    Ok(match op {
        "multi_lock_acquire" => CoordRequest::MultiLockAcquire {
            locks: args::keys(body, "locks")?,
            id,
            timeout: args::timeout(body, "timeout")?,
            num_locks: args::count(body, "num_locks"),
        },
        _ => CoordRequest::MultiLockRelease { id },
    })
}

fn queue(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let name = args::key(body, "name")?;
    Ok(match op {
        "queue_create" => CoordRequest::QueueCreate { name, maxsize: args::count(body, "maxsize").unwrap_or(0) },
        "queue_put" => CoordRequest::QueuePut { name, item: item(body)?, timeout: args::timeout(body, "timeout")? },
        "queue_get" => {
            let timeout = args::timeout(body, "timeout")?;
            let batch = batch(body.get("batch"));
            if timeout.is_some() && matches!(batch, Batch::Count(_)) {
                let text = "Dask queues don't support simultaneous use of integer batch sizes and timeouts";
                return Err(raise("NotImplementedError", text));
            }
            CoordRequest::QueueGet { name, timeout, batch }
        }
        "queue_release" => CoordRequest::QueueRelease { name },
        _ => CoordRequest::QueueSize { name },
    })
}

fn batch(value: Option<&Value>) -> Batch {
    match value {
        Some(Value::Bool(true)) => Batch::All,
        None | Some(Value::Bool(false) | Value::Nil) => Batch::One,
        Some(other) => match other.as_i64().and_then(|n| usize::try_from(n).ok()) {
            Some(0) | None => Batch::One,
            Some(n) => Batch::Count(n),
        },
    }
}

/// A future is sent as `key`, anything else as `data`.
fn item(body: &Value) -> Result<Item, Failure> {
    match body.field("key") {
        Some(_) => Ok(Item::Future(args::key(body, "key")?)),
        None => Ok(Item::Data(body.get("data").cloned().unwrap_or_default())),
    }
}

fn variable(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let name = args::key(body, "name")?;
    let timeout = args::timeout(body, "timeout")?;
    Ok(match op {
        "variable_set" => CoordRequest::VariableSet { name, item: item(body)?, timeout },
        "variable_get" => CoordRequest::VariableGet { name, timeout },
        _ => CoordRequest::VariableDelete { name },
    })
}

/// Clients before distributed 2026.6 name one dataset in `name`, later ones several in `names`.
fn dataset(op: &str, body: &Value) -> Result<CoordRequest, Failure> {
    let alone = body.get("name").is_some() && body.get("names").is_none();
    Ok(match op {
        "publish_put" if alone => CoordRequest::PublishPut {
            names: vec![args::key(body, "name")?],
            keys: vec![args::keys(body, "keys")?],
            data: vec![body.get("data").cloned().unwrap_or_default()],
            overwrite: args::flag(body, "override", false),
        },
        "publish_delete" if alone => CoordRequest::PublishDelete { names: vec![args::key(body, "name")?] },
        "publish_get" if alone => CoordRequest::PublishGetOne { name: args::key(body, "name")? },
        "publish_put" => {
            let wrong = || raise("TypeError", "publish_put needs names, keys and data of the same length");
            let names = args::keys(body, "names")?;
            let keys: Vec<Vec<Key>> = body
                .get("keys")
                .and_then(Value::items)
                .ok_or_else(wrong)?
                .iter()
                .map(|keys| keys.as_keys().ok_or_else(wrong))
                .collect::<Result<_, Failure>>()?;
            let data = body.get("data").and_then(Value::items).ok_or_else(wrong)?.to_vec();
            if names.len() != keys.len() || names.len() != data.len() {
                return Err(wrong());
            }
            CoordRequest::PublishPut { names, keys, data, overwrite: args::flag(body, "override", false) }
        }
        "publish_delete" => CoordRequest::PublishDelete { names: args::keys(body, "names")? },
        "publish_get" => CoordRequest::PublishGet { names: args::keys(body, "names")? },
        _ => CoordRequest::PublishList,
    })
}
