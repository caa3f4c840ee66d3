//! The memory sampler: notes how much memory the cluster uses, at an interval, while its client is there.
//!
//! Source: `distributed/diagnostics/memory_sampler.py`, `MemorySamplerExtension`.

use std::time::Duration;

use crate::base::{Failure, PyError, Text, Value};
use crate::clock::uuid_v4_text;
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::state::State;
use crate::cluster::state::call::Outcome;
use crate::sched::MemoryView;

/// Shortest interval; a shorter one would only keep the scheduler busy. Unit: seconds.
const INTERVAL_MIN_SECS: f64 = 0.01;

type Measure = fn(MemoryView) -> u64;

/// `memory_sampler_start`: the key under which the samples are kept.
pub fn start(state: &mut State, body: &Value) -> Outcome {
    let client = args::text(body, "client")?;
    let measure = match body.get("measure").and_then(Value::as_str).unwrap_or("process") {
        "process" => (|memory: MemoryView| memory.process) as Measure,
        "optimistic" => |memory: MemoryView| memory.optimistic(),
        "managed" | "managed_in_memory" => |memory: MemoryView| memory.managed,
        "managed_spilled" | "spilled" => |memory: MemoryView| memory.spilled,
        "unmanaged" => |memory: MemoryView| memory.process.saturating_sub(memory.managed),
        "unmanaged_old" => |memory: MemoryView| memory.unmanaged_old,
        "unmanaged_recent" => |memory: MemoryView| memory.unmanaged_recent(),
        other => return Err(raise("AttributeError", format!("'MemoryState' object has no attribute '{other}'"))),
    };
    let interval = args::timeout(body, "interval")?.unwrap_or(0.5).clamp(INTERVAL_MIN_SECS, 1e6);
    let key = Text::from(uuid_v4_text());
    let (handle, name) = (state.handle.clone(), key.clone());
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs_f64(interval)).await;
            let (name, client) = (name.clone(), client.clone());
            let here = handle.ask(move |state| {
                let here = state.client_link(&client).is_some();
                if here {
                    sample(state, &name, measure);
                } else {
                    state.jobs.samples.remove(&name);
                }
                here
            });
            if here.await != Some(true) {
                return;
            }
        }
    });
    state.jobs.samples.insert(key.clone(), (task.abort_handle(), Vec::new()));
    sample(state, &key, measure);
    Ok(Value::Str(key))
}

fn sample(state: &mut State, key: &Text, measure: Measure) {
    let total: u64 = state.sched.workers().iter().map(|view| measure(view.memory)).sum();
    let now = state.clock.wall();
    if let Some((_, samples)) = state.jobs.samples.get_mut(key) {
        samples.push(Value::Array(vec![now.into(), total.into()]));
    }
}

/// `memory_sampler_stop`: `[[time, bytes], ...]`.
pub fn stop(state: &mut State, body: &Value) -> Outcome {
    let key = args::text(body, "key")?;
    match state.jobs.samples.remove(&key) {
        Some((task, samples)) => {
            task.abort();
            Ok(Value::Array(samples))
        }
        None => Err(Failure::Raised(PyError::MissingKey(Value::Str(key)))),
    }
}
