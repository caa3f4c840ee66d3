//! The role `rask worker`: a group of Dask's own workers with their nannies, started and watched.

mod pool;

pub use pool::GroupArgs;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::app::local::python_env as pyenv;
use crate::app::local::state_dir as state;
use crate::app::{Failure, Signals, block_on};
use crate::config;
use crate::host::{Asked, Group, Machine, size_group};
use crate::supervise::policy::{Next, Restart};
use crate::supervise::{self, Cause, Child, Output, ParentDeath, Report, Spec, Story};

/// For a nanny to end its worker. The appliance gives us more than this before it kills us.
const GRACE: Duration = Duration::from_secs(5);

/// Deaths in a row, each soon after its start, before a worker is given up: its Python is broken then.
pub(crate) const FAILURES_MAX: u32 = 5;

/// Lines of a dead worker that are repeated with its cause.
const LAST_LINES: usize = 5;

/// Flags of `rask worker`, as given.
#[derive(Clone, Debug, Default)]
pub struct WorkerArgs {
    /// The scheduler. None: by `--scheduler-file` or Dask's configuration.
    pub scheduler: Option<String>,
    /// `--nworkers`: a number, `auto`, or nothing for one.
    pub nworkers: Option<String>,
    /// `--nthreads`
    pub nthreads: Option<u32>,
    /// `--memory-limit`: `auto`, a size, or a fraction of the machine's.
    pub memory_limit: String,
    /// `--name`
    pub name: Option<String>,
    /// `--no-nanny`
    pub no_nanny: bool,
    /// `--worker-port`: a port or a range.
    pub worker_port: Option<String>,
    /// `--nanny-port`: a port or a range.
    pub nanny_port: Option<String>,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--python`
    pub python: Option<String>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// A limited wait for the scheduler was asked for: then an exit is final.
    pub death_timeout: bool,
    /// Flags that Dask's worker gets as they are.
    pub pass: Vec<OsString>,
    /// Arguments of preloaded modules.
    pub preload_argv: Vec<String>,
    /// `--python-checked`: whoever starts us knows that it can run workers.
    pub python_checked: bool,
    /// Others decide how many workers there are.
    pub group: Option<GroupArgs>,
}

/// Runs the group until all its workers ended for good or a signal comes.
pub fn worker(args: &WorkerArgs) -> Result<(), Failure> {
    let machine = Machine::look();
    let group = size(args, machine)?;
    if args.no_nanny && group.nworkers > 1 && args.group.is_none() {
        return Err(Failure::usage("--no-nanny works with one worker only").remedy("leave out --nworkers"));
    }
    let state = state::state_dir(args.state_dir.as_deref())?;
    block_on(run(args, group, &state))
}

async fn run(args: &WorkerArgs, group: Group, state: &Path) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let python = match &args.python {
        Some(path) if args.python_checked => PathBuf::from(path),
        Some(_) | None => {
            let found = signals.during(pyenv::choose(args.python.as_deref(), state)).await?;
            tracing::info!(python = %found.path.display(), version = found.version, distributed = found.distributed);
            found.path
        }
    };
    tracing::info!(
        workers = group.nworkers,
        threads = group.nthreads,
        memory = config::show_size(group.memory_bytes),
        "starting"
    );
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    match &args.group {
        Some(ours) => pool::run(args, ours, group, &python, &mut signals).await,
        None => watch(specs(args, group, &python)?, &mut signals).await,
    }
}

fn size(args: &WorkerArgs, machine: Machine) -> Result<Group, Failure> {
    let nworkers = match args.nworkers.as_deref() {
        None => Some(1),
        Some("auto") => None,
        Some(text) => {
            Some(text.parse().map_err(|_| Failure::usage(format!("--nworkers {text} is not a number or auto")))?)
        }
    };
    // Dask's `auto` sets the threads too.
    let nthreads = if nworkers.is_none() { None } else { args.nthreads.filter(|threads| *threads > 0) };
    let mut group = match (&args.group, nworkers) {
        // A cluster may begin without workers.
        (Some(_), Some(0)) => Group { nworkers: 0, nthreads: nthreads.unwrap_or(1), memory_bytes: 0 },
        (Some(_) | None, _) => size_group(machine, Asked { nworkers, nthreads, memory_bytes: None })
            .map_err(|why| Failure::blame(why.blame(), why.to_string()))?,
    };
    group.memory_bytes = memory(&args.memory_limit, machine, group.nthreads)?;
    Ok(group)
}

/// Source: `distributed/worker_memory.py`, `parse_memory_limit`.
fn memory(text: &str, machine: Machine, nthreads: u32) -> Result<u64, Failure> {
    if text == "auto" {
        let share = (f64::from(nthreads) / f64::from(machine.cores)).min(1.0);
        return Ok((machine.memory_bytes as f64 * share) as u64);
    }
    let fraction = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    let bytes = fraction.map(|fraction| (machine.memory_bytes as f64 * fraction) as u64);
    let bytes = bytes.or_else(|| config::parse_size(text));
    let bytes = bytes.ok_or_else(|| {
        Failure::usage(format!("--memory-limit {text} is not a size"))
            .remedy("try auto, 4GiB, 0.5 (of the machine) or 0 (no limit)")
    })?;
    Ok(bytes.min(machine.memory_bytes))
}

fn specs(args: &WorkerArgs, group: Group, python: &Path) -> Result<Vec<Spec>, Failure> {
    let worker_ports = ports("--worker-port", args.worker_port.as_deref(), group.nworkers)?;
    let nanny_ports = ports("--nanny-port", args.nanny_port.as_deref(), group.nworkers)?;
    let alone = group.nworkers == 1;
    let pairs = worker_ports.iter().zip(&nanny_ports);
    let specs = (0..group.nworkers).zip(pairs).map(|(index, (worker_port, nanny_port))| {
        let name = args.name.as_ref().map(|name| if alone { name.clone() } else { format!("{name}-{index}") });
        let label = name.clone().unwrap_or_else(|| format!("worker-{index}"));
        let mut spec = spec_of(args, group, python, name, (worker_port.as_deref(), nanny_port.as_deref()));
        spec.output = Output::Prefixed(if alone { String::new() } else { format!("{label} | ") });
        spec.name = label;
        spec
    });
    Ok(specs.collect())
}

/// How one worker is run. `name`: `None` leaves it to Dask. The ports are the worker's and the nanny's.
pub(crate) fn spec_of(
    args: &WorkerArgs,
    group: Group,
    python: &Path,
    name: Option<String>,
    (worker_port, nanny_port): (Option<&str>, Option<&str>),
) -> Spec {
    let mut argv: Vec<OsString> = vec!["-m".into(), "distributed.cli.dask_worker".into()];
    argv.extend(args.scheduler.as_ref().map(OsString::from));
    let mut flag = |name: &str, value: &str| argv.extend([OsString::from(name), OsString::from(value)]);
    flag("--nworkers", "1");
    flag("--nthreads", &group.nthreads.to_string());
    flag("--memory-limit", &group.memory_bytes.to_string());
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
        program: python.to_path_buf(),
        args: argv,
        env: unbuffered(),
        output: Output::Prefixed(String::new()),
        parent_death: ParentDeath::Kill,
        cgroup: None,
        restart: if args.death_timeout { Restart::Crash } else { Restart::Failure },
        failures_max: Some(FAILURES_MAX),
        grace: GRACE,
    }
}

/// What tasks print goes through a pipe; without this it would come late, and not at all from a killed process.
fn unbuffered() -> Vec<(OsString, Option<OsString>)> {
    match std::env::var_os("PYTHONUNBUFFERED") {
        Some(_) => Vec::new(),
        None => vec![("PYTHONUNBUFFERED".into(), Some("1".into()))],
    }
}

/// Shares a range of ports out, so that no two processes try the same.
fn ports(flag: &str, asked: Option<&str>, count: u32) -> Result<Vec<Option<String>>, Failure> {
    let count = count as usize;
    let Some(asked) = asked else { return Ok(vec![None; count]) };
    let bad = || Failure::usage(format!("{flag} {asked} is not a port or a range like 3000:3026"));
    let (first, last) = asked.split_once(':').unwrap_or((asked, asked));
    let first: usize = first.parse::<u16>().map_err(|_| bad())?.into();
    let last: usize = last.parse::<u16>().map_err(|_| bad())?.into();
    if first == 0 && last == 0 {
        return Ok(vec![Some("0".to_owned()); count]);
    }
    let total = last.checked_sub(first).ok_or_else(bad)?.saturating_add(1);
    if total < count {
        return Err(
            Failure::usage(format!("{flag} {asked} has {total} ports for {count} workers")).remedy("widen the range")
        );
    }
    let bound = |index: usize| first.saturating_add(index.saturating_mul(total).checked_div(count).unwrap_or(0));
    let share = |index: usize| (bound(index), bound(index.saturating_add(1)).saturating_sub(1));
    Ok((0..count)
        .map(share)
        .map(|(from, to)| Some(if from == to { from.to_string() } else { format!("{from}:{to}") }))
        .collect())
}

async fn watch(specs: Vec<Spec>, signals: &mut Signals) -> Result<(), Failure> {
    let (reports, mut inbox) = mpsc::unbounded_channel();
    let children: Vec<Child> = specs.into_iter().map(|spec| supervise::start(spec, reports.clone())).collect();
    drop(reports);
    let mut failed = None;
    loop {
        tokio::select! {
            // All tasks have ended when the last sender is gone.
            report = inbox.recv() => match report {
                Some(report) => failed = tell(&report, FAILURES_MAX).or(failed),
                None => break,
            },
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                stop_all(children).await;
                return Ok(());
            }
        }
    }
    match failed {
        Some(why) => Err(Failure::world(why)),
        None => Ok(()),
    }
}

/// Stops all at once and waits for each.
async fn stop_all(children: Vec<Child>) {
    futures_util::future::join_all(children.into_iter().map(Child::stop)).await;
}

/// One line per event; a worker that will not come back is returned as a failure.
///
/// `failures_max`: how many were allowed.
pub(crate) fn tell(report: &Report, failures_max: u32) -> Option<String> {
    let name = &report.name;
    match &report.story {
        Story::Started { pid } => tracing::debug!(name, pid, "started"),
        Story::Stopped { cause } => tracing::debug!(name, %cause, "stopped"),
        Story::Died { cause: Cause::Code(0), next: Next::Done, .. } => {
            tracing::info!(name, "ended, as it was asked to")
        }
        Story::Died { cause, last_lines, next } => {
            let skip = last_lines.len().saturating_sub(LAST_LINES);
            let last: String = last_lines.iter().skip(skip).map(|line| format!("\n    {}", line.trim())).collect();
            match next {
                Next::After(ms) => tracing::warn!(name, "{name}: {cause}; starts again in {ms} ms; last lines:{last}"),
                Next::Done => {
                    tracing::warn!(name, "{name}: {cause}; last lines:{last}");
                    return Some(format!("{name}: {cause}"));
                }
                Next::GaveUp => {
                    tracing::error!(name, "{name}: {cause}; given up after {failures_max} tries; last lines:{last}");
                    let last = last_lines.last().map_or("", |line| line.trim());
                    return Some(format!("{name}: {cause}, {failures_max} times in a row: {last}"));
                }
            }
        }
    }
    None
}

/// A file with our process id, removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: &Path) -> Result<Self, Failure> {
        let written = fs::write(path, std::process::id().to_string());
        written.map_err(|why| Failure::world(format!("cannot write the pid file {}: {why}", path.display())))?;
        Ok(Self(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _may_be_gone = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 16, memory_bytes: 16 << 30 };

    #[test]
    fn memory_is_shared_by_threads_as_in_dask() {
        assert_eq!(memory("auto", MACHINE, 4), Ok(4 << 30));
        assert_eq!(memory("auto", MACHINE, 64), Ok(16 << 30));
        assert_eq!(memory("0.5", MACHINE, 1), Ok(8 << 30));
        assert_eq!(memory("0", MACHINE, 1), Ok(0));
        assert_eq!(memory("2GiB", MACHINE, 1), Ok(2 << 30));
        assert_eq!(memory("1TiB", MACHINE, 1), Ok(16 << 30));
        assert!(memory("much", MACHINE, 1).is_err());
    }

    #[test]
    fn without_nworkers_there_is_one_worker_with_all_cores() {
        let args = |nworkers: Option<&str>, nthreads| WorkerArgs {
            nworkers: nworkers.map(str::to_owned),
            nthreads,
            memory_limit: "auto".to_owned(),
            ..WorkerArgs::default()
        };
        let sized = |nworkers, nthreads| size(&args(nworkers, nthreads), MACHINE).map(|g| (g.nworkers, g.nthreads));
        assert_eq!(sized(None, None), Ok((1, 16)));
        assert_eq!(sized(None, Some(2)), Ok((1, 2)));
        assert_eq!(sized(Some("auto"), None), Ok((4, 4)));
        assert_eq!(sized(Some("3"), Some(2)), Ok((3, 2)));
        assert!(sized(Some("many"), None).is_err());
    }

    #[test]
    fn a_range_of_ports_is_shared_out_without_overlap() {
        let shares = ports("--worker-port", Some("3000:3004"), 2).expect("enough");
        assert_eq!(shares, [Some("3000:3001".to_owned()), Some("3002:3004".to_owned())]);
        assert!(ports("--worker-port", Some("3000"), 2).is_err());
        assert_eq!(ports("--worker-port", None, 1), Ok(vec![None]));
    }
}
