//! The Python files that the binary carries, written where an interpreter can run them.

use std::path::Path;
use std::path::PathBuf;

use crate::files;

/// A Python file that the binary carries.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// The Python side of a scheduler.
    Pyhost,
    /// Starts Dask's worker with ports that answer only their owner.
    Worker,
}

impl Script {
    const fn name_and_source(self) -> (&'static str, &'static str) {
        match self {
            Self::Pyhost => ("rask_pyhost", include_str!("py/rask_pyhost.py")),
            Self::Worker => ("rask_dask_worker", include_str!("py/rask_dask_worker.py")),
        }
    }
}

/// Writes the file into `run_dir` and returns its path.
///
/// Errors: the folder or the file cannot be written.
pub fn write_script(run_dir: &Path, script: Script) -> std::io::Result<PathBuf> {
    let (stem, source) = script.name_and_source();
    files::write_script(run_dir, stem, source)
}
