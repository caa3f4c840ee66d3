//! What the HTTP pages show: JSON and Prometheus text. Serving them is `app`'s business.
//!
//! Source: `distributed/http/scheduler/json.py`, `prometheus/core.py`, `api.py`.

use std::fmt::Write as _;

use crate::base::{Key, Value};
use crate::cluster::ops::info;
use crate::cluster::ops::restart::DEFAULT_TARGET_SECS;
use crate::cluster::options::{Answered, Ask};
use crate::cluster::records::computations::Computation;
use crate::cluster::state::Driver;
use crate::cluster::views::lists;
use crate::cluster::views::task;
use crate::sched::coord::SemaphoreView;
use crate::sched::{STATE_NAMES, StealTotal, WorkerStatus};

/// Answers one question.
pub fn answer(driver: &Driver, what: &Ask) -> Answered {
    match what {
        Ask::Identity => json(&info::identity(driver, None)).to_string(),
        Ask::Counts => json(&counts(driver)).to_string(),
        Ask::Metrics => metrics(driver),
        Ask::Task(key) => text(task::task(driver, key)),
        Ask::Worker(address) => text(lists::worker(driver, address)),
        Ask::Tasks { filter, offset, max } => lists::tasks(driver, filter, *offset, *max).to_string(),
        Ask::Find { text, max } => lists::find(driver, text, *max).to_string(),
        Ask::Rect(number) => text(lists::rect(driver, *number)),
        Ask::IdleSince => {
            let since = driver.sched.idle_since_us().map(|us| driver.clock.started_wall() + us as f64 / 1e6);
            serde_json::json!({"idle_since": since}).to_string()
        }
        Ask::AdaptiveTarget => {
            serde_json::json!({"workers": driver.sched.adaptive_target(DEFAULT_TARGET_SECS)}).to_string()
        }
        Ask::Computations => {
            let all = driver.computations.list(driver.sched.ended_totals());
            serde_json::Value::from_iter(all.iter().map(computation)).to_string()
        }
        Ask::Topics => serde_json::json!({"topics": driver.topics.names()}).to_string(),
        Ask::Workers => {
            let workers: Vec<Value> = driver
                .sched
                .workers()
                .iter()
                .map(|view| Value::map([("name", view.name.clone()), ("address", Value::Str(view.address.clone()))]))
                .collect();
            json(&Value::map([("num_workers", workers.len().into()), ("workers", Value::Array(workers))])).to_string()
        }
    }
}

fn computation(one: &Computation) -> serde_json::Value {
    serde_json::json!({
        "id": one.id, "start_secs": one.start_secs, "stop_secs": one.stop_secs,
        "tasks": one.tasks, "done": one.done, "erred": one.erred,
        "groups": one.groups.iter().map(|group| &**group).collect::<Vec<&str>>(),
    })
}

/// Nothing as no text: whoever asked says what was not found.
fn text(found: Option<serde_json::Value>) -> Answered {
    found.map_or_else(String::new, |found| found.to_string())
}

/// A name as it can stand in the query of an address.
pub fn url_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // Writing to a String can't fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The numbers of `/json/counts.json`.
fn counts(driver: &Driver) -> Value {
    let counts = driver.sched.counts();
    let views = driver.sched.workers();
    let hosts: std::collections::BTreeSet<&str> = views.iter().map(|view| &**view.host).collect();
    let state = |name: &str| {
        let at = STATE_NAMES.iter().position(|state| *state == name);
        at.and_then(|at| counts.by_state.get(at)).copied().unwrap_or(0)
    };
    Value::map([
        ("bytes", counts.bytes.into()),
        ("clients", counts.clients.into()),
        ("cores", counts.threads.into()),
        ("erred", state("erred").into()),
        ("hosts", hosts.len().into()),
        ("idle", counts.idle.into()),
        ("memory", views.iter().map(|view| view.nkeys).sum::<usize>().into()),
        ("processing", views.iter().map(|view| view.processing).sum::<usize>().into()),
        ("released", state("released").into()),
        ("saturated", counts.saturated.into()),
        ("tasks", counts.tasks.into()),
        ("unrunnable", state("no-worker").into()),
        ("waiting", state("waiting").into()),
        ("waiting_data", driver.sched.waited_for().into()),
        ("workers", counts.workers.into()),
        ("desired_workers", driver.sched.adaptive_target(DEFAULT_TARGET_SECS).into()),
    ])
}

