//! Flags of `rask peers`, `rask peer` and `rask token`.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::app::{self, Failure, PeerDo};
use crate::config::parse_secs;

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

/// What to do about tokens.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Token {
    /// Make one and print it; it is shown only now
    Create(Create),
    /// List them, without their secrets
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take one back
    Revoke {
        /// Its id in rask token list
        id: String,
    },
}

/// Flags of `rask token create`.
#[derive(Debug, Clone, Args)]
pub(super) struct Create {
    /// For a machine that should join: prints the line to paste there
    #[arg(long, required = true)]
    join: bool,
    /// How long it is good, like 1h or "2 days"
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = secs)]
    ttl: u64,
    /// How many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Token {
    pub(super) fn run(&self, state: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Create(create) => app::invite(state, create.ttl, create.uses, create.json),
            Self::List { json } => app::invitations(state, *json),
            Self::Revoke { id } => app::withdraw(state, id),
        }
    }
}

fn secs(text: &str) -> Result<u64, String> {
    parse_secs(text).map(|secs| secs as u64).filter(|secs| *secs > 0).ok_or_else(|| "not a duration like 1h".to_owned())
}
