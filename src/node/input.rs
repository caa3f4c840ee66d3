//! Everything that a worker is told: one inbox, in the order of arrival.

use tokio::sync::{mpsc, oneshot};

use crate::base::{Key, Text, Value};
use crate::executor::{FromExecutor, SpillOutcome};
use crate::net::NetError;
use crate::values::Payload;
use crate::wire::Message;
use crate::wire::op::WorkerOrder;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum NodeInput {
    /// By its scheduler.
    Orders(Vec<WorkerOrder>),
    /// The scheduler's stream ended.
    StreamEnded { why: String },
    /// By its executor.
    Executor(FromExecutor),
    /// By peers and clients.
    Call(PeerCall),
    /// Values that were here as bytes were written to the disk.
    Spilled { number: u64, outcomes: Vec<SpillOutcome> },
    /// A transfer ended.
    Fetched { peer: Text, got: FetchOutcome },
    /// The scheduler's answer to a heartbeat, and when that was sent and answered. Unit: seconds since the epoch.
    Beat { answer: Result<Value, NetError>, asked: f64, answered: f64 },
}

impl From<FromExecutor> for NodeInput {
    fn from(news: FromExecutor) -> Self {
        Self::Executor(news)
    }
}

pub(super) type Inbox = mpsc::UnboundedSender<NodeInput>;

/// Where a value that is being serialised comes out; nothing comes if it is not there any more.
pub(super) type Export = oneshot::Receiver<Option<Payload>>;

/// How a transfer to this worker ended.
#[derive(Debug)]
pub(super) enum FetchOutcome {
    Values(Vec<(Key, Payload)>),
    /// From a sibling, whose files these are.
    Shared(Vec<(Key, Payload)>),
    Busy,
    Broken(NetError),
    /// An answer that cannot be used.
    Nonsense(String),
}

/// What a peer's connection asks of its worker.
#[derive(Debug)]
pub(super) enum PeerCall {
    /// `get_data`.
    GetData { keys: Vec<Key>, by: Asker, reply: oneshot::Sender<DataReply> },
    /// What was sent for it is there, or the connection broke.
    Sent { size_bytes: u64 },
    /// `update_data`.
    UpdateData { values: Vec<(Key, Payload)> },
    /// Their files cannot be read.
    Lost { keys: Vec<Key> },
    /// `free_keys`.
    FreeKeys { keys: Vec<Key> },
    /// `terminate`.
    Terminate,
    /// Anything else: the facade's. Its words for this connection go to `back`.
    Relay { connection: u64, peer: Text, message: Message, back: mpsc::UnboundedSender<ForPeer> },
    /// A connection of which the facade has heard is closed.
    Gone { connection: u64 },
}

/// Who asks for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Another worker of this node: nothing is transferred.
    Sibling,
    SameHost,
    OtherHost,
}

/// The answer to `get_data`.
#[derive(Debug)]
pub(super) enum DataReply {
    Busy,
    /// What is here, and what the executor serialises.
    Ready {
        payloads: Vec<(Key, Payload)>,
        exports: Vec<(Key, Export)>,
        size_bytes: u64,
    },
}

/// What the facade says to a peer.
#[derive(Debug)]
pub(super) enum ForPeer {
    Message(Message),
    Hangup,
}
