//! Stream operations by what is to be done about them.
//!
//! Pure. Every operation is looked at once: [`route`] says whether it is an event for the core, or what else.

use crate::base::{ClientId, Failure, Key, Text, Value, WorkerId};
use crate::sched::coord::CoordRequest;
use crate::sched::{Erred, Event, Finished, StartStop, WorkerStatus};
use crate::wire::op::{self, StreamOp, UpdateGraph};

/// What is to be done about a stream operation.
#[derive(Debug)]
pub enum Routed {
    /// An event for the core, and nothing else.
    Event(Event),
    /// A run of this worker ended: an event for the core, and something to record.
    Run(WorkerId, Event, RunFacts),
    /// A graph of the client whose stream it is.
    Graph(Box<UpdateGraph>),
    /// The client whose stream it is says that it is alive.
    ClientHeartbeat,
    /// A client says that it is going.
    CloseClient,
    /// The stream ends.
    CloseStream,
    /// Something to publish on a topic or several.
    Log { topic: Value, message: Value },
    /// The sender listens to a topic from now on.
    Subscribe { topic: Text },
    /// The sender does not listen to a topic any more.
    Unsubscribe { topic: Text },
    /// Everything before this token has been dealt with.
    Flushed { token: Value },
    /// Data was placed on workers from outside.
    Data { who_has: Vec<(Key, Vec<Text>)>, nbytes: Vec<(Key, i64)> },
    /// A request to queues or variables that nobody waits for; first the sender wants this key, if one is given.
    Coord { request: CoordRequest, desired: Option<Key> },
    /// Keeps the connection open, no more.
    KeepAlive,
    /// Not ours; user code may know it.
    Unknown { op: Text, fields: Value },
    /// Malformed: worth a line in the log, which says `reason`.
    Refused { op: Text, reason: String },
    /// An operation of the other kind of stream.
    Misplaced(StreamOp),
}

/// Who says something on a stream. Fields in an item win over the stream's own client or worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    pub client: Option<ClientId>,
    pub worker: Option<WorkerId>,
}

/// What is to be done about `said`.
pub fn route(sender: Sender, said: StreamOp) -> Routed {
    match said {
        StreamOp::UpdateGraph(graph) => Routed::Graph(graph),
        StreamOp::HeartbeatClient => Routed::ClientHeartbeat,
        StreamOp::CloseClient => Routed::CloseClient,
        StreamOp::CloseStream => Routed::CloseStream,
        StreamOp::LogEvent { topic, msg } => Routed::Log { topic, message: msg },
        StreamOp::SubscribeTopic { topic } => Routed::Subscribe { topic },
        StreamOp::UnsubscribeTopic { topic } => Routed::Unsubscribe { topic },
        StreamOp::PublishFlush { uid } => Routed::Flushed { token: uid },
        StreamOp::UpdateData { who_has, nbytes } => Routed::Data { who_has, nbytes },
        StreamOp::QueueFutureRelease { name, key } => {
            Routed::Coord { desired: Some(key.clone()), request: CoordRequest::QueueFutureRelease { name, key } }
        }
        StreamOp::QueueRelease { name } => {
            Routed::Coord { desired: None, request: CoordRequest::QueueRelease { name } }
        }
        StreamOp::VariableFutureConfirm { name, key, token } => {
            Routed::Coord { desired: Some(key.clone()), request: CoordRequest::VariableConfirm { name, key, token } }
        }
        StreamOp::VariableDelete { name } => {
            Routed::Coord { desired: None, request: CoordRequest::VariableDelete { name } }
        }
        StreamOp::KeepAlive => Routed::KeepAlive,
        StreamOp::Unknown { op, fields } => Routed::Unknown { op, fields },
        StreamOp::Malformed { op, error } => Routed::Refused { op, reason: error.to_string() },
        said => match (sender.client, sender.worker) {
            (Some(client), _) if is_of_clients(&said) => of_client(client, said),
            (_, Some(worker)) => of_worker(worker, said),
            _ => Routed::Misplaced(said),
        },
    }
}

const fn is_of_clients(said: &StreamOp) -> bool {
    use StreamOp as Op;
    matches!(
        said,
        Op::ClientDesiresKeys { .. } | Op::ClientReleasesKeys { .. } | Op::CancelKeys { .. } | Op::ReportKey { .. }
    )
}

fn of_client(client: ClientId, said: StreamOp) -> Routed {
    Routed::Event(match said {
        StreamOp::ClientDesiresKeys { keys } => Event::ClientDesires { client, keys },
        StreamOp::ClientReleasesKeys { keys } => Event::ClientReleases { client, keys },
        StreamOp::CancelKeys { keys, force, reason, msg } => Event::CancelKeys { client, keys, force, reason, msg },
        StreamOp::ReportKey { key } => Event::ReportKey { client, key },
        other => return Routed::Misplaced(other),
    })
}

fn of_worker(worker: WorkerId, said: StreamOp) -> Routed {
    Routed::Event(match said {
        StreamOp::TaskFinished(done) => {
            let facts = RunFacts { thread: done.thread, spans: Vec::new() };
            return Routed::Run(worker, Event::TaskFinished { worker, done: finished(*done) }, facts);
        }
        StreamOp::TaskErred(erred) => {
            let facts = RunFacts { thread: erred.thread, spans: erred.startstops.clone() };
            return Routed::Run(worker, Event::TaskErred { worker, erred: Box::new(failed(*erred)) }, facts);
        }
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
            None => return Routed::Misplaced(StreamOp::WorkerStatusChange { status }),
        },
        other => return Routed::Misplaced(other),
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
        startstops: done.startstops,
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
