//! Requests by family. A handler parses, asks the core, answers; what takes several turns is a job.

pub mod clients;
pub mod coord;
pub mod data;
pub mod dispatch;
pub mod graph_check;
pub mod graph_parts;
pub mod graphs;
pub mod handler;
pub mod info;
pub mod messages;
pub mod metadata;
pub mod placement;
pub mod plugins;
pub mod publish_barrier;
pub mod python;
pub mod restart;
pub mod retire;
pub mod runs;
pub mod scale;
pub mod scheduler_plugins;
pub mod shuffle;
pub mod workers;
