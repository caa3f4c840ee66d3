//! A scheduler's orders as events of the state machine, and the machine's messages as the scheduler reads them.
//!
//! Pure.

use bytes::Bytes;

use crate::base::{Text, Value};
use crate::wire::Encoder;
use crate::wire::op::{ComputeOrder, HeldInput, WorkerOrder};
use crate::worker_state::{
    ComputeTask, Input as TaskInput, PriorityError, TaskPhase, TaskPriority, TaskTarget, WorkerEvent, WorkerMessage,
};

/// Dask's name of a state. What waits in a slot's queue is `ready` to others.
///
/// Source: `distributed/worker_state_machine.py`, `TaskStateState`.
pub(super) const fn phase_name(phase: TaskPhase) -> &'static str {
    match phase {
        TaskPhase::Released => "released",
        TaskPhase::Fetch => "fetch",
        TaskPhase::Flight => "flight",
        TaskPhase::Missing => "missing",
        TaskPhase::Waiting => "waiting",
        TaskPhase::Ready | TaskPhase::Pushed => "ready",
        TaskPhase::Constrained => "constrained",
        TaskPhase::Executing => "executing",
        TaskPhase::LongRunning => "long-running",
        TaskPhase::Memory => "memory",
        TaskPhase::Error => "error",
        TaskPhase::Cancelled => "cancelled",
        TaskPhase::Resumed => "resumed",
    }
}

/// Dask's name of what a task is asked to become.
pub(super) const fn target_name(target: TaskTarget) -> &'static str {
    match target {
        TaskTarget::Released => "released",
        TaskTarget::Fetch => "fetch",
        TaskTarget::Flight => "flight",
        TaskTarget::Missing => "missing",
        TaskTarget::Waiting => "waiting",
        TaskTarget::Ready => "ready",
        TaskTarget::Constrained => "constrained",
        TaskTarget::Executing => "executing",
        TaskTarget::LongRunning => "long-running",
        TaskTarget::Memory => "memory",
        TaskTarget::Error => "error",
        TaskTarget::Rescheduled => "rescheduled",
        TaskTarget::Forgotten => "forgotten",
    }
}

fn input(held: &HeldInput) -> TaskInput {
    let size_bytes = u64::try_from(held.nbytes).unwrap_or_default();
    TaskInput { key: held.key.clone(), size_bytes, holders: held.holders.clone() }
}

/// `compute-task` for the machine. Errors: a priority that is none.
pub(super) fn compute_event(order: &ComputeOrder) -> Result<WorkerEvent, PriorityError> {
    let elsewhere = executor_of(&order.annotations).is_some();
    Ok(WorkerEvent::Compute(Box::new(ComputeTask {
        key: order.key.clone(),
        run: order.run_id,
        rank: TaskPriority::new(&order.priority)?,
        inputs: order.inputs.iter().map(input).collect(),
        resources: order.resources.clone(),
        may_wait_in_slot: !order.actor && !elsewhere,
    })))
}

/// The executor that annotations name, unless it is the usual one.
pub(super) fn executor_of(annotations: &Value) -> Option<&str> {
    annotations.get("executor").and_then(Value::as_str).filter(|name| *name != "default")
}

/// An order that is for the machine alone; the others are given back.
pub(super) fn event_of(order: WorkerOrder) -> Result<WorkerEvent, WorkerOrder> {
    Ok(match order {
        WorkerOrder::FreeKeys { keys } => WorkerEvent::FreeKeys { keys },
        WorkerOrder::RemoveReplicas { keys } => WorkerEvent::RemoveReplicas { keys },
        WorkerOrder::AcquireReplicas { inputs } => {
            WorkerEvent::AcquireReplicas { inputs: inputs.iter().map(input).collect() }
        }
        WorkerOrder::StealRequest { key, stimulus } => WorkerEvent::StealRequest { key, stimulus },
        WorkerOrder::CancelCompute { key } => WorkerEvent::CancelCompute { key },
        WorkerOrder::RefreshWhoHas { holders } => WorkerEvent::RefreshWhoHas { holders },
        WorkerOrder::RemoveWorker { address } => WorkerEvent::RemoveWorker { address },
        other => return Err(other),
    })
}

/// What a message says besides what the machine knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    /// Pickled class of the value, and its name.
    pub(super) kind: Bytes,
    pub(super) typename: Text,
    /// The thread that ran it, as Python names it.
    pub(super) thread: i64,
    /// From when to when, by the scheduler's clock. Unit: seconds since the epoch.
    pub(super) ran: Option<(f64, f64)>,
    /// Of a failed run: pickles, and texts.
    pub(super) exception: Bytes,
    pub(super) traceback: Option<Bytes>,
    pub(super) exception_text: Text,
    pub(super) traceback_text: Text,
}

