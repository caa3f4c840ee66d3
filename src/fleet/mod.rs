//! The clusters of this machine: a scheduler process and a worker pool each, that outlive the appliance.
//!
//! [`FleetHandle`] is what others hold: they make, scale and stop clusters with it and see them as [`ClusterView`]s. Each
//! cluster has an owner, a task of its own, which talks to its two processes over their control sockets. What is needed
//! to find them again is in the store before they start.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod cgroup;
mod cluster_task;
mod config;
mod deaths;
mod handle;
mod jobs;
mod launch;
pub mod logs;
mod placement;
mod plan;
mod poll;
mod record;
mod remote_workers;
mod shared;
mod step;
mod types;
mod worker_exit;
mod worker_pool;

pub use cgroup::{WorkerCgroups, delegated};
pub use config::{ClusterFolder, FindPython, FleetConfig, MachineShare};
pub use handle::FleetHandle;
pub use logs::Logbook;
pub use placement::RESERVE_BYTES;
pub use remote_workers::SpanConfig;
pub use types::{
    Adapt, AdaptBounds, ClusterName, ClusterSettings, ClusterStatus, ClusterView, FleetError, FleetEvent, HEAD,
    JobView, JobWish, LOCAL, NewCluster,
};
pub use worker_pool::{NewWorker, PoolPlan, run as run_worker_pool};
