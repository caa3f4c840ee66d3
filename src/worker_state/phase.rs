//! The names of states, and of what a task can be asked to become.

use serde::{Deserialize, Serialize};

/// The name of a task's state, as Dask spells it; `Pushed` is ours.
///
/// Source: `distributed/worker_state_machine.py`, `TaskStateState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskPhase {
    /// Known, and nothing is done for it.
    Released,
    /// To be fetched from a peer that holds it.
    Fetch,
    /// On its way here.
    Flight,
    /// To be fetched, but nobody is known to hold it.
    Missing,
    /// To be run when its inputs are here.
    Waiting,
    /// To be run when a slot is free.
    Ready,
    /// To be run when a slot and its resources are free.
    Constrained,
    /// In a slot's queue, perhaps begun.
    Pushed,
    /// Runs in a slot.
    Executing,
    /// Runs, but has seceded from its slot.
    LongRunning,
    /// Its value is here.
    Memory,
    /// Its run failed.
    Error,
    /// Its run or transfer goes on, but nobody wants the value.
    Cancelled,
    /// Its run or transfer goes on; afterwards it is fetched or run, if the value is not here by then.
    Resumed,
}

impl TaskPhase {
    /// How many names there are.
    pub(super) const COUNT: usize = 14;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Released,
        Self::Fetch,
        Self::Flight,
        Self::Missing,
        Self::Waiting,
        Self::Ready,
        Self::Constrained,
        Self::Pushed,
        Self::Executing,
        Self::LongRunning,
        Self::Memory,
        Self::Error,
        Self::Cancelled,
        Self::Resumed,
    ];
}

/// What a task is asked to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskTarget {
    /// Drop what is held and stop what is planned.
    Released,
    /// Get the value from a peer.
    Fetch,
    /// The value is on its way.
    Flight,
    /// Ask the scheduler where the value is.
    Missing,
    /// Compute the value.
    Waiting,
    /// All inputs are here.
    Ready,
    /// All inputs are here, and resources are needed.
    Constrained,
    /// A slot is free.
    Executing,
    /// The run has seceded.
    LongRunning,
    /// The value is here.
    Memory,
    /// The run or the transfer failed.
    Error,
    /// The run raised `Reschedule`.
    Rescheduled,
    /// Nobody refers to it any more.
    Forgotten,
}

impl TaskTarget {
    /// How many names there are.
    pub(super) const COUNT: usize = 13;

    /// The state that has the same name.
    pub(super) const fn phase(self) -> Option<TaskPhase> {
        Some(match self {
            Self::Released => TaskPhase::Released,
            Self::Fetch => TaskPhase::Fetch,
            Self::Flight => TaskPhase::Flight,
            Self::Missing => TaskPhase::Missing,
            Self::Waiting => TaskPhase::Waiting,
            Self::Ready => TaskPhase::Ready,
            Self::Constrained => TaskPhase::Constrained,
            Self::Executing => TaskPhase::Executing,
            Self::LongRunning => TaskPhase::LongRunning,
            Self::Memory => TaskPhase::Memory,
            Self::Error => TaskPhase::Error,
            Self::Rescheduled | Self::Forgotten => return None,
        })
    }
}
