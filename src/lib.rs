//! rask: Dask in one executable.
//!
//! *bytes → message → event → step → effects → messages → bytes.* The scheduler is a value (`sched`); everything
//! around it turns bytes into events and effects into bytes.

pub mod app;
pub mod base;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod door;
pub mod graph;
pub mod host;
pub mod http;
pub mod link;
pub mod net;
pub mod pickle;
pub mod pyhost;
pub mod sched;
pub mod supervise;
pub mod wire;
