//! Flags of `rask peers` and `rask peer`.

use std::path::Path;

use clap::Subcommand;

use crate::app::{self, Failure, PeerDo};

/// What to do to a machine that joined.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Peer {
    /// Give it nothing new and move its data to other workers
    Drain {
        /// Its name in rask peers
        name: String,
    },
    /// Use a drained machine again
    Resume {
        /// Its name in rask peers
        name: String,
    },
    /// Forget it, at once; its certificate opens nothing any more
    Remove {
        /// Its name in rask peers
        name: String,
    },
}

impl Peer {
    pub(super) fn run(&self, state: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Drain { name } => app::peer(state, name, PeerDo::Drain),
            Self::Resume { name } => app::peer(state, name, PeerDo::Resume),
            Self::Remove { name } => app::peer(state, name, PeerDo::Remove),
        }
    }
}
