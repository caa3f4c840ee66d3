//! Places a client's data on workers. Payloads pass through as closed frames, and nothing keeps them afterwards.
//!
//! Source: `distributed/scheduler.py`, `scatter`; `distributed/utils_comm.py`, `scatter_to_workers`.

use std::time::Duration;

use futures_util::future::join_all;

use crate::base::{Failure, Key, PyError, SeededMap, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::jobs::broadcast::{remote_failure, unreachable};
use crate::cluster::jobs::gather::DATA_DEADLINE;
use crate::cluster::jobs::replicate;
use crate::cluster::jobs::replicate::Replicate;
use crate::cluster::state::call::{Call, Handled, Outcome};
use crate::cluster::state::{Handle, State};
use crate::sched::WorkerStatus;

/// How often to look for a worker when there is none.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What `scatter` asks for.
struct Scatter {
    data: Vec<(Key, Value)>,
    workers: Option<Vec<Value>>,
    client: Text,
    /// Copies to end up with; none: one.
    copies: Option<Copies>,
    timeout_secs: f64,
}

enum Copies {
    Everywhere,
    Count(usize),
}

/// `scatter`: the keys, once their data is on workers.
pub fn start(state: &mut State, call: Call, body: &Value) -> Handled {
    let wish = parse(body)?;
    for alias in wish.workers.iter().flatten() {
        if state.sched.workers_by_alias(std::slice::from_ref(alias)).is_empty() {
            return Err(Failure::Raised(PyError::MissingKey(Value::Str(args::address(alias)?))));
        }
    }
    let handle = state.handle.clone();
    Ok(state.job(call, run(handle, wish)))
}

fn parse(body: &Value) -> Result<Scatter, Failure> {
    let wrong = || raise("AssertionError", "scatter needs data as a map from keys to values");
    let data = body.get("data").and_then(Value::fields).ok_or_else(wrong)?;
    let copies = match body.field("broadcast") {
        None | Some(Value::Bool(false) | Value::Int(0)) => None,
        Some(Value::Bool(true)) => Some(Copies::Everywhere),
        Some(other) => other.as_i64().and_then(|n| usize::try_from(n).ok()).map(Copies::Count),
    };
    Ok(Scatter {
        data: data
            .iter()
            .map(|(key, value)| Ok((key.as_key().ok_or_else(wrong)?, value.clone())))
            .collect::<Result<_, Failure>>()?,
        workers: body.field("workers").map(args::iterated).transpose()?,
        client: args::optional_text(body, "client").unwrap_or_default(),
        copies,
        timeout_secs: args::timeout(body, "timeout")?.unwrap_or(2.0),
    })
}

async fn run(handle: Handle, wish: Scatter) -> Outcome {
    let Scatter { data, workers, client, copies, timeout_secs } = wish;
    let targets = running_workers(&handle, workers, timeout_secs).await?;
    let count = data.len();
    let keys: Vec<Key> = data.iter().map(|(key, _)| key.clone()).collect();
    let start = handle
        .ask(move |state| {
            let start = state.jobs.round_robin;
            state.jobs.round_robin = state.jobs.round_robin.wrapping_add(count);
            start
        })
        .await
        .unwrap_or(0);
    let (placed, sizes) = place(&handle, &targets, start, data).await?;
    let wanted_by = client.clone();
    handle
        .ask(move |state| {
            let client = (!wanted_by.is_empty()).then(|| state.client_named(&wanted_by));
            state.update_data(client, placed, &sizes);
        })
        .await;
    let copies = copies.map(|copies| match copies {
        Copies::Everywhere => targets.len(),
        Copies::Count(n) => n,
    });
    if let Some(copies) = copies {
        let wish =
            Replicate { keys: keys.clone(), copies: Some(copies), workers: Some(targets), branching: 2, delete: true };
        replicate::run(handle.clone(), wish).await?;
    }
    handle
        .tell(move |state| {
            let message = Value::map([
                ("action", "scatter".into()),
                ("client", Value::Str(client.clone())),
                ("count", count.into()),
            ]);
            state.log_event(&[client, "all".into()], &message);
        })
        .await;
    Ok(Value::Array(keys.iter().map(Key::to_value).collect()))
}

/// Addresses of running workers among those asked for, sorted; waits for one to come.
async fn running_workers(handle: &Handle, wanted: Option<Vec<Value>>, timeout_secs: f64) -> Result<Vec<Text>, Failure> {
    let started = handle.clock().now();
    loop {
        let wanted = wanted.clone();
        let found = handle
            .ask(move |state| {
                let mut running: Vec<Text> = match &wanted {
                    None => state.sched.workers(),
                    Some(aliases) => {
                        let ids = state.sched.workers_by_alias(aliases);
                        ids.into_iter().filter_map(|id| state.sched.worker(id)).collect()
                    }
                }
                .into_iter()
                .filter(|view| view.status == WorkerStatus::Running)
                .map(|view| view.address.clone())
                .collect();
                running.sort();
                running
            })
            .await
            .unwrap_or_default();
        if !found.is_empty() {
            return Ok(found);
        }
        if handle.clock().now().secs_since(started) > timeout_secs {
            return Err(raise("TimeoutError", "No valid workers found"));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

type Placed = (Vec<(Key, Vec<Text>)>, Vec<(Key, i64)>);

/// Sends each value to the next worker in turn.
async fn place(handle: &Handle, targets: &[Text], start: usize, data: Vec<(Key, Value)>) -> Result<Placed, Failure> {
    let mut groups: SeededMap<Text, Vec<(Value, Value)>> = SeededMap::default();
    let mut placed = Vec::with_capacity(data.len());
    for (at, (key, value)) in data.into_iter().enumerate() {
        let Some(target) = targets.get(start.wrapping_add(at) % targets.len().max(1)) else { break };
        groups.entry(target.clone()).or_default().push((key.to_value(), value));
        placed.push((key, vec![target.clone()]));
    }
    let sends = groups.into_iter().map(|(address, part)| async move {
        let body = Value::map([("op", "update_data".into()), ("data", Value::Map(part)), ("reply", true.into())]);
        let answer = handle.call(&address, &body, DATA_DEADLINE).await;
        drop(body);
        match answer {
            Err(error) => Err(unreachable(&address, &error)),
            Ok(answer) if answer.get("status").and_then(Value::as_str) == Some("uncaught-error") => {
                Err(remote_failure(&answer))
            }
            Ok(answer) => Ok(answer),
        }
    });
    let mut sizes = Vec::with_capacity(placed.len());
    for answer in join_all(sends).await {
        let answer = answer?;
        let pairs = answer.get("nbytes").and_then(Value::fields).unwrap_or_default();
        sizes.extend(pairs.iter().filter_map(|(key, size)| Some((key.as_key()?, size.as_i64()?))));
    }
    Ok((placed, sizes))
}
