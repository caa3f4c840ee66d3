//! Reads stream messages straight from their bytes: no tree of values for what a busy cluster says most.

use super::fields::{Fields, Recent, batch_len, borrowed_text, number, texts};
use super::types::{StreamItem, StreamOp, TaskErred, TaskFinished, UpdateGraph};
use crate::base::{Action, Limits, StartStop};
use crate::wire::error::WireError;
use crate::wire::message::Message;
use crate::wire::msgpack::{Cursor, Marker};
use crate::wire::resolve::{Resolver, bounded};

/// The items of a stream message: an array of maps, or a single map. What is no map (a bare `"OK"`) is skipped.
///
/// Errors: bytes that are no msgpack. An item that is msgpack but is malformed is [`StreamOp::Malformed`].
pub fn decode_stream(message: &Message, limits: &Limits) -> Result<Vec<StreamItem>, WireError> {
    let mut cursor = Cursor::new(&message.head);
    let mut reader = ItemReader {
        resolver: Resolver::new(&message.head, &message.frames, limits),
        fields: Fields::default(),
        recent: Recent::default(),
    };
    let items = batch_len(&mut cursor)?;
    let mut list = Vec::with_capacity(bounded(items, &cursor));
    for _ in 0..items {
        list.extend(reader.item(&mut cursor)?);
    }
    cursor.finish()?;
    Ok(list)
}

struct ItemReader<'a> {
    resolver: Resolver<'a>,
    fields: Fields<'a>,
    recent: Recent,
}

