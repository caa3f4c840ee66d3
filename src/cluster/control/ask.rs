//! Answers to questions: what the state has to say is copied out between two steps, and written as JSON or Prometheus
//! text in a task of its own, so that the scheduler does not wait for it.
//!
//! Source: `distributed/http/scheduler/json.py`, `prometheus/core.py`, `api.py`.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::base::Value;
use crate::cluster::codec::json::json_of;
use crate::cluster::control::inbox::Answered;
use crate::cluster::control::steer;
use crate::cluster::options::DEFAULT_TARGET_SECS;
use crate::cluster::records::computations::Computation;
use crate::cluster::state::State;
use crate::cluster::views::lists::{FoundNames, TaskList, WorkerPage};
use crate::cluster::views::metrics::{Family, MetricKind};
use crate::cluster::views::task::{TaskPage, TaskRun};
use crate::cluster::views::{counts, identity, lists, metrics, task};
use crate::control::{ComputationState, LastWords, SchedulerQuestion, SchedulerState};
use crate::sched::{TaskFilter, WorkerView};

/// What was copied out of the state.
pub enum AskView {
    /// As it goes over the wire, too.
    Value(Value),
    Json(Json),
    /// None: nobody knows the task.
    Task(Option<Box<TaskPage>>),
    /// None: nobody knows the worker.
    Worker(Option<Box<WorkerPage>>),
    Tasks(TaskList),
    Names(FoundNames),
    /// None: the rectangle is no longer kept.
    Run(Option<TaskRun>),
    Metrics(Vec<Family>),
    Computations(Vec<Computation>),
    State(SchedulerState),
    /// Names of the workers that a wish concerns.
    Steered(Vec<String>),
    LastWords(LastWords),
}

/// Copies out what a question is about, and does what it asks for.
pub fn look(state: &mut State, what: &SchedulerQuestion) -> AskView {
    match what {
        SchedulerQuestion::Identity => AskView::Value(identity::identity(state, None)),
        SchedulerQuestion::Counts => AskView::Value(counts::counts(state)),
        SchedulerQuestion::Metrics => AskView::Metrics(metrics::metrics(state)),
        SchedulerQuestion::Task(key) => AskView::Task(task::task(state, key).map(Box::new)),
        SchedulerQuestion::Worker(address) => AskView::Worker(lists::worker(state, address).map(Box::new)),
        SchedulerQuestion::Tasks { state: in_state, prefix, worker, contains, offset, max } => {
            let filter = TaskFilter {
                state: in_state.clone(),
                prefix: prefix.clone(),
                worker: worker.clone(),
                contains: contains.clone(),
            };
            AskView::Tasks(lists::tasks(state, &filter, *offset, *max))
        }
        SchedulerQuestion::Find { text, max } => AskView::Names(lists::find(state, text, *max)),
        SchedulerQuestion::Rect(number) => AskView::Run(lists::rect(state, *number)),
        SchedulerQuestion::IdleSince => {
            let since = state.sched.idle_since_us().map(|us| state.clock.started_wall() + us as f64 / 1e6);
            AskView::Json(json!({ "idle_since": since }))
        }
        SchedulerQuestion::AdaptiveTarget => {
            AskView::Json(json!({ "workers": state.sched.adaptive_target(DEFAULT_TARGET_SECS) }))
        }
        SchedulerQuestion::Computations => {
            AskView::Computations(state.records.computations.list(state.sched.ended_totals()))
        }
        SchedulerQuestion::Topics => AskView::Json(json!({ "topics": state.records.topics.names() })),
        SchedulerQuestion::Workers => AskView::Value(workers(state)),
        SchedulerQuestion::State => AskView::State(steer::in_short(state)),
        SchedulerQuestion::Retire { keep } => AskView::Steered(steer::retire_down_to(state, *keep as usize)),
        SchedulerQuestion::RetireThese { names } => AskView::Steered(steer::retire_these(state, names)),
        SchedulerQuestion::Lose { names } => AskView::Steered(steer::lose(state, names)),
        SchedulerQuestion::LastWords { worker } => AskView::LastWords(steer::last_words(state, worker)),
        SchedulerQuestion::Silent { names, silent } => AskView::Steered(steer::silent_or_heard(state, names, *silent)),
        SchedulerQuestion::Warn { text } => {
            steer::warn(state, text);
            AskView::Json(Json::Null)
        }
    }
}

fn workers(state: &State) -> Value {
    let views = state.sched.workers();
    let one = |view: &WorkerView<'_>| {
        Value::map([("name", view.name.clone()), ("address", Value::Str(view.address.clone()))])
    };
    let workers: Vec<Value> = views.iter().map(one).collect();
    Value::map([("num_workers", workers.len().into()), ("workers", Value::Array(workers))])
}

impl AskView {
    pub fn text(&self) -> Answered {
        match self {
            Self::Value(value) => json_of(value).to_string(),
            Self::Json(json) => json.to_string(),
            Self::Task(found) => found_text(found.as_ref()),
            Self::Worker(found) => found_text(found.as_ref()),
            Self::Run(found) => found_text(found.as_ref()),
            Self::Tasks(list) => found_text(Some(list)),
            Self::Names(names) => found_text(Some(names)),
            Self::Metrics(families) => prometheus(families),
            Self::Computations(all) => found_text(Some(&all.iter().map(computation).collect::<Vec<_>>())),
            Self::State(state) => found_text(Some(state)),
            Self::Steered(names) => found_text(Some(names)),
            Self::LastWords(words) => found_text(Some(words)),
        }
    }
}

/// An empty text when there is no such thing: whoever asked says what was not found.
fn found_text(found: Option<&impl Serialize>) -> String {
    // Names of fields are texts, so writing can't fail.
    found.and_then(|found| serde_json::to_string(found).ok()).unwrap_or_default()
}

fn computation(one: &Computation) -> ComputationState {
    ComputationState {
        id: one.id,
        start_secs: one.start_secs,
        stop_secs: one.stop_secs,
        tasks: one.tasks,
        done: one.done,
        erred: one.erred,
        groups: one.groups.iter().map(|group| group.to_string()).collect(),
    }
}

fn prometheus(families: &[Family]) -> String {
    let mut text = String::with_capacity(16 << 10);
    for family in families {
        // Counters are exported under `_total`, as the Python client library does.
        let (kind, suffix) = match family.kind {
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Counter => ("counter", "_total"),
        };
        let name = format!("dask_{}{suffix}", family.name);
        // Writing to a String can't fail.
        let _ = writeln!(text, "# HELP {name} {}", family.help);
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in &family.samples {
            let _ = writeln!(text, "{name}{} {:?}", labels(&sample.labels), sample.number);
        }
    }
    text
}

fn labels(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::views::metrics::Sample;

    /// Goal: counters end in `_total`, and nothing that a peer names can break out of its label.
    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let labels = vec![("prefix", "a\"b\\c\nd".to_owned()), ("state", "memory".to_owned())];
        let family = Family {
            name: "tasks",
            kind: MetricKind::Counter,
            help: "Tasks",
            samples: vec![Sample { labels, number: 2.0 }],
        };
        let expected = "# HELP dask_tasks_total Tasks\n# TYPE dask_tasks_total counter\n\
                        dask_tasks_total{prefix=\"a\\\"b\\\\c\\nd\",state=\"memory\"} 2.0\n";
        assert_eq!(prometheus(&[family]), expected);
    }
}
