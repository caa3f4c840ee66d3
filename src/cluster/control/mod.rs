//! Answers what the control socket and this process's own pages ask.

pub mod ask;
pub mod steer;
