//! The families of samples that `/metrics` exports, as data. Writing them as text is done elsewhere.
//!
//! Source: `distributed/http/scheduler/prometheus/core.py`, `semaphore.py`, `stealing.py`.

use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::state::State;
use crate::sched::coord::SemaphoreView;
use crate::sched::{PrefixView, STATE_NAMES, StealTotal, WorkerStatus};

/// One family of samples: a name without prefix and suffix, its kind and help, and labelled numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

/// What a number means over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Gauge,
    /// Only ever grows.
    Counter,
}

/// A number with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub number: f64,
}

impl Sample {
    fn new(label: &'static str, value: impl Into<String>, number: f64) -> Self {
        Self { labels: vec![(label, value.into())], number }
    }
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

fn one(number: impl Into<Number>) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), number: number.into().0 }]
}

const fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: MetricKind::Gauge, help, samples }
}

const fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: MetricKind::Counter, help, samples }
}

/// Everything that `/metrics` exports, now.
pub fn metrics(state: &State) -> Vec<Family> {
    let mut families = cluster(state);
    families.extend(machinery(state));
    families.extend(graphs(state));
    families.extend(prefixes(state));
    families.extend(semaphores(state));
    if state.sched.config().work_stealing {
        families.extend(stealing(state));
    }
    families
}

/// How graphs became tasks.
fn graphs(state: &State) -> Vec<Family> {
    let reads = &state.graphs.reads;
    let sample = |path: &str, reason: &str, count: u64| Sample {
        labels: vec![("path", path.to_owned()), ("reason", reason.to_owned())],
        number: count as f64,
    };
    let in_python = reads.in_python.iter().map(|(reason, &count)| sample("python", reason, count));
    vec![
        counter(
            "scheduler_graphs_read",
            "Graphs that were read by rask itself, and in Python for a reason",
            std::iter::once(sample("rask", "", reads.here)).chain(in_python).collect(),
        ),
        counter("scheduler_graphs_checked", "Graphs that were read both ways (ingest = check)", one(reads.checked)),
        counter("scheduler_graph_differences", "Differences found between the two", one(reads.differences)),
    ]
}

fn cluster(state: &State) -> Vec<Family> {
    let counts = state.sched.counts();
    let clients = state.sched.clients().iter().filter(|(_, name)| &**name != "fire-and-forget").count();
    let totals = state.peers.totals;
    let desired = state.sched.adaptive_target(DEFAULT_TARGET_SECS);
    let by_state = STATE_NAMES.iter().zip(counts.by_state);
    let tasks = by_state.map(|(state, n)| Sample::new("state", *state, n as f64)).collect();
    vec![
        gauge("scheduler_clients", "Number of clients connected", one(clients)),
        counter(
            "scheduler_client_connections_added",
            "Total number of client connections added",
            one(totals.clients_added),
        ),
        counter(
            "scheduler_client_connections_removed",
            "Total number of client connections removed",
            one(totals.clients_removed),
        ),
        gauge("scheduler_desired_workers", "Number of workers that the present work wants", one(desired)),
        gauge("scheduler_workers", "Number of workers known by scheduler", workers_by_state(state)),
        counter("scheduler_workers_added", "Total number of workers added", one(totals.workers_added)),
        counter("scheduler_workers_removed", "Total number of workers removed", one(totals.workers_removed)),
        gauge("scheduler_tasks", "Number of tasks known by scheduler", tasks),
        counter(
            "scheduler_tasks_forgotten",
            "Total number of tasks that were forgotten",
            one(state.sched.forgotten_total()),
        ),
        gauge("scheduler_task_groups", "Number of task groups known by scheduler", one(state.sched.group_count())),
    ]
}

