//! Between what peers say and what the scheduler takes: stream operations become events, effects become messages.
//!
//! Pure: no sockets, no clock. The two messages that there are many of, `compute-task` and `key-in-memory`, are
//! written straight into the bytes that leave.

pub mod args;
pub mod versions;

use crate::base::{ClientId, Failure, Key, PyError, Text, Value, WorkerId};
use crate::pickle;
use crate::sched::{Action, Compute, Erred, Event, Finished, Located, StartStop, ToClient, ToWorker, WorkerStatus};
use crate::wire::Encoder;
use crate::wire::op;
use crate::wire::op::StreamOp;

use crate::cluster::state::Stimulus;

// ---- stream operations to events ------------------------------------------------------------------------------

/// What a worker's stream operation means to the scheduler; none when it is not for the scheduler.
pub fn worker_event(worker: WorkerId, said: StreamOp) -> Result<Event, StreamOp> {
    Ok(match said {
        StreamOp::TaskFinished(done) => Event::TaskFinished { worker, done: finished(*done) },
        StreamOp::TaskErred(erred) => Event::TaskErred { worker, erred: Box::new(failed(*erred)) },
        StreamOp::ReleaseWorkerData { key } => Event::ReleaseWorkerData { worker, key },
        StreamOp::AddKeys { keys } => Event::AddKeys { worker, keys },
        StreamOp::LongRunning { key, run_id, compute_duration } => {
            Event::LongRunning { worker, key, run_id: run_id.unwrap_or(-1), compute_secs: compute_duration }
        }
        StreamOp::Reschedule { key } => Event::Reschedule { worker, key },
        StreamOp::StealResponse { key, state, stimulus } => Event::StealResponse { worker, key, state, stimulus },
        StreamOp::RequestRefreshWhoHas { keys } => Event::RefreshWhoHas { worker, keys },
        StreamOp::WorkerStatusChange { status } => match WorkerStatus::from_name(&status) {
            Some(status) => Event::WorkerStatus { worker, status },
            None => return Err(StreamOp::WorkerStatusChange { status }),
        },
        other => return Err(other),
    })
}

/// What a client's stream operation means to the scheduler; none when it is not for the scheduler alone.
pub fn client_event(client: ClientId, said: StreamOp) -> Result<Event, StreamOp> {
    Ok(match said {
        StreamOp::ClientDesiresKeys { keys } => Event::ClientDesires { client, keys },
        StreamOp::ClientReleasesKeys { keys } => Event::ClientReleases { client, keys },
        StreamOp::CancelKeys { keys, force, reason, msg } => Event::CancelKeys { client, keys, force, reason, msg },
        StreamOp::ReportKey { key } => Event::ReportKey { client, key },
        other => return Err(other),
    })
}

fn finished(done: op::TaskFinished) -> Finished {
    Finished {
        key: done.key,
        run_id: done.run_id,
        nbytes: done.nbytes,
        type_pickle: done.type_pickle,
        typename: done.typename,
        metadata: done.metadata,
        startstops: done.startstops.into_iter().map(start_stop).collect(),
    }
}

fn failed(erred: op::TaskErred) -> Erred {
    Erred {
        key: erred.key,
        run_id: erred.run_id,
        failure: Failure::Remote {
            exception: erred.exception,
            traceback: erred.traceback,
            exception_text: erred.exception_text,
            traceback_text: erred.traceback_text,
        },
    }
}

/// What a worker tells of a run that only people want to know.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The thread that ran it, as the worker names it.
    pub thread: i64,
    /// What a failed run spent its time on; of others the scheduler's event tells.
    pub spans: Vec<StartStop>,
}

impl RunFacts {
    /// Of a finished or failed run, before it becomes an event.
    pub fn of(said: &StreamOp) -> Self {
        match said {
            StreamOp::TaskFinished(done) => Self { thread: done.thread, spans: Vec::new() },
            StreamOp::TaskErred(erred) => {
                Self { thread: erred.thread, spans: erred.startstops.iter().copied().map(start_stop).collect() }
            }
            _ => Self::default(),
        }
    }
}

