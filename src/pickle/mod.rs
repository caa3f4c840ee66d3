//! Pickles without Python: an inert reader that builds nodes and never resolves or calls a name, a splitter that
//! re-emits any part as a pickle of its own, and a writer for a few fixed shapes.
//!
//! Names `base` only. Nothing here opens anything or runs anything; whatever it can't read is an error value.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod build;
mod emit;
mod error;
mod nodes;
mod opcodes;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod wire;
mod write;

pub use emit::{Splitter, SplitterTables};
pub use error::PickleError;
pub use nodes::{Kind, NodeId, Nodes};
pub use read::read;
pub use value::to_value;
pub use wire::{part_of, to_wire};
pub use write::{error, from_key, from_value, shuffle_run_spec, shuffle_worker_plugin, simple_namespace};
