//! Makes a Python environment, once, and shows how far it is. What it starts ends with it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::path::{on_path, variable};
use crate::app::command_error::CommandError;
use crate::app::local::state_dir::private_folder;
use crate::clock::Clock;
use crate::files::FileLock;
use crate::host::{ProbeError, candidates, probe};
use crate::supervise::policy::RestartRule;
use crate::supervise::{self, ExitCause, Output, ParentDeath, Report, Spec, Story};

/// What goes into an environment that we make: one version of everything, so that every machine gets the same.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Oldest Python that has all of [`REQUIREMENTS`].
pub(crate) const OLDEST_MINOR: u32 = 11;

/// Written last into an environment that we made.
const COMPLETE: &str = "rask-complete";

/// The steps, for people.
const MAKE: &str = "making the environment";
const INSTALL: &str = "installing dask and distributed";

/// For pip to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Between looks at whether another rask is done.
const LOOK: Duration = Duration::from_millis(200);

/// What to make.
pub(crate) struct Recipe {
    folder: PathBuf,
    /// For `pip install -r`.
    requirements: String,
    /// Python 3 of this version, or from the oldest that will do on.
    minor: Minor,
    /// Hears what is being done.
    tell: Option<mpsc::UnboundedSender<String>>,
}

#[derive(Clone, Copy)]
enum Minor {
    From(u32),
    Exactly(u32),
}

impl Minor {
    const fn fits(self, minor: u32) -> bool {
        match self {
            Self::From(oldest) => minor >= oldest,
            Self::Exactly(wanted) => minor == wanted,
        }
    }

    fn for_uv(self) -> String {
        match self {
            Self::From(oldest) => format!(">=3.{oldest}"),
            Self::Exactly(wanted) => format!("3.{wanted}"),
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::From(oldest) => format!("none from 3.{oldest} on"),
            Self::Exactly(wanted) => format!("no Python 3.{wanted}"),
        }
    }
}

impl Recipe {
    /// What we make when nothing else was said.
    fn ours(state: &Path) -> Self {
        let (requirements, minor) = (REQUIREMENTS.to_owned(), Minor::From(OLDEST_MINOR));
        Self { folder: folder(state), requirements, minor, tell: None }
    }

    /// The same as another machine has. `hash`: names it.
    pub(crate) fn like(
        state: &Path,
        hash: &str,
        (requirements, minor): (String, u32),
        tell: mpsc::UnboundedSender<String>,
    ) -> Self {
        let folder = state.join("envs").join(format!("head-{hash}"));
        Self { folder, requirements, minor: Minor::Exactly(minor), tell: Some(tell) }
    }

    /// The interpreter, if it was made before.
    pub(crate) fn made(&self) -> Option<PathBuf> {
        self.folder.join(COMPLETE).exists().then(|| python_in(&self.folder))
    }

    /// Removes it: it is not what it should be.
    pub(crate) fn discard(&self) {
        let _may_not_exist = fs::remove_dir_all(&self.folder);
    }
}

/// The interpreter of the environment that was made before, if it was.
pub(crate) fn made(state: &Path) -> Option<PathBuf> {
    Recipe::ours(state).made()
}

/// Makes the environment, or waits for another rask that does. Dropping the future ends what it started.
pub(crate) async fn make(state: &Path) -> Result<PathBuf, CommandError> {
    make_by(&Recipe::ours(state)).await
}

/// As [`make`], by another recipe.
pub(crate) async fn make_by(recipe: &Recipe) -> Result<PathBuf, CommandError> {
    let folder = &recipe.folder;
    if let Some(parent) = folder.parent() {
        private_folder(parent)?;
    }
    let _lock = lock(folder).await?;
    if let Some(python) = recipe.made() {
        return Ok(python);
    }
    let job = Job::start(recipe)?;
    match recipe.tell {
        None => eprintln!("No Python with dask and distributed found: making one in {} (once).", folder.display()),
        Some(_) => eprintln!("Making the head's Python environment in {} (once).", folder.display()),
    }
    let uv = on_path("uv");
    if let Some(uv) = &uv
        && let Err(why) = job.carry_out(job.by_uv(uv)).await
    {
        // It does not read pip's settings of mirrors, for one.
        eprintln!("  uv could not do it, trying pip ({why})");
        job.empty();
    }
    if !python_in(&job.folder).exists() {
        job.carry_out(job.by_pip().await?).await.map_err(|why| job.failed("with pip", &why))?;
    }
    let marked = fs::write(job.folder.join(COMPLETE), &recipe.requirements);
    marked.map_err(|why| job.failed("marking it complete", &why))?;
    Ok(python_in(&job.folder))
}

fn folder(state: &Path) -> PathBuf {
    let digest = Sha256::digest(REQUIREMENTS);
    let short = HEXLOWER.encode(digest.get(..6).unwrap_or(&digest));
    state.join("envs").join(format!("default-{short}"))
}