const fn start_stop(span: op::StartStop) -> StartStop {
    let action = match span.action {
        op::Action::Compute => Action::Compute,
        op::Action::Transfer => Action::Transfer,
        op::Action::DiskRead => Action::DiskRead,
        op::Action::DiskWrite => Action::DiskWrite,
        op::Action::Deserialize => Action::Deserialize,
        op::Action::Other => Action::Other,
    };
    StartStop { action, start: span.start, stop: span.stop }
}

/// Dask's name of an action.
pub const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Compute => "compute",
        Action::Transfer => "transfer",
        Action::DiskRead => "disk-read",
        Action::DiskWrite => "disk-write",
        Action::Deserialize => "deserialize",
        Action::Other => "other",
    }
}

// ---- effects to messages --------------------------------------------------------------------------------------

/// Writes a message for a worker's stream. A worker closes when a field is missing or unknown.
pub fn put_to_worker(encoder: &mut Encoder, message: &ToWorker, stimulus: Stimulus) {
    match message {
        ToWorker::Compute(compute) => put_compute(encoder, compute, stimulus),
        ToWorker::FreeKeys { keys } => put_keys(encoder, "free-keys", keys, stimulus),
        ToWorker::RemoveReplicas { keys } => put_keys(encoder, "remove-replicas", keys, stimulus),
        ToWorker::AcquireReplicas { data } => {
            put_op(encoder, "acquire-replicas", 4, stimulus);
            put_located(encoder, data);
        }
        ToWorker::StealRequest { key, stimulus } => {
            encoder.put_map(3);
            put_text(encoder, "op", "steal-request");
            encoder.put_str("key");
            encoder.put_key(key);
            put_text(encoder, "stimulus_id", stimulus);
        }
        ToWorker::RefreshWhoHas { data } => {
            put_op(encoder, "refresh-who-has", 3, stimulus);
            put_who_has(encoder, data);
        }
        ToWorker::Status { status } => {
            put_op(encoder, "worker-status-change", 3, stimulus);
            put_text(encoder, "status", status.name());
        }
        ToWorker::RemoveWorker { address } => {
            put_op(encoder, "remove-worker", 3, stimulus);
            put_text(encoder, "worker", address);
        }
        ToWorker::Close { reason } => {
            encoder.put_map(2);
            put_text(encoder, "op", "close");
            put_text(encoder, "reason", reason);
        }
        ToWorker::ShuffleFail { id, run_id, message } => {
            encoder.put_map(4);
            put_text(encoder, "op", "shuffle-fail");
            put_text(encoder, "shuffle_id", id);
            encoder.put_str("run_id");
            encoder.put_i64(*run_id);
            put_text(encoder, "message", message);
        }
    }
}

fn put_compute(encoder: &mut Encoder, compute: &Compute, stimulus: Stimulus) {
    put_op(encoder, "compute-task", 12, stimulus);
    encoder.put_str("key");
    encoder.put_key(&compute.key);
    encoder.put_str("run_id");
    encoder.put_i64(compute.run_id);
    encoder.put_str("priority");
    encoder.put_array(3);
    put_number(encoder, compute.priority.user);
    put_number(encoder, compute.priority.generation);
    put_number(encoder, compute.priority.order);
    put_located(encoder, &compute.inputs);
    encoder.put_str("run_spec");
    encoder.put_pickled(&compute.run_spec);
    encoder.put_str("resource_restrictions");
    match compute.annotations.as_deref().filter(|annotations| !annotations.resources.is_empty()) {
        None => encoder.put_nil(),
        Some(annotations) => {
            encoder.put_map(annotations.resources.len());
            for (name, amount) in &annotations.resources {
                encoder.put_str(name);
                put_number(encoder, *amount);
            }
        }
    }
    encoder.put_str("actor");
    encoder.put_bool(compute.actor);
    encoder.put_str("annotations");
    match compute.annotations.as_deref().map(|annotations| &annotations.wire) {
        Some(wire @ Value::Map(_)) => encoder.put_value(wire),
        _ => encoder.put_map(0),
    }
    encoder.put_str("span_id");
    encoder.put_nil();
}

