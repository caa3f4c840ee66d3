//! What others may ask of a running scheduler.
//!
//! Data only.

use std::net::TcpStream;

use tokio::sync::oneshot;

use crate::base::{Text, Value};
use crate::cluster::views::snapshot::{Snapshot, SnapshotParts, TimelineWindow};
use crate::sched::TaskFilter;

/// What others may want of a running scheduler. Arrives in `SchedulerOpts::control`.
#[derive(Debug)]
pub enum Control {
    /// A read, answered at once.
    Ask {
        what: Ask,
        /// Takes the answer; may be gone when nobody waits any longer.
        reply: oneshot::Sender<Answered>,
    },
    /// A supervisor's wish, answered at once.
    Steer {
        what: Steer,
        /// Takes the answer.
        reply: oneshot::Sender<Answered>,
    },
    /// A connection that was accepted elsewhere. Nothing was read from it: look at its first bytes as a listener
    /// that takes every scheme would. The peer's user was checked.
    Connection(TcpStream),
    /// A snapshot for the pages, taken at once. What it may bring is bounded.
    Look {
        look: SnapshotParts,
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
    /// Tell workers and clients, then end. The same as `SIGTERM`.
    Stop,
}

/// A question about the state, answered as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `identity()` with all workers, as JSON: the page `/json/identity.json`.
    Identity,
    /// The numbers of `/json/counts.json`, as JSON.
    Counts,
    /// The page `/metrics`, as Prometheus text.
    Metrics,
    /// `/api/v1/get_workers`, as JSON: `{"num_workers": n, "workers": [{"name", "address"}]}`.
    Workers,
    /// One task with everything that decides its fate, as JSON; empty when it is unknown.
    Task(Text),
    /// One worker with its metrics and what it runs and holds, as JSON; empty when it is unknown.
    Worker(Text),
    /// Tasks that pass a filter: `{"total", "tasks"}`. Looks at every task.
    Tasks {
        filter: TaskFilter,
        /// Where to begin.
        offset: usize,
        /// Most that are listed.
        max: usize,
    },
    /// Tasks, workers and prefixes whose names contain a text. Looks at every task.
    Find {
        text: Text,
        /// Most of each kind.
        max: usize,
    },
    /// One rectangle of the task stream by its number; empty when it is no longer kept.
    Rect(u64),
    /// `{"idle_since": secs or null}`: `/api/v1/check_idle`.
    IdleSince,
    /// `{"workers": n}`: `/api/v1/adaptive_target`.
    AdaptiveTarget,
    /// What clients asked for, one after another.
    Computations,
    /// `{"topics": [name, ..]}`: the topics that have events.
    Topics,
}

/// A supervisor's wishes. Answers are JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Clients, workers, load: what decides about scale and lifetime.
    State,
    /// Retire workers until this number stays. Answered with the chosen names at once; their data moves first.
    Retire {
        /// Workers that stay.
        keep: u32,
    },
    /// Retire these workers. Answered with the names that are known.
    RetireThese { names: Vec<String> },
    /// Forget these workers: their machine is gone. Answered with the names that were known.
    Lose { names: Vec<String> },
    /// What a worker was doing when it went without being told to. Told once.
    LastWords { name: String },
    /// The machine of these workers is silent, or was heard again. Answered with the names that were known.
    Silent {
        names: Vec<String>,
        /// Silent, or heard again?
        silent: bool,
    },
    /// Publish on the topic `warn`: clients show it to their users.
    Warn { text: String },
}

/// The body of an answer: JSON, or text for [`Ask::Metrics`].
pub type Answered = String;
