//! Stream operations: recorded ones, odd ones, broken ones.

use super::*;
use crate::base::{Action, Key, Limits, Opaque, Text, Value};
use crate::wire::frame::Decoder;
use crate::wire::{Message, MessageBatch};

fn recorded(bytes: &[u8]) -> Vec<StreamItem> {
    let limits = Limits::default();
    let message = Decoder::new(&limits).feed(bytes).expect("valid").expect("complete");
    decode_stream(&message, &limits).expect("a stream message")
}

fn ops(value: &Value) -> Vec<StreamOp> {
    let items = decode_stream(&Message::from_value(value), &Limits::default()).expect("msgpack is fine");
    items.into_iter().map(|item| item.op).collect()
}

/// Goal: what a stock worker says of a finished task arrives complete.
#[test]
fn a_recorded_finish_is_understood() {
    let items = recorded(include_bytes!("../../../tests/golden/wire/task-finished.bin"));
    let done: Vec<&TaskFinished> = items
        .iter()
        .filter_map(|item| if let StreamOp::TaskFinished(done) = &item.op { Some(&**done) } else { None })
        .collect();
    let [done] = done.as_slice() else { panic!("one task finished: {items:?}") };
    assert_eq!((done.run_id, done.nbytes, &*done.typename), (done.run_id, Some(28), "int"));
    assert!(done.run_id >= 0);
    assert!(done.type_pickle.starts_with(b"\x80"));
    assert!(done.startstops.iter().any(|span| span.action == Action::Compute && span.stop >= span.start));
    assert_eq!(done.metadata, Value::Map(vec![]));
}

/// Goal: a stock client's graph arrives complete, payloads with their frames.
#[test]
fn a_recorded_graph_is_understood() {
    let items = recorded(include_bytes!("../../../tests/golden/wire/update-graph.bin"));
    let graph =
        items.iter().find_map(|item| if let StreamOp::UpdateGraph(graph) = &item.op { Some(graph) } else { None });
    let graph = graph.expect("a graph is in it");
    assert_eq!(graph.keys.len(), 3);
    assert!(graph.keys.contains(&Key::tuple(&[Key::text("m"), Key::int(0)])));
    assert_eq!(graph.internal_priority.as_ref().map(Vec::len), Some(3));
    let Value::Serialized(expression) = &graph.expr_ser else { panic!("a payload") };
    assert_eq!(expression.frames.len(), 1);
    assert!(matches!(&graph.annotations, Value::Pickled(_)));
    assert_eq!(graph.submitting_task, None);
}

/// Goal: a stock worker's error arrives with its payload still closed.
#[test]
fn a_recorded_error_is_understood() {
    let items = recorded(include_bytes!("../../../tests/golden/wire/task-erred.bin"));
    let erred =
        items.iter().find_map(|item| if let StreamOp::TaskErred(erred) = &item.op { Some(erred) } else { None });
    let erred = erred.expect("an error is in it");
    assert_eq!(erred.key, Key::text("bad-1"));
    assert_eq!(&*erred.exception_text, "ZeroDivisionError('division by zero')");
    assert!(matches!(&erred.exception, Value::Serialized(payload) if !payload.frames.is_empty()));
}

/// Goal: one bad item costs only itself, order is kept, and a bare "OK" is nothing.
#[test]
fn a_bad_item_does_not_poison_the_batch() {
    let item = |op: &str, name: &str, value: Value| Value::map([("op", op.into()), (name, value)]);
    let list = Value::Array(vec![
        item("reschedule", "key", "x".into()),
        item("reschedule", "key", Value::Nil),
        "OK".into(),
        item("no-such-op", "key", "x".into()),
        Value::map([("key", "x".into())]),
        item("add-keys", "keys", Value::map([("__Set__", true.into()), ("as-list", Value::Array(vec!["y".into()]))])),
    ]);
    let expected = vec![
        StreamOp::Reschedule { key: Key::text("x") },
        StreamOp::Malformed { op: "reschedule".into(), error: crate::wire::WireError::Unexpected { what: "key" } },
        StreamOp::Unknown { op: "no-such-op".into(), fields: Value::map([("key", "x".into())]) },
        StreamOp::Unknown { op: "".into(), fields: Value::map([("key", "x".into())]) },
        StreamOp::AddKeys { keys: vec![Key::text("y")] },
    ];
    assert_eq!(ops(&list), expected);
}