/// Whole numbers travel as integers: that is what the other end prints and compares.
fn put_number(encoder: &mut Encoder, number: f64) {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        encoder.put_i64(number as i64);
    } else {
        encoder.put_f64(number);
    }
}

fn put_located(encoder: &mut Encoder, data: &Located) {
    put_who_has(encoder, data);
    encoder.put_str("nbytes");
    encoder.put_map(data.keys.len());
    for (key, nbytes, _) in &data.keys {
        encoder.put_key(key);
        encoder.put_i64(*nbytes);
    }
}

fn put_who_has(encoder: &mut Encoder, data: &Located) {
    encoder.put_str("who_has");
    encoder.put_map(data.keys.len());
    for (key, _, holders) in data.iter() {
        encoder.put_key(key);
        encoder.put_array(holders.len());
        for holder in holders {
            encoder.put_str(holder);
        }
    }
}

/// Begins a map of `fields` pairs with its `op` and `stimulus_id`.
fn put_op(encoder: &mut Encoder, name: &str, fields: usize, stimulus: Stimulus) {
    encoder.put_map(fields);
    put_text(encoder, "op", name);
    encoder.put_str("stimulus_id");
    put_stimulus(encoder, stimulus);
}

/// `kind-number`, without a string on the heap: this is written for every task.
fn put_stimulus(encoder: &mut Encoder, stimulus: Stimulus) {
    let mut text = [0u8; 64];
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = stimulus.number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let parts = [stimulus.kind.as_bytes(), b"-", &digits[at..]];
    let mut len = 0;
    for part in parts {
        let Some(room) = text.get_mut(len..len + part.len()) else { break };
        room.copy_from_slice(part);
        len += part.len();
    }
    encoder.put_str(std::str::from_utf8(&text[..len]).unwrap_or(stimulus.kind));
}

fn put_keys(encoder: &mut Encoder, name: &str, keys: &[Key], stimulus: Stimulus) {
    put_op(encoder, name, 3, stimulus);
    encoder.put_str("keys");
    encoder.put_keys(keys);
}

fn put_text(encoder: &mut Encoder, field: &str, text: &str) {
    encoder.put_str(field);
    encoder.put_str(text);
}

/// Writes a message for a client's stream.
pub fn put_to_client(encoder: &mut Encoder, message: &ToClient) {
    match message {
        ToClient::KeyInMemory { key, type_pickle } => {
            encoder.put_map(2 + usize::from(type_pickle.is_some()));
            put_text(encoder, "op", "key-in-memory");
            encoder.put_str("key");
            encoder.put_key(key);
            if let Some(pickle) = type_pickle {
                encoder.put_str("type");
                encoder.put_bin(pickle);
            }
        }
        ToClient::TaskErred { key, failure } => {
            encoder.put_map(4);
            put_text(encoder, "op", "task-erred");
            encoder.put_str("key");
            encoder.put_key(key);
            encoder.put_str("exception");
            match &**failure {
                Failure::Remote { exception, traceback, .. } => {
                    encoder.put_value(exception);
                    encoder.put_str("traceback");
                    encoder.put_value(traceback);
                }
                Failure::Raised(error) => {
                    encoder.put_bin(&pickle::error(error));
                    encoder.put_str("traceback");
                    encoder.put_nil();
                }
            }
        }
        ToClient::LostData { key } => put_key_message(encoder, "lost-data", key),
        ToClient::TaskRetried { key } => put_key_message(encoder, "task-retried", key),
        ToClient::CancelledKeys { keys, reason, msg } => {
            encoder.put_map(4);
            put_text(encoder, "op", "cancelled-keys");
            encoder.put_str("keys");
            encoder.put_keys(keys);
            encoder.put_str("reason");
            encoder.put_value(reason);
            encoder.put_str("msg");
            encoder.put_value(msg);
        }
        ToClient::Restart => {
            encoder.put_map(1);
            put_text(encoder, "op", "restart");
        }
    }
}

