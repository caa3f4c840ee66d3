//! Flags of `rask worker`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::Engine;

/// Flags of `rask worker`, as given.
#[derive(Clone, Debug, Default)]
pub struct WorkerArgs {
    /// The scheduler. None: by `--scheduler-file` or Dask's configuration.
    pub scheduler: Option<String>,
    /// `--nworkers`: a number, `auto`, or nothing for one.
    pub nworkers: Option<String>,
    pub nthreads: Option<u32>,
    /// `--memory-limit`: `auto`, a size, or a fraction of the machine's.
    pub memory_limit: String,
    pub name: Option<String>,
    pub no_nanny: bool,
    /// `--worker-port`: a port or a range.
    pub worker_port: Option<String>,
    /// `--nanny-port`: a port or a range.
    pub nanny_port: Option<String>,
    pub pid_file: Option<PathBuf>,
    pub python: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// A limited wait for the scheduler was asked for: then an exit is final.
    pub death_timeout: bool,
    /// `--engine`
    pub engine: Engine,
    /// Flags that Dask's worker gets unchanged.
    pub pass: Vec<OsString>,
    /// Arguments of preloaded modules.
    pub preload_argv: Vec<String>,
    /// `--python-checked`: whoever starts us knows that it can run workers.
    pub python_checked: bool,
    /// The workers are a pool of one cluster, whose size the appliance decides through a control socket.
    pub pool: Option<PoolArgs>,
    /// `security.allow_users`: who may connect to ports without TLS, besides this user and root.
    pub allow_users: Vec<u32>,
}

/// What makes a worker pool part of a cluster.
#[derive(Clone, Debug)]
pub struct PoolArgs {
    /// `--control-socket`: listen here.
    pub control_socket: PathBuf,
    /// `--follow`: end when the process that listens here does. None: end when told to.
    pub follow: Option<PathBuf>,
    /// `--log-dir`: a file per worker.
    pub log_dir: PathBuf,
    /// `--log-keep`: older files kept per worker.
    pub log_keep: u32,
    /// `--cgroup`: control groups of workers are made below this one.
    pub cgroup: Option<PathBuf>,
    /// `--worker-cores`: their share of the processor.
    pub worker_cores: f64,
}
