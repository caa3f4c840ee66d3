//! What a worker is to be, and how its life ended.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Text, Value};

/// What a worker is to be.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// The scheduler's address, such as `tcp://1.2.3.4:8786`.
    pub scheduler: Text,
    /// None: its address.
    pub name: Option<Text>,
    /// Threads that run tasks.
    pub nthreads: u32,
    /// None: no limit. Unit: bytes.
    pub memory_limit: Option<u64>,
    /// Named amounts of which runs may occupy a part.
    pub resources: Vec<(Text, f64)>,
    /// Ports to try, from the first to the last; 0: any.
    pub ports: (u16, u16),
    /// The address to listen on and to announce. None: the one by which the scheduler is reached.
    pub host: Option<Text>,
    /// Folder for the worker's files. None: as Dask's settings say.
    pub local_directory: Option<Text>,
    /// Modules to load, and their arguments.
    pub preload: Vec<Text>,
    pub preload_argv: Vec<Text>,
    /// How long to wait for the scheduler. None: for ever.
    pub death_timeout: Option<Duration>,
    /// Users who may connect over loopback besides this one and root.
    pub allow_users: Vec<u32>,
    /// The interpreter, and a private folder for scripts.
    pub python: PathBuf,
    pub run_dir: PathBuf,
}

impl WorkerPlan {
    /// The name, as it is registered.
    pub(super) fn name_or(&self, address: &Text) -> Value {
        Value::Str(self.name.clone().unwrap_or_else(|| address.clone()))
    }
}

/// How a worker's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to, or its scheduler is gone.
    Closed { reason: Text },
    /// It did not want to: its executor died, or a rule was broken. Another one may take its place.
    Broken { reason: String },
}
