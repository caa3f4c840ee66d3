//! The clusters of this machine: a scheduler process and a group of workers each, that outlive the appliance.
//!
//! [`FleetHandle`] is what others hold: they make, scale and stop clusters with it and see them as [`ClusterView`]s. Each
//! cluster has an owner, a task of its own, which talks to its two processes over their control sockets. What is needed
//! to find them again is in the store before they start.

mod away;
mod cage;
mod config;
mod deaths;
mod group;
mod handle;
mod launch;
pub mod logs;
mod look;
mod owner;
mod plan;
mod record;
mod spread;
mod types;
mod words;

pub use away::Span;
pub use cage::{Cage, delegated};
pub use config::{FindPython, FleetConfig, Folder};
pub use group::{GroupPlan, run as run_group};
pub use handle::FleetHandle;
pub use logs::Logbook;
pub use spread::RESERVE_BYTES;
pub use types::{
    Adapt, Bounds, ClusterName, ClusterSettings, ClusterStatus, ClusterView, FleetError, FleetEvent, HEAD, LOCAL,
    NewCluster,
};
