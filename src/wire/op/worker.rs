//! What a scheduler says on a worker's stream, and what anybody asks of a worker.
//!
//! Source: `distributed/worker.py`, `Worker.__init__`, `stream_handlers`; `distributed/core.py`, `_handle_comm`.

use std::sync::Arc;

use super::fields::{Fields, batch_len, borrowed_text, number, texts};
use crate::base::{Key, Limits, Opaque, Text, Value};
use crate::wire::error::WireError;
use crate::wire::message::Message;
use crate::wire::msgpack::{Cursor, Marker};
use crate::wire::resolve::{Resolver, bounded};

/// An order of a scheduler to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerOrder {
    /// `compute-task`.
    Compute(Box<ComputeOrder>),
    /// `free-keys`.
    FreeKeys { keys: Vec<Key> },
    /// `remove-replicas`.
    RemoveReplicas { keys: Vec<Key> },
    /// `acquire-replicas`.
    AcquireReplicas { inputs: Vec<HeldInput> },
    /// `steal-request`.
    StealRequest { key: Key, stimulus: Text },
    /// `cancel-compute`.
    CancelCompute { key: Key },
    /// `refresh-who-has`.
    RefreshWhoHas { holders: Vec<(Key, Vec<Text>)> },
    /// `worker-status-change`.
    StatusChange { status: Text },
    /// `remove-worker`.
    RemoveWorker { address: Text },
    /// `close`.
    Close { reason: Text },
    /// `close-stream`: what follows in the batch is dropped.
    CloseStream,
    /// Anything else, such as what a plugin handles: the whole item.
    Other { op: Text, body: Value },
    /// A known operation whose fields are malformed.
    Malformed { op: Text, error: WireError },
}

/// `compute-task`. Source: `distributed/worker_state_machine.py`, `ComputeTaskEvent`.
#[derive(Clone, Debug, PartialEq)]
pub struct ComputeOrder {
    /// What to compute.
    pub key: Key,
    /// Which sending of it.
    pub run_id: i64,
    /// One to three numbers.
    pub priority: Vec<f64>,
    /// Every value the task reads.
    pub inputs: Vec<HeldInput>,
    /// The pickled task.
    pub run_spec: Arc<Opaque>,
    /// Named amounts that the run occupies.
    pub resources: Vec<(Text, f64)>,
    /// Its value is an actor.
    pub actor: bool,
    /// Often an empty map.
    pub annotations: Value,
    /// Which span it belongs to.
    pub span_id: Option<Text>,
}

/// A value that is somewhere in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldInput {
    /// Which value.
    pub key: Key,
    /// Unit: bytes.
    pub nbytes: i64,
    /// Addresses of the workers that hold it.
    pub holders: Vec<Text>,
}

/// What a request says of itself; the rest of it need not be read to pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The operation.
    pub op: Text,
    /// An answer is waited for.
    pub reply: bool,
    /// The connection ends after it.
    pub close: bool,
}

/// The head of a request. Errors: no map with `op`.
pub fn request_head(message: &Message) -> Result<RequestHead, WireError> {
    let mut cursor = Cursor::new(&message.head);
    let Marker::Map(len) = cursor.token()? else { return Err(WireError::Unexpected { what: "a map with op" }) };
    let mut fields = Fields::default();
    fields.fill(&mut cursor, len)?;
    let reply = fields.get("reply").is_none() || fields.is_true("reply");
    Ok(RequestHead { op: fields.text("op")?, reply, close: fields.is_true("close") })
}

/// The orders of a stream message: an array of maps, or a single map. What is no map is skipped.
///
/// Errors: bytes that are no msgpack. An item that is msgpack but is malformed is [`WorkerOrder::Malformed`].
pub fn decode_orders(message: &Message, limits: &Limits) -> Result<Vec<WorkerOrder>, WireError> {
    let mut cursor = Cursor::new(&message.head);
    let resolver = Resolver::new(&message.head, &message.frames, limits);
    let mut fields = Fields::default();
    let items = batch_len(&mut cursor)?;
    let mut orders = Vec::with_capacity(bounded(items, &cursor));
    for _ in 0..items {
        let item = cursor.span()?;
        let mut inside = Cursor::new(item);
        let Marker::Map(len) = inside.token()? else { continue };
        fields.fill(&mut inside, len)?;
        let op = fields.get("op").and_then(borrowed_text).unwrap_or_default();
        let order = order(op, item, &fields, &resolver);
        orders.push(order.unwrap_or_else(|error| WorkerOrder::Malformed { op: op.into(), error }));
    }
    cursor.finish()?;
    Ok(orders)
}

