//! The role `rask worker`: a pool of Dask's own workers with their nannies, or of ours, started and watched.

pub(crate) mod args;
mod own;
mod pool;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use args::WorkerArgs;
use process::{FAILURES_MAX, Launcher, spec_of, tell};

use crate::app::command_error::CommandError;
use crate::app::local::pid_file::PidFile;
use crate::app::local::python_env::choose as pyenv;
use crate::app::local::state_dir as state;
use crate::app::process::{Signals, block_on};
use crate::app::roles::scheduler::RunDir;
use crate::config::{self, Engine};
use crate::files;
use crate::host::{AskedSize, Machine, PoolSize, size_pool};
use crate::supervise::policy::RestartRule;
use crate::supervise::{self, Child, Output, Spec};

/// Runs the pool until all its workers ended for good or a signal comes.
pub fn worker(args: &WorkerArgs) -> Result<(), CommandError> {
    let machine = Machine::look();
    let pool = size(args, machine)?;
    if args.no_nanny && pool.nworkers > 1 && args.pool.is_none() {
        return Err(CommandError::usage("--no-nanny works with one worker only").remedy("leave out --nworkers"));
    }
    let state = state::state_dir(args.state_dir.as_deref())?;
    block_on(run(args, pool, &state))
}

async fn run(args: &WorkerArgs, pool: PoolSize, state: &Path) -> Result<(), CommandError> {
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
        workers = pool.nworkers,
        threads = pool.nthreads,
        memory = config::show_size(pool.memory_bytes),
        "starting"
    );
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    let run_dir = RunDir::make("worker", args.pool.as_ref().map(|ours| ours.control_socket.as_path()))?;
    let args = &WorkerArgs { pass: with_pem_in_files(&args.pass, &run_dir.0)?, ..args.clone() };
    if args.engine.decided() == Engine::Rask && args.pool.is_none() {
        match own_workers(args, pool, &python, &run_dir.0, &mut signals).await? {
            own::Over::Done => return Ok(()),
            own::Over::Unfit { reason } => {
                tracing::warn!("rask's own workers cannot run here: {reason}; Dask's run instead");
            }
        }
    }
    match &args.pool {
        Some(ours) => pool::run(args, ours, pool, (python, &run_dir.0), &mut signals).await,
        None => watch(specs(args, pool, &Launcher::write(python, &run_dir.0)?)?, &mut signals).await,
    }
}

async fn own_workers(
    args: &WorkerArgs,
    pool: PoolSize,
    python: &Path,
    run_dir: &Path,
    signals: &mut Signals,
) -> Result<own::Over, CommandError> {
    let worker_ports = ports("--worker-port", args.worker_port.as_deref(), pool.nworkers)?;
    let nanny_ports = ports("--nanny-port", args.nanny_port.as_deref(), pool.nworkers)?;
    let places = own::Places { python, run_dir };
    let settings = signals.during(own::settings(places)).await?;
    let plans = match own::plans(args, pool, (&worker_ports, &nanny_ports), &settings, places) {
        Err(own::Refusal::NotDone(what)) if args.engine == Engine::Auto => {
            return Ok(own::Over::Unfit { reason: format!("they do not do {what} yet") });
        }
        plans => plans?,
    };
    let restart = if args.no_nanny { RestartRule::Never } else { RestartRule::Failure };
    own::run(plans, restart, signals).await
}

/// Certificates and keys that came as text go into files: Dask's worker takes the names of files only.
fn with_pem_in_files(pass: &[OsString], folder: &Path) -> Result<Vec<OsString>, CommandError> {
    let given = pass.iter().enumerate().map(|(at, value)| {
        if !value.to_string_lossy().trim_start().starts_with("-----BEGIN ") {
            return Ok(value.clone());
        }
        let path = folder.join(format!("given-{at}.pem"));
        files::write_atomic(&path, value.as_encoded_bytes(), files::PRIVATE)
            .map_err(|why| CommandError::world(format!("cannot write {}: {why}", path.display())))?;
        Ok(path.into_os_string())
    });
    given.collect()
}

