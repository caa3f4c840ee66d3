//! Which interpreter a user means, and whether it can run workers: found out before anything is started.

use std::path::{Path, PathBuf};

use super::settings::places_of;
use crate::host;

/// The interpreter for `asked`: a path of one, of an environment's folder, or the name of an environment.
///
/// Errors: 422's text, which says where was looked.
pub(super) async fn resolve(asked: &str, state: &Path) -> Result<PathBuf, String> {
    let path = locate(asked, state)?;
    let interpreter = host::interpreter_of(&path);
    if !interpreter.is_file() {
        return Err(format!("python: no interpreter at {}", interpreter.display()));
    }
    // Its files usually tell; starting it takes a while.
    if !host::looks_complete(&interpreter) {
        host::probe(&interpreter).await.map_err(|why| format!("python: {why}"))?;
    }
    Ok(interpreter)
}

fn locate(asked: &str, state: &Path) -> Result<PathBuf, String> {
    let home = std::env::home_dir();
    if let Some(below) = asked.strip_prefix("~/") {
        let home = home.ok_or_else(|| format!("python: {asked}: the home folder is not known"))?;
        return Ok(home.join(below));
    }
    if asked.contains('/') {
        let path = PathBuf::from(asked);
        return match path.is_absolute() {
            true => Ok(path),
            false => Err(format!("python: {asked} is relative; give a whole path or the name of an environment")),
        };
    }
    if asked.contains('\0') || asked == ".." || asked == "." {
        return Err(format!("python: {asked:?} is not the name of an environment"));
    }
    let places = places_of(asked, home, roots(state));
    let found = places.iter().find(|place| host::interpreter_of(place).is_file());
    found.cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!("python: no environment {asked}; looked for {}", looked.join(", "))
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
        runtime.block_on(resolve(text, Path::new("/nonexistent/state")))
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