/// Writes a message for the scheduler. `number`: names the step in stories.
pub(super) fn put_message(out: &mut Encoder, message: &WorkerMessage, details: &Details, number: u64) {
    match message {
        WorkerMessage::Finished { key, run, size_bytes } => {
            put_op(out, "task-finished", 11, number);
            put_key(out, key);
            put_run(out, *run);
            put(out, "nbytes", &(*size_bytes).into());
            put(out, "type", &Value::Bin(details.kind.clone()));
            put(out, "typename", &Value::Str(details.typename.clone()));
            put(out, "metadata", &Value::Map(Vec::new()));
            put_times(out, details);
            put(out, "status", &"OK".into());
        }
        WorkerMessage::Erred { key, run } => {
            put_op(out, "task-erred", 11, number);
            put_key(out, key);
            put_run(out, *run);
            put(out, "exception", &Value::Bin(details.exception.clone()));
            put(out, "traceback", &details.traceback.clone().map_or(Value::Nil, Value::Bin));
            put(out, "exception_text", &Value::Str(details.exception_text.clone()));
            put(out, "traceback_text", &Value::Str(details.traceback_text.clone()));
            put_times(out, details);
            put(out, "status", &"error".into());
        }
        WorkerMessage::ReleaseData { key } => {
            put_op(out, "release-worker-data", 3, number);
            put_key(out, key);
        }
        WorkerMessage::AddKeys { keys } => {
            put_op(out, "add-keys", 3, number);
            put_keys(out, keys);
        }
        WorkerMessage::Reschedule { key } => {
            put_op(out, "reschedule", 3, number);
            put_key(out, key);
        }
        WorkerMessage::LongRunning { key, run, compute_secs } => {
            put_op(out, "long-running", 5, number);
            put_key(out, key);
            put_run(out, *run);
            put(out, "compute_duration", &(*compute_secs).into());
        }
        WorkerMessage::StealResponse { key, state, stimulus } => {
            out.put_map(4);
            put(out, "op", &"steal-response".into());
            put_key(out, key);
            put(out, "state", &state.map(phase_name).into());
            put(out, "stimulus_id", &Value::Str(stimulus.clone()));
        }
        WorkerMessage::RefreshWhoHas { keys } => {
            put_op(out, "request-refresh-who-has", 3, number);
            put_keys(out, keys);
        }
    }
}

/// A map of this number of fields, begun with `op` and `stimulus_id`.
pub(super) fn put_op(out: &mut Encoder, op: &str, fields: usize, number: u64) {
    out.put_map(fields);
    put(out, "op", &op.into());
    put(out, "stimulus_id", &format!("{op}-{number}").into());
}

fn put(out: &mut Encoder, name: &str, value: &Value) {
    out.put_str(name);
    out.put_value(value);
}

fn put_key(out: &mut Encoder, key: &crate::base::Key) {
    out.put_str("key");
    out.put_key(key);
}

fn put_keys(out: &mut Encoder, keys: &[crate::base::Key]) {
    out.put_str("keys");
    out.put_keys(keys);
}

fn put_run(out: &mut Encoder, run: i64) {
    out.put_str("run_id");
    out.put_i64(run);
}

fn put_times(out: &mut Encoder, details: &Details) {
    out.put_str("thread");
    out.put_i64(details.thread);
    out.put_str("startstops");
    let Some((start, stop)) = details.ran else { return out.put_array(0) };
    out.put_array(1);
    out.put_map(3);
    put(out, "action", &"compute".into());
    put(out, "start", &start.into());
    put(out, "stop", &stop.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Key, Limits};
    use crate::wire::MessageBatch;
    use crate::wire::op::{StreamOp, decode_stream};

    /// Goal: what we write, a scheduler reads: each message comes back as the operation it is, none malformed.
    #[test]
    fn a_scheduler_reads_every_message_as_it_was_meant() {
        let key = Key::tuple(&[Key::text("x"), Key::int(1)]);
        let keys = vec![key.clone()];
        let details = Details { typename: "int".into(), ran: Some((1.0, 2.0)), thread: 5, ..Details::default() };
        let stimulus = Text::from("steal-1");
        let messages = [
            WorkerMessage::Finished { key: key.clone(), run: 3, size_bytes: 28 },
            WorkerMessage::Erred { key: key.clone(), run: 3 },
            WorkerMessage::ReleaseData { key: key.clone() },
            WorkerMessage::AddKeys { keys: keys.clone() },
            WorkerMessage::Reschedule { key: key.clone() },
            WorkerMessage::LongRunning { key: key.clone(), run: 3, compute_secs: None },
            WorkerMessage::StealResponse {
                key: key.clone(),
                state: Some(TaskPhase::Ready),
                stimulus: stimulus.clone(),
            },
            WorkerMessage::RefreshWhoHas { keys: keys.clone() },
        ];
        let mut batch = MessageBatch::new();
        messages.iter().for_each(|message| batch.push(|out| put_message(out, message, &details, 1)));
        let items = decode_stream(&batch.finish(), &Limits::default()).expect("msgpack");
        let ops: Vec<StreamOp> = items.into_iter().map(|item| item.op).collect();
        let [StreamOp::TaskFinished(finished), StreamOp::TaskErred(erred), rest @ ..] = ops.as_slice() else {
            panic!("{ops:?}")
        };
        assert_eq!((&finished.key, finished.run_id, finished.nbytes, finished.thread), (&key, 3, Some(28), 5));
        assert_eq!((finished.startstops.len(), &*finished.typename, erred.run_id), (1, "int", 3));
        let expected = [
            StreamOp::ReleaseWorkerData { key: key.clone() },
            StreamOp::AddKeys { keys: keys.clone() },
            StreamOp::Reschedule { key: key.clone() },
            StreamOp::LongRunning { key: key.clone(), run_id: Some(3), compute_duration: None },
            StreamOp::StealResponse { key, state: Some("ready".into()), stimulus },
            StreamOp::RequestRefreshWhoHas { keys },
        ];
        assert_eq!(rest, expected);
    }
}
