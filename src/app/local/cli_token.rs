//! The token with which commands of this user speak to the running appliance.

use std::path::{Path, PathBuf};

use super::state_dir::write_private;
use crate::app::command_error::CommandError;
use crate::gateway::random_secret;

/// A token that this user's commands read from the state folder. It goes with the appliance.
pub(crate) struct CliToken {
    path: PathBuf,
    pub(crate) secret: String,
}

impl CliToken {
    pub(crate) fn leave(state: &Path) -> Result<Self, CommandError> {
        let (path, secret) = (token_path(state), random_secret());
        write_private(&path, &secret)?;
        Ok(Self { path, secret })
    }

    /// Writes it again if somebody removed it.
    pub(crate) fn put_back(&self) -> Result<(), CommandError> {
        if self.path.exists() { Ok(()) } else { write_private(&self.path, &self.secret) }
    }
}

impl Drop for CliToken {
    fn drop(&mut self) {
        let _may_be_gone = std::fs::remove_file(&self.path);
    }
}

/// Where commands find it.
pub(crate) fn token_path(state: &Path) -> PathBuf {
    state.join("cli.token")
}
