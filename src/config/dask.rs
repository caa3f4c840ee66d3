//! Dask's own environment variables, so that deployments made for Dask keep their settings.
//!
//! Source: `dask/config.py`, `collect_env`: `DASK_A__B_C=v` is `a.b-c`, `v` a Python literal or text.

use toml::Value;

use super::pyliteral;

/// Settings outside `distributed.scheduler` that a scheduler reads, and where we keep them.
const ELSEWHERE: [(&str, &str); 17] = [
    ("distributed.worker.memory.terminate", "scheduler.worker-memory-terminate"),
    ("distributed.worker.memory.recent-to-old-time", "scheduler.recent-to-old-time"),
    ("distributed.worker.memory.rebalance.measure", "scheduler.rebalance.measure"),
    ("distributed.worker.memory.rebalance.sender-min", "scheduler.rebalance.sender-min"),
    ("distributed.worker.memory.rebalance.recipient-max", "scheduler.rebalance.recipient-max"),
    ("distributed.worker.memory.rebalance.sender-recipient-gap", "scheduler.rebalance.sender-recipient-gap"),
    ("distributed.admin.low-level-log-length", "scheduler.low-level-log-length"),
    ("distributed.admin.log-length", "scheduler.log-length"),
    ("distributed.comm.require-encryption", "comm.require-encryption"),
    ("distributed.comm.tls.ca-file", "comm.tls.ca-file"),
    ("distributed.comm.tls.scheduler.cert", "comm.tls.scheduler.cert"),
    ("distributed.comm.tls.scheduler.key", "comm.tls.scheduler.key"),
    ("distributed.comm.tls.worker.cert", "comm.tls.worker.cert"),
    ("distributed.comm.tls.worker.key", "comm.tls.worker.key"),
    ("distributed.comm.tls.client.cert", "comm.tls.client.cert"),
    ("distributed.comm.tls.client.key", "comm.tls.client.key"),
    ("distributed.comm.default-scheme", "comm.default-scheme"),
];

/// Settings under `distributed.scheduler` that concern Dask's web pages or Python only: no meaning here.
const IGNORED: [&str; 4] = ["dashboard", "http", "preload-argv", "reuse-broadcast-comm"];

/// What Dask's scheduler itself refuses to start with, in its words.
pub(super) fn refused(name: &str, text: &str) -> Option<&'static str> {
    let off = name == "DASK_DISTRIBUTED__SCHEDULER__PICKLE" && pyliteral::parse(text) == Some(Value::Boolean(false));
    off.then_some(
        "Pickling can no longer be disabled with the `distributed.scheduler.pickle` option. Please remove this \
         configuration to start the scheduler.",
    )
}

/// Where in our configuration a variable belongs, and its value. `None`: not one that a scheduler reads.
///
pub(super) fn setting(name: &str, text: &str) -> Option<(Vec<String>, Value)> {
    let rest = name.strip_prefix("DASK_")?;
    let key = rest.to_ascii_lowercase().replace("__", ".").replace('_', "-");
    let target = target(&key)?;
    let value = pyliteral::parse(text).unwrap_or_else(|| Value::String(text.to_owned()));
    Some((target.split('.').map(str::to_owned).collect(), shaped(&target, value)))
}

fn target(key: &str) -> Option<String> {
    if let Some((_, target)) = ELSEWHERE.iter().find(|(from, _)| *from == key) {
        return Some((*target).to_owned());
    }
    let inner = key.strip_prefix("distributed.scheduler.")?;
    let first = inner.split('.').next()?;
    let known = super::sections::SchedulerSection::knows(first) && !IGNORED.contains(&first);
    known.then(|| format!("scheduler.{inner}"))
}

/// Values that Python spells in more ways than TOML.
fn shaped(target: &str, value: Value) -> Value {
    match (target, value) {
        // `terminate: false` and `null` mean no limit, a fraction means one.
        ("scheduler.worker-memory-terminate", Value::String(text)) if text == "none" => Value::Boolean(false),
        ("scheduler.worker-memory-terminate", Value::Boolean(on)) => Value::Boolean(on),
        ("scheduler.worker-memory-terminate", Value::Float(limit)) => Value::Boolean(limit > 0.0),
        ("scheduler.worker-memory-terminate", Value::Integer(limit)) => Value::Boolean(limit > 0),
        ("scheduler.preload" | "scheduler.blocked-handlers" | "scheduler.allowed-imports", Value::String(one)) => {
            Value::Array(if one == "none" { Vec::new() } else { vec![Value::String(one)] })
        }
        // `None`: all of them are kept.
        ("scheduler.log-length" | "scheduler.low-level-log-length", Value::String(text)) if text == "none" => {
            Value::Integer(i64::MAX)
        }
        ("comm.require-encryption", Value::String(text)) if text == "none" => Value::Boolean(false),
        (_, Value::String(text)) if text == "none" && target.starts_with("comm.tls") => Value::String(String::new()),
        ("scheduler.contact-address", Value::String(text)) if text == "none" => Value::String(String::new()),
        (_, value) => value,
    }
}
