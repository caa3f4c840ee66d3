//! What the core says to workers and clients, written straight into the bytes that leave.
//!
//! Pure. Nothing is put together on the heap: there are many of `compute-task` and `key-in-memory`.

use crate::base::{Failure, Key, Value};
use crate::pickle;
use crate::sched::{Compute, Located, ToClient, ToWorker};
use crate::wire::Encoder;

/// Names a step in messages to workers: `task-finished-17`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stimulus {
    pub kind: &'static str,
    pub number: u64,
}

impl std::fmt::Display for Stimulus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.kind, self.number)
    }
}

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
    for digit in digits.iter_mut().rev() {
        at -= 1;
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let parts = [stimulus.kind.as_bytes(), b"-", digits.get(at..).unwrap_or_default()];
    let mut len = 0;
    for part in parts {
        let Some(room) = text.get_mut(len..len + part.len()) else { break };
        room.copy_from_slice(part);
        len += part.len();
    }
    let text = text.get(..len).and_then(|text| std::str::from_utf8(text).ok());
    encoder.put_str(text.unwrap_or(stimulus.kind));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::base::{Annotations, Limits, Opaque};
    use crate::sched::Priority;

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
}
