//! The driver: owns one scheduler, its inbox, its loop. The only place where `sched` meets the world.
//!
//! Messages become events, the scheduler is stepped, its effects become messages. Nothing here decides where a task
//! runs. The folders, from the top floor down; each names only what stands below it:
//!
//! | folder | owns |
//! |---|---|
//! | `run`, `connection_reader` | the loop of a scheduler process; a task per connection |
//! | `control` | answers to the control socket and to pages |
//! | `turn` | streams in, effects out |
//! | `ops` | requests, by family |
//! | `jobs` | what takes several turns |
//! | `views` | what people look at |
//! | `state` | the driver itself, and the handle through which jobs reach it |
//! | `records` | what is remembered for people |
//! | `codec` (pure) | operations to events, effects to bytes |
//! | `options` | what a scheduler is told at its start |

mod codec;
mod connection_reader;
mod control;
mod jobs;
mod ops;
mod options;
mod records;
mod run;
mod state;
mod turn;
mod views;

pub use crate::sched::TaskFilter;
pub use options::{
    Answered, Ask, Control, Keep, ListenSpec, NO_PYTHON, Ready, Reporter, RunError, SchedulerOpts, Scheme, Steer,
    TlsFiles,
};
pub use records::computations::Computation;
pub use records::timeline::{ACTION_NAMES, FAILED, Lane, RectChunk};
pub use records::worker_metrics::{Cause, Speed};
pub use run::run_scheduler;
pub use views::snapshot::{
    ClientPicture, GroupPicture, Look, NodePicture, Numbered, Picture, PrefixPicture, ShufflePicture, Stream, Totals,
    WorkerPicture,
};
