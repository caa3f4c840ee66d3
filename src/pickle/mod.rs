//! Pickles without Python: an inert reader that builds nodes and never resolves or calls a name, a splitter that
//! re-emits any part as a pickle of its own, and a writer for a few fixed shapes.
//!
//! Names `base` only. Nothing here opens anything or runs anything; whatever it can't read is an error value.

mod error;
mod wire;
mod write;

pub use error::PickleError;
pub use wire::{part_of, to_wire};
pub use write::{error, from_value, shuffle_run_spec, shuffle_worker_plugin, simple_namespace, to_value};
