//! Flags of `rask top` and `rask explain`.

use std::path::Path;

use clap::Args;

use crate::app::{self, CommandError, Meant};

/// PagesFlags cluster is meant.
#[derive(Debug, Clone, Args)]
pub(super) struct PagesFlags {
    /// A cluster of the running rask [default: local]
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    cluster: Option<String>,
    /// The pages of any rask scheduler, like http://host:8787
    #[arg(long)]
    url: Option<String>,
}

impl PagesFlags {
    fn meant(self) -> Meant {
        Meant { cluster: self.cluster, url: self.url }
    }
}

/// Flags of `rask top`.
#[derive(Debug, Clone, Args)]
pub(super) struct Top {
    #[command(flatten)]
    which: PagesFlags,
    /// Print once, as plain text
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) fn run(self, state: Option<&Path>) -> Result<(), CommandError> {
        app::top(&self.which.meant(), state, self.once)
    }
}

/// Flags of `rask explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: rask explain inc-4f3a --cluster local")]
pub(super) struct Explain {
    /// The key, as future.key shows it
    key: String,
    #[command(flatten)]
    which: PagesFlags,
    /// Print control characters of keys and errors as they are
    #[arg(long)]
    raw: bool,
}

impl Explain {
    pub(super) fn run(self, state: Option<&Path>) -> Result<(), CommandError> {
        app::explain(&self.which.meant(), state, &self.key, self.raw)
    }
}
