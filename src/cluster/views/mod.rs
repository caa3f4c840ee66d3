//! What people look at, copied out of the state between two steps.

pub mod counts;
pub mod identity;
pub mod lists;
pub mod metrics;
pub mod python_snapshot;
pub mod snapshot;
pub mod story;
pub mod take_snapshot;
pub mod task;
