//! Requests that only look: who is there, what is running, logs, events, metadata, stories.

use crate::base::{Failure, Key, PyError, SeededMap, SeededSet, Text, Value, WorkerId, key_prefix};
use crate::cluster::codec::args;
use crate::cluster::codec::{raise, seconds};
use crate::cluster::jobs::broadcast::{OnError, Target, broadcast};
use crate::cluster::jobs::{dump, profile};
use crate::cluster::ops::Done;
use crate::cluster::records::task_stream::Span;
use crate::cluster::state::{Call, Driver, Outcome};
use crate::cluster::turn::streams::topic_names;
use crate::cluster::views::report;
use crate::sched::{STATE_NAMES, WorkerStatus};

/// The operations of this family.
pub fn dispatch(driver: &mut Driver, op: &str, call: Call, body: &Value) -> Option<Done> {
    Some(match op {
        "identity" => Done::Now(Ok(identity(driver, body.get("n_workers").and_then(Value::as_i64)))),
        "ncores" => ncores(driver, body, false).into(),
        "ncores_running" => ncores(driver, body, true).into(),
        "processing" => processing(driver, body).into(),
        "get_task_status" => task_status(driver, body).into(),
        "get_task_prefix_states" => Done::Now(Ok(prefix_states(driver))),
        "versions" => versions(driver, call, body),
        "logs" | "get_logs" => Done::Now(Ok(logs(driver, body))),
        "worker_logs" => worker_logs(driver, call, body),
        "events" => Done::Now(Ok(match args::optional_text(body, "topic") {
            Some(topic) => driver.topics.events(&topic),
            None => driver.topics.all_events(),
        })),
        "log_event" => log_event(driver, body).into(),
        "get_metadata" => get_metadata(driver, body).into(),
        "set_metadata" => set_metadata(driver, body).into(),
        "call_stack" => profile::call_stack(driver, call, body),
        "profile" => profile::start(driver, call, body),
        "performance_report" => report::report(driver, call, body),
        "get_task_stream" => task_stream(driver, body).into(),
        "get_task_stream_index" => {
            driver.task_stream.start();
            Done::Now(Ok(driver.task_stream.index().into()))
        }
        "start_task_metadata" => start_notes(driver, body).into(),
        "stop_task_metadata" => stop_notes(driver, body).into(),
        "get_story" => story(driver, body).into(),
        "get_cluster_state" => dump::start(driver, call, body),
        _ => return None,
    })
}

/// `identity()`: at most `n_workers` workers in detail; all when negative or not given.
pub fn identity(driver: &Driver, n_workers: Option<i64>) -> Value {
    let views = driver.sched.workers();
    let shown = n_workers.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let workers = views
        .iter()
        .take(shown)
        .filter_map(|view| Some((Value::Str(view.address.clone()), driver.worker_identity(view.id)?)));
    let services = driver.identity.dashboard_port.map(|port| ("dashboard".into(), i64::from(port).into()));
    Value::map([
        ("type", "Scheduler".into()),
        ("id", Value::Str(driver.identity.id.clone())),
        ("address", Value::Str(driver.identity.address.clone())),
        ("services", Value::Map(services.into_iter().collect())),
        ("started", driver.clock.started_wall().into()),
        ("n_workers", views.len().into()),
        ("total_threads", views.iter().map(|view| u64::from(view.nthreads)).sum::<u64>().into()),
        ("total_memory", views.iter().map(|view| view.memory_limit).sum::<u64>().into()),
        ("workers", Value::Map(workers.collect())),
    ])
}

/// The workers that a request names, as it spells them; all when it names none. Unknown ones stay, without an id.
pub fn workers_asked(driver: &Driver, body: &Value) -> Vec<(Text, Option<WorkerId>)> {
    match body.field("workers") {
        None => driver.sched.workers().into_iter().map(|view| (view.address.clone(), Some(view.id))).collect(),
        Some(Value::Str(one)) => vec![named_worker(driver, &Value::Str(one.clone()))],
        Some(many) => many.items().unwrap_or_default().iter().map(|alias| named_worker(driver, alias)).collect(),
    }
}

