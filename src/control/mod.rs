//! What rask processes ask of each other and how they answer: the vocabulary of the control socket, which a scheduler's
//! own pages share. `link` carries it.
//!
//! Every process may be older or newer than the other: fields are added with a default and never change their meaning,
//! questions are added, and who does not know one says so. What cannot be kept that way raises [`PROTOCOL`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod answers;
mod process;
mod question;

pub use answers::{ComputationState, LastWords, PoolReport, SchedulerState, SchedulerWorker, WorkerProcess};
pub use process::{PROTOCOL, PROTOCOL_OLDEST, ProcessInfo};
pub use question::{PoolQuestion, Question, SchedulerQuestion};
