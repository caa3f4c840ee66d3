//! Python interpreters: where they may be, and what a probe says about one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::base::Blame;

/// Oldest Python that `distributed` 2026.8 runs on.
const OLDEST: (u32, u32) = (3, 10);

/// Oldest `distributed` that sends graphs as this scheduler reads them: `update-graph` with an expression.
const OLDEST_DISTRIBUTED: (u32, u32) = (2025, 4);

/// Longest a probe may take; a cold start from a network disk is slow, a hung one must not hold us for ever.
const PROBE_TIME: Duration = Duration::from_secs(30);

/// Asks for versions without importing anything heavy: importing `distributed` takes over a second.
///
/// The current folder leaves the path of modules first (`sys` is built in): a `json.py` that lies there is not run.
const PROBE: &str = r#"
import sys
sys.path = [folder for folder in sys.path if folder]
import importlib.metadata as m, importlib.util as u, json
def version(name):
    try:
        return m.version(name)
    except Exception:
        return None
found = u.find_spec("distributed") is not None
print("rask-probe " + json.dumps({
    "executable": sys.executable,
    "version": list(sys.version_info[:3]),
    "distributed": version("distributed") if found else None,
    "dask": version("dask") if found else None,
}))
"#;

/// Packages whose versions should be the same where tasks are made and where they run.
///
/// Source: `distributed/versions.py`, and the two that most data is made of.
const PACKAGES: &str = "dask distributed msgpack cloudpickle tornado toolz lz4 numpy pandas pyarrow";

/// Asks for the versions of the packages named as arguments.
const PACKAGES_PROBE: &str = r#"
import sys
sys.path = [folder for folder in sys.path if folder]
import importlib.metadata as m, json, platform
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except Exception:
        pass
print("rask-probe " + json.dumps(found))
"#;

/// A Python that can run workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its absolute path, as it calls itself (so not a shim).
    pub path: PathBuf,
    /// `3.11.4`
    pub version: String,
    /// Version of `dask`.
    pub dask: String,
    /// Version of `distributed`.
    pub distributed: String,
}

/// Why an interpreter cannot run workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It could not be started, or ended badly.
    #[error("{path} cannot be used as Python: {why}")]
    NotPython {
        path: PathBuf,
        /// Last line that it said.
        why: String,
    },
    /// Older than 3.10.
    #[error("{path} is Python {version}; {}.{} or newer is needed", OLDEST.0, OLDEST.1)]
    TooOld { path: PathBuf, version: String },
    /// Its `distributed` is older than 2025.4.
    #[error("{path} has distributed {version}; {}.{}.0 or newer is needed", OLDEST_DISTRIBUTED.0, OLDEST_DISTRIBUTED.1)]
    OldDistributed {
        path: PathBuf,
        /// Version of `distributed`.
        version: String,
        /// It is Python 3 and this.
        minor: u32,
    },
    /// `dask` or `distributed` is not installed there.
    #[error("{path} lacks dask and distributed")]
    NoDistributed {
        path: PathBuf,
        /// It is Python 3 and this.
        minor: u32,
    },
}

impl ProbeError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::Caller
    }
}

/// The interpreter that a person means by a path: an interpreter, or the folder of an environment.
pub fn interpreter_of(path: &Path) -> PathBuf {
    let inside = path.join("bin").join("python");
    if inside.exists() { inside } else { path.to_path_buf() }
}

/// Where to look when nothing was said: the active environment, then PATH. `var` reads a variable.
pub fn candidates(var: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(&var).filter(|path| !path.is_empty());
    let mut found: Vec<PathBuf> =
        active.map(|path| Path::new(&path).join("bin").join("python")).filter(|path| path.exists()).collect();
    let path = var("PATH").unwrap_or_default();
    let on_path = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    // An active environment is on PATH, too, under both names.
    let others: Vec<PathBuf> = ["python3", "python"].into_iter().filter_map(on_path).collect();
    let known = |path: &PathBuf| found.iter().any(|active| active.parent() == path.parent());
    let others: Vec<PathBuf> = others.into_iter().filter(|path| !known(path)).collect();
    found.extend(others);
    found
}

/// Can `path` run workers, as far as its files tell? Starts nothing, so it takes no time; `false` is no proof.
pub fn looks_complete(path: &Path) -> bool {
    let there = |folder: &Path, package: &str| folder.join(package).join("__init__.py").is_file();
    package_folders(path).iter().any(|folder| {
        there(folder, "dask") && there(folder, "distributed") && distributed_in(folder).is_some_and(|it| !is_old(&it))
    })
}

/// The version of `distributed` by the name of its metadata in a folder of packages.
fn distributed_in(folder: &Path) -> Option<String> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("distributed-")?.strip_suffix(".dist-info").map(str::to_owned)
    })
}

/// A version that is no number, as of a checkout, is taken for a new one.
fn is_old(distributed: &str) -> bool {
    let mut parts = distributed.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(year)), Some(Ok(month))) if (year, month) < OLDEST_DISTRIBUTED)
}

