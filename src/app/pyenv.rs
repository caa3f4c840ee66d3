//! The Python of workers and pyhost: found, or made.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::Failure;
use super::state::private_folder;
use crate::host::{Interpreter, ProbeError, candidates, interpreter_of, probe};

/// What goes into an environment that we make: one version of everything, so that every machine gets the same.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Written last into an environment that we made.
const COMPLETE: &str = "rask-complete";

/// The interpreter to use: as asked, else the active environment, else `python3`, else one that is made in `state`.
pub(super) fn choose(asked: Option<&str>, state: &Path) -> Result<Interpreter, Failure> {
    if let Some(asked) = asked.filter(|asked| *asked != "auto") {
        return probe(&named(asked)).map_err(|why| unusable(&why));
    }
    for path in candidates(variable) {
        match probe(&path) {
            Ok(found) => return Ok(found),
            Err(why) => tracing::debug!(%why, "passed over"),
        }
    }
    let folder = made_folder(state);
    let python = folder.join("bin").join("python");
    if !folder.join(COMPLETE).exists() {
        make(&folder)?;
    }
    probe(&python).map_err(|why| unusable(&why))
}

/// The interpreter that [`choose`] would most likely find, without starting anything.
pub(super) fn likely(asked: Option<&str>, state: Option<&Path>) -> Option<PathBuf> {
    if let Some(asked) = asked.filter(|asked| *asked != "auto") {
        return Some(named(asked));
    }
    let made = state.map(made_folder).filter(|folder| folder.join(COMPLETE).exists());
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().any(|name| variable(name).is_some());
    match made {
        Some(folder) if !active => Some(folder.join("bin").join("python")),
        _ => candidates(variable).into_iter().next(),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A path, or a name to be looked up on PATH.
fn named(asked: &str) -> PathBuf {
    if !asked.contains('/') && !Path::new(asked).exists() {
        let path = variable("PATH").unwrap_or_default();
        if let Some(found) = std::env::split_paths(&path).map(|dir| dir.join(asked)).find(|path| path.is_file()) {
            return found;
        }
    }
    let path = interpreter_of(Path::new(asked));
    std::path::absolute(&path).unwrap_or(path)
}

fn unusable(why: &ProbeError) -> Failure {
    let remedy = match why {
        ProbeError::NoDistributed { path } => format!("run: {} -m pip install distributed", path.display()),
        ProbeError::NotPython { .. } | ProbeError::TooOld { .. } => {
            "name a Python 3.10 or newer, or the folder of an environment, with --python".to_owned()
        }
    };
    Failure::blame(why.blame(), why.to_string()).remedy(remedy)
}

fn made_folder(state: &Path) -> PathBuf {
    let digest = Sha256::digest(REQUIREMENTS);
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    state.join("envs").join(format!("default-{short}"))
}

fn make(folder: &Path) -> Result<(), Failure> {
    if let Some(parent) = folder.parent() {
        private_folder(parent)?;
    }
    let _incomplete = fs::remove_dir_all(folder);
    eprintln!("No Python with `distributed` found: making one in {} (once).", folder.display());
    let requirements = folder.with_extension("txt");
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        Failure::world(format!("cannot make a Python environment: {what}: {why}"))
            .remedy("install dask and distributed yourself and name that Python with --python")
    };
    fs::write(&requirements, REQUIREMENTS).map_err(|why| failed("requirements", &why))?;
    let python = folder.join("bin").join("python");
    let steps = if on_path("uv").is_some() {
        let mut venv = Command::new("uv");
        venv.args(["venv", "--python", ">=3.10"]).arg(folder);
        let mut install = Command::new("uv");
        install.args(["pip", "install", "--python"]).arg(&python).arg("-r").arg(&requirements);
        [venv, install]
    } else {
        let Some(base) = candidates(variable).into_iter().find(|path| new_enough(path)) else {
            return Err(Failure::world("no Python 3.10 or newer on PATH").remedy("install one (with venv), or uv"));
        };
        let mut venv = Command::new(base);
        venv.args(["-m", "venv"]).arg(folder);
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]).arg(&requirements);
        [venv, install]
    };
    for mut step in steps {
        follow(&mut step).map_err(|why| failed(&step.get_program().to_string_lossy(), &why))?;
    }
    let _kept_for_nobody = fs::remove_file(&requirements);
    fs::write(folder.join(COMPLETE), REQUIREMENTS).map_err(|why| failed(COMPLETE, &why))
}

/// A probe that fails only for the lack of `distributed` shows a Python that is new enough.
fn new_enough(path: &Path) -> bool {
    matches!(probe(path), Ok(_) | Err(ProbeError::NoDistributed { .. }))
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&variable("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Runs a command to its end and shows what it does, in short. The error is the last that it said.
fn follow(command: &mut Command) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|why| why.to_string())?;
    let mut last = String::new();
    if let Some(pipe) = child.stdout.take() {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let line = line.trim();
            if ["Collecting", "Downloading", "Installing", "Successfully"].iter().any(|word| line.starts_with(word)) {
                eprintln!("  {}", line.chars().take(100).collect::<String>());
            }
            line.clone_into(&mut last);
        }
    }
    let status = child.wait().map_err(|why| why.to_string())?;
    if status.success() { Ok(()) } else { Err(if last.is_empty() { status.to_string() } else { last }) }
}