fn order<'a>(op: &str, item: &'a [u8], fields: &Fields<'a>, resolver: &Resolver<'a>) -> Result<WorkerOrder, WireError> {
    Ok(match op {
        "compute-task" => WorkerOrder::Compute(Box::new(compute(fields, resolver)?)),
        "free-keys" => WorkerOrder::FreeKeys { keys: fields.keys("keys")? },
        "remove-replicas" => WorkerOrder::RemoveReplicas { keys: fields.keys("keys")? },
        "acquire-replicas" => WorkerOrder::AcquireReplicas { inputs: inputs(fields)? },
        "steal-request" => WorkerOrder::StealRequest {
            key: fields.key("key")?,
            stimulus: fields.maybe_text("stimulus_id").unwrap_or_default(),
        },
        "cancel-compute" => WorkerOrder::CancelCompute { key: fields.key("key")? },
        "refresh-who-has" => WorkerOrder::RefreshWhoHas { holders: fields.key_map("who_has", texts)? },
        "worker-status-change" => WorkerOrder::StatusChange { status: fields.text("status")? },
        "remove-worker" => WorkerOrder::RemoveWorker { address: fields.text("worker")? },
        "close" => WorkerOrder::Close { reason: fields.maybe_text("reason").unwrap_or_default() },
        "close-stream" => WorkerOrder::CloseStream,
        _ => WorkerOrder::Other { op: op.into(), body: resolver.value_of(item)? },
    })
}

fn compute<'a>(fields: &Fields<'a>, resolver: &Resolver<'a>) -> Result<ComputeOrder, WireError> {
    let (Value::Pickled(run_spec) | Value::Serialized(run_spec)) = fields.value("run_spec", resolver)? else {
        return Err(WireError::Unexpected { what: "run_spec" });
    };
    let priority = fields.value("priority", resolver)?;
    let resources = fields.value("resource_restrictions", resolver)?;
    let amount = |(name, amount): &(Value, Value)| Some((Text::from(name.as_str()?), amount.as_f64()?));
    Ok(ComputeOrder {
        key: fields.key("key")?,
        run_id: fields.maybe_i64("run_id").ok_or(WireError::Unexpected { what: "run_id" })?,
        priority: priority.items().unwrap_or_default().iter().filter_map(Value::as_f64).collect(),
        inputs: inputs(fields)?,
        run_spec,
        resources: resources.fields().unwrap_or_default().iter().filter_map(amount).collect(),
        actor: fields.is_true("actor"),
        annotations: fields.value("annotations", resolver)?,
        span_id: fields.maybe_text("span_id"),
    })
}

