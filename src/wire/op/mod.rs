//! What clients and workers say on their streams, and what a scheduler says to workers (`worker`). Stock has one merged table: any of these may come on either kind.
//!
//! Source: `distributed/scheduler.py`, `Scheduler.__init__`; `stealing.py`, `queues.py`, `variable.py`, `publish.py`.

mod fields;
mod stream;
mod types;
mod worker;

pub use stream::decode_stream;
pub use types::{StreamItem, StreamOp, TaskErred, TaskFinished, UpdateGraph};
pub use worker::{ComputeOrder, HeldInput, RequestHead, WorkerOrder, decode_orders, request_head};

#[cfg(test)]
mod tests;
