//! What people look at, read from the driver.

pub mod lists;
pub mod report;
pub mod snapshot;
pub mod take_snapshot;
pub mod task;
