//! The Python process of one of rask's own workers: its sockets, what is said on them, and its end. Runs tasks, holds their
//! values, and is the `distributed.Worker` that user code sees (`py/`).
//!
//! Knows keys and bytes, no scheduler and no rules: those are the node's. What comes from the process is read like a
//! stranger's, because user code may have written it: a malformed message ends that worker and nothing else.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod frame;
mod process;
mod settings;
mod socket;

pub use frame::{FacadeNews, Inquiry, RunEnd, RunOrder, RunResult, SlotNews, SpillOutcome, ToControl, ToPorter};
pub use process::{DESCRIPTORS_MAX, Executor, ExecutorPlan, ExecutorRole, FromExecutor};
pub use settings::DaskSettings;