fn named_worker(driver: &Driver, alias: &Value) -> (Text, Option<WorkerId>) {
    let id =
        driver.sched.worker_by_alias(alias).or_else(|| alias.as_str().and_then(|address| driver.worker_at(address)));
    let spelled = || crate::cluster::ops::workers::shown(alias).into();
    (id.and_then(|id| driver.address_of(id)).unwrap_or_else(spelled), id)
}

fn ncores(driver: &Driver, body: &Value, running: bool) -> Outcome {
    let entry = |(address, id): (Text, Option<WorkerId>)| {
        let view = driver.sched.worker(id?)?;
        let wanted = !running || view.status == WorkerStatus::Running;
        wanted.then(|| (Value::Str(address), i64::from(view.nthreads).into()))
    };
    Ok(Value::Map(workers_asked(driver, body).into_iter().filter_map(entry).collect()))
}

fn processing(driver: &Driver, body: &Value) -> Outcome {
    let mut all = Vec::new();
    for (address, id) in workers_asked(driver, body) {
        let id = id.ok_or_else(|| Failure::Raised(PyError::MissingKey(Value::Str(address.clone()))))?;
        let keys = driver.sched.processing(id).iter().map(Key::to_value).collect();
        all.push((Value::Str(address), Value::Array(keys)));
    }
    Ok(Value::Map(all))
}

/// `nbytes`: sizes of keys, or of prefixes.
pub fn nbytes(driver: &Driver, body: &Value) -> Outcome {
    let sizes: Vec<(Key, i64)> = match args::optional_keys(body, "keys")? {
        Some(keys) => keys
            .into_iter()
            .map(|key| match driver.sched.task(&key) {
                Some(task) => Ok((key.clone(), task.nbytes)),
                None => Err(Failure::Raised(PyError::MissingKey(key.to_value()))),
            })
            .collect::<Result<_, Failure>>()?,
        None => {
            let tasks = driver.sched.tasks();
            tasks.iter().filter(|task| task.nbytes >= 0).map(|task| (task.key.clone(), task.nbytes)).collect()
        }
    };
    if !args::flag(body, "summary", true) {
        return Ok(Value::Map(sizes.into_iter().map(|(key, size)| (key.to_value(), size.into())).collect()));
    }
    let mut by_prefix: SeededMap<String, i64> = SeededMap::default();
    for (key, size) in sizes {
        let entry = by_prefix.entry(key_prefix(&key)).or_default();
        *entry = entry.saturating_add(size);
    }
    Ok(Value::Map(by_prefix.into_iter().map(|(prefix, size)| (prefix.into(), size.into())).collect()))
}

fn task_status(driver: &Driver, body: &Value) -> Outcome {
    let state = |key: &Key| Value::from(driver.sched.task(key).map(|task| Value::from(task.state)));
    let keys = args::keys(body, "keys")?;
    Ok(Value::Map(keys.iter().map(|key| (key.to_value(), state(key))).collect()))
}

fn prefix_states(driver: &Driver) -> Value {
    const SHOWN: [&str; 5] = ["memory", "erred", "released", "processing", "waiting"];
    let views = driver.sched.prefixes();
    let entry = |view: &crate::sched::PrefixView<'_>| {
        let count = |name: &str| {
            STATE_NAMES.iter().zip(view.states).find(|(state, _)| **state == name).map_or(0, |(_, count)| count)
        };
        let counts: Vec<(Value, Value)> = SHOWN.iter().map(|name| ((*name).into(), count(name).into())).collect();
        SHOWN.iter().any(|name| count(name) > 0).then(|| (Value::Str(view.name.clone()), Value::Map(counts)))
    };
    Value::Map(views.iter().filter_map(entry).collect())
}

// ---- versions and logs ----------------------------------------------------------------------------------------