/// Goal: a single map counts as a list of one, and its own `client` is told apart from its absence.
#[test]
fn a_single_map_is_a_batch_of_one() {
    let keys = Value::Array(vec![Value::Float(1.0)]);
    let map = Value::map([("client", "fire-and-forget".into()), ("keys", keys), ("op", "client-desires-keys".into())]);
    let items = decode_stream(&Message::from_value(&map), &Limits::default()).expect("fine");
    let expected = StreamItem {
        client: Some(Text::from("fire-and-forget")),
        worker: None,
        op: StreamOp::ClientDesiresKeys { keys: vec![Key::int(1)] },
    };
    assert_eq!(items, vec![expected]);
}

/// Goal: numbers that are numpy objects, floats or missing do not spoil a finished task.
#[test]
fn odd_numbers_are_tolerated() {
    let numpy = Value::Pickled(std::sync::Arc::new(Opaque { head: b"\x80".as_slice().into(), frames: vec![] }));
    let finished = |nbytes: Value, run_id: Value| {
        let map = Value::map([
            ("op", "task-finished".into()),
            ("key", "x".into()),
            ("nbytes", nbytes),
            ("run_id", run_id),
            ("metadata", numpy.clone()),
        ]);
        match ops(&map).remove(0) {
            StreamOp::TaskFinished(done) => (done.nbytes, done.run_id, done.metadata == numpy),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(finished(numpy.clone(), Value::Float(3.0)), (None, 3, true));
    assert_eq!(finished(Value::Float(8.0), Value::Nil), (Some(8), -1, true));
}

/// Goal: a batch is an array of its items with their payloads, and can be used again.
#[test]
fn batches_count_their_items() {
    let payload =
        Opaque { head: b"\x81\xaenum-sub-frames\x01".as_slice().into(), frames: vec![b"data".as_slice().into()] };
    let mut batch = MessageBatch::new();
    for round in 1..4i64 {
        for at in 0..round * 10 {
            batch.push(|out| {
                out.put_map(2);
                out.put_str("n");
                out.put_i64(at);
                out.put_str("p");
                out.put_pickled(&payload);
            });
        }
        let value = batch.finish().to_value(&Limits::default()).expect("well formed");
        let items = value.items().expect("an array");
        assert_eq!(items.len() as i64, round * 10);
        let last = Value::map([
            ("n", Value::Int(round * 10 - 1)),
            ("p", Value::Pickled(std::sync::Arc::new(payload.clone()))),
        ]);
        assert_eq!(items.last(), Some(&last));
        assert!(batch.is_empty());
    }
    assert_eq!(batch.finish().to_value(&Limits::default()), Ok(Value::Array(vec![])));
}

/// Goal: reading a finished task costs well under a microsecond in a release build; here only that a long batch works.
#[test]
fn long_batches_share_what_repeats() {
    let mut batch = MessageBatch::new();
    for n in 0..1000 {
        batch.push(|out| {
            out.put_map(4);
            for (name, text) in [("op", "task-finished"), ("typename", "int"), ("type", "pickle")] {
                out.put_str(name);
                out.put_str(text);
            }
            out.put_str("key");
            out.put_key(&Key::tuple(&[Key::text("x"), Key::int(n)]));
        });
    }
    let items = decode_stream(&batch.finish(), &Limits::default()).expect("well formed");
    let typename = |item: &StreamItem| match &item.op {
        StreamOp::TaskFinished(done) => done.typename.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(items.len(), 1000);
    assert!(Text::ptr_eq(&typename(&items[0]), &typename(&items[999])));
}

/// Goal: queues and variables may be named by anything that is a key; a list means the tuple.
#[test]
fn queues_and_variables_are_named_by_keys() {
    let list = Value::Array(vec!["q".into(), Value::Int(1)]);
    let said =
        |op: &str| Value::map([("op", op.into()), ("name", list.clone()), ("key", "x".into()), ("token", "t".into())]);
    let names = ["queue_release", "queue-future-release", "variable_delete", "variable-future-received-confirm"];
    let name = Key::tuple(&[Key::text("q"), Key::int(1)]);
    let key = Key::text("x");
    let expected = vec![
        StreamOp::QueueRelease { name: name.clone() },
        StreamOp::QueueFutureRelease { name: name.clone(), key: key.clone() },
        StreamOp::VariableDelete { name: name.clone() },
        StreamOp::VariableFutureConfirm { name, key, token: "t".into() },
    ];
    assert_eq!(ops(&Value::Array(names.map(said).into())), expected);
}
