//! The cluster: one scheduler and everything around it. The only place where `sched` meets the world.
//!
//! Messages become events, the core is stepped, its effects become messages. Nothing here decides where a task runs.
//! The layers, from the top floor down; a file names only what stands below it:
//!
//! | layer | owns |
//! |---|---|
//! | `run` | the loop of a scheduler process, and its end |
//! | `start`, `connection_reader` | what it is told, and its beginning; a task per connection that reads messages |
//! | `control` | what comes from the control socket and the pages, and the answers |
//! | `turn` | one turn: something from the inbox, its handler, the effects in their order |
//! | `ops` | requests by family: tables of operations and their handlers |
//! | `jobs` | what takes several turns |
//! | `views` | what people look at, copied out of the state |
//! | `state` | the core, connections, what is under way; `step` appends effects and carries out none |
//! | `records` | what is remembered for people, as data |
//! | `codec` (pure) | operations to events, effects to bytes, fields of requests |
//! | `options` | parts of what a scheduler is told, as data |

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod codec;
mod connection_reader;
mod control;
mod jobs;
mod ops;
mod options;
mod records;
mod run;
mod start;
mod state;
mod turn;
mod views;

pub use crate::net::Scheme;
pub use codec::json::json_of;
pub use control::inbox::{Answered, Control};
pub use options::{Keep, ListenSpec, NO_PYTHON, Ready, RebalanceRules, Reporter, RunError, TlsFiles};
pub use records::computations::Computation;
pub use records::failures::FailureCause;
pub use records::timeline::{ACTION_NAMES, FAILED, Lane, RectChunk};
pub use records::worker_metrics::Speed;
pub use run::run_scheduler;
pub use start::SchedulerOptions;
pub use views::snapshot::{
    ClientSnapshot, GroupSnapshot, NodeSnapshot, Numbered, PrefixSnapshot, ShuffleSnapshot, Snapshot, SnapshotParts,
    TimelineWindow, Totals, WorkerSnapshot,
};
