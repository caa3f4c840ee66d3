//! Flags of `rask join`.

use clap::Args;

use super::common::Common;
use crate::app::JoinArgs;
use crate::config::parse_size;

/// Flags of `rask join`.
#[derive(Debug, Clone, Args)]
#[command(
    args_override_self = true,
    after_help = "Paste the line that `rask up --lan` prints on the head:\n  rask join https://head:8787 --token rj1...\n\nLater, `rask join` alone brings this machine back."
)]
pub(super) struct Join {
    /// Where the head is, like https://head:8787 [default: as joined before]
    url: Option<String>,
    /// Join token, made on the head: rask token create --join; - reads it from standard input
    #[arg(long, env = "RASK_JOIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of this machine in lists and of its workers [default: its host name]
    #[arg(long)]
    name: Option<String>,
    /// Most cores to lend [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// Most memory to lend, like 8GiB [default: all]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Interpreter or environment to use if it is like the head's [default: the active one, else python3]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// For a while only, as a job of a batch system: keeps nothing, and a signal moves its data elsewhere first
    #[arg(long, requires = "token")]
    passing: bool,
}

impl Join {
    pub(super) fn args(self, common: &Common) -> JoinArgs {
        JoinArgs {
            url: self.url,
            token: self.token,
            name: self.name,
            cores: self.cores,
            memory_bytes: self.memory,
            python: self.python,
            state_dir: common.state_dir.clone(),
            passing: self.passing,
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "not a size like 8GiB".to_owned())
}
