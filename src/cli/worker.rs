//! Flags of `rask worker`. Source: `distributed/cli/dask_worker.py`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::common::Common;
use super::up::engine;
use crate::app::{CommandError, PoolArgs, WorkerArgs};
use crate::config::Engine;

/// Flags of `rask worker`.
#[derive(Debug, Clone, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  rask worker tcp://127.0.0.1:8786 --nworkers auto\n  rask worker --scheduler-file scheduler.json --nthreads 2 --resources \"GPU=1\""
)]
pub(super) struct WorkerFlags {
    /// Address of the scheduler [default: by --scheduler-file or Dask's configuration]
    scheduler: Option<String>,
    /// Worker processes; negative counts down from the cores; auto sets processes and threads [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    nworkers: Option<String>,
    /// Threads per process [default: cores divided by processes]
    #[arg(long, value_name = "N")]
    nthreads: Option<u32>,
    /// Memory per process: a size like 4GiB, a fraction of the machine's, 0 for no limit, or auto
    #[arg(long, value_name = "SIZE", default_value = "auto")]
    memory_limit: String,
    /// Name; with several processes -0, -1, ... is appended
    #[arg(long)]
    name: Option<String>,
    /// Resources for constraints, per process, like "GPU=2 MEM=10e9"
    #[arg(long)]
    resources: Option<String>,
    /// Folder for worker files [default: Dask's temporary-directory]
    #[arg(long, value_name = "DIR")]
    local_directory: Option<OsString>,
    /// File with connection information, as a scheduler writes it
    #[arg(long, value_name = "PATH")]
    scheduler_file: Option<OsString>,
    /// Give up when no scheduler answered for this long [default: never]
    #[arg(long, value_name = "DURATION")]
    death_timeout: Option<String>,
    /// End workers after this long
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<String>,
    /// Spread of the lifetime
    #[arg(long, value_name = "DURATION")]
    lifetime_stagger: Option<String>,
    /// Start a worker again after its lifetime
    #[arg(long, overrides_with = "no_lifetime_restart")]
    lifetime_restart: bool,
    /// Do not start a worker again after its lifetime [default]
    #[arg(long, overrides_with = "lifetime_restart")]
    no_lifetime_restart: bool,
    /// Authorities' certificates for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_ca_file: Option<OsString>,
    /// Certificate for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_cert: Option<OsString>,
    /// Private key for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_key: Option<OsString>,
    /// Use nannies, which restart workers and watch their memory [default]
    #[arg(long, overrides_with = "no_nanny")]
    nanny: bool,
    /// A worker without a nanny; for one process only
    #[arg(long, overrides_with = "nanny")]
    no_nanny: bool,
    /// Port of the workers, or a range like 3000:3026 [default: any free]
    #[arg(long, value_name = "PORTS")]
    worker_port: Option<String>,
    /// Port of the nannies, or a range [default: any free]
    #[arg(long, value_name = "PORTS")]
    nanny_port: Option<String>,
    /// Address that the worker listens on, like tcp://0.0.0.0:9000
    #[arg(long, value_name = "ADDRESS")]
    listen_address: Option<String>,
    /// Address that the worker announces; needs --listen-address
    #[arg(long, value_name = "ADDRESS", requires = "listen_address")]
    contact_address: Option<String>,
    /// Address to serve on, visible to the scheduler and other workers
    #[arg(long)]
    host: Option<String>,
    /// Network interface like eth0
    #[arg(long)]
    interface: Option<String>,
    /// Protocol like tcp or tls
    #[arg(long)]
    protocol: Option<String>,
    /// Address of the workers' own dashboards
    #[arg(long, value_name = "ADDRESS")]
    dashboard_address: Option<String>,
    /// Serve the workers' own dashboards [default]
    #[arg(long, overrides_with = "no_dashboard")]
    dashboard: bool,
    /// Do not serve them
    #[arg(long, overrides_with = "dashboard")]
    no_dashboard: bool,
    /// Prefix of the dashboards (deprecated in Dask)
    #[arg(long, hide = true)]
    dashboard_prefix: Option<String>,
    /// Class of the workers [default: dask.distributed.Worker]
    #[arg(long, value_name = "CLASS")]
    worker_class: Option<String>,
    /// Module to load in each worker; may be repeated
    #[arg(long, value_name = "MODULE")]
    preload: Vec<String>,
    /// Module to load in each nanny; may be repeated
    #[arg(long, value_name = "MODULE")]
    preload_nanny: Vec<String>,
    /// Server name for TLS, if it differs from the scheduler's host
    #[arg(long, value_name = "NAME")]
    scheduler_sni: Option<String>,
    /// File for the process id
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Who does the work around Python: rask itself (rask), Dask's worker (stock), or auto: rask where it fits
    #[arg(long, value_parser = engine, value_name = "ENGINE", default_value = "auto")]
    engine: Engine,
    /// Interpreter or environment of the workers [default: the active one, else python3, else one made here]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// The interpreter is known to be fit
    #[arg(long, hide = true, requires = "python")]
    python_checked: bool,
    /// Others decide how many workers there are; listen for them here
    #[arg(long, hide = true, value_name = "PATH", requires = "log_dir")]
    control_socket: Option<PathBuf>,
    /// End with the process that listens here
    #[arg(long, hide = true, value_name = "PATH")]
    follow: Option<PathBuf>,
    /// A log per worker goes here
    #[arg(long, hide = true, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Older files kept of each log
    #[arg(long, hide = true, value_name = "N", default_value_t = 5)]
    log_keep: u32,
    /// Make the workers' control groups here
    #[arg(long, hide = true, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// A worker's share of the processor, for its control group
    #[arg(long, hide = true, value_name = "N", default_value_t = 0.0)]
    worker_cores: f64,
    /// Arguments of preloaded modules
    #[arg(hide = true)]
    preload_argv: Vec<String>,
}

