//! One child process and the task that watches it through all its lives.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::output::{Output, Printed, last_lines, open_log};
use super::policy::{Next, Policy, ProcessEnd, RestartRule};
use crate::clock::Clock;

/// This very binary, even if its file was replaced meanwhile.
pub const OWN: &str = "/proc/self/exe";

/// What to run, and how to treat it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// For logs.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Variables to set, or to remove.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// Where what it prints goes.
    pub output: Output,
    /// What the kernel does to it when we die.
    pub parent_death: ParentDeath,
    /// The control group (version 2) to start it in, if it is tied to us.
    pub cgroup: Option<PathBuf>,
    /// When to start it again.
    pub restart: RestartRule,
    /// Failures in a row before that ends. None: never.
    pub failures_max: Option<u32>,
    /// Between `SIGTERM` and `SIGKILL`.
    pub grace: Duration,
}

/// What happens to a child when this process dies, however it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentDeath {
    /// `SIGKILL`: for programs that might not obey.
    Kill,
    /// `SIGTERM`: for rask itself, which then stops what it started.
    Term,
    /// Nothing. For tests, and for children that are adopted later.
    Nothing,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// An exit code.
    Code(i32),
    /// A signal's number.
    Signal(i32),
    /// It could not be started: the system's error number.
    NotStarted(i32),
    /// It was a task of this process ([`Child::of_task`]), and this is its reason.
    Told(String),
}

impl ExitCause {
    pub(super) fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or(0)), Self::Code)
    }

    const fn end(&self) -> ProcessEnd {
        match self {
            Self::Code(0) => ProcessEnd::Fine,
            Self::Code(_) | Self::NotStarted(_) | Self::Told(_) => ProcessEnd::Failed,
            Self::Signal(_) => ProcessEnd::Crashed,
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(9) => f.write_str("killed by SIGKILL (often the system's memory limit)"),
            Self::Signal(15) => f.write_str("ended by SIGTERM"),
            Self::Signal(11) => f.write_str("crashed with SIGSEGV"),
            Self::Signal(6) => f.write_str("aborted with SIGABRT"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::NotStarted(error) => write!(f, "could not be started: {}", io::Error::from_raw_os_error(*error)),
            Self::Told(why) => f.write_str(why),
        }
    }
}

/// One thing that happened to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// [`Spec::name`].
    pub name: String,
    pub story: Story,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Story {
    /// It runs.
    Started {
        /// Its process id, also of its process group.
        pid: u32,
    },
    /// It ended without being told to.
    Died {
        cause: ExitCause,
        /// The last it printed.
        last_lines: Vec<String>,
        /// What happens next.
        next: Next,
    },
    /// It ended after being told to.
    Stopped { cause: ExitCause },
}

/// A handle on a watched child. Dropping it stops the child as [`Child::stop`] does, without waiting.
#[derive(Debug)]
pub struct Child {
    stop: watch::Sender<bool>,
    task: JoinHandle<ExitCause>,
}

impl Child {
    /// Something that this process does itself and that is watched like a child: `task` ends soon after `stop` says so.
    pub const fn of_task(stop: watch::Sender<bool>, task: JoinHandle<ExitCause>) -> Self {
        Self { stop, task }
    }

    /// `SIGTERM`, after the grace `SIGKILL`, for its whole process group. Waits until it is gone.
    pub async fn stop(self) -> Option<ExitCause> {
        self.stop.send_replace(true);
        self.task.await.ok()
    }

    /// Waits for its final end, through all restarts.
    pub async fn ended(&mut self) -> Option<ExitCause> {
        (&mut self.task).await.ok()
    }
}

/// Starts a child and watches it in a task of its own. Must run on the main thread's runtime.
pub fn start(spec: Spec, reports: mpsc::UnboundedSender<Report>) -> Child {
    let (stop, told) = watch::channel(false);
    let task = tokio::spawn(live(spec, reports, told));
    Child { stop, task }
}

/// All lives of one child. Returns how the last one ended.
async fn live(spec: Spec, reports: mpsc::UnboundedSender<Report>, mut told: watch::Receiver<bool>) -> ExitCause {
    let mut policy = Policy::new(spec.restart, spec.failures_max);
    // Reports are for people; a listener that went away must not stop the watch.
    let report = |story| drop(reports.send(Report { name: spec.name.clone(), story }));
    loop {
        let clock = Clock::start();
        let life = one_life(&spec, &mut told, |pid| report(Story::Started { pid })).await;
        if *told.borrow() || told.has_changed().is_err() {
            report(Story::Stopped { cause: life.cause.clone() });
            return life.cause;
        }
        let next = policy.on_end(life.cause.end(), clock.now().0 / 1000);
        report(Story::Died { cause: life.cause.clone(), last_lines: life.last_lines, next });
        let Next::After(pause_ms) = next else { return life.cause };
        let _told_or_time = timeout(Duration::from_millis(pause_ms), told_to_stop(&mut told)).await;
        if *told.borrow() || told.has_changed().is_err() {
            return life.cause;
        }
    }
}