/// Every key of `nbytes`, with its holders, which come in the same order as a rule.
fn inputs(fields: &Fields<'_>) -> Result<Vec<HeldInput>, WireError> {
    let mut holders = fields.key_map("who_has", texts)?;
    let sizes = fields.key_map("nbytes", number)?;
    let with_holders = |(at, (key, nbytes)): (usize, (Key, f64))| {
        let same = holders.get(at).is_some_and(|(other, _)| *other == key);
        let place = if same { Some(at) } else { holders.iter().position(|(other, _)| *other == key) };
        let holders = place.and_then(|at| holders.get_mut(at)).map(|(_, list)| std::mem::take(list));
        HeldInput { key, nbytes: nbytes as i64, holders: holders.unwrap_or_default() }
    };
    Ok(sizes.into_iter().enumerate().map(with_holders).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: &Value) -> Message {
        Message::from_value(value)
    }

    /// Goal: a `compute-task` as schedulers send it is read whole, its run spec as frames that nobody opened.
    #[test]
    fn an_order_to_compute_is_read_whole() {
        let spec =
            Arc::new(Opaque { head: Value::map([("num-sub-frames", Value::Int(0))]).head(), frames: Vec::new() });
        let address = Value::from("tcp://1.2.3.4:5");
        let item = Value::map([
            ("op", "compute-task".into()),
            ("key", "x".into()),
            ("run_id", Value::Int(7)),
            ("priority", Value::Array(vec![Value::Int(0), Value::Int(1), Value::Float(2.5)])),
            ("who_has", Value::map([("y", Value::Array(vec![address])), ("z", Value::Array(Vec::new()))])),
            ("nbytes", Value::map([("z", Value::Int(3)), ("y", Value::Int(4))])),
            ("run_spec", Value::Pickled(spec.clone())),
            ("resource_restrictions", Value::map([("GPU", Value::Int(1))])),
            ("actor", Value::Bool(false)),
            ("annotations", Value::map([("executor", "gpu".into())])),
            ("span_id", Value::Nil),
            ("stimulus_id", "s".into()),
        ]);
        let orders = decode_orders(&message(&Value::Array(vec![item])), &Limits::default()).expect("msgpack");
        let [WorkerOrder::Compute(order)] = orders.as_slice() else { panic!("{orders:?}") };
        assert_eq!((order.key.clone(), order.run_id, order.run_spec.clone()), (Key::text("x"), 7, spec));
        assert_eq!(order.priority, [0.0, 1.0, 2.5]);
        assert_eq!(order.resources, [(Text::from("GPU"), 1.0)]);
        let of = |name: &str| order.inputs.iter().find(|input| input.key == Key::text(name)).expect(name);
        assert_eq!((of("y").nbytes, of("y").holders.len()), (4, 1));
        assert_eq!((of("z").nbytes, of("z").holders.len()), (3, 0));
    }

    /// Goal: one bad item costs nobody else; what a plugin handles arrives whole.
    #[test]
    fn a_malformed_item_and_an_unknown_one_are_told_apart() {
        let bad = Value::map([("op", "compute-task".into()), ("key", Value::Nil)]);
        let other = Value::map([("op", "shuffle-fail".into()), ("run_id", Value::Int(1))]);
        let good = Value::map([("op", "free-keys".into()), ("keys", Value::Array(vec!["a".into()]))]);
        let batch = Value::Array(vec![bad, other.clone(), "OK".into(), good]);
        let orders = decode_orders(&message(&batch), &Limits::default()).expect("msgpack");
        let [WorkerOrder::Malformed { .. }, WorkerOrder::Other { body, .. }, WorkerOrder::FreeKeys { keys }] =
            orders.as_slice()
        else {
            panic!("{orders:?}")
        };
        assert_eq!((body, keys.as_slice()), (&other, [Key::text("a")].as_slice()));
    }

    #[test]
    fn a_request_says_whether_it_wants_an_answer() {
        let head = |fields: &[(&str, Value)]| {
            let fields = fields.iter().map(|(name, value)| (Value::from(*name), value.clone())).collect();
            request_head(&message(&Value::Map(fields))).map(|head| (head.reply, head.close)).ok()
        };
        assert_eq!(head(&[("op", "ping".into())]), Some((true, false)));
        assert_eq!(head(&[("reply", false.into()), ("op", "x".into()), ("close", true.into())]), Some((false, true)));
        assert_eq!(head(&[("reply", true.into())]), None);
    }

    /// Goal: bytes of a stranger are an error, never a panic.
    #[test]
    fn random_bytes_are_an_error_or_nothing() {
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut bytes = [0u8; 24];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 33) as u8;
            }
            let message = Message { head: bytes.to_vec().into(), frames: Vec::new() };
            let _ = (decode_orders(&message, &Limits::default()), request_head(&message));
        }
    }

    impl Value {
        /// The value alone, as the head of a payload.
        fn head(&self) -> bytes::Bytes {
            Message::from_value(self).head
        }
    }
}