fn python_in(folder: &Path) -> PathBuf {
    folder.join("bin").join("python")
}

/// One maker at a time. The lock ends with the process that has it, however that ends; its file at the end of the work.
async fn lock(folder: &Path) -> Result<FileLock, CommandError> {
    let path = folder.with_extension("lock");
    let mut told = false;
    loop {
        let lock = FileLock::take(&path)
            .map_err(|error| CommandError::world(format!("cannot lock {}: {error}", path.display())))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("Another rask makes a Python environment in {}: waiting for it.", folder.display());
        }
        sleep(LOOK).await;
    }
}

/// An environment in the making. What is not complete is removed with it.
struct Job {
    folder: PathBuf,
    temporary: PathBuf,
    requirements: PathBuf,
    minor: Minor,
    tell: Option<mpsc::UnboundedSender<String>>,
}

/// A step failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {said}")]
struct StepError {
    doing: &'static str,
    /// The best that it said itself.
    said: String,
}

struct Step {
    doing: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
}

impl Job {
    fn start(recipe: &Recipe) -> Result<Self, CommandError> {
        let folder = recipe.folder.clone();
        let (temporary, requirements) = (folder.with_extension("tmp"), folder.with_extension("txt"));
        let job = Self { folder, temporary, requirements, minor: recipe.minor, tell: recipe.tell.clone() };
        // Of one that was killed.
        job.remove();
        let written = fs::create_dir(&job.temporary).and_then(|()| fs::write(&job.requirements, &recipe.requirements));
        written.map_err(|why| job.failed("writing to that folder", &why))?;
        Ok(job)
    }

    fn remove(&self) {
        for folder in [&self.folder, &self.temporary] {
            // What was just killed may be in the middle of its last write.
            for _ in 0..10 {
                let _may_not_exist = fs::remove_dir_all(folder);
                if !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _may_not_exist = fs::remove_file(&self.requirements);
    }

    fn failed(&self, doing: &str, why: &dyn std::fmt::Display) -> CommandError {
        CommandError::world(format!("cannot make a Python environment in {}: {doing}: {why}", self.folder.display()))
            .remedy("or install dask and distributed yourself and name that Python with --python")
    }

    /// Removes what a way that failed has left.
    fn empty(&self) {
        let _may_not_exist = fs::remove_dir_all(&self.folder);
    }

    async fn carry_out(&self, steps: [Step; 2]) -> Result<(), StepError> {
        for step in steps {
            follow(step, &self.temporary, self.tell.as_ref()).await?;
        }
        Ok(())
    }

    fn by_uv(&self, uv: &Path) -> [Step; 2] {
        let wanted = self.minor.for_uv();
        let place = python_in(&self.folder).to_string_lossy().into_owned();
        [
            Step::new(MAKE, uv, &["venv", "--python", &wanted], &self.folder),
            Step::new(INSTALL, uv, &["pip", "install", "--python", &place, "-r"], &self.requirements),
        ]
    }

    async fn by_pip(&self) -> Result<[Step; 2], CommandError> {
        let base = base_python(self.minor).await.ok_or_else(|| {
            CommandError::world(format!(
                "no Python with dask and distributed, and {} to make one",
                self.minor.in_words()
            ))
            .remedy("install a newer Python (with venv) or uv, or name a Python with --python")
        })?;
        // -I: modules that lie in the current folder are not run.
        let pip = ["-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"];
        Ok([
            Step::new(MAKE, &base, &["-I", "-m", "venv"], &self.folder),
            Step::new(INSTALL, &python_in(&self.folder), &pip, &self.requirements),
        ])
    }
}

impl Step {
    fn new(doing: &'static str, program: &Path, args: &[&str], last: &Path) -> Self {
        let args = args.iter().map(OsString::from).chain([last.into()]).collect();
        Self { doing, program: program.to_path_buf(), args }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.folder.join(COMPLETE).exists() {
            let _kept_for_nobody = fs::remove_file(&self.requirements);
            let _kept_for_nobody = fs::remove_dir_all(&self.temporary);
        } else {
            self.remove();
        }
    }
}

/// A probe that fails only for the lack of a fit `distributed` shows a Python that can make environments.
async fn base_python(wanted: Minor) -> Option<PathBuf> {
    for path in candidates(variable) {
        let minor = match probe(&path).await {
            Ok(found) => found.version.split('.').nth(1).and_then(|minor| minor.parse().ok()),
            Err(ProbeError::NoDistributed { minor, .. } | ProbeError::OldDistributed { minor, .. }) => Some(minor),
            Err(_) => None,
        };
        if minor.is_some_and(|minor: u32| wanted.fits(minor)) {
            return Some(path);
        }
    }
    None
}

/// Runs a step to its end.
async fn follow(step: Step, temporary: &Path, tell: Option<&mpsc::UnboundedSender<String>>) -> Result<(), StepError> {
    let say = |line: &str| {
        if let Some(tell) = tell {
            // Whoever listened may have gone; the work goes on for the next.
            drop(tell.send(line.trim().chars().take(200).collect()));
        }
    };
    say(step.doing);
    let (lines, mut heard) = mpsc::unbounded_channel();
    let (reports, mut ends) = mpsc::unbounded_channel();
    let mut show = Show::start(step.doing);
    let spec = Spec {
        name: step.doing.to_owned(),
        program: step.program,
        args: step.args,
        env: vec![
            // Its own, so that nothing is left in the system's when it is killed.
            ("TMPDIR".into(), Some(temporary.into())),
            ("PYTHONUNBUFFERED".into(), Some("1".into())),
            ("PIP_PROGRESS_BAR".into(), Some("off".into())),
        ],
        output: Output::Lines(lines),
        parent_death: ParentDeath::Kill,
        cgroup: None,
        restart: RestartRule::Never,
        failures_max: None,
        grace: GRACE,
    };
    let _child = supervise::start(spec, reports);
    let mut group = Group(None);
    loop {
        tokio::select! {
            biased;
            Some(line) = heard.recv() => {
                show.line(&line);
                say(&line);
            }
            Some(Report { story, .. }) = ends.recv() => match story {
                Story::Started { pid } => group.0 = Some(pid),
                Story::Died { cause, last_lines, .. } => {
                    group.0 = None;
                    if cause == ExitCause::Code(0) {
                        show.done();
                        return Ok(());
                    }
                    return Err(StepError { doing: step.doing, said: blame_line(&last_lines, &cause) });
                }
                Story::Stopped { .. } => {}
            },
            () = sleep(Duration::from_secs(1)) => show.tick(),
        }
    }
}

/// A process group that ends when this is dropped: at once, as the event loop may be ending too.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _already_gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn blame_line(last_lines: &[String], cause: &ExitCause) -> String {
    // Debian has it in a package of its own, and says so in a dozen lines.
    if last_lines.iter().any(|line| line.contains("ensurepip is not")) {
        return "this Python lacks ensurepip, without which it makes no environments (Debian, Ubuntu: apt install python3-venv)"
            .to_owned();
    }
    let wrong = last_lines.iter().rev().find(|line| line.to_lowercase().starts_with("error"));
    let said = wrong.or(last_lines.iter().rev().find(|line| !line.trim().is_empty())).map(|line| line.trim());
    said.map_or_else(|| cause.to_string(), |line| format!("{line} ({cause})"))
}

/// Progress on standard error: one line that changes on a terminal, a few lines elsewhere.
struct Show {
    doing: &'static str,
    since: Clock,
    terminal: bool,
    detail: String,
}

impl Show {
    fn start(doing: &'static str) -> Self {
        let show = Self { doing, since: Clock::start(), terminal: io::stderr().is_terminal(), detail: String::new() };
        if show.terminal {
            show.draw();
        } else {
            eprintln!("  {doing} ...");
        }
        show
    }

