//! Flags of the commands that talk to a running appliance: `rask cluster`, `rask token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::common::Common;
use crate::app::{self, ClusterCommand, CommandError, Remote, TokenCommand};
use crate::config::parse_secs;

/// Where the appliance is.
#[derive(Debug, Clone, Args)]
pub(super) struct RemoteFlags {
    /// URL of the appliance [default: the one of the state folder]
    #[arg(long, global = true, env = "RASK_URL")]
    url: Option<String>,
    /// A token, where this user alone does not suffice
    #[arg(long, global = true, env = "RASK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificate of the appliance's authority, for https:// [default: the one in the state folder]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// As JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl RemoteFlags {
    pub(super) fn remote(&self, common: &Common) -> Remote {
        Remote {
            url: self.url.clone(),
            token: self.token.clone(),
            ca_file: self.ca_file.clone(),
            state_dir: common.state_dir.clone(),
        }
    }
}

/// `rask jobs`
#[derive(Debug, Clone, Args)]
pub(super) struct JobsFlags {
    /// Of this cluster only
    cluster: Option<String>,
    #[command(flatten)]
    flags: RemoteFlags,
}

impl JobsFlags {
    pub(super) fn run(&self, common: &Common) -> Result<(), CommandError> {
        app::jobs(&self.flags.remote(common), self.cluster.as_deref(), self.flags.json)
    }
}

/// `rask cluster`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  rask cluster create --name demo --workers 2 worker_memory=4 env.OMP_NUM_THREADS=1\n  rask cluster adapt demo --minimum 1 --maximum 10\n  rask cluster logs demo --since 10m -f\n  rask cluster stop demo"
)]
pub(super) struct ClusterFlags {
    #[command(subcommand)]
    command: ClusterWhat,
    #[command(flatten)]
    pub(super) flags: RemoteFlags,
}

#[derive(Debug, Clone, Subcommand)]
enum ClusterWhat {
    /// List clusters
    #[command(alias = "list")]
    Ls {
        /// Those that ended too
        #[arg(long, short)]
        all: bool,
    },
    /// Show one cluster
    Show {
        /// Its name
        name: String,
    },
    /// Make a cluster and wait until it runs; prints its name
    Create {
        /// Its name [default: one made up]
        #[arg(long)]
        name: Option<String>,
        /// Workers to start with
        #[arg(long, value_name = "N")]
        workers: Option<u32>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
        /// Options like worker_cores=2 or env.NAME=value; see GET /api/rask/v1/options
        #[arg(value_name = "OPTION=VALUE")]
        options: Vec<String>,
    },
    /// Set the number of workers
    Scale {
        /// Its name
        name: String,
        /// How many workers
        workers: u32,
    },
    /// Let the number of workers follow the load
    Adapt {
        /// Its name
        name: String,
        /// Least number of workers [default: 0]
        #[arg(long, value_name = "N")]
        minimum: Option<u32>,
        /// Greatest number of workers [default: the limit of the cluster]
        #[arg(long, value_name = "N")]
        maximum: Option<u32>,
        /// Keep the present number from now on
        #[arg(long, conflicts_with_all = ["minimum", "maximum"])]
        off: bool,
    },
    /// Stop clusters
    Stop {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Print what the processes of a cluster wrote
    Logs {
        /// Its name
        name: String,
        /// Of this worker only; or scheduler, or group (the pool that starts and watches workers)
        #[arg(long, short)]
        worker: Option<String>,
        /// Written since then, like 10m
        #[arg(long, value_name = "DURATION")]
        since: Option<String>,
        /// Number of lines, the last ones [default: 1000]
        #[arg(long, short = 'n', value_name = "LINES")]
        tail: Option<u32>,
        /// Go on with what is written from now on
        #[arg(long, short)]
        follow: bool,
        /// Print control characters as they are
        #[arg(long)]
        raw: bool,
    },
}

impl ClusterFlags {
    pub(super) fn command(&self) -> ClusterCommand {
        match self.command.clone() {
            ClusterWhat::Ls { all } => ClusterCommand::List { all },
            ClusterWhat::Show { name } => ClusterCommand::Show { name },
            ClusterWhat::Create { name, workers, no_wait, options } => {
                ClusterCommand::Create { name, workers, options, no_wait }
            }
            ClusterWhat::Scale { name, workers } => ClusterCommand::Scale { name, workers },
            ClusterWhat::Adapt { name, minimum, maximum, off } => ClusterCommand::Adapt { name, minimum, maximum, off },
            ClusterWhat::Stop { names } => ClusterCommand::Stop { names },
            ClusterWhat::Logs { name, worker, since, tail, follow, raw } => {
                ClusterCommand::Logs { name, worker, since, tail, follow, raw }
            }
        }
    }
}

/// `rask token`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A token is given as the password by dask-gateway's client:\n  DASK_GATEWAY__AUTH__TYPE=basic DASK_GATEWAY__AUTH__KWARGS='{\"password\": \"rask_...\"}'\nand as a header by others:\n  curl -H 'Authorization: Bearer rask_...' http://127.0.0.1:8787/api/rask/v1/clusters"
)]
pub(super) struct TokenFlags {
    #[command(subcommand)]
    command: TokenWhat,
    #[command(flatten)]
    pub(super) flags: RemoteFlags,
}

#[derive(Debug, Clone, Subcommand)]
enum TokenWhat {
    /// Make a token; its secret is shown once
    Create {
        /// What it is for
        #[arg(default_value = "")]
        label: String,
        /// Whom it stands for [default: you]
        #[arg(long)]
        user: Option<String>,
        /// admin: everything; user: one's own clusters
        #[arg(long, default_value = "user", value_parser = ["user", "admin"])]
        role: String,
        /// How long it opens, like "30 days" [default: until revoked; with --join: 1h]
        #[arg(long, alias = "ttl", value_name = "DURATION", value_parser = duration)]
        expires_in: Option<f64>,
        /// For a machine that should join: prints the line to paste there
        #[arg(long, conflicts_with_all = ["user", "role", "label"])]
        join: bool,
        /// With --join: how many machines may join with it
        #[arg(long, value_name = "N", requires = "join", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
    },
    /// List tokens
    #[command(alias = "list")]
    Ls,
    /// Revoke tokens, at once
    Revoke {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

impl TokenFlags {
    pub(super) fn command(&self) -> TokenCommand {
        match self.command.clone() {
            TokenWhat::Create { join: true, expires_in, uses, .. } => {
                // An hour is enough to walk to the other machine.
                TokenCommand::Invite { secs: expires_in.map_or(3600, |secs| secs as u64).max(1), uses }
            }
            TokenWhat::Create { label, user, role, expires_in, .. } => {
                TokenCommand::Create { label, user, role, expires_in }
            }
            TokenWhat::Ls => TokenCommand::List,
            TokenWhat::Revoke { ids } => TokenCommand::Revoke { ids },
        }
    }
}

fn duration(text: &str) -> Result<f64, String> {
    parse_secs(text).filter(|secs| *secs > 0.0).ok_or_else(|| "not a duration like 1h or \"30 days\"".to_owned())
}
