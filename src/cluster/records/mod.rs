//! What is remembered for people: data only, each part bounded. Nothing here knows of the state or of connections.

pub mod computations;
pub mod failures;
pub mod log;
pub mod metadata;
pub mod plugins;
pub mod progress;
pub mod task_metadata;
pub mod task_stream;
pub mod timeline;
pub mod topics;
pub mod turns;
pub mod worker_exit;
pub mod worker_metrics;
