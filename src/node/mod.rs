//! One of rask's own workers, without its Python: to schedulers, clients and peers it is a Dask worker.
//!
//! It registers, listens, sends heartbeats, fetches and serves values, and carries out what the state machine
//! (`worker_state`) decides; an executor (`executor`) runs the tasks. What peers ask and it does not know is passed on to
//! Dask's own code there. Payloads are never opened. Each worker is a task of its own: what breaks it closes that worker
//! only.
//!
//! Files, from the bottom: the protocol (`translate`), what is held (`store`), what a worker is told (`input`), what is due (`beat`) and moves (`moving`), what
//! a nanny is asked (`keeper`), talk with peers (`settle siblings peer fetch`), the way to the scheduler (`reach`), the worker
//! (`driver`), what it does (`effects executor_news calls orders heartbeat spill`), how it starts (`join`) and lives (`run`), its `nanny`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod beat;
mod calls;
mod driver;
mod effects;
mod error;
mod executor_news;
mod fetch;
mod heartbeat;
mod input;
mod join;
mod keeper;
mod moving;
mod nanny;
mod orders;
mod peer;
mod plan;
mod reach;
mod run;
mod settle;
mod siblings;
mod spill;
mod store;
mod translate;

pub use error::NodeError;
pub use keeper::Life;
pub use nanny::Nanny;
pub use plan::{Lifetime, WorkerEnd, WorkerPlan};
pub use run::run_worker;
