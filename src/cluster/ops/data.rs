//! Requests about data: gather, scatter, replicate, rebalance, who has what.

use tracing::info;

use crate::base::{Failure, Key, PyError, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::raise;
use crate::cluster::jobs::{gather, rebalance, replicate, scatter};
use crate::cluster::ops::{Done, info as views};
use crate::cluster::state::{Call, Driver, Outcome, Waiting};
use crate::sched::Event;

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    Some(match op {
        "gather" => start_gather(driver, call, body),
        "scatter" => scatter::start(driver, call, body),
        "update_data" => update_data(driver, body).into(),
        "add_keys" => add_keys(driver, body).into(),
        "replicate" => replicate::start(driver, call, body),
        "rebalance" => rebalance::start(driver, call, body),
        "retry" => retry(driver, call, body),
        "who_has" => who_has(driver, body).into(),
        "has_what" => has_what(driver, body).into(),
        "get_runspec" => run_spec(driver, body).into(),
        "get_error_cause" => error_cause(driver, body).into(),
        "nbytes" => views::nbytes(driver, body).into(),
        _ => return None,
    })
}

fn start_gather(driver: &mut Driver, call: Call, body: &Value) -> Done {
    match args::keys(body, "keys") {
        Ok(keys) => {
            let (desk, ahead) = (driver.desk.clone(), driver.fetched_ahead(&keys));
            driver.job_for_asker(call, gather::gather(desk, keys, ahead))
        }
        Err(failure) => Done::Now(Err(failure)),
    }
}

fn update_data(driver: &mut Driver, body: &Value) -> Outcome {
    let who_has = located(body.get("who_has").ok_or_else(|| args::missing("who_has"))?)?;
    let sizes = body.get("nbytes").and_then(Value::fields).unwrap_or_default();
    let nbytes: Vec<(Key, i64)> =
        sizes.iter().filter_map(|(key, size)| Some((key.as_key()?, size.as_i64()?))).collect();
    let client = args::optional_text(body, "client").map(|name| driver.client_named(&name));
    driver.update_data(client, who_has, &nbytes);
    Ok(Value::Nil)
}

/// `{key: [address]}` as pairs.
pub fn located(value: &Value) -> Result<Vec<(Key, Vec<Text>)>, Failure> {
    let wrong = || raise("TypeError", "who_has must map keys to lists of addresses");
    let fields = value.fields().ok_or_else(wrong)?;
    fields.iter().map(|(key, holders)| Ok((key.as_key().ok_or_else(wrong)?, args::texts(Some(holders))))).collect()
}

fn add_keys(driver: &mut Driver, body: &Value) -> Outcome {
    let address = args::text(body, "worker")?;
    let keys = args::optional_keys(body, "keys")?.unwrap_or_default();
    Ok(match driver.worker_at(&address) {
        Some(worker) => {
            driver.apply(Event::AddKeys { worker, keys });
            "OK".into()
        }
        None => "not found".into(),
    })
}

fn retry(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let keys = match args::keys(body, "keys") {
        Ok(keys) => keys,
        Err(failure) => return Done::Now(Err(failure)),
    };
    let name = args::optional_text(body, "client").unwrap_or_default();
    let client = driver.client_named(&name);
    info!(client = %name, keys = keys.len(), "retrying");
    let id = driver.open_call(Waiting::Asker(call));
    driver.apply(Event::Retry { call: id, client, keys });
    Done::Later
}

fn who_has(driver: &Driver, body: &Value) -> Outcome {
    let keys = match args::optional_keys(body, "keys")? {
        Some(keys) => keys,
        None => driver.sched.tasks().into_iter().map(|task| task.key.clone()).collect(),
    };
    let entry = |key: Key| {
        let holders = driver.holders(&key).into_iter().map(Value::Str).collect();
        (key.to_value(), Value::Array(holders))
    };
    Ok(Value::Map(keys.into_iter().map(entry).collect()))
}

fn has_what(driver: &Driver, body: &Value) -> Outcome {
    let asked = views::workers_asked(driver, body);
    let keys_of =
        |worker: Option<crate::base::WorkerId>| worker.map(|worker| driver.sched.has_what(worker)).unwrap_or_default();
    let entry = |(address, worker): (Text, _)| {
        (Value::Str(address), Value::Array(keys_of(worker).iter().map(Key::to_value).collect()))
    };
    Ok(Value::Map(asked.into_iter().map(entry).collect()))
}

fn run_spec(driver: &Driver, body: &Value) -> Outcome {
    let key = args::key(body, "key")?;
    let task = driver.sched.task(&key).ok_or_else(|| Failure::Raised(PyError::MissingKey(key.to_value())))?;
    Ok(task.run_spec.map_or(Value::Nil, |spec| Value::Pickled(spec.clone())))
}

fn error_cause(driver: &Driver, body: &Value) -> Outcome {
    for key in args::keys(body, "keys")? {
        if let Some(blame) = driver.sched.task(&key).and_then(|task| task.blame.cloned()) {
            return Ok(blame.to_value());
        }
    }
    Ok(Value::Nil)
}
