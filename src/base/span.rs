//! What a worker spent its time on.

use serde::{Deserialize, Serialize};

/// One span of a task's run. Times are wall clock, in the scheduler's sense of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartStop {
    /// What was done.
    pub action: Action,
    /// Unit: seconds since the epoch.
    pub start: f64,
    /// Unit: seconds since the epoch.
    pub stop: f64,
}

/// What a worker did for a task. Source: `distributed/worker.py`, `startstops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Ran the function.
    Compute,
    /// Fetched inputs.
    Transfer,
    /// Read spilled data.
    DiskRead,
    /// Spilled data.
    DiskWrite,
    /// Unpickled the function.
    Deserialize,
    /// Anything else.
    Other,
}

impl Action {
    const NAMES: [(&str, Self); 5] = [
        ("compute", Self::Compute),
        ("transfer", Self::Transfer),
        ("disk-read", Self::DiskRead),
        ("disk-write", Self::DiskWrite),
        ("deserialize", Self::Deserialize),
    ];

    /// As Dask writes it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, action)| *action == self).map_or("other", |(name, _)| name)
    }

    /// Reads Dask's name.
    pub fn named(name: &str) -> Self {
        Self::NAMES.iter().find(|(known, _)| *known == name).map_or(Self::Other, |(_, action)| *action)
    }
}
