//! The Python of workers and pyhost: found, or made.

use std::path::{Path, PathBuf};

use super::make;
use super::path::{on_path, variable};
use crate::app::command_error::CommandError;
use crate::host::{Interpreter, ProbeError, candidates, interpreter_of, looks_complete, probe};

/// The interpreter to use: as asked, else the active environment, else `python3`, else one that is made in `state`.
///
/// Dropping the future ends what it started.
pub(crate) async fn choose(asked: Option<&str>, state: &Path) -> Result<Interpreter, CommandError> {
    if let Some(found) = choose_made(asked, state).await {
        return found;
    }
    let python = make::make(state).await?;
    probe(&python).await.map_err(|why| unusable(&why))
}

/// As [`choose`], but makes nothing. `None`: one would have to be made.
///
/// Errors: the one that was asked for, or made before, cannot be used.
pub(crate) async fn choose_made(asked: Option<&str>, state: &Path) -> Option<Result<Interpreter, CommandError>> {
    if let Some(asked) = by_name(asked) {
        return Some(probe(&named(asked)).await.map_err(|why| unusable(&why)));
    }
    for path in candidates(variable) {
        match probe(&path).await {
            Ok(found) => return Some(Ok(found)),
            Err(why) => passed_over(&why),
        }
    }
    let made = make::made(state)?;
    Some(probe(&made).await.map_err(|why| unusable(&why)))
}

/// As [`choose`], but makes nothing, and starts an interpreter only if its files do not tell: a scheduler wants to
/// listen at once. `None`: there is none.
///
/// Errors: the one that was asked for cannot be used.
pub(crate) async fn find(asked: Option<&str>, state: Option<&Path>) -> Result<Option<PathBuf>, CommandError> {
    if let Some(asked) = by_name(asked) {
        let path = named(asked);
        if looks_complete(&path) {
            return Ok(Some(path));
        }
        return probe(&path).await.map(|found| Some(found.path)).map_err(|why| unusable(&why));
    }
    for path in candidates(variable) {
        if looks_complete(&path) {
            return Ok(Some(path));
        }
        match probe(&path).await {
            Ok(found) => return Ok(Some(found.path)),
            Err(why) => passed_over(&why),
        }
    }
    Ok(state.and_then(make::made))
}

/// Somebody's environment with a Dask in it was probably meant to be used; a bare Python was not.
fn passed_over(why: &ProbeError) {
    match why {
        ProbeError::OldDistributed { .. } => tracing::warn!(error = %why, "a Python is passed over"),
        _ => tracing::debug!(error = %why, "a Python is passed over"),
    }
}

fn by_name(asked: Option<&str>) -> Option<&str> {
    asked.filter(|asked| *asked != "auto")
}

/// A path, or a name to be looked up on PATH.
fn named(asked: &str) -> PathBuf {
    if !asked.contains('/')
        && !Path::new(asked).exists()
        && let Some(found) = on_path(asked)
    {
        return found;
    }
    let path = interpreter_of(Path::new(asked));
    std::path::absolute(&path).unwrap_or(path)
}

fn unusable(why: &ProbeError) -> CommandError {
    let remedy = match why {
        ProbeError::NoDistributed { path, .. } => format!("run: {} -m pip install distributed", path.display()),
        ProbeError::OldDistributed { path, .. } => {
            format!("run: {} -m pip install --upgrade dask distributed", path.display())
        }
        ProbeError::NotPython { .. } | ProbeError::TooOld { .. } => {
            "name a Python 3.10 or newer, or the folder of an environment, with --python".to_owned()
        }
    };
    CommandError::blame(why.blame(), why).remedy(remedy)
}