impl WorkerFlags {
    pub(super) fn args(self, common: &Common, allow_users: Vec<u32>) -> Result<WorkerArgs, CommandError> {
        if self.listen_address.is_some() && (self.worker_port.is_some() || self.host.is_some()) {
            return Err(CommandError::usage("--listen-address does not go with --worker-port or --host")
                .remedy("give one of them"));
        }
        Ok(WorkerArgs {
            pool: self.pool(),
            python_checked: self.python_checked,
            engine: self.engine,
            pass: self.passed_on(),
            death_timeout: self.death_timeout.is_some(),
            scheduler: self.scheduler,
            nworkers: self.nworkers,
            nthreads: self.nthreads,
            memory_limit: self.memory_limit,
            name: self.name,
            no_nanny: self.no_nanny,
            worker_port: self.worker_port,
            nanny_port: self.nanny_port,
            pid_file: self.pid_file,
            python: self.python,
            state_dir: common.state_dir.clone(),
            preload_argv: self.preload_argv,
            allow_users,
        })
    }

    fn pool(&self) -> Option<PoolArgs> {
        Some(PoolArgs {
            control_socket: self.control_socket.clone()?,
            follow: self.follow.clone(),
            log_dir: self.log_dir.clone()?,
            log_keep: self.log_keep,
            cgroup: self.cgroup.clone(),
            worker_cores: self.worker_cores,
        })
    }

    /// What Dask's worker gets unchanged.
    fn passed_on(&self) -> Vec<OsString> {
        let text = |value: &Option<String>| value.as_ref().map(OsString::from);
        let mut valued: Vec<(&str, Option<OsString>)> = vec![
            ("--resources", text(&self.resources)),
            ("--local-directory", self.local_directory.clone()),
            ("--scheduler-file", self.scheduler_file.clone()),
            ("--death-timeout", text(&self.death_timeout)),
            ("--lifetime", text(&self.lifetime)),
            ("--lifetime-stagger", text(&self.lifetime_stagger)),
            ("--tls-ca-file", self.tls_ca_file.clone()),
            ("--tls-cert", self.tls_cert.clone()),
            ("--tls-key", self.tls_key.clone()),
            ("--listen-address", text(&self.listen_address)),
            ("--contact-address", text(&self.contact_address)),
            ("--host", text(&self.host)),
            ("--interface", text(&self.interface)),
            ("--protocol", text(&self.protocol)),
            ("--dashboard-address", text(&self.dashboard_address)),
            ("--dashboard-prefix", text(&self.dashboard_prefix)),
            ("--worker-class", text(&self.worker_class)),
            ("--scheduler-sni", text(&self.scheduler_sni)),
        ];
        valued.extend(self.preload.iter().map(|module| ("--preload", Some(module.into()))));
        valued.extend(self.preload_nanny.iter().map(|module| ("--preload-nanny", Some(module.into()))));
        let switches = [
            ("--no-dashboard", self.no_dashboard),
            ("--lifetime-restart", self.lifetime_restart),
            ("--no-lifetime-restart", self.no_lifetime_restart),
        ];
        let valued = valued.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?])).flatten();
        let switches = switches.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.into());
        valued.chain(switches).collect()
    }
}