/// The versions of pyhost's interpreter: what graphs and plugins run with.
fn versions(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let packages = args::texts(body.field("packages"));
    if packages.is_empty()
        && let Some(known) = &driver.versions
    {
        return Done::Now(Ok(known.clone()));
    }
    let Some(pyhost) = driver.pyhost.clone() else {
        return Done::Now(Ok(driver.any_versions()));
    };
    let fallback = driver.any_versions();
    driver.job(call, async move {
        let asked = Value::map([("packages", Value::Array(packages.into_iter().map(Value::Str).collect()))]);
        Ok(pyhost.call("versions", asked).await.unwrap_or(fallback))
    })
}

impl Driver {
    /// What to say about our versions when there is no interpreter to ask: what a client or worker has.
    pub fn any_versions(&self) -> Value {
        let of_client = self.clients.values().map(|link| &link.versions);
        let of_worker = self.workers.values().map(|link| &link.facts.versions);
        let empty = || Value::map([("host", Value::Map(Vec::new())), ("packages", Value::Map(Vec::new()))]);
        let mut known = self.versions.iter().chain(of_client).chain(of_worker);
        known.find(|versions| versions.get("packages").is_some()).cloned().unwrap_or_else(empty)
    }
}

fn logs(driver: &Driver, body: &Value) -> Value {
    let newest_first = driver.logs.iter().rev().take(args::count(body, "n").unwrap_or(usize::MAX));
    let line = |line: &crate::cluster::state::LogLine| {
        Value::Array(vec![Value::Str(line.level.clone()), Value::Str(line.text.clone())])
    };
    Value::Array(newest_first.map(line).collect())
}

fn worker_logs(driver: &mut Driver, call: Call, body: &Value) -> Done {
    let message = Value::map([("op", "get_logs".into()), ("n", body.get("n").cloned().unwrap_or_default())]);
    let targets = if args::flag(body, "nanny", false) { driver.every_nanny() } else { driver.every_worker() };
    let wanted = body.field("workers").map(|_| workers_asked(driver, body));
    let targets: Vec<Target> = match wanted {
        None => targets,
        Some(wanted) => {
            targets.into_iter().filter(|target| wanted.iter().any(|(address, _)| *address == target.name)).collect()
        }
    };
    let desk = driver.desk.clone();
    driver.job(call, broadcast(desk, targets, message, OnError::Raise))
}

fn log_event(driver: &mut Driver, body: &Value) -> Outcome {
    let topics = topic_names(body.get("topic").unwrap_or(&Value::Nil));
    let nil = Value::Nil;
    driver.log_event(&topics, body.get("msg").unwrap_or(&nil));
    Ok(Value::Nil)
}

// ---- metadata -------------------------------------------------------------------------------------------------

fn get_metadata(driver: &Driver, body: &Value) -> Outcome {
    let path = body.get("keys").and_then(Value::items).ok_or_else(|| args::missing("keys"))?;
    match (driver.metadata.get(path), body.get("default")) {
        (Ok(found), _) => Ok(found.clone()),
        (Err(missing), default) => match default {
            // An Enum on the wire: `no_default`, the caller wants an exception.
            None | Some(Value::Map(_)) if default.is_none_or(|given| given.get("__Enum__").is_some()) => {
                Err(Failure::Raised(PyError::MissingKey(missing.clone())))
            }
            given => Ok(given.cloned().unwrap_or_default()),
        },
    }
}

fn set_metadata(driver: &mut Driver, body: &Value) -> Outcome {
    let path = body.get("keys").and_then(Value::items).ok_or_else(|| args::missing("keys"))?;
    let value = body.get("value").cloned().unwrap_or_default();
    match driver.metadata.set(path, value) {
        Ok(()) => Ok(Value::Nil),
        Err(_) => Err(raise("ValueError", "keys must be a list of 1 to 64 keys")),
    }
}

// ---- task stream and task metadata ----------------------------------------------------------------------------

