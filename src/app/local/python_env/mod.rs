//! The Python of workers and of the scheduler's helper: found on this machine, or made once.

pub(crate) mod choose;
pub(crate) mod make;
pub(crate) mod path;
pub(crate) mod peer;
