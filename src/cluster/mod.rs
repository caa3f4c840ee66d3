//! The driver: owns one scheduler, its inbox, its loop. The only place where `sched` meets the world.
//!
//! Messages become events (`translate`, `streams`), the scheduler is stepped (`driver`), its effects become messages
//! (`effects`, `translate`). Requests are answered by family (`rpc`). What takes several turns is a job that reaches
//! the driver through a `desk`. Nothing here decides where a task runs.

mod ahead;
mod benchmark;
mod broadcast;
mod clients;
mod computations;
mod conn;
mod departed;
mod desk;
mod driver;
mod dump;
mod effects;
mod explain;
mod gather;
mod graphs;
mod hooks;
mod http;
mod listing;
mod look;
mod metadata;
mod notes;
mod opts;
mod picture;
mod profile;
mod progress;
mod publish;
mod rebalance;
mod rects;
mod replicate;
mod report;
mod ring;
mod rpc;
mod samples;
mod scatter;
mod serve;
mod steer;
mod streams;
mod topics;
mod translate;
mod versions;
mod workers;

pub use crate::sched::TaskFilter;
pub use computations::Computation;
pub use notes::{Cause, Speed};
pub use opts::{
    Answered, Ask, Control, Keep, ListenSpec, NO_PYTHON, Ready, Reporter, RunError, SchedulerOpts, Scheme, Steer,
    TlsFiles,
};
pub use picture::{
    ClientPicture, GroupPicture, Look, NodePicture, Numbered, Picture, PrefixPicture, ShufflePicture, Stream, Totals,
    WorkerPicture,
};
pub use rects::{ACTION_NAMES, FAILED, Lane, RectChunk};
pub use serve::run_scheduler;
