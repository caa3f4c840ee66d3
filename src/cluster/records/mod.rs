//! What is remembered for people: data only, each bounded. Nothing here knows of connections or of Python.

pub mod computations;
pub mod metadata;
pub mod task_stream;
pub mod timeline;
pub mod topics;
pub mod worker_exit;
pub mod worker_metrics;
