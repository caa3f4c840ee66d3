//! Fixed small shapes, written from scratch (protocol 4, no memo, no frames). Every shape is loaded by a real Python
//! in `tests/python/test_pickles.py`.

use bytes::Bytes;

use crate::base::Key;
use crate::base::KeyPart;
use crate::base::PickledPart;
use crate::base::PyError;
use crate::base::ShuffleLayout;
use crate::base::ShuffleSpec;
use crate::base::Text;
use crate::base::Value;

use super::PickleError;
use super::emit::Splitter;
use super::opcodes::{put_bytes, put_float, put_global, put_int, put_text, put_uint};

/// Messages and annotations nest a few levels; this bounds recursion.
const DEPTH_MAX: u32 = 200;

/// An exception object.
pub fn error(error: &PyError) -> Bytes {
    let mut out = start();
    match error {
        PyError::Builtin { class, message } => {
            // `asyncio.TimeoutError` became the builtin in Python 3.11 and is what Dask catches on every version.
            let (module, class) = match &**class {
                "TimeoutError" => ("asyncio.exceptions", "TimeoutError"),
                other => ("builtins", other),
            };
            call(&mut out, module, class, |out| put_text(out, message.as_bytes()));
        }
        PyError::MissingKey(key) => call(&mut out, "builtins", "KeyError", |out| put_arg(out, key)),
        PyError::KilledWorker { key, worker, name, allowed_failures } => {
            call(&mut out, "distributed.scheduler", "KilledWorker", |out| {
                put_key(out, key);
                namespace(out, &[("address", Value::Str(worker.clone())), ("name", name.clone())]);
                put_int(out, i64::from(*allowed_failures));
            });
        }
        PyError::NoWorker { key, timeout_secs } => call(&mut out, "distributed.scheduler", "NoWorkerError", |out| {
            put_key(out, key);
            put_float(out, *timeout_secs);
        }),
        PyError::NoValidWorker { key, hosts, workers, resources, timeout_secs } => {
            call(&mut out, "distributed.scheduler", "NoValidWorkerError", |out| {
                put_key(out, key);
                put_text_set(out, hosts);
                put_text_set(out, workers);
                put_dict(out, resources.iter().map(|(name, amount)| (name, *amount)));
                put_float(out, *timeout_secs);
            });
        }
        PyError::P2pConsistency(message) => {
            call(&mut out, "distributed.shuffle._exceptions", "P2PConsistencyError", |out| {
                put_text(out, message.as_bytes());
            });
        }
    }
    finish(out)
}

/// Plain data: arrays become tuples, `__Set__` maps become sets.
///
/// Errors: a payload inside, which is not plain data; nesting past every use.
pub fn from_value(value: &Value) -> Result<Bytes, PickleError> {
    let mut out = start();
    put_value(&mut out, value, 0)?;
    Ok(finish(out))
}

/// A task key, tuples as tuples.
pub fn from_key(key: &Key) -> Bytes {
    let mut out = start();
    put_key(&mut out, key);
    finish(out)
}

/// `ShuffleRunSpec(run_id, spec, worker_for, span_id)`. A partition of a dataframe is one number, of an array a tuple.
///
/// Errors: the spec does not read as a pickle.
///
/// Source: `distributed/shuffle/_core.py`, `ShuffleRunSpec`.
pub fn shuffle_run_spec(
    run_id: i64,
    spec: &ShuffleSpec,
    partitions: &[(Vec<i64>, Text)],
    span_id: Option<&str>,
) -> Result<PickledPart, PickleError> {
    let nodes = super::read(&spec.spec.pickle, spec.spec.buffers.len())?;
    let mut splitter = Splitter::new(&nodes, &spec.spec.buffers);
    let mut head = Vec::new();
    put_global(&mut head, "distributed.shuffle._core", "ShuffleRunSpec");
    head.extend_from_slice(b")\x81}(");
    put_text(&mut head, b"run_id");
    put_int(&mut head, run_id);
    put_text(&mut head, b"spec");
    let mut tail = Vec::with_capacity(partitions.len() * 40);
    put_text(&mut tail, b"worker_for");
    tail.extend_from_slice(b"}(");
    for (partition, worker) in partitions {
        put_partition(&mut tail, &spec.layout, partition);
        put_text(&mut tail, worker.as_bytes());
    }
    tail.push(b'u');
    put_text(&mut tail, b"span_id");
    match span_id {
        Some(id) => put_text(&mut tail, id.as_bytes()),
        None => tail.push(b'N'),
    }
    tail.extend_from_slice(b"ub");
    splitter.begin();
    splitter.raw(&head);
    splitter.node(nodes.root())?;
    splitter.raw(&tail);
    Ok(splitter.finish())
}