    fn line(&mut self, line: &str) {
        let line = line.trim();
        let known = ["Collecting", "Downloading", "Installing", "Resolved", "Prepared", "Installed"];
        if !known.iter().any(|word| line.starts_with(word)) {
            return;
        }
        self.detail = line.chars().take(60).collect();
        if self.terminal {
            self.draw();
        } else if line.starts_with("Installing") || (line.starts_with("Downloading") && long_download(line)) {
            eprintln!("    {}", self.detail);
        }
    }

    fn secs(&self) -> u64 {
        self.since.now().0 / 1_000_000
    }

    fn tick(&self) {
        if self.terminal {
            self.draw();
        }
    }

    fn draw(&self) {
        let secs = self.secs();
        let _nobody_looks = write!(io::stderr().lock(), "\r\x1b[K  {} ({secs} s) {}", self.doing, self.detail);
    }

    /// Its line stays.
    fn done(mut self) {
        self.detail = "done".to_owned();
        if !self.terminal {
            eprintln!("  {}: done in {} s", self.doing, self.secs());
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if self.terminal {
            self.draw();
            eprintln!();
        }
    }
}

/// Worth a line of a log: `Downloading numpy-2.whl (16.9 MB)`, `Downloading numpy (16.1MiB)`.
fn long_download(line: &str) -> bool {
    line.ends_with("MB)") || line.ends_with("MiB)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_said_last_is_named_and_a_lack_that_debian_has_by_design() {
        let said = |lines: &[&str]| {
            blame_line(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), &ExitCause::Code(1))
        };
        assert_eq!(said(&["a", "ERROR: no room", "b"]), "ERROR: no room (exit code 1)");
        assert_eq!(said(&["a", "b", "", " "]), "b (exit code 1)");
        assert_eq!(said(&[]), "exit code 1");
        let debian = ["not created successfully because ensurepip is not", "available.", "", "Failing command: x", ""];
        assert!(said(&debian).contains("apt install python3-venv"));
    }
}