fn task_stream(driver: &mut Driver, body: &Value) -> Outcome {
    driver.task_stream.start();
    let now = driver.clock.wall();
    // Text is a time span before now, a number is a time.
    let time = |name: &str| match body.field(name) {
        Some(text @ Value::Str(_)) => seconds(text).map(|span| now - span),
        Some(number) => number.as_f64(),
        None => None,
    };
    Ok(driver.task_stream.collect(Span {
        start_secs: time("start"),
        stop_secs: time("stop"),
        count: args::count(body, "count"),
        start_index: args::count(body, "start_index"),
    }))
}

/// What `start_task_metadata` collects: the metadata and final state of the tasks of graphs that come meanwhile.
///
/// Source: `distributed/scheduler.py`, `CollectTaskMetaDataPlugin`.
#[derive(Debug, Default)]
pub struct TaskNotes {
    collectors: Vec<(Text, Collector)>,
}

#[derive(Debug, Default)]
struct Collector {
    wanted: SeededSet<Key>,
    metadata: Vec<(Value, Value)>,
    states: Vec<(Value, Value)>,
}

impl TaskNotes {
    /// Does nobody collect?
    pub fn is_empty(&self) -> bool {
        self.collectors.is_empty()
    }

    /// A graph with these wanted keys came.
    pub fn on_graph(&mut self, keys: &[Key]) {
        for (_, collector) in &mut self.collectors {
            collector.wanted.extend(keys.iter().cloned());
        }
    }

    /// A task is done.
    pub fn on_ended(&mut self, key: &Key, metadata: Value, state: &'static str) {
        for (_, collector) in &mut self.collectors {
            if collector.wanted.remove(key) {
                let metadata = match &metadata {
                    Value::Map(fields) if fields.is_empty() => Value::Nil,
                    other => other.clone(),
                };
                collector.metadata.push((key.to_value(), metadata));
                collector.states.push((key.to_value(), state.into()));
            }
        }
    }

    /// Every task is forgotten.
    pub fn on_restart(&mut self) {
        for (_, collector) in &mut self.collectors {
            collector.wanted.clear();
        }
    }
}

fn start_notes(driver: &mut Driver, body: &Value) -> Outcome {
    let name = args::text(body, "name")?;
    driver.task_notes.collectors.retain(|(known, _)| *known != name);
    driver.task_notes.collectors.push((name, Collector::default()));
    Ok(Value::Nil)
}

fn stop_notes(driver: &mut Driver, body: &Value) -> Outcome {
    let name = args::text(body, "name")?;
    let collectors = &mut driver.task_notes.collectors;
    match collectors.iter().position(|(known, _)| *known == name) {
        Some(at) => {
            let (_, collector) = collectors.remove(at);
            Ok(Value::map([("metadata", Value::Map(collector.metadata)), ("state", Value::Map(collector.states))]))
        }
        None => Err(raise("ValueError", format!("nothing was collected under the name {name}"))),
    }
}

// ---- stories --------------------------------------------------------------------------------------------------

/// Transitions of these keys, or that these stimuli set off.
fn story(driver: &Driver, body: &Value) -> Outcome {
    let wanted = args::keys(body, "keys_or_stimuli")?;
    Ok(story_where(driver, |key, stimulus| wanted.iter().any(|one| one == key || one.as_text() == Some(stimulus))))
}

/// All transitions that are still remembered.
pub fn story_of_all(driver: &Driver) -> Value {
    story_where(driver, |_, _| true)
}

/// `[key, start, finish, recommendations, stimulus, time]` of each transition.
fn story_where(driver: &Driver, wanted: impl Fn(&Key, &str) -> bool) -> Value {
    let started = driver.clock.started_wall();
    let line = |line: crate::sched::StoryLine| {
        let (kind, number) = line.stimulus;
        let stimulus = format!("{kind}-{number}");
        wanted(&line.key, &stimulus).then(|| {
            Value::Array(vec![
                line.key.to_value(),
                line.start.into(),
                line.finish.into(),
                Value::Map(Vec::new()),
                stimulus.into(),
                (started + line.at_us as f64 / 1e6).into(),
            ])
        })
    };
    Value::Array(driver.sched.story(&[]).into_iter().filter_map(line).collect())
}
