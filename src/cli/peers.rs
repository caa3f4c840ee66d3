//! Flags of `rask peers` and `rask peer`.

use std::path::Path;

use clap::{Args, Subcommand};

use super::common::Common;
use crate::app::{self, CommandError, DeployArgs, PeerDo};

/// What to do to a machine that joined.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum PeerCommand {
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

impl PeerCommand {
    pub(super) fn run(&self, state: Option<&Path>) -> Result<(), CommandError> {
        match self {
            Self::Drain { name } => app::peer(state, name, PeerDo::Drain),
            Self::Resume { name } => app::peer(state, name, PeerDo::Resume),
            Self::Remove { name } => app::peer(state, name, PeerDo::Remove),
        }
    }
}

/// Flags of `rask deploy`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Run it on the head, beside rask up --lan. Each machine gets the program in ~/.local/share/rask/deploy,\nwithout root, and joins in the background."
)]
pub(super) struct Deploy {
    /// Machines, as ssh knows them
    #[arg(long, value_name = "HOST", required = true, num_args = 1..)]
    ssh: Vec<String>,
    /// Let them leave, and take the program away again
    #[arg(long)]
    remove: bool,
    /// Interpreter or environment there, if it is like the head's
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
}

impl Deploy {
    pub(super) fn args(self, common: &Common) -> DeployArgs {
        DeployArgs { hosts: self.ssh, remove: self.remove, python: self.python, state_dir: common.state_dir.clone() }
    }
}
