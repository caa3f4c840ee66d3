//! What reaches a running scheduler beside its connections.
//!
//! Data only.

use std::net::TcpStream;

use tokio::sync::oneshot;

use crate::base::Value;
use crate::cluster::views::snapshot::{Snapshot, SnapshotParts, TimelineWindow};
use crate::control::SchedulerQuestion;

/// What others may want of a running scheduler. Arrives in `SchedulerOptions::control`.
#[derive(Debug)]
pub enum Control {
    /// A question of a supervisor or of a page, answered at once.
    Ask {
        what: SchedulerQuestion,
        /// Takes the answer; may be gone when nobody waits any longer.
        reply: oneshot::Sender<Answered>,
    },
    /// A connection that was accepted elsewhere. Nothing was read from it: look at its first bytes as a listener
    /// that takes every scheme would. The peer's user was checked.
    Connection(TcpStream),
    /// A snapshot for the pages, taken at once. What it may bring is bounded.
    Snapshot {
        parts: SnapshotParts,
        /// Takes the snapshot; may be gone.
        reply: oneshot::Sender<Box<Snapshot>>,
    },
    /// A request as a Dask client would send it, with its `op`; answered when it is done.
    Request {
        /// The request's map.
        body: Value,
        /// Takes the value or the text of the exception; may be gone.
        reply: oneshot::Sender<Result<Value, String>>,
    },
    /// Rectangles of the task stream between two times.
    Rects {
        /// Unit: milliseconds since the epoch.
        from_ms: f64,
        /// See `from_ms`.
        to_ms: f64,
        /// Takes them, with all threads and prefixes.
        reply: oneshot::Sender<Box<TimelineWindow>>,
    },
    /// Tell workers and clients, then end.
    Stop,
}

/// The body of an answer: JSON, or text for [`SchedulerQuestion::Metrics`].
pub type Answered = String;
