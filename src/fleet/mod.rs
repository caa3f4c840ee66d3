//! The clusters of this machine: a scheduler process and a group of workers each, that outlive the appliance.
//!
//! [`FleetHandle`] is what others hold: they make, scale and stop clusters with it and see them as [`ClusterView`]s. Each
//! cluster has an owner, a task of its own, which talks to its two processes over their control sockets. What is needed
//! to find them again is in the store before they start.

mod cgroup;
mod cluster_task;
mod config;
mod deaths;
mod handle;
mod launch;
pub mod logs;
mod placement;
mod plan;
mod poll;
mod record;
mod remote_workers;
mod types;
mod worker_exit;
mod worker_pool;

pub use cgroup::{Cage, delegated};
pub use config::{FindPython, FleetConfig, Folder};
pub use handle::FleetHandle;
pub use logs::Logbook;
pub use placement::RESERVE_BYTES;
pub use remote_workers::Span;
pub use types::{
    Adapt, Bounds, ClusterName, ClusterSettings, ClusterStatus, ClusterView, FleetError, FleetEvent, HEAD, LOCAL,
    NewCluster,
};
pub use worker_pool::{GroupPlan, run as run_group};
