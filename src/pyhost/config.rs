//! How the Python side of a scheduler is run.

use std::path::PathBuf;
use std::time::Duration;

/// How to run the Python side.
#[derive(Clone, Debug)]
pub struct PyhostConfig {
    /// The interpreter; the workers' one, because graphs name the user's own modules.
    pub python: PathBuf,
    /// Working folder of the processes.
    pub cwd: PathBuf,
    /// Added to the environment that this process has.
    pub env: Vec<(String, String)>,
    /// Where the Python files are written (made with mode 0700).
    pub run_dir: PathBuf,
    /// Most processes at once; at least 1. With 1, graphs and functions share it and wait for each other.
    pub max_processes: usize,
    /// Longest one request may take, start of the process included; the process that exceeds it is killed.
    pub deadline: Duration,
}
