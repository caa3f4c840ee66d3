//! The Python files that the binary carries, written where an interpreter can run them.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;

use crate::files;

const SOURCE: &str = include_str!("py/rask_pyhost.py");

/// Writes the file into `run_dir` and returns its path. The name holds its SHA-256, so that two versions of rask never
/// run each other's file, and a file that is there already with the right content is left alone.
pub(super) fn write(run_dir: &Path) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    let digest = Sha256::digest(SOURCE.as_bytes());
    let name = HEXLOWER.encode(digest.get(..16).unwrap_or(&digest));
    let path = run_dir.join(format!("rask_pyhost-{name}.py"));
    if std::fs::read(&path).is_ok_and(|there| there == SOURCE.as_bytes()) {
        return Ok(path);
    }
    // Another process may do the same at the same time: the file must be complete when it gets its name.
    files::write_atomic(&path, SOURCE.as_bytes(), files::PRIVATE)?;
    Ok(path)
}
