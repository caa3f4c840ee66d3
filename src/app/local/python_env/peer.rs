//! The head's Python environment on a machine that joined: its own if that is the same, else one that is made once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::make::{self as pymake, Recipe};
use crate::app::command_error::CommandError;
use crate::base::BoxError;
use crate::host::Interpreter;
use crate::peer::{EnvLock, FindEnv, LockError, disk_free, in_one_line};

/// Below this no environment is begun: dask with numpy and pandas is some 500 MB. Unit: bytes.
const ROOM: u64 = 1 << 30;

/// Finds environments for worker pools. `own`: this machine's Python, if it can run workers at all.
pub(crate) fn finder(state: &Path, own: Option<Interpreter>) -> FindEnv {
    let state = state.to_path_buf();
    let own = own.map(|own| own.path);
    Arc::new(move |lock, tell| {
        let (state, own) = (state.clone(), own.clone());
        Box::pin(async move { find(&state, own.as_deref(), &lock, tell).await })
    })
}

async fn find(
    state: &Path,
    own: Option<&Path>,
    lock: &EnvLock,
    tell: mpsc::UnboundedSender<String>,
) -> Result<PathBuf, BoxError> {
    let differs = match own {
        Some(path) => match EnvLock::of(path).await {
            Ok(here) => {
                let lacks = lock.lacks(&here);
                if lacks.is_empty() {
                    return Ok(path.to_path_buf());
                }
                in_one_line(&lacks)
            }
            Err(why) => why.to_string(),
        },
        None => "there is none with dask and distributed".to_owned(),
    };
    make(state, lock, tell).await.map_err(|source| NoEnvError { differs, source }.into())
}

/// This machine has no Python like the head's.
#[derive(Debug, thiserror::Error)]
#[error("this machine's Python is not like the head's ({differs}), and one like it could not be made: {source}")]
struct NoEnvError {
    differs: String,
    source: MakeError,
}

/// Why an environment like the head's was not made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("{0}: installed from files of the head, and so not to be had by name and version")]
    FromFiles(String),
    #[error("{free_mb} MB are free on the disk of {}, {} MB are needed; make room", folder.display(), ROOM >> 20)]
    NoRoom { free_mb: u64, folder: PathBuf },
    #[error(transparent)]
    Failed(#[from] CommandError),
    #[error(transparent)]
    Unknown(#[from] LockError),
    #[error("what was made is not the same: {0}")]
    Other(String),
}

async fn make(state: &Path, lock: &EnvLock, tell: mpsc::UnboundedSender<String>) -> Result<PathBuf, MakeError> {
    if !lock.local.is_empty() {
        return Err(MakeError::FromFiles(lock.local.join(", ")));
    }
    let [_, minor, _] = lock.version;
    let recipe = Recipe::like(state, &lock.hash(), (lock.requirements(), minor), tell);
    if recipe.made().is_none() {
        let free = disk_free(state);
        if free < ROOM {
            return Err(MakeError::NoRoom { free_mb: free >> 20, folder: state.to_path_buf() });
        }
    }
    let python = pymake::make_by(&recipe).await?;
    // Checked, not believed: an index may have served something else, a person may have added to it.
    let lacks = lock.lacks(&EnvLock::of(&python).await?);
    if lacks.is_empty() {
        return Ok(python);
    }
    recipe.discard();
    Err(MakeError::Other(in_one_line(&lacks)))
}
