//! The end of a run: the core is stepped, and once it has said that the run counts, records of the run are made.

use crate::base::{Failure, Key, Text, Value, WorkerId, key_prefix};
use crate::cluster::codec::args::shown;
use crate::cluster::codec::routing::RunFacts;
use crate::cluster::jobs::progress;
use crate::cluster::records::failures::FailedTask;
use crate::cluster::records::task_stream::RunRecord;
use crate::cluster::records::timeline::TimelineRun;
use crate::cluster::state::State;
use crate::sched::{Erred, Event, Finished, StartStop};

/// What is recorded of a run. Taken out of its event before the core is stepped, which consumes the event. Keys are
/// shared, and spans go to a list that is used again for every run, so this costs no allocation.
struct EndedRun {
    worker: WorkerId,
    thread: i64,
    key: Key,
    /// Index of the key's prefix: the task may be forgotten afterwards.
    prefix: u32,
    /// The failure; none for a run that finished.
    erred: Option<Box<Erred>>,
    /// What a run that finished brought, while somebody records that.
    done: Option<Box<Finished>>,
}

/// Steps the end of a run, and keeps records of it if it counts.
pub fn run_ended(state: &mut State, worker: WorkerId, event: Event, facts: &RunFacts) {
    let run = ended_run(state, worker, &event, facts);
    state.step(event);
    let Some(run) = run else { return };
    if let Some(link) = state.peers.workers.get_mut(&worker) {
        link.facts.last_key = Some(run.key.clone());
    }
    if state.sched.run_counted() {
        let spans = std::mem::take(&mut state.records.run_spans);
        record(state, run, &spans);
        state.records.run_spans = spans;
    }
}

fn ended_run(state: &mut State, worker: WorkerId, event: &Event, facts: &RunFacts) -> Option<EndedRun> {
    let (key, spans) = match event {
        Event::TaskFinished { done, .. } => (&done.key, &done.startstops),
        Event::TaskErred { erred, .. } => (&erred.key, &facts.spans),
        _ => return None,
    };
    state.records.run_spans.clear();
    state.records.run_spans.extend(spans.iter().cloned());
    let is_asked_for = state.records.task_stream.is_recording()
        || !state.records.task_metadata.is_empty()
        || state.plugins.scheduler.wants("transition");
    let (done, erred) = match event {
        Event::TaskFinished { done, .. } if is_asked_for => (Some(Box::new(done.clone())), None),
        Event::TaskErred { erred, .. } => (None, Some(erred.clone())),
        _ => (None, None),
    };
    let prefix = state.sched.prefix_index(key).unwrap_or(u32::MAX);
    Some(EndedRun { worker, thread: facts.thread, key: key.clone(), prefix, erred, done })
}

fn record(state: &mut State, run: EndedRun, spans: &[StartStop]) {
    let EndedRun { worker, thread, key, prefix, erred, done } = run;
    let sched = &state.sched;
    let on_timeline = TimelineRun { worker, thread, key: &key, prefix, failed: erred.is_some(), spans };
    state.records.timeline.push(&on_timeline, || {
        let view = sched.worker(worker)?;
        Some((view.address.clone(), shown(view.name).into(), view.host.clone()))
    });
    if erred.is_none() {
        progress::count_progress(state, &key);
    }
    let Some(address) = state.address_of(worker) else { return };
    let for_plugins = state.plugins.scheduler.wants("transition");
    if state.records.task_stream.is_recording() || for_plugins {
        let stopped = spans.iter().map(|span| span.stop).reduce(f64::max);
        let (record, at_secs) = match (&erred, &done) {
            (Some(_), _) => {
                (erred_record(&address, &key, thread, spans), stopped.unwrap_or_else(|| state.clock.wall()))
            }
            (None, Some(done)) => (finished_record(&address, done, thread), stopped.unwrap_or(0.0)),
            (None, None) => return,
        };
        let record = with_stimulus(record, state.pending.stimulus.to_string());
        if for_plugins {
            state.plugins.scheduler.on_run(key.clone(), &record);
        }
        if state.records.task_stream.is_recording() {
            state.records.task_stream.push(RunRecord { record, stop_secs: at_secs });
        }
    }
    match erred {
        Some(erred) => {
            note_failure(state, address, &erred);
            state.records.task_metadata.on_ended(&key, Value::Nil, "erred");
        }
        None => {
            if let Some(done) = done {
                state.records.task_metadata.on_ended(&key, done.metadata, "memory");
            }
        }
    }
}

/// A run failed. It counts as a failure of the task unless the task is tried again.
fn note_failure(state: &mut State, worker: Text, erred: &Erred) {
    let now = state.sched.task(&erred.key).map(|task| task.state);
    if now.is_some_and(|now| now != "erred") {
        return;
    }
    let Failure::Remote { exception_text, traceback_text, .. } = &erred.failure else { return };
    state.records.failures.on_failed(&FailedTask {
        key: &erred.key,
        prefix: key_prefix(&erred.key).into(),
        worker,
        text: exception_text,
        traceback: traceback_text,
        at_secs: state.clock.wall(),
    });
}

fn finished_record(address: &Text, done: &Finished, thread: i64) -> Value {
    Value::map([
        ("key", done.key.to_value()),
        ("worker", Value::Str(address.clone())),
        ("startstops", spans_value(&done.startstops)),
        ("type", Value::Bin(done.type_pickle.clone())),
        ("typename", Value::Str(done.typename.clone())),
        ("nbytes", done.nbytes.into()),
        ("metadata", done.metadata.clone()),
        ("status", "OK".into()),
        ("thread", Value::Int(thread)),
    ])
}

fn erred_record(address: &Text, key: &Key, thread: i64, spans: &[StartStop]) -> Value {
    Value::map([
        ("key", key.to_value()),
        ("worker", Value::Str(address.clone())),
        ("status", "error".into()),
        ("startstops", spans_value(spans)),
        ("thread", Value::Int(thread)),
    ])
}

fn with_stimulus(record: Value, stimulus: String) -> Value {
    let Value::Map(mut fields) = record else { return record };
    fields.push(("stimulus_id".into(), stimulus.into()));
    Value::Map(fields)
}

fn spans_value(spans: &[StartStop]) -> Value {
    let span = |span: &StartStop| {
        Value::map([("action", span.action.name().into()), ("start", span.start.into()), ("stop", span.stop.into())])
    };
    Value::Array(spans.iter().map(span).collect())
}
