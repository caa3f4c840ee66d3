//! What clients and workers say on their streams. Stock has one merged table: any of these may come on either kind.
//!
//! Source: `distributed/scheduler.py`, `Scheduler.__init__`; `stealing.py`, `queues.py`, `variable.py`, `publish.py`.

mod fields;
mod stream;
mod types;

pub use stream::decode_stream;
pub use types::{StreamItem, StreamOp, TaskErred, TaskFinished, UpdateGraph};

#[cfg(test)]
mod tests;
