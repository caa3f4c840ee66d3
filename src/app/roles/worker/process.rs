//! How a worker is run as a process, and what is said of its life.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::WorkerArgs;
use crate::app::command_error::CommandError;
use crate::host::PoolSize;
use crate::pyhost::{Script, write_script};
use crate::supervise::policy::{Next, RestartRule};
use crate::supervise::{ExitCause, Output, ParentDeath, Report, Spec, Story};

/// For a nanny to end its worker. The appliance gives us more than this before it kills us.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Deaths in a row, each soon after its start, before a worker is given up: its Python is broken then.
pub(crate) const FAILURES_MAX: u32 = 5;

/// Lines of a dead worker that are repeated with its cause.
const LAST_LINES: usize = 5;

/// What the command line of Dask's worker begins with.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    python: PathBuf,
    /// [`Script::Worker`], written out.
    script: PathBuf,
}

impl Launcher {
    pub(super) fn write(python: PathBuf, folder: &Path) -> Result<Self, CommandError> {
        let script = write_script(folder, Script::Worker)
            .map_err(|error| CommandError::world(format!("cannot write to {}: {error}", folder.display())))?;
        Ok(Self { python, script })
    }
}

/// How one worker of Dask's is run. `name`: `None` leaves it to Dask. The ports are the worker's and the nanny's.
pub(crate) fn spec_of(
    args: &WorkerArgs,
    pool: PoolSize,
    launcher: &Launcher,
    name: Option<String>,
    (worker_port, nanny_port): (Option<&str>, Option<&str>),
) -> Spec {
    let mut argv: Vec<OsString> = vec![launcher.script.clone().into()];
    argv.extend(args.scheduler.as_ref().map(OsString::from));
    let mut flag = |name: &str, value: &str| argv.extend([OsString::from(name), OsString::from(value)]);
    flag("--nworkers", "1");
    flag("--nthreads", &pool.nthreads.to_string());
    flag("--memory-limit", &pool.memory_bytes.to_string());
    for (flag_name, value) in
        [("--name", name.as_deref()), ("--worker-port", worker_port), ("--nanny-port", nanny_port)]
    {
        if let Some(value) = value {
            flag(flag_name, value);
        }
    }
    if args.no_nanny {
        argv.push("--no-nanny".into());
    }
    argv.extend(args.pass.iter().cloned());
    if !args.preload_argv.is_empty() {
        argv.push("--".into());
        argv.extend(args.preload_argv.iter().map(OsString::from));
    }
    Spec {
        name: name.unwrap_or_default(),
        program: launcher.python.clone(),
        args: argv,
        env: environment(args),
        output: Output::Prefixed(String::new()),
        parent_death: ParentDeath::Kill,
        cgroup: None,
        restart: if args.death_timeout { RestartRule::Crash } else { RestartRule::Failure },
        failures_max: Some(FAILURES_MAX),
        grace: GRACE,
    }
}

/// What a worker's environment has besides ours.
fn environment(args: &WorkerArgs) -> Vec<(OsString, Option<OsString>)> {
    let allowed: Vec<String> = args.allow_users.iter().map(u32::to_string).collect();
    // In a cluster of the appliance, what comes from another machine has TLS.
    let plain_peers = args.pool.as_ref().map(|_| "this-machine".into());
    let mut env =
        vec![("RASK_ALLOW_USERS".into(), Some(allowed.join(",").into())), ("RASK_PLAIN_PEERS".into(), plain_peers)];
    // What tasks print goes through a pipe; without this it would come late, and not at all from a killed process.
    if std::env::var_os("PYTHONUNBUFFERED").is_none() {
        env.push(("PYTHONUNBUFFERED".into(), Some("1".into())));
    }
    env
}

/// One line per event; a worker that will not come back is returned as a failure.
///
/// `failures_max`: how many were allowed.
pub(crate) fn tell(report: &Report, failures_max: u32) -> Option<String> {
    let name = &report.name;
    match &report.story {
        Story::Started { pid } => tracing::debug!(name, pid, "started"),
        Story::Stopped { cause } => tracing::debug!(name, %cause, "stopped"),
        Story::Died { cause: ExitCause::Code(0), next: Next::Done, .. } => {
            tracing::info!(name, "ended, as it was asked to")
        }
        Story::Died { cause, last_lines, next } => {
            let skip = last_lines.len().saturating_sub(LAST_LINES);
            let mut last: String = last_lines.iter().skip(skip).map(|line| format!("\n    {}", line.trim())).collect();
            if !last.is_empty() {
                last.insert_str(0, "; last lines:");
            }
            match next {
                Next::After(ms) => tracing::warn!(name, "{name}: {cause}; starts again in {ms} ms{last}"),
                Next::Done => {
                    tracing::warn!(name, "{name}: {cause}{last}");
                    return Some(format!("{name}: {cause}"));
                }
                Next::GaveUp => {
                    tracing::error!(name, "{name}: {cause}; given up after {failures_max} tries{last}");
                    let last = last_lines.last().map_or("", |line| line.trim());
                    return Some(format!("{name}: {cause}, {failures_max} times in a row: {last}"));
                }
            }
        }
    }
    None
}
