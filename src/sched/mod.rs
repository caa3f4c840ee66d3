//! The scheduler of one cluster, as a value: event in, effects out.
//!
//! It opens nothing, reads no clock, rolls no dice and never waits. It may name nothing but `base`.
//!
//! | file | holds |
//! |---|---|
//! | `event`, `effect`, `config` | what can happen to it, what it can ask for, its settings |
//! | `state`, `task`, `worker`, `records`, `arena` | what it knows, of tasks, workers and clients, and from step to
//! step |
//! | `step` | one event, applied and run to rest |
//! | `transition`, `settle` | moves between task states: the table, and the ways that end without a result |
//! | `graph`, `client`, `worker_events`, `timeout`, `unreachable` | what each event does |
//! | `place`, `queue`, `steal`, `replica`, `scale`, `shuffle`, `cost` | policies, and what work costs |
//! | `coord`, `coord_bridge` | locks, queues and the like, which know no tasks, and their bridge to the tasks |
//! | `view`, `inspect`, `story` | what may be read from outside |
//! | `check` | every rule that holds between steps |
//!
//! What it decides, and why, is in `tests/all/script`, one behaviour a file.
#![deny(clippy::wildcard_enum_match_arm)]

mod arena;
mod check;
mod client;
mod config;
pub mod coord;
mod coord_bridge;
mod cost;
mod effect;
mod event;
mod graph;
mod inspect;
mod place;
mod queue;
mod records;
mod replica;
mod scale;
mod settle;
mod shuffle;
mod state;
mod steal;
mod step;
mod story;
mod task;
mod timeout;
mod transition;
mod unreachable;
mod view;
mod worker;
mod worker_events;

pub use config::{MemoryMeasure, SchedConfig};
pub use effect::{Answer, Compute, Effect, Located, Priority, ShuffleRun, ToClient, ToWorker};
pub use event::{
    Action, Actors, AmmAction, Erred, Event, Finished, GraphOpen, Heartbeat, PlacedData, ShuffleRequest, StartStop,
    WorkerEngine, WorkerHello, WorkerStatus,
};
pub use inspect::{GroupView, KeyState, NodeView, TaskDetail, TaskFilter};
pub use records::StoryLine;
pub use state::Scheduler;
pub use steal::StealTotal;
pub use timeout::heartbeat_interval_secs;
pub use view::{CloseWish, Counts, MemoryView, PrefixView, STATE_NAMES, TaskView, WorkerView};
pub use worker_events::event_kind;