/// Any value as JSON. Payloads and bytes become nulls: there is nothing to read in them.
pub fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Bin(_) | Value::Serialized(_) | Value::Pickled(_) => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::UInt(u) => (*u).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(text) => text.to_string().into(),
        Value::Array(items) => items.iter().map(json).collect::<Vec<_>>().into(),
        Value::Map(fields) => {
            let field = |(name, value): &(Value, Value)| {
                let name = match name {
                    Value::Str(text) => text.to_string(),
                    other => other.as_key().map_or_else(String::new, |key: Key| key.to_string()),
                };
                (name, json(value))
            };
            serde_json::Value::Object(fields.iter().map(field).collect())
        }
    }
}

// ---- Prometheus -----------------------------------------------------------------------------------------------

/// One family of samples: a name without prefix and suffix, its kind and help, and labelled numbers.
struct Family<'a> {
    name: &'a str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

fn put(text: &mut String, family: &Family<'_>) {
    // Counters are exported under `_total`, as the Python client library does.
    let suffix = if family.kind == "counter" { "_total" } else { "" };
    let name = format!("dask_{}{suffix}", family.name);
    // Writing to a String can't fail.
    let _ = writeln!(text, "# HELP {name} {}", family.help);
    let _ = writeln!(text, "# TYPE {name} {}", family.kind);
    for (labels, number) in &family.samples {
        let _ = writeln!(text, "{name}{labels} {number:?}");
    }
}

fn one(number: impl Into<Number>) -> Vec<(String, f64)> {
    vec![(String::new(), number.into().0)]
}

/// Any count as a float.
struct Number(f64);

impl From<usize> for Number {
    fn from(n: usize) -> Self {
        Self(n as f64)
    }
}
impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self(n as f64)
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{}\"}}", label_text(value))
}