/// Where packages of the interpreter at `path` are, by the layout of CPython's prefix.
fn package_folders(path: &Path) -> Vec<PathBuf> {
    let Some(prefix) = path.parent().and_then(Path::parent) else { return Vec::new() };
    let lib = prefix.join("lib");
    if prefix.join("pyvenv.cfg").is_file() || prefix.join("conda-meta").is_dir() {
        let versions = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_python = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python3."))
        };
        return versions.filter(of_python).map(|path| path.join("site-packages")).collect();
    }
    // Shared by several versions: the real name says which one it is, like `python3.11`.
    let real = std::fs::canonicalize(path).unwrap_or_default();
    match real.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("python3.") => vec![lib.join(name).join("site-packages")],
        _ => Vec::new(),
    }
}

/// Starts an interpreter and asks what it is: a few tens of milliseconds. It dies with the returned future.
pub async fn probe(path: &Path) -> Result<Interpreter, ProbeError> {
    let not_python = |why: String| ProbeError::NotPython { path: path.to_path_buf(), why };
    let mut command = Command::new(path);
    command.args(["-c", PROBE]);
    let (out, err) = run(command).await.map_err(|why| not_python(why.to_string()))?;
    let Some(answer) = out.lines().find_map(|line| line.strip_prefix("rask-probe ")) else {
        return Err(not_python(err.trim().lines().last().unwrap_or("it did not answer").to_owned()));
    };
    let said: Said = serde_json::from_str(answer).map_err(|why| not_python(why.to_string()))?;
    let [major, minor, micro] = said.version;
    let version = format!("{major}.{minor}.{micro}");
    if (major, minor) < OLDEST {
        return Err(ProbeError::TooOld { path: path.to_path_buf(), version });
    }
    match (said.dask, said.distributed) {
        (Some(_), Some(version)) if is_old(&version) => {
            Err(ProbeError::OldDistributed { path: path.to_path_buf(), version, minor })
        }
        (Some(dask), Some(distributed)) => {
            Ok(Interpreter { path: PathBuf::from(said.executable), version, dask, distributed })
        }
        (_, _) => Err(ProbeError::NoDistributed { path: path.to_path_buf(), minor }),
    }
}

/// Versions of Python itself and of those packages that tasks and data travel with, as far as they are installed.
pub async fn packages(path: &Path) -> Result<BTreeMap<String, String>, ProbeError> {
    let not_python = |why: String| ProbeError::NotPython { path: path.to_path_buf(), why };
    let mut command = Command::new(path);
    command.args(["-c", PACKAGES_PROBE]).args(PACKAGES.split(' '));
    let (out, err) = run(command).await.map_err(|why| not_python(why.to_string()))?;
    let answer = out.lines().find_map(|line| serde_json::from_str(line.strip_prefix("rask-probe ")?).ok());
    answer.ok_or_else(|| not_python(err.trim().lines().last().unwrap_or("it did not answer").to_owned()))
}

#[derive(Deserialize)]
struct Said {
    executable: String,
    version: [u32; 3],
    distributed: Option<String>,
    dask: Option<String>,
}

/// Standard output and error of the probe.
async fn run(mut command: Command) -> std::io::Result<(String, String)> {
    let answer = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PROBE_TIME, answer).await.map_err(|_| {
        std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in {} s", PROBE_TIME.as_secs()))
    })??;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_python_is_said_to_be_not_python() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for path in ["/bin/true", "/nonexistent/python"] {
            let error = runtime.block_on(probe(Path::new(path))).expect_err("not Python");
            assert!(matches!(error, ProbeError::NotPython { .. }), "{error}");
        }
    }

    #[test]
    fn versions_of_distributed_are_compared_as_numbers() {
        assert!(["2025.3.1", "2024.12.1", "2.30.1"].into_iter().all(is_old));
        assert!(!["2025.4.0", "2025.12.0", "2026.8.0", "2026.8.0+3.gabc", "0+unknown"].into_iter().any(is_old));
    }

    /// Method: the environment's folder comes first on PATH, as activating it makes it.
    #[test]
    fn an_active_environment_is_tried_once() {
        let folder = std::env::temp_dir().join(format!("rask-host-active-{}", std::process::id()));
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).expect("made");
        for name in ["python", "python3"] {
            std::fs::write(bin.join(name), "").expect("written");
        }
        let path = bin.display().to_string();
        let var = |active: bool| {
            let (folder, path) = (folder.display().to_string(), path.clone());
            move |name: &str| match name {
                "VIRTUAL_ENV" => active.then(|| folder.clone()),
                "PATH" => Some(path.clone()),
                _ => None,
            }
        };
        assert_eq!(candidates(var(true)), [bin.join("python")]);
        assert_eq!(candidates(var(false)), [bin.join("python3"), bin.join("python")]);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn an_environment_is_complete_when_both_packages_are_there() {
        let folder = std::env::temp_dir().join(format!("rask-host-env-{}", std::process::id()));
        let packages = folder.join("lib").join("python3.11").join("site-packages");
        let python = folder.join("bin").join("python");
        let add = |path: PathBuf| {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "").expect("written");
        };
        add(python.clone());
        add(folder.join("pyvenv.cfg"));
        add(packages.join("distributed").join("__init__.py"));
        assert!(!looks_complete(&python));
        add(packages.join("dask").join("__init__.py"));
        assert!(!looks_complete(&python), "of no version");
        let old = packages.join("distributed-2025.3.1.dist-info");
        add(old.join("METADATA"));
        assert!(!looks_complete(&python));
        std::fs::rename(old, packages.join("distributed-2025.4.0.dist-info")).expect("renamed");
        assert!(looks_complete(&python));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
