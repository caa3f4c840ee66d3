//! Flags of `rask service` and the commands around an appliance that runs somewhere else.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::common::Common;
use crate::app::{self, CommandError, Scope, ServiceArgs};

/// What `rask service` does.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Service {
    /// Start rask with the machine (--system) or with your session (--user), by systemd
    #[command(
        after_help = "restart (systemctl restart rask, or an upgrade) keeps clusters and their work; stop ends them.\nSettings of the machine's service: /etc/rask/rask.toml. Other users may connect to it if security.allow_users\nnames them."
    )]
    Install {
        #[command(flatten)]
        which: ServiceOf,
        /// Write the files, start nothing
        #[arg(long)]
        no_start: bool,
        /// Lend this machine to the head that it joined, instead of having clusters of its own
        #[arg(long)]
        join: bool,
        /// Interpreter or environment of the workers [default for --user: the active environment]
        #[arg(long, value_name = "PATH")]
        python: Option<String>,
    },
    /// Stop it and take its files away; state and settings stay
    Uninstall {
        #[command(flatten)]
        which: ServiceOf,
    },
    /// Show what is installed and whether it runs
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What a unit runs after its end
    #[command(hide = true)]
    Release,
}

/// Whose service.
#[derive(Debug, Clone, Args)]
pub(super) struct ServiceOf {
    /// For yourself, with your rights [default, unless you are root]
    #[arg(long, conflicts_with = "system")]
    user: bool,
    /// For the machine, as the user rask [default if you are root]
    #[arg(long)]
    system: bool,
    /// Only files, below this folder: for images and packages
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl ServiceOf {
    fn scope(&self) -> Scope {
        match (self.user, self.system) {
            (true, _) => Scope::User,
            (false, true) => Scope::System,
            (false, false) => app::usual_scope(),
        }
    }
}

impl Service {
    pub(super) fn carry_out(self, common: &Common) -> Result<(), CommandError> {
        match self {
            Self::Install { which, no_start, join, python } => {
                let scope = which.scope();
                let python = python.or_else(|| active(scope));
                let (config, state_dir) = (common.config.clone(), common.state_dir.clone());
                app::service_install(&ServiceArgs {
                    scope,
                    root: which.root,
                    no_start,
                    join,
                    python,
                    config,
                    state_dir,
                })
            }
            Self::Uninstall { which } => app::service_uninstall(which.scope(), which.root.as_deref()),
            Self::Status { json } => app::service_status(json),
            Self::Release => app::service_release(),
        }
    }
}

/// A service does not see the environment that is active in the shell that installs it.
fn active(scope: Scope) -> Option<String> {
    if scope == Scope::System {
        return None;
    }
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().find_map(|name| std::env::var(name).ok());
    active.filter(|path| Path::new(path).is_absolute())
}
