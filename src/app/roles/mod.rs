//! The roles of a rask process: each composes modules, wires their handles and ends them in order.

pub(crate) mod join;
pub(crate) mod scheduler;
pub(crate) mod up;
pub(crate) mod worker;