struct ChildLife {
    cause: ExitCause,
    last_lines: Vec<String>,
}

async fn one_life(spec: &Spec, told: &mut watch::Receiver<bool>, started: impl FnOnce(u32)) -> ChildLife {
    let not_started = |why: &io::Error| ChildLife {
        cause: ExitCause::NotStarted(why.raw_os_error().unwrap_or(0)),
        last_lines: vec![format!("{}: {why}", spec.program.display())],
    };
    let (mut child, log_start) = match spawn(spec) {
        Ok(pair) => pair,
        Err(why) => return not_started(&why),
    };
    let pid = child.id().unwrap_or_default();
    started(pid);
    let printed = Printed::follow(&mut child, &spec.output);
    let status = tokio::select! {
        status = child.wait() => status,
        () = told_to_stop(told) => end(&mut child, pid, spec.grace).await,
    };
    // What is left of its group (a nanny's worker, a task's own children) goes with it.
    signal_group(pid, Signal::KILL);
    let printed = printed.end().await;
    let last_lines = match &spec.output {
        Output::Prefixed(_) | Output::Lines(_) | Output::LineSink(_) => printed,
        Output::File { .. } => last_words(spec, log_start),
    };
    match status {
        Ok(status) => ChildLife { cause: ExitCause::of(status), last_lines },
        Err(why) => not_started(&why),
    }
}

/// What a child that writes its own file wrote last.
pub(super) fn last_words(spec: &Spec, log_start: u64) -> Vec<String> {
    match &spec.output {
        Output::File { path, .. } => last_lines(path, log_start),
        Output::Prefixed(_) | Output::Lines(_) | Output::LineSink(_) => Vec::new(),
    }
}

/// Returns when the handle says stop or is dropped.
async fn told_to_stop(told: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone: the same wish.
    let _told = told.wait_for(|stop| *stop).await;
}

async fn end(child: &mut tokio::process::Child, pid: u32, grace: Duration) -> io::Result<ExitStatus> {
    signal_one(pid, Signal::TERM);
    match timeout(grace, child.wait()).await {
        Ok(status) => status,
        Err(_elapsed) => {
            signal_group(pid, Signal::KILL);
            child.wait().await
        }
    }
}

fn signal_one(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _already_gone = kill_process(pid, signal);
    }
}

pub(super) fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _already_gone = kill_process_group(pid, signal);
    }
}

/// The running child, and how long its log was before.
pub(super) fn spawn(spec: &Spec) -> io::Result<(tokio::process::Child, u64)> {
    let mut command = match spec.parent_death {
        ParentDeath::Nothing if spec.program == Path::new(OWN) => {
            let mut command = Command::new(OWN);
            command.arg0("rask");
            command
        }
        ParentDeath::Nothing => Command::new(&spec.program),
        ParentDeath::Kill => guarded(&spec.program, "KILL", spec.cgroup.as_deref()),
        ParentDeath::Term => guarded(&spec.program, "TERM", spec.cgroup.as_deref()),
    };
    command.args(&spec.args).stdin(Stdio::null()).process_group(0);
    for (name, value) in &spec.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut log_start = 0;
    match &spec.output {
        Output::Prefixed(_) | Output::Lines(_) | Output::LineSink(_) => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        Output::File { path, keep } => {
            let log = open_log(path, *keep)?;
            log_start = log.metadata()?.len();
            command.stdout(log.try_clone()?).stderr(log);
        }
    }
    Ok((command.spawn()?, log_start))
}

/// A command for `program` that gets a signal when we die, for children that are watched elsewhere. Must be started from
/// the main thread. `cgroup`: as of [`Spec::cgroup`].
pub fn tied(program: &Path, at_death: ParentDeath, cgroup: Option<&Path>) -> Command {
    match at_death {
        ParentDeath::Kill => guarded(program, "KILL", cgroup),
        ParentDeath::Term => guarded(program, "TERM", cgroup),
        ParentDeath::Nothing => Command::new(program),
    }
}

/// `rask exec-child`.
fn guarded(program: &Path, signal: &str, cgroup: Option<&Path>) -> Command {
    let mut command = Command::new(OWN);
    command.arg0("rask").args(["exec-child", "--parent", &std::process::id().to_string(), "--signal", signal]);
    if let Some(group) = cgroup {
        command.arg("--cgroup").arg(group);
    }
    command.arg("--").arg(program);
    command
}