impl<'a> ItemReader<'a> {
    fn item(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<StreamItem>, WireError> {
        let mut ahead = *cursor;
        let Marker::Map(len) = ahead.token()? else {
            cursor.span()?;
            return Ok(None);
        };
        *cursor = ahead;
        self.fields.fill(cursor, len)?;
        let name = self.fields.get("op").and_then(borrowed_text).unwrap_or_default();
        let op = self.op(name).unwrap_or_else(|error| StreamOp::Malformed { op: name.into(), error });
        let fields = &self.fields;
        Ok(Some(StreamItem { client: fields.maybe_text("client"), worker: fields.maybe_text("worker"), op }))
    }

    fn op(&mut self, name: &str) -> Result<StreamOp, WireError> {
        let fields = &self.fields;
        Ok(match name {
            "task-finished" => return self.task_finished(),
            "task-erred" => return self.task_erred(),
            "release-worker-data" => StreamOp::ReleaseWorkerData { key: fields.key("key")? },
            "add-keys" => StreamOp::AddKeys { keys: fields.keys("keys")? },
            "long-running" => StreamOp::LongRunning {
                key: fields.key("key")?,
                run_id: fields.maybe_i64("run_id"),
                compute_duration: fields.maybe_f64("compute_duration"),
            },
            "reschedule" => StreamOp::Reschedule { key: fields.key("key")? },
            "steal-response" => StreamOp::StealResponse {
                key: fields.key("key")?,
                state: fields.maybe_text("state"),
                stimulus: fields.maybe_text("stimulus_id").unwrap_or_default(),
            },
            "request-refresh-who-has" => StreamOp::RequestRefreshWhoHas { keys: fields.keys("keys")? },
            "worker-status-change" => StreamOp::WorkerStatusChange { status: fields.text("status")? },
            "log-event" => StreamOp::LogEvent {
                topic: fields.value("topic", &self.resolver)?,
                msg: fields.value("msg", &self.resolver)?,
            },
            "keep-alive" => StreamOp::KeepAlive,
            "close-stream" => StreamOp::CloseStream,
            _ => return self.client_op(name),
        })
    }

    fn client_op(&self, name: &str) -> Result<StreamOp, WireError> {
        let fields = &self.fields;
        Ok(match name {
            "update-graph" => return self.update_graph(),
            "client-desires-keys" => StreamOp::ClientDesiresKeys { keys: fields.keys("keys")? },
            "client-releases-keys" => StreamOp::ClientReleasesKeys { keys: fields.keys("keys")? },
            "cancel-keys" => StreamOp::CancelKeys {
                keys: fields.keys("keys")?,
                force: fields.is_true("force"),
                reason: fields.value("reason", &self.resolver)?,
                msg: fields.value("msg", &self.resolver)?,
            },
            "heartbeat-client" => StreamOp::HeartbeatClient,
            "close-client" => StreamOp::CloseClient,
            "report-key" => StreamOp::ReportKey { key: fields.key("key")? },
            "update-data" => StreamOp::UpdateData {
                who_has: fields.key_map("who_has", texts)?,
                nbytes: fields.key_map("nbytes", |raw| number(raw).map(|nbytes| nbytes as i64))?,
            },
            "subscribe-topic" => StreamOp::SubscribeTopic { topic: fields.text("topic")? },
            "unsubscribe-topic" => StreamOp::UnsubscribeTopic { topic: fields.text("topic")? },
            "publish_flush_batched_send" => {
                StreamOp::PublishFlush { uid: fields.need("uid").and_then(|raw| self.resolver.value_of(raw))? }
            }
            "queue-future-release" => {
                StreamOp::QueueFutureRelease { name: fields.key("name")?, key: fields.key("key")? }
            }
            "queue_release" => StreamOp::QueueRelease { name: fields.key("name")? },
            "variable-future-received-confirm" => StreamOp::VariableFutureConfirm {
                name: fields.key("name")?,
                key: fields.key("key")?,
                token: fields.text("token")?,
            },
            "variable_delete" => StreamOp::VariableDelete { name: fields.key("name")? },
            _ => StreamOp::Unknown { op: name.into(), fields: fields.others(&self.resolver)? },
        })
    }

    fn task_finished(&mut self) -> Result<StreamOp, WireError> {
        let fields = &self.fields;
        let typename = fields.get("typename").and_then(borrowed_text).unwrap_or_default();
        Ok(StreamOp::TaskFinished(Box::new(TaskFinished {
            key: fields.key("key")?,
            run_id: fields.maybe_i64("run_id").unwrap_or(-1),
            nbytes: fields.maybe_i64("nbytes"),
            type_pickle: self.recent.bin(fields.maybe_bin("type").unwrap_or_default()),
            typename: self.recent.text(typename),
            metadata: fields.value("metadata", &self.resolver)?,
            startstops: fields.get("startstops").and_then(start_stops).unwrap_or_default(),
            thread: fields.maybe_i64("thread").unwrap_or_default(),
        })))
    }

    fn task_erred(&self) -> Result<StreamOp, WireError> {
        let fields = &self.fields;
        Ok(StreamOp::TaskErred(Box::new(TaskErred {
            key: fields.key("key")?,
            run_id: fields.maybe_i64("run_id").unwrap_or(-1),
            exception: fields.value("exception", &self.resolver)?,
            traceback: fields.value("traceback", &self.resolver)?,
            exception_text: fields.maybe_text("exception_text").unwrap_or_default(),
            traceback_text: fields.maybe_text("traceback_text").unwrap_or_default(),
            startstops: fields.get("startstops").and_then(start_stops).unwrap_or_default(),
            thread: fields.maybe_i64("thread").unwrap_or_default(),
        })))
    }

    fn update_graph(&self) -> Result<StreamOp, WireError> {
        let fields = &self.fields;
        let value = |name| fields.value(name, &self.resolver);
        let priorities = fields.get("internal_priority").map(|_| fields.key_map("internal_priority", number));
        Ok(StreamOp::UpdateGraph(Box::new(UpdateGraph {
            expr_ser: value("expr_ser")?,
            keys: fields.keys("keys")?,
            internal_priority: priorities.transpose()?,
            submitting_task: fields.maybe_key("submitting_task")?,
            fifo_timeout: value("fifo_timeout")?,
            actors: value("actors")?,
            code: value("code")?,
            annotations: value("annotations")?,
            span_metadata: value("span_metadata")?,
            stimulus: fields.maybe_text("stimulus_id"),
        })))
    }
}

/// The spans of a run; one that is malformed hides the rest, since they are only statistics.
fn start_stops(raw: &[u8]) -> Option<Vec<StartStop>> {
    let mut cursor = Cursor::new(raw);
    let Marker::Array(len) = cursor.token().ok()? else { return None };
    let mut spans = Vec::with_capacity(bounded(len, &cursor));
    for _ in 0..len {
        match start_stop(&mut cursor) {
            Ok(span) => spans.extend(span),
            Err(_) => break,
        }
    }
    Some(spans)
}

fn start_stop(cursor: &mut Cursor<'_>) -> Result<Option<StartStop>, WireError> {
    let Marker::Map(len) = cursor.token()? else { return Err(WireError::Unexpected { what: "startstops" }) };
    let (mut action, mut start, mut stop) = (Action::Other, None, None);
    for _ in 0..len {
        let name = cursor.span()?;
        let field = cursor.span()?;
        // Short text: one byte of marker.
        match name.get(1..).unwrap_or_default() {
            b"action" => action = borrowed_text(field).map_or(Action::Other, Action::named),
            b"start" => start = number(field),
            b"stop" => stop = number(field),
            _ => {}
        }
    }
    Ok(start.zip(stop).map(|(start, stop)| StartStop { action, start, stop }))
}
