//! The numbers of `/json/counts.json`.
//!
//! Source: `distributed/http/scheduler/json.py`, `CountsJSON`.

use std::collections::BTreeSet;

use crate::base::Value;
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::state::State;
use crate::sched::STATE_NAMES;

/// The numbers of `/json/counts.json`.
pub fn counts(state: &State) -> Value {
    let counts = state.sched.counts();
    let views = state.sched.workers();
    let hosts: BTreeSet<&str> = views.iter().map(|view| &**view.host).collect();
    let in_state = |name: &str| {
        let at = STATE_NAMES.iter().position(|state| *state == name);
        at.and_then(|at| counts.by_state.get(at)).copied().unwrap_or(0)
    };
    Value::map([
        ("bytes", counts.bytes.into()),
        ("clients", counts.clients.into()),
        ("cores", counts.threads.into()),
        ("erred", in_state("erred").into()),
        ("hosts", hosts.len().into()),
        ("idle", counts.idle.into()),
        ("memory", views.iter().map(|view| view.nkeys).sum::<usize>().into()),
        ("processing", views.iter().map(|view| view.processing).sum::<usize>().into()),
        ("released", in_state("released").into()),
        ("saturated", counts.saturated.into()),
        ("tasks", counts.tasks.into()),
        ("unrunnable", in_state("no-worker").into()),
        ("waiting", in_state("waiting").into()),
        ("waiting_data", state.sched.waited_for().into()),
        ("workers", counts.workers.into()),
        ("desired_workers", state.sched.adaptive_target(DEFAULT_TARGET_SECS).into()),
    ])
}
