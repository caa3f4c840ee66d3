//! Requests that are passed on to workers: broadcast, proxy, the hardware benchmark.

use crate::base::{Failure, PyError, Text, Value};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::raise;
use crate::cluster::jobs::benchmark;
use crate::cluster::jobs::broadcast::{BroadcastTarget, OnError, broadcast};
use crate::cluster::ops::handler::Operations;
use crate::cluster::state::State;
use crate::cluster::state::call::{Call, Handled};

/// The operations of this family.
pub const OPS: Operations = &[
    ("broadcast", start_broadcast),
    ("proxy", proxy),
    ("benchmark_hardware", |state, call, _| Ok(benchmark::start(state, call))),
];

fn start_broadcast(state: &mut State, call: Call, body: &Value) -> Handled {
    let (targets, message) = (targets(state, body)?, message(body)?);
    let on_error = OnError::parse(body.get("on_error"))?;
    let handle = state.handle.clone();
    Ok(state.job(call, broadcast(handle, targets, message, on_error)))
}

fn message(body: &Value) -> Result<Value, Failure> {
    match body.get("msg") {
        Some(Value::Map(fields)) => {
            let mut fields = fields.clone();
            // What the asker can read is what the worker has to write.
            if let Some(serializers) = body.field("serializers")
                && !fields.iter().any(|(name, _)| name.as_str() == Some("serializers"))
            {
                fields.push(("serializers".into(), serializers.clone()));
            }
            Ok(Value::Map(fields))
        }
        other => {
            let kind = args::type_name(other.unwrap_or(&Value::Nil));
            let text = format!("distributed.core.send_recv() argument after ** must be a mapping, not {kind}");
            Err(raise("TypeError", text))
        }
    }
}

/// Whom a broadcast is for: `workers`, plus all on `hosts`, or everyone; nannies under their workers' addresses.
fn targets(state: &State, body: &Value) -> Result<Vec<BroadcastTarget>, Failure> {
    let hosts = body.field("hosts").map(args::iterated).transpose()?.map(|hosts| args::texts(Some(&hosts.into())));
    let mut addresses: Vec<Text> = match (body.field("workers"), &hosts) {
        (Some(workers), _) => args::iterated(workers)?.iter().map(args::address).collect::<Result<_, Failure>>()?,
        (None, None) => state.worker_addresses(),
        (None, Some(_)) => Vec::new(),
    };
    if let Some(hosts) = hosts {
        let views = state.sched.workers();
        addresses.extend(views.iter().filter(|view| hosts.contains(view.host)).map(|view| view.address.clone()));
    }
    if !args::flag(body, "nanny", false) {
        return Ok(addresses.into_iter().map(|address| BroadcastTarget { name: address.clone(), address }).collect());
    }
    let mut nannies = Vec::new();
    for name in addresses {
        let worker = state.worker_at(&name).and_then(|id| state.sched.worker(id));
        let view = worker.ok_or_else(|| Failure::Raised(PyError::MissingKey(Value::Str(name.clone()))))?;
        if let Some(nanny) = view.nanny {
            nannies.push(BroadcastTarget { name, address: nanny.clone() });
        }
    }
    Ok(nannies)
}

fn proxy(state: &mut State, call: Call, body: &Value) -> Handled {
    let (worker, message) = (args::text(body, "worker")?, message(body)?);
    let handle = state.handle.clone();
    Ok(state.job(call, async move {
        let target = BroadcastTarget { name: worker.clone(), address: worker };
        match broadcast(handle, vec![target], message, OnError::Raise).await? {
            Value::Map(fields) => Ok(fields.into_iter().next().map(|(_, answer)| answer).unwrap_or_default()),
            other => Ok(other),
        }
    }))
}
