//! The Python files that the binary carries, written where an interpreter can run them.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;

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

/// Writes the file into `run_dir` and returns its path. The name holds its SHA-256, so that two versions of rask never
/// run each other's file, and a file that is there already with the right content is left alone.
///
/// Errors: the folder or the file cannot be written.
pub fn write_script(run_dir: &Path, script: Script) -> std::io::Result<PathBuf> {
    let (stem, source) = script.name_and_source();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    let digest = Sha256::digest(source.as_bytes());
    let name = HEXLOWER.encode(digest.get(..16).unwrap_or(&digest));
    let path = run_dir.join(format!("{stem}-{name}.py"));
    if std::fs::read(&path).is_ok_and(|there| there == source.as_bytes()) {
        return Ok(path);
    }
    // Another process may do the same at the same time: the file must be complete when it gets its name.
    files::write_atomic(&path, source.as_bytes(), files::PRIVATE)?;
    Ok(path)
}