/// The loop's turns are what stock's event loop calls ticks. Nothing is ever collected as garbage here.
fn machinery(state: &State) -> Vec<Family> {
    let turns = &state.records.turns;
    vec![
        counter("scheduler_gc_collection_seconds", "Total time spent on garbage collection", one(0u64)),
        counter("scheduler_gil_contention", "GIL contention: no thread of this scheduler takes the GIL", one(0u64)),
        counter("scheduler_last_time", "When this scheduler was last measured", one(Number(state.clock.wall()))),
        gauge(
            "scheduler_tick_duration_maximum_seconds",
            "Longest turn of the loop since this was last asked for",
            one(Number(turns.take_longest_secs())),
        ),
        counter("scheduler_tick_count", "Total number of turns of the loop", one(turns.count())),
    ]
}

fn workers_by_state(state: &State) -> Vec<Sample> {
    let counts = state.sched.counts();
    let views = state.sched.workers();
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
    .map(|(state, n)| Sample::new("state", state, n as f64))
    .collect()
}

fn prefixes(state: &State) -> Vec<Family> {
    let views = state.sched.prefixes();
    let by_prefix = |number: fn(&PrefixView<'_>) -> f64| -> Vec<Sample> {
        views.iter().map(|view| Sample::new("task_prefix_name", &**view.name, number(view))).collect()
    };
    let in_state = |view: &PrefixView<'_>| {
        let name = view.name.to_string();
        let states = STATE_NAMES.iter().zip(view.state_totals);
        let samples = states.map(move |(state, n)| Sample {
            labels: vec![("task_prefix_name", name.clone()), ("state", (*state).to_owned())],
            number: n as f64,
        });
        samples.collect::<Vec<_>>()
    };
    vec![
        counter(
            "scheduler_tasks_suspicious",
            "Total number of times a task was running on a worker that died",
            by_prefix(|view| view.suspicious as f64),
        ),
        counter(
            "scheduler_tasks_compute_seconds",
            "Total amount of compute time spent in each prefix",
            by_prefix(|view| view.spent_secs[0]),
        ),
        counter(
            "scheduler_tasks_transfer_seconds",
            "Total amount of transfer time spent in each prefix",
            by_prefix(|view| view.spent_secs[1]),
        ),
        gauge(
            "scheduler_tasks_output_bytes",
            "Bytes that the results of each prefix take",
            by_prefix(|view| view.nbytes_total as f64),
        ),
        counter(
            "scheduler_prefix_state_totals",
            "How often tasks of each prefix came into each state",
            views.iter().flat_map(in_state).collect(),
        ),
    ]
}

fn semaphores(state: &State) -> Vec<Family> {
    let semaphores = state.sched.semaphores();
    let column = |number: fn(&SemaphoreView) -> f64| -> Vec<Sample> {
        semaphores.iter().map(|view| Sample::new("name", view.name.to_string(), number(view))).collect()
    };
    vec![
        gauge("semaphore_max_leases", "Most leases per semaphore", column(|view| view.max_leases as f64)),
        gauge("semaphore_active_leases", "Leases taken per semaphore", column(|view| view.active as f64)),
        gauge("semaphore_pending_leases", "Leases waited for per semaphore", column(|view| view.pending as f64)),
        counter("semaphore_acquire", "Leases given so far per semaphore", column(|view| view.acquired as f64)),
        gauge(
            "semaphore_average_pending_lease_time_s",
            "Moving average of the seconds that leases were waited for, per semaphore",
            column(|view| view.pending_secs),
        ),
        counter("semaphore_release", "Leases given back so far per semaphore", column(|view| view.released as f64)),
    ]
}

fn stealing(state: &State) -> Vec<Family> {
    let column = |number: fn(StealTotal) -> f64| -> Vec<Sample> {
        let totals = state.sched.steal_totals();
        totals.map(|total| Sample::new("cost_multiplier", format!("{:?}", total.multiplier), number(total))).collect()
    };
    vec![
        counter(
            "stealing_request_count",
            "Requests to give a task away, by cost multiplier",
            column(|total| total.count as f64),
        ),
        counter(
            "stealing_request_cost",
            "Seconds that these tasks would take, by cost multiplier",
            column(|total| total.cost_secs),
        ),
    ]
}
