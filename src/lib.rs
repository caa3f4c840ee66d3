//! rask: Dask in one executable.
//!
//! *bytes → message → event → step → effects → messages → bytes.* The scheduler is a value (`sched`); everything
//! around it turns bytes into events and effects into bytes.

pub mod base;
pub mod cluster;
pub mod config;
pub mod sched;