fn put_key_message(encoder: &mut Encoder, name: &str, key: &Key) {
    encoder.put_map(2);
    put_text(encoder, "op", name);
    encoder.put_str("key");
    encoder.put_key(key);
}

/// Writes `event` for a client that listens to `topic`.
pub fn put_event(encoder: &mut Encoder, topic: &str, at_secs: f64, message: &Value) {
    encoder.put_map(3);
    put_text(encoder, "op", "event");
    put_text(encoder, "topic", topic);
    encoder.put_str("event");
    encoder.put_array(2);
    encoder.put_f64(at_secs);
    encoder.put_value(message);
}

// ---- failures -------------------------------------------------------------------------------------------------

/// The reply to a request that failed. `status` is `uncaught-error` (the caller raises) or `error`.
///
/// Source: `distributed/core.py`, `error_message`.
pub fn failure_reply(status: &str, failure: &Failure) -> Value {
    let (exception, traceback, exception_text, traceback_text) = match failure {
        Failure::Remote { exception, traceback, exception_text, traceback_text } => {
            (exception.clone(), traceback.clone(), exception_text.clone(), traceback_text.clone())
        }
        Failure::Raised(error) => {
            (Value::Bin(pickle::error(error)), Value::Nil, Text::from(error_text(error)), Text::from(""))
        }
    };
    Value::map([
        ("status", status.into()),
        ("exception", exception),
        ("traceback", traceback),
        ("exception_text", exception_text.into()),
        ("traceback_text", traceback_text.into()),
    ])
}

/// What Python's `repr` of the exception would about be.
pub fn error_text(error: &PyError) -> String {
    match error {
        PyError::Builtin { class, message } => format!("{class}({})", quoted(message)),
        PyError::MissingKey(key) => match key.as_key() {
            Some(key) => format!("KeyError({})", key.part()),
            None => "KeyError()".to_owned(),
        },
        PyError::KilledWorker { key, worker, allowed_failures, .. } => {
            format!("KilledWorker({}, {}, {allowed_failures})", key.part(), quoted(worker))
        }
        PyError::NoWorker { key, timeout_secs } => format!("NoWorkerError({}, {timeout_secs})", key.part()),
        PyError::NoValidWorker { key, timeout_secs, .. } => {
            format!("NoValidWorkerError({}, {timeout_secs})", key.part())
        }
        PyError::P2pConsistency(message) => format!("P2PConsistencyError({})", quoted(message)),
    }
}

fn quoted(text: &str) -> String {
    Key::text(text).part().to_string()
}

/// A Python exception of `builtins`, as the outcome of a request.
pub fn raise(class: &str, message: impl Into<Text>) -> Failure {
    Failure::Raised(PyError::builtin(class, message))
}

// ---- numbers and texts that peers send ------------------------------------------------------------------------

