//! Values as bytes: in this process's memory, or in a file that other processes of this machine map.
//!
//! Knows frames and files, neither keys nor workers. The files are a memfd, which lives in memory and has no name, or an
//! unlinked file where the system has none: a value that is large is written once, and whoever wants it reads it there.
//! This process reads such files and never maps them.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod payload;
mod plan;
mod segment;
#[cfg(test)]
mod tests;

pub use payload::{FILE_MIN_BYTES, Filed, Payload};
pub use plan::{Eviction, Spillable, evictions};
pub use segment::Segment;
