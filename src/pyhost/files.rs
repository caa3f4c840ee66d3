//! The Python files that the binary carries, written where an interpreter can run them.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;

const SOURCE: &str = include_str!("py/rask_pyhost.py");

/// Writes the file into `run_dir` and returns its path. The name holds its SHA-256, so that two versions of rask never
/// run each other's file, and a file that is there already with the right content is left alone.
pub(super) fn write(run_dir: &Path) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    let digest = Sha256::digest(SOURCE.as_bytes());
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = run_dir.join(format!("rask_pyhost-{name}.py"));
    if std::fs::read(&path).is_ok_and(|there| there == SOURCE.as_bytes()) {
        return Ok(path);
    }
    // Another process may do the same at the same time: the file must be complete when it gets its name.
    let part = run_dir.join(format!("rask_pyhost-{name}.{}.part", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(SOURCE.as_bytes())?;
    drop(file);
    std::fs::rename(&part, &path)?;
    Ok(path)
}