fn label_text(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn metrics(driver: &Driver) -> String {
    let mut text = String::with_capacity(16 << 10);
    put_cluster(&mut text, driver);
    put_prefixes(&mut text, driver);
    put_semaphores(&mut text, driver);
    if driver.sched.config().work_stealing {
        put_stealing(&mut text, driver);
    }
    text
}

fn put_cluster(text: &mut String, driver: &Driver) {
    let counts = driver.sched.counts();
    let clients = driver.sched.clients().iter().filter(|(_, name)| &**name != "fire-and-forget").count();
    let gauge = |name, help, samples| Family { name, kind: "gauge", help, samples };
    let counter = |name, help, samples| Family { name, kind: "counter", help, samples };
    put(text, &gauge("scheduler_clients", "Number of clients connected", one(clients)));
    let totals = driver.totals;
    put(
        text,
        &counter(
            "scheduler_client_connections_added",
            "Total number of client connections added",
            one(totals.clients_added),
        ),
    );
    put(
        text,
        &counter(
            "scheduler_client_connections_removed",
            "Total number of client connections removed",
            one(totals.clients_removed),
        ),
    );
    let desired = driver.sched.adaptive_target(DEFAULT_TARGET_SECS);
    put(text, &gauge("scheduler_desired_workers", "Number of workers that the present work wants", one(desired)));
    put(text, &gauge("scheduler_workers", "Number of workers known by scheduler", workers_by_state(driver)));
    put(text, &counter("scheduler_workers_added", "Total number of workers added", one(totals.workers_added)));
    put(text, &counter("scheduler_workers_removed", "Total number of workers removed", one(totals.workers_removed)));
    let tasks = STATE_NAMES.iter().zip(counts.by_state).map(|(state, n)| (label("state", state), n as f64)).collect();
    put(text, &gauge("scheduler_tasks", "Number of tasks known by scheduler", tasks));
    let forgotten = driver.sched.forgotten_total();
    put(text, &counter("scheduler_tasks_forgotten", "Total number of tasks that were forgotten", one(forgotten)));
    let groups = driver.sched.group_count();
    put(text, &gauge("scheduler_task_groups", "Number of task groups known by scheduler", one(groups)));
}

fn workers_by_state(driver: &Driver) -> Vec<(String, f64)> {
    let counts = driver.sched.counts();
    let views = driver.sched.workers();
    let with = |status| views.iter().filter(|view| view.status == status).count();
    let (running, paused) = (with(WorkerStatus::Running), with(WorkerStatus::Paused));
    let partial = running.saturating_sub(counts.idle).saturating_sub(counts.saturated);
    let retiring = views.len().saturating_sub(paused).saturating_sub(running);
    [
        ("idle", counts.idle),
        ("partially_saturated", partial),
        ("saturated", counts.saturated),
        ("paused", paused),
        ("retiring", retiring),
    ]
    .into_iter()
    .map(|(state, n)| (label("state", state), n as f64))
    .collect()
}

fn put_prefixes(text: &mut String, driver: &Driver) {
    let prefixes = driver.sched.prefixes();
    let by_prefix = |number: fn(&crate::sched::PrefixView<'_>) -> f64| -> Vec<(String, f64)> {
        prefixes.iter().map(|prefix| (label("task_prefix_name", prefix.name), number(prefix))).collect()
    };
    let families = [
        Family {
            name: "scheduler_tasks_suspicious",
            kind: "counter",
            help: "Total number of times a task was running on a worker that died",
            samples: by_prefix(|prefix| prefix.suspicious as f64),
        },
        Family {
            name: "scheduler_tasks_compute_seconds",
            kind: "counter",
            help: "Total amount of compute time spent in each prefix",
            samples: by_prefix(|prefix| prefix.spent_secs[0]),
        },
        Family {
            name: "scheduler_tasks_transfer_seconds",
            kind: "counter",
            help: "Total amount of transfer time spent in each prefix",
            samples: by_prefix(|prefix| prefix.spent_secs[1]),
        },
        Family {
            name: "scheduler_tasks_output_bytes",
            kind: "gauge",
            help: "Bytes that the results of each prefix take",
            samples: by_prefix(|prefix| prefix.nbytes_total as f64),
        },
        Family {
            name: "scheduler_prefix_state_totals",
            kind: "counter",
            help: "How often tasks of each prefix came into each state",
            samples: prefixes
                .iter()
                .flat_map(|prefix| {
                    let name = label_text(prefix.name);
                    STATE_NAMES
                        .iter()
                        .zip(prefix.state_totals)
                        .map(move |(state, n)| (format!("{{task_prefix_name=\"{name}\",state=\"{state}\"}}"), n as f64))
                })
                .collect(),
        },
    ];
    for family in &families {
        put(text, family);
    }
}

fn put_semaphores(text: &mut String, driver: &Driver) {
    let semaphores = driver.sched.semaphores();
    let column = |number: fn(&SemaphoreView) -> f64| -> Vec<(String, f64)> {
        semaphores.iter().map(|view| (label("name", &view.name.to_string()), number(view))).collect()
    };
    let (gauge, counter) = ("gauge", "counter");
    let families = [
        (gauge, "semaphore_max_leases", "Most leases per semaphore", column(|view| view.max_leases as f64)),
        (gauge, "semaphore_active_leases", "Leases taken per semaphore", column(|view| view.active as f64)),
        (gauge, "semaphore_pending_leases", "Leases waited for per semaphore", column(|view| view.pending as f64)),
        (counter, "semaphore_acquire", "Leases given so far per semaphore", column(|view| view.acquired as f64)),
        (
            gauge,
            "semaphore_average_pending_lease_time_s",
            "Moving average of the seconds that leases were waited for, per semaphore",
            column(|view| view.pending_secs),
        ),
        (counter, "semaphore_release", "Leases given back so far per semaphore", column(|view| view.released as f64)),
    ];
    for (kind, name, help, samples) in families {
        put(text, &Family { name, kind, help, samples });
    }
}

fn put_stealing(text: &mut String, driver: &Driver) {
    let column = |number: fn(StealTotal) -> f64| -> Vec<(String, f64)> {
        let totals = driver.sched.steal_totals();
        totals.map(|total| (label("cost_multiplier", &format!("{:?}", total.multiplier)), number(total))).collect()
    };
    let families = [
        ("stealing_request_count", "Requests to give a task away, by cost multiplier", column(|of| of.count as f64)),
        ("stealing_request_cost", "Seconds that these tasks would take, by cost multiplier", column(|of| of.cost_secs)),
    ];
    for (name, help, samples) in families {
        put(text, &Family { name, kind: "counter", help, samples });
    }
}
