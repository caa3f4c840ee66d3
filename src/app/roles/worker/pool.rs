//! `rask worker --control-socket`: a worker pool whose size others decide, for a cluster of the appliance.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::args::{PoolArgs, WorkerArgs};
use super::own;
use super::process::{FAILURES_MAX, Launcher, spec_of, tell};
use crate::app::command_error::CommandError;
use crate::app::process::{Signals, this_process};
use crate::config::Engine;
use crate::fleet::{Logbook, NewWorker, PoolPlan, WorkerCgroups, run_worker_pool};
use crate::host::PoolSize;
use crate::link;
use crate::supervise::{self, Child, Spec};

/// Requests waiting for the pool.
const QUEUE: usize = 16;

/// Runs the pool until its scheduler ends or a signal comes.
pub(crate) async fn run(
    args: &WorkerArgs,
    ours: &PoolArgs,
    pool: PoolSize,
    (python, run_dir): (PathBuf, &Path),
    signals: &mut Signals,
) -> Result<(), CommandError> {
    let (sender, inbox) = mpsc::channel(QUEUE);
    let _served = link::serve(&ours.control_socket, &this_process(), sender).map_err(|why| {
        CommandError::world(format!("cannot listen on the control socket {}: {why}", ours.control_socket.display()))
    })?;
    let start: Box<dyn Fn(NewWorker) -> Child + Send> = match args.engine.decided() {
        Engine::Rask => Box::new(own::starter(args.clone(), pool, python, run_dir.to_owned())),
        Engine::Auto | Engine::Stock => {
            let (args, launcher) = (args.clone(), Launcher::write(python, run_dir)?);
            Box::new(move |new| start_stock(&args, pool, &launcher, new))
        }
    };
    let logs = Logbook::open(&ours.log_dir, ours.log_keep).map_err(|why| {
        CommandError::world(format!("cannot make the folder for logs {}: {why}", ours.log_dir.display()))
    })?;
    let plan = PoolPlan {
        prefix: args.name.clone().unwrap_or_else(|| "worker".to_owned()),
        workers: pool.nworkers,
        memory_bytes: pool.memory_bytes,
        logs,
        follow: ours.follow.clone(),
        cgroups: ours.cgroup.clone().map(|folder| WorkerCgroups::new(folder, pool.memory_bytes, ours.worker_cores)),
        start,
    };
    run_worker_pool(plan, inbox, signals.next(), |report| drop(tell(report, FAILURES_MAX))).await;
    Ok(())
}

/// Starts a worker of Dask's, with its nanny.
pub(crate) fn start_stock(args: &WorkerArgs, pool: PoolSize, launcher: &Launcher, new: NewWorker) -> Child {
    let spec = spec_of(args, pool, launcher, Some(new.name), (None, None));
    supervise::start(Spec { output: new.output, cgroup: new.cgroup, ..spec }, new.reports)
}
