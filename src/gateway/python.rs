//! Which interpreter a user means, and whether it can run workers: found out before anything is started.

use std::path::{Path, PathBuf};

use super::choice::PythonChoiceError;
use super::settings::places_of;
use crate::host;

/// The interpreter for `asked`: a path of one, of an environment's folder, or the name of an environment.
pub(super) async fn resolve(asked: &str, state: &Path) -> Result<PathBuf, PythonChoiceError> {
    let path = locate(asked, state)?;
    let interpreter = host::interpreter_of(&path);
    if !interpreter.is_file() {
        return Err(PythonChoiceError::NoInterpreter(interpreter));
    }
    // Its files usually tell; starting it takes a while.
    if !host::looks_complete(&interpreter) {
        host::probe(&interpreter).await?;
    }
    Ok(interpreter)
}

fn locate(asked: &str, state: &Path) -> Result<PathBuf, PythonChoiceError> {
    let home = std::env::home_dir();
    if let Some(below) = asked.strip_prefix("~/") {
        let home = home.ok_or_else(|| PythonChoiceError::NoHome(asked.to_owned()))?;
        return Ok(home.join(below));
    }
    if asked.contains('/') {
        let path = PathBuf::from(asked);
        return match path.is_absolute() {
            true => Ok(path),
            false => Err(PythonChoiceError::Relative(asked.to_owned())),
        };
    }
    if asked.contains('\0') || asked == ".." || asked == "." {
        return Err(PythonChoiceError::NotAName(asked.to_owned()));
    }
    let places = places_of(asked, home, roots(state));
    let found = places.iter().find(|place| host::interpreter_of(place).is_file());
    found.cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        PythonChoiceError::NotFound { name: asked.to_owned(), places: looked.join(", ") }
    })
}

fn roots(state: &Path) -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut roots = vec![state.join("envs")];
    roots.extend(var("CONDA_ROOT").map(|root| root.join("envs")));
    // `$CONDA_EXE` is <root>/bin/conda, and set wherever conda was activated.
    roots.extend(var("CONDA_EXE").and_then(|exe| Some(exe.parent()?.parent()?.join("envs"))));
    roots.extend(var("MAMBA_ROOT_PREFIX").map(|root| root.join("envs")));
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<PathBuf, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(resolve(text, Path::new("/nonexistent/state"))).map_err(|why| why.to_string())
    }

    #[test]
    fn what_is_not_there_is_said_with_the_place() {
        assert_eq!(asked("/nonexistent/env"), Err("python: no interpreter at /nonexistent/env".to_owned()));
        assert!(asked("env/bin").is_err_and(|why| why.contains("relative")));
        assert!(
            asked("no-such-environment").is_err_and(|why| why.contains("/nonexistent/state/envs/no-such-environment"))
        );
        assert!(asked("..").is_err());
        assert!(asked("/bin/true").is_err_and(|why| why.contains("/bin/true cannot be used as Python")));
    }
}
