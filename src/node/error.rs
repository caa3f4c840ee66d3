//! Why a worker could not be started.

use std::io;

use crate::base::{Blame, Text};
use crate::net::NetError;

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No scheduler at this address within the time given.
    #[error("no scheduler answers at {address}: {why}")]
    NoScheduler { address: Text, why: NetError },
    /// The scheduler does not take this worker.
    #[error("the scheduler refuses this worker: {reason}")]
    Refused { reason: Text },
    /// The port is taken, or no port is free.
    #[error("cannot listen on {at}: {why}")]
    Listen { at: String, why: NetError },
    /// The executor cannot be started.
    #[error("cannot start the Python process of this worker: {0}")]
    Executor(#[source] io::Error),
    /// The executor ended before it was ready.
    #[error("the Python process of this worker ended while starting: {how}")]
    NeverReady { how: String },
    /// The facade replaces names of Dask's that this version does not have.
    #[error("{reason}")]
    Unfit { reason: String },
    /// Told to stop meanwhile.
    #[error("stopped while starting")]
    Stopped,
}

impl NodeError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Refused { .. } => Blame::Caller,
            Self::NoScheduler { .. }
            | Self::Listen { .. }
            | Self::Executor(_)
            | Self::NeverReady { .. }
            | Self::Unfit { .. }
            | Self::Stopped => Blame::World,
        }
    }
}
