//! The scheduler of one cluster, as a value: event in, effects out.
//!
//! It opens nothing, reads no clock, rolls no dice and never waits. It may name nothing but `base`.

#![deny(clippy::wildcard_enum_match_arm)]

mod config;
pub mod coord;
mod effect;
mod event;
mod view;

pub use config::{MemoryMeasure, SchedConfig};
pub use effect::{Answer, Compute, Effect, Located, Priority, ShuffleRun, ToClient, ToWorker};
pub use event::{
    Action, Actors, AmmAction, Erred, Event, Finished, GraphOpen, Heartbeat, PlacedData, ShuffleRequest, StartStop,
    WorkerHello, WorkerStatus,
};
pub use view::{CloseWish, Counts, MemoryView, PrefixView, STATE_NAMES, StoryLine, TaskView, WorkerView};

use crate::base::Now;

/// The scheduler of one cluster.
pub struct Scheduler {
    config: SchedConfig,
}

impl Scheduler {
    /// An empty scheduler. `seed` breaks ties.
    pub fn new(config: SchedConfig, _seed: u64) -> Self {
        Self { config }
    }

    /// Applies one event and runs to rest. Appends to `out`; the caller carries effects out in order.
    pub fn step(&mut self, _now: Now, _event: Event, _out: &mut Vec<Effect>) {
        let _ = &self.config;
    }

    /// When to send [`Event::Tick`] if nothing else happens first.
    pub fn next_deadline(&self) -> Option<Now> {
        None
    }
}
