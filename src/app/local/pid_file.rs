//! A file with the id of this process, for whoever started rask.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::command_error::CommandError;

/// A file with our process id, removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: &Path) -> Result<Self, CommandError> {
        let written = fs::write(path, std::process::id().to_string());
        written.map_err(|why| CommandError::world(format!("cannot write the pid file {}: {why}", path.display())))?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _may_be_gone = fs::remove_file(&self.0);
    }
}
