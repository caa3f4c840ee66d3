//! Flags of `rask up` and `rask run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::common::Common;
use crate::app::{self, BatchArgs, CommandError, Loaded, RunArgs, UpArgs};
use crate::config::{Auto, Engine, parse_secs, parse_size};

/// Flags of `rask up`.
#[derive(Debug, Clone, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  rask up\n  rask up --nworkers 2 --nthreads 4 --memory-limit 8GiB\n  rask up --port 0 --scheduler-port 0   (any free ports)\n\nThen, in Python:\n  from distributed import Client\n  client = Client(\"tcp://127.0.0.1:8786\")"
)]
pub(super) struct UpFlags {
    #[command(flatten)]
    shared: Shared,
    /// Let other machines join and connect, with TLS
    #[arg(long)]
    lan: bool,
    /// With --lan: the cluster `local` uses the cores of machines that join
    #[arg(long, requires = "lan")]
    span_peers: bool,
    /// The cluster `local` has its workers as jobs: slurm, or the name of one of [[backends]]; implies --lan
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// With --batch: the partition of its jobs [default: the site's]
    #[arg(long, requires = "batch", value_name = "NAME")]
    partition: Option<String>,
    /// With --batch: the account of its jobs [default: the site's]
    #[arg(long, requires = "batch", value_name = "NAME")]
    account: Option<String>,
    /// With --batch: the time of a job, like 2h
    #[arg(long, requires = "batch", value_name = "DURATION", value_parser = duration)]
    walltime: Option<f64>,
    /// Open the status page in a browser
    #[arg(long)]
    open: bool,
    /// Do not start the cluster `local`
    #[arg(long)]
    no_local_cluster: bool,
    /// Return when it runs, and leave it running; see rask logs and rask down
    #[arg(long)]
    background: bool,
    /// This is the one in the background
    #[arg(long, hide = true)]
    detached: bool,
    /// Leave the clusters running when this is told to stop; the next rask up takes them over
    #[arg(long)]
    keep_clusters: bool,
}

/// Flags of `rask run`.
#[derive(Debug, Clone, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  rask run analysis.py --year 2026\n  sbatch --nodes 4 --wrap \"rask run --in-job analysis.py\"\n\nClient() without arguments inside the script connects to the cluster. The exit code is the script's."
)]
pub(super) struct RunFlags {
    #[command(flatten)]
    shared: Shared,
    /// In a job of Slurm: the cluster has all nodes of the job, and ends with the script
    #[arg(long)]
    in_job: bool,
    /// The Python script
    script: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

#[derive(Debug, Clone, Args)]
struct Shared {
    /// Address to listen on; beyond loopback with --lan only [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port for HTTP: status, health, metrics [default: 8787]
    #[arg(long)]
    port: Option<u16>,
    /// Port for Dask clients and workers [default: 8786]
    #[arg(long)]
    scheduler_port: Option<u16>,
    /// Interpreter or environment of the workers [default: the active one, else python3, else one made here]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Worker processes, or auto [default: auto: by the cores]
    #[arg(long, value_name = "N", value_parser = auto::<i64>, allow_hyphen_values = true)]
    nworkers: Option<Auto<i64>>,
    /// Threads per worker, or auto [default: auto: cores divided by workers]
    #[arg(long, value_name = "N", value_parser = auto::<u32>)]
    nthreads: Option<Auto<u32>>,
    /// Memory per worker like 4GiB, 0 for no limit, or auto [default: auto: memory divided by workers]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<Auto<u64>>,
    /// Workers of all clusters: rask's own (rask), Dask's (stock), or auto: rask's where they fit [default: auto]
    #[arg(long, value_parser = engine, value_name = "ENGINE")]
    engine: Option<Engine>,
    /// The same as --engine stock
    #[arg(long, conflicts_with = "engine")]
    stock_workers: bool,
}

impl UpFlags {
    pub(super) fn args(self, common: &Common) -> UpArgs {
        UpArgs {
            open: self.open,
            lan: self.lan || self.batch.is_some(),
            span_peers: self.span_peers,
            batch: self.batch.map(|name| BatchArgs {
                name,
                partition: self.partition,
                account: self.account,
                walltime_secs: self.walltime,
            }),
            no_local_cluster: self.no_local_cluster,
            background: self.background,
            detached: self.detached,
            keep_clusters: self.keep_clusters,
            ..self.shared.args(common)
        }
    }
}

impl RunFlags {
    pub(super) fn run(self, common: &Common, loaded: &Loaded) -> Result<u8, CommandError> {
        let args = RunArgs { script: self.script, args: self.args, up: self.shared.args(common) };
        if self.in_job { app::run_in_job(&args, loaded) } else { app::run(&args, loaded) }
    }
}

impl Shared {
    fn args(self, common: &Common) -> UpArgs {
        UpArgs {
            host: self.host,
            port: self.port,
            scheduler_port: self.scheduler_port,
            state_dir: common.state_dir.clone(),
            config: common.config.clone(),
            python: self.python,
            nworkers: self.nworkers,
            nthreads: self.nthreads,
            memory_limit: self.memory_limit,
            engine: if self.stock_workers { Some(Engine::Stock) } else { self.engine },
            no_local_cluster: false,
            lan: false,
            span_peers: false,
            only_peers: false,
            batch: None,
            open: false,
            background: false,
            detached: false,
            keep_clusters: false,
        }
    }
}

fn auto<T: FromStr + Clone + Send + Sync + 'static>(text: &str) -> Result<Auto<T>, String> {
    if text == "auto" {
        return Ok(Auto::Auto);
    }
    text.parse().map(Auto::Set).map_err(|_| "not a number, nor auto".to_owned())
}

/// `--engine`
pub(super) fn engine(text: &str) -> Result<Engine, String> {
    Engine::from_name(text).ok_or_else(|| "not auto, rask or stock".to_owned())
}

fn duration(text: &str) -> Result<f64, String> {
    parse_secs(text).filter(|secs| *secs >= 60.0).ok_or_else(|| "not a time like 2h, of a minute at least".to_owned())
}

fn size(text: &str) -> Result<Auto<u64>, String> {
    if text == "auto" {
        return Ok(Auto::Auto);
    }
    parse_size(text).map(Auto::Set).ok_or_else(|| "not a size like 4GiB, nor auto".to_owned())
}
