//! `benchmark_hardware`: how fast the workers' disks, memories and links are.
//!
//! Source: `distributed/scheduler.py`, `benchmark_hardware`.

use futures_util::future::join_all;

use crate::base::{Failure, Rng, Value};
use crate::clock::random_u64;
use crate::cluster::jobs::broadcast::{
    BROADCAST_DEADLINE, BroadcastTarget, OnError, broadcast, every_worker, remote_failure, unreachable,
};
use crate::cluster::state::call::{Call, Done, Outcome};
use crate::cluster::state::{Handle, State};

/// Averages by size: `{"disk": {size: bytes per second}, "memory": .., "network": ..}`.
pub fn start(state: &mut State, call: Call) -> Done {
    let (handle, targets) = (state.handle.clone(), every_worker(state));
    state.job(call, run(handle, targets))
}

async fn run(handle: Handle, mut targets: Vec<BroadcastTarget>) -> Outcome {
    let mut out = Vec::new();
    for (name, op) in [("disk", "benchmark_disk"), ("memory", "benchmark_memory")] {
        let message = Value::map([("op", op.into())]);
        let answers = broadcast(handle.clone(), targets.clone(), message, OnError::Raise).await?;
        let answers = answers.fields().unwrap_or_default().iter().map(|(_, answer)| answer.clone()).collect();
        out.push((name.into(), averages(answers)));
    }
    // Neighbours in the list are often on one host; a shuffled list measures the links in between too.
    let mut rng = Rng::new(random_u64());
    for at in (1..targets.len()).rev() {
        targets.swap(at, rng.below(at + 1));
    }
    let pairs = targets.chunks_exact(2).map(|pair| async {
        let [from, to] = pair else { return Ok(Value::Nil) };
        let message = Value::map([
            ("op", "benchmark_network".into()),
            ("address", Value::Str(to.address.clone())),
            ("reply", true.into()),
        ]);
        match handle.call(&from.address, &message, BROADCAST_DEADLINE).await {
            Err(error) => Err(unreachable(&from.address, &error)),
            Ok(answer) if answer.get("status").is_some() => Err(remote_failure(&answer)),
            Ok(answer) => Ok(answer),
        }
    });
    let answers = join_all(pairs).await.into_iter().collect::<Result<Vec<Value>, Failure>>()?;
    out.push(("network".into(), averages(answers)));
    Ok(Value::Map(out))
}

fn averages(answers: Vec<Value>) -> Value {
    let mut sums: Vec<(Value, f64, f64)> = Vec::new();
    for (size, speed) in answers.iter().filter_map(Value::fields).flatten() {
        let Some(speed) = speed.as_f64() else { continue };
        match sums.iter_mut().find(|(known, _, _)| known == size) {
            Some((_, sum, count)) => {
                *sum += speed;
                *count += 1.0;
            }
            None => sums.push((size.clone(), speed, 1.0)),
        }
    }
    Value::Map(sums.into_iter().map(|(size, sum, count)| (size, (sum / count).into())).collect())
}