/// Seconds from a number or from text such as `30 s` or `100ms`. None: neither.
///
/// Source: `dask/utils.py`, `parse_timedelta`.
pub fn seconds(value: &Value) -> Option<f64> {
    if let Some(text) = value.as_str() {
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).filter(|at| *at > 0);
        let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "us" | "microsecond" | "microseconds" => 1e-6,
            "ns" | "nanosecond" | "nanoseconds" => 1e-9,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        return number.trim().parse::<f64>().ok().map(|number| number * scale).filter(|secs| secs.is_finite());
    }
    value.as_f64().filter(|secs| !secs.is_nan())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::base::{Annotations, Limits, Opaque};
    use crate::sched::Priority;

    /// Goal: time spans are read as Dask writes them.
    #[test]
    fn time_spans_are_read_as_dask_writes_them() {
        let cases = [("30 s", 30.0), ("100ms", 0.1), ("5 minutes", 300.0), ("1.5", 1.5), ("1h", 3600.0)];
        for (text, secs) in cases {
            assert_eq!(seconds(&Value::str(text)), Some(secs), "{text}");
        }
        assert_eq!(seconds(&Value::Int(2)), Some(2.0));
        assert_eq!(seconds(&Value::str("soon")), None);
        assert_eq!(seconds(&Value::Nil), None);
    }

    fn sent(message: &ToWorker) -> Value {
        let mut encoder = Encoder::new();
        put_to_worker(&mut encoder, message, Stimulus { kind: "tick", number: 1_203 });
        encoder.finish().to_value(&Limits::default()).expect("what we write can be read")
    }

    /// Goal: a `compute-task` has exactly the fields that a worker's constructor takes; one more or less kills it.
    #[test]
    fn a_compute_task_has_exactly_the_fields_that_workers_take() {
        let inputs = Located {
            keys: vec![(Key::text("a"), 28, 2), (Key::tuple(&[Key::text("b"), Key::int(1)]), -1, 1)],
            holders: vec!["w1".into(), "w2".into(), "w3".into()],
        };
        let annotations = Annotations {
            resources: vec![("GPU".into(), 1.0)],
            wire: Value::map([("retries", Value::Int(2))]),
            ..Annotations::default()
        };
        let compute = Compute {
            key: Key::text("x"),
            run_id: 7,
            priority: Priority { user: 0.0, generation: 0.99, order: 3.0 },
            inputs,
            run_spec: Arc::new(Opaque { head: Bytes::from_static(b"\x81\xaenum-sub-frames\x00"), frames: Vec::new() }),
            annotations: Some(Arc::new(annotations)),
            actor: false,
        };
        let value = sent(&ToWorker::Compute(Box::new(compute)));
        let mut names: Vec<&str> =
            value.fields().expect("a map").iter().filter_map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "actor",
            "annotations",
            "key",
            "nbytes",
            "op",
            "priority",
            "resource_restrictions",
            "run_id",
            "run_spec",
            "span_id",
            "stimulus_id",
            "who_has",
        ];
        assert_eq!(names, expected);
        let priority = Value::Array(vec![Value::Int(0), Value::Float(0.99), Value::Int(3)]);
        assert_eq!(value.get("priority"), Some(&priority));
        assert_eq!(value.get("stimulus_id"), Some(&Value::str("tick-1203")));
        let b = Key::tuple(&[Key::text("b"), Key::int(1)]).to_value();
        let who_has = Value::Map(vec![
            ("a".into(), Value::Array(vec!["w1".into(), "w2".into()])),
            (b, Value::Array(vec!["w3".into()])),
        ]);
        assert_eq!(value.get("who_has"), Some(&who_has));
        assert_eq!(value.get("resource_restrictions"), Some(&Value::map([("GPU", Value::Int(1))])));
    }

    /// Goal: the text that a thief asks with comes back to the scheduler as it was.
    #[test]
    fn a_steal_request_carries_the_schedulers_own_text() {
        let value = sent(&ToWorker::StealRequest { key: Key::text("x"), stimulus: "steal-0".into() });
        assert_eq!(value.get("stimulus_id"), Some(&Value::str("steal-0")));
        assert_eq!(value.fields().map(<[_]>::len), Some(3));
    }

    /// Goal: nothing that is sent to a client's stream has a `status`, which would end its reader.
    #[test]
    fn an_erred_task_is_told_with_its_payload_untouched() {
        let payload = Value::Serialized(Arc::new(Opaque { head: Bytes::from_static(b"\x80"), frames: Vec::new() }));
        let failure = Failure::Remote {
            exception: payload.clone(),
            traceback: Value::Nil,
            exception_text: "".into(),
            traceback_text: "".into(),
        };
        let mut encoder = Encoder::new();
        put_to_client(&mut encoder, &ToClient::TaskErred { key: Key::text("x"), failure: Arc::new(failure) });
        let value = encoder.finish().to_value(&Limits::default()).expect("what we write can be read");
        assert_eq!(value.get("exception"), Some(&payload));
        assert_eq!(value.get("status"), None);
    }

    /// Goal: every failure has a text, because servers that don't unpickle have nothing else.
    #[test]
    fn failures_always_carry_a_text() {
        let reply = failure_reply("error", &raise("ValueError", "it's bad"));
        assert_eq!(reply.get("exception_text"), Some(&Value::str("ValueError(\"it's bad\")")));
        assert_eq!(reply.get("status"), Some(&Value::str("error")));
    }
}
