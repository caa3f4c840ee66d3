//! Flags that every command has.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::CommandError;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// Settings [$RASK_CONFIG, ~/.config/rask/rask.toml, /etc/rask/rask.toml]
    #[arg(long, global = true, env = "RASK_CONFIG", hide_env = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// State, logs, environments [$RASK_STATE_DIR, ~/.local/state/rask]
    #[arg(long, global = true, env = "RASK_STATE_DIR", hide_env = true, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Log lines as text or json; $RASK_LOG filters: info, rask::net=debug
    #[arg(long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    pub(super) log_format: Option<Format>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Wrong usage that clap cannot see.
pub(super) fn unsupported(flag: &str, instead: &str) -> CommandError {
    CommandError::usage(format!("{flag} is not supported")).remedy(instead)
}
