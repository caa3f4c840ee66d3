//! The head's Python environment on a machine that joined: its own if that is the same, else one that is made once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::make::{self as pymake, Recipe};
use crate::host::Interpreter;
use crate::peer::{EnvLock, FindEnv, disk_free, in_one_line};

/// Below this no environment is begun: dask with numpy and pandas is some 500 MB. Unit: bytes.
const ROOM: u64 = 1 << 30;

/// Finds environments for groups of workers. `own`: this machine's Python, if it can run workers at all.
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
) -> Result<PathBuf, String> {
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
    let refused = |why: String| {
        format!("this machine's Python is not like the head's ({differs}), and one like it could not be made: {why}")
    };
    make(state, lock, tell).await.map_err(refused)
}

async fn make(state: &Path, lock: &EnvLock, tell: mpsc::UnboundedSender<String>) -> Result<PathBuf, String> {
    if !lock.local.is_empty() {
        let names = lock.local.join(", ");
        return Err(format!("{names}: installed from files of the head, and so not to be had by name and version"));
    }
    let [_, minor, _] = lock.version;
    let recipe = Recipe::like(state, &lock.hash(), (lock.requirements(), minor), tell);
    if recipe.made().is_none() {
        let free = disk_free(state);
        if free < ROOM {
            return Err(format!(
                "{} MB are free on the disk of {}, {} MB are needed; make room",
                free >> 20,
                state.display(),
                ROOM >> 20
            ));
        }
    }
    let python = pymake::make_by(&recipe).await.map_err(|why| why.to_string())?;
    // Checked, not believed: an index may have served something else, a person may have added to it.
    let lacks = EnvLock::of(&python).await.map(|made| lock.lacks(&made)).map_err(|why| why.to_string())?;
    if lacks.is_empty() {
        return Ok(python);
    }
    recipe.discard();
    Err(format!("what was made is not the same: {}", in_one_line(&lacks)))
}