/// An instance of `ShuffleWorkerPlugin`, which every worker must be given.
///
/// Source: `distributed/shuffle/_worker_plugin.py`.
pub fn shuffle_worker_plugin() -> Bytes {
    let mut out = start();
    put_global(&mut out, "distributed.shuffle._worker_plugin", "ShuffleWorkerPlugin");
    out.extend_from_slice(b")\x81");
    finish(out)
}

/// `types.SimpleNamespace` with these attributes. A payload among them becomes `None`.
pub fn simple_namespace(fields: &[(&str, Value)]) -> Bytes {
    let mut out = start();
    namespace(&mut out, fields);
    finish(out)
}

fn start() -> Vec<u8> {
    vec![0x80, 4]
}

fn finish(mut out: Vec<u8>) -> Bytes {
    out.push(b'.');
    out.into()
}

fn call(out: &mut Vec<u8>, module: &str, name: &str, args: impl FnOnce(&mut Vec<u8>)) {
    put_global(out, module, name);
    out.push(b'(');
    args(out);
    out.extend_from_slice(b"tR");
}

fn namespace(out: &mut Vec<u8>, fields: &[(&str, Value)]) {
    call(out, "types", "SimpleNamespace", |_| ());
    out.extend_from_slice(b"}(");
    for (name, value) in fields {
        put_text(out, name.as_bytes());
        put_arg(out, value);
    }
    out.extend_from_slice(b"ub");
}

/// Plain data, or `None` where it is none: an error about an odd value must still reach the user.
fn put_arg(out: &mut Vec<u8>, value: &Value) {
    let before = out.len();
    if put_value(out, value, 0).is_err() {
        out.truncate(before);
        out.push(b'N');
    }
}

fn put_text_set(out: &mut Vec<u8>, items: &[Text]) {
    out.extend_from_slice(&[0x8f, b'(']);
    items.iter().for_each(|item| put_text(out, item.as_bytes()));
    out.push(0x90);
}

fn put_dict<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a Text, f64)>) {
    out.extend_from_slice(b"}(");
    for (name, amount) in fields {
        put_text(out, name.as_bytes());
        put_float(out, amount);
    }
    out.push(b'u');
}

fn put_partition(out: &mut Vec<u8>, layout: &ShuffleLayout, partition: &[i64]) {
    match (layout, partition) {
        (ShuffleLayout::DataFrame { .. }, [number]) => put_int(out, *number),
        (ShuffleLayout::DataFrame { .. } | ShuffleLayout::Rechunk { .. }, numbers) => {
            out.push(b'(');
            numbers.iter().for_each(|&number| put_int(out, number));
            out.push(b't');
        }
    }
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    put_key_part(out, key.part());
}

fn put_key_part(out: &mut Vec<u8>, part: KeyPart<'_>) {
    match part {
        KeyPart::Str(text) => put_text(out, text.as_bytes()),
        KeyPart::Int(number) => put_int(out, number),
        KeyPart::UInt(number) => put_uint(out, number),
        KeyPart::Float(number) => put_float(out, number),
        KeyPart::Bin(bytes) => put_bytes(out, bytes),
        KeyPart::Tuple(parts) => {
            out.push(b'(');
            parts.for_each(|part| put_key_part(out, part));
            out.push(b't');
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value, depth: u32) -> Result<(), PickleError> {
    if depth > DEPTH_MAX {
        return Err(PickleError::TooMuch { limit: DEPTH_MAX });
    }
    match value {
        Value::Nil => out.push(b'N'),
        Value::Bool(truth) => out.push(if *truth { 0x88 } else { 0x89 }),
        Value::Int(number) => put_int(out, *number),
        Value::UInt(number) => put_uint(out, *number),
        Value::Float(number) => put_float(out, *number),
        Value::Str(text) => put_text(out, text.as_bytes()),
        Value::Bin(bytes) => put_bytes(out, bytes),
        Value::Array(items) => {
            out.push(b'(');
            items.iter().try_for_each(|item| put_value(out, item, depth + 1))?;
            out.push(b't');
        }
        Value::Map(_) if value.get("__Set__").is_some() => {
            out.extend_from_slice(&[0x8f, b'(']);
            value.items().unwrap_or_default().iter().try_for_each(|item| put_value(out, item, depth + 1))?;
            out.push(0x90);
        }
        Value::Map(fields) => {
            out.extend_from_slice(b"}(");
            for (key, value) in fields {
                put_value(out, key, depth + 1)?;
                put_value(out, value, depth + 1)?;
            }
            out.push(b'u');
        }
        Value::Serialized(_) | Value::Pickled(_) => return Err(PickleError::NeedsPython("a payload inside a value")),
    }
    Ok(())
}
