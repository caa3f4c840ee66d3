//! Batch systems that a site has: workers as their jobs. A job runs `rask join --passing`, so what comes of it is a machine
//! like any other that joined; this room knows of jobs only, and nothing of machines.
//!
//! [`plan`] is pure: what is wanted and the jobs that are there in, what to submit and cancel out. [`Backend`] asks the
//! batch system, one call at a time and never on the loop of a cluster.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod backend;
mod job;
pub mod plan;
mod slurm;

pub use backend::Backend;
pub use job::{BatchJob, JobEnd, JobState, Order, QueueError};
pub use slurm::text::join_script;
