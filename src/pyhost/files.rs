//! The Python files that the binary carries, written where an interpreter can run them.

use std::path::Path;
use std::path::PathBuf;

use crate::files;

/// The Python side of a scheduler.
const PYHOST: &[(&str, &str)] = &[
    ("__main__.py", include_str!("py/__main__.py")),
    ("rask_pyhost/__init__.py", include_str!("py/rask_pyhost/__init__.py")),
    ("rask_pyhost/asking.py", include_str!("py/rask_pyhost/asking.py")),
    ("rask_pyhost/calls.py", include_str!("py/rask_pyhost/calls.py")),
    ("rask_pyhost/comparing.py", include_str!("py/rask_pyhost/comparing.py")),
    ("rask_pyhost/graphs.py", include_str!("py/rask_pyhost/graphs.py")),
    ("rask_pyhost/main.py", include_str!("py/rask_pyhost/main.py")),
    ("rask_pyhost/operations.py", include_str!("py/rask_pyhost/operations.py")),
    ("rask_pyhost/outlines.py", include_str!("py/rask_pyhost/outlines.py")),
    ("rask_pyhost/parent.py", include_str!("py/rask_pyhost/parent.py")),
    ("rask_pyhost/plugins.py", include_str!("py/rask_pyhost/plugins.py")),
    ("rask_pyhost/scheduler.py", include_str!("py/rask_pyhost/scheduler.py")),
    ("rask_pyhost/views.py", include_str!("py/rask_pyhost/views.py")),
    ("rask_pyhost/vouching.py", include_str!("py/rask_pyhost/vouching.py")),
    ("rask_pyhost/wire.py", include_str!("py/rask_pyhost/wire.py")),
];

/// Python that the binary carries.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// The Python side of a scheduler.
    Pyhost,
    /// Starts Dask's worker with ports that answer only their owner.
    Worker,
}

/// Writes it into `run_dir` and returns the path to start: a file, or a folder of several.
///
/// Errors: the folder or a file cannot be written.
pub fn write_script(run_dir: &Path, script: Script) -> std::io::Result<PathBuf> {
    match script {
        Script::Pyhost => files::write_scripts(run_dir, "rask_pyhost", PYHOST),
        Script::Worker => files::write_script(run_dir, "rask_dask_worker", include_str!("py/rask_dask_worker.py")),
    }
}