fn size(args: &WorkerArgs, machine: Machine) -> Result<PoolSize, CommandError> {
    let nworkers = match args.nworkers.as_deref() {
        None => Some(1),
        Some("auto") => None,
        Some(text) => {
            Some(text.parse().map_err(|_| CommandError::usage(format!("--nworkers {text} is not a number or auto")))?)
        }
    };
    // Dask's `auto` sets the threads too.
    let nthreads = if nworkers.is_none() { None } else { args.nthreads.filter(|threads| *threads > 0) };
    let mut pool = match (&args.pool, nworkers) {
        // A cluster may begin without workers.
        (Some(_), Some(0)) => PoolSize { nworkers: 0, nthreads: nthreads.unwrap_or(1), memory_bytes: 0 },
        (Some(_) | None, _) => size_pool(machine, AskedSize { nworkers, nthreads, memory_bytes: None })
            .map_err(|why| CommandError::blame(why.blame(), why))?,
    };
    pool.memory_bytes = memory(&args.memory_limit, machine, pool.nthreads)?;
    Ok(pool)
}

/// Source: `distributed/worker_memory.py`, `parse_memory_limit`.
fn memory(text: &str, machine: Machine, nthreads: u32) -> Result<u64, CommandError> {
    if text == "auto" {
        let share = (f64::from(nthreads) / f64::from(machine.cores)).min(1.0);
        return Ok((machine.memory_bytes as f64 * share) as u64);
    }
    let fraction = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    let bytes = fraction.map(|fraction| (machine.memory_bytes as f64 * fraction) as u64);
    let bytes = bytes.or_else(|| config::parse_size(text));
    let bytes = bytes.ok_or_else(|| {
        CommandError::usage(format!("--memory-limit {text} is not a size"))
            .remedy("try auto, 4GiB, 0.5 (of the machine) or 0 (no limit)")
    })?;
    Ok(bytes.min(machine.memory_bytes))
}

fn specs(args: &WorkerArgs, pool: PoolSize, launcher: &Launcher) -> Result<Vec<Spec>, CommandError> {
    let worker_ports = ports("--worker-port", args.worker_port.as_deref(), pool.nworkers)?;
    let nanny_ports = ports("--nanny-port", args.nanny_port.as_deref(), pool.nworkers)?;
    let alone = pool.nworkers == 1;
    let pairs = worker_ports.iter().zip(&nanny_ports);
    let specs = (0..pool.nworkers).zip(pairs).map(|(index, (worker_port, nanny_port))| {
        let name = args.name.as_ref().map(|name| if alone { name.clone() } else { format!("{name}-{index}") });
        let label = name.clone().unwrap_or_else(|| format!("worker-{index}"));
        let mut spec = spec_of(args, pool, launcher, name, (worker_port.as_deref(), nanny_port.as_deref()));
        spec.output = Output::Prefixed(if alone { String::new() } else { format!("{label} | ") });
        spec.name = label;
        spec
    });
    Ok(specs.collect())
}

/// Shares a range of ports out, so that no two processes try the same.
fn ports(flag: &str, asked: Option<&str>, count: u32) -> Result<Vec<Option<String>>, CommandError> {
    let count = count as usize;
    let Some(asked) = asked else { return Ok(vec![None; count]) };
    let bad = || CommandError::usage(format!("{flag} {asked} is not a port or a range like 3000:3026"));
    let (first, last) = asked.split_once(':').unwrap_or((asked, asked));
    let first: usize = first.parse::<u16>().map_err(|_| bad())?.into();
    let last: usize = last.parse::<u16>().map_err(|_| bad())?.into();
    if first == 0 && last == 0 {
        return Ok(vec![Some("0".to_owned()); count]);
    }
    let total = last.checked_sub(first).ok_or_else(bad)?.saturating_add(1);
    if total < count {
        return Err(CommandError::usage(format!("{flag} {asked} has {total} ports for {count} workers"))
            .remedy("widen the range"));
    }
    let bound = |index: usize| first.saturating_add(index.saturating_mul(total).checked_div(count).unwrap_or(0));
    let share = |index: usize| (bound(index), bound(index.saturating_add(1)).saturating_sub(1));
    Ok((0..count)
        .map(share)
        .map(|(from, to)| Some(if from == to { from.to_string() } else { format!("{from}:{to}") }))
        .collect())
}

async fn watch(specs: Vec<Spec>, signals: &mut Signals) -> Result<(), CommandError> {
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
        Some(why) => Err(CommandError::world(why)),
        None => Ok(()),
    }
}

/// Stops all at once and waits for each.
async fn stop_all(children: Vec<Child>) {
    futures_util::future::join_all(children.into_iter().map(Child::stop)).await;
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
