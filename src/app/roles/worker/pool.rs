//! `rask worker --control-socket`: a worker pool whose size others decide, for a cluster of the appliance.

use tokio::sync::mpsc;

use super::args::{PoolArgs, WorkerArgs};
use super::process::{FAILURES_MAX, Launcher, spec_of, tell};
use crate::app::command_error::CommandError;
use crate::app::process::{Signals, this_process};
use crate::fleet::{Logbook, PoolPlan, WorkerCgroups, run_worker_pool};
use crate::host::PoolSize;
use crate::link;

/// Requests waiting for the pool.
const QUEUE: usize = 16;

/// Runs the pool until its scheduler ends or a signal comes.
pub(crate) async fn run(
    args: &WorkerArgs,
    ours: &PoolArgs,
    pool: PoolSize,
    launcher: Launcher,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    let (sender, inbox) = mpsc::channel(QUEUE);
    let _served = link::serve(&ours.control_socket, &this_process(), sender).map_err(|why| {
        CommandError::world(format!("cannot listen on the control socket {}: {why}", ours.control_socket.display()))
    })?;
    let logs = Logbook::open(&ours.log_dir, ours.log_keep).map_err(|why| {
        CommandError::world(format!("cannot make the folder for logs {}: {why}", ours.log_dir.display()))
    })?;
    let args = args.clone();
    let plan = PoolPlan {
        prefix: args.name.clone().unwrap_or_else(|| "worker".to_owned()),
        workers: pool.nworkers,
        memory_bytes: pool.memory_bytes,
        logs,
        follow: ours.follow.clone(),
        cgroups: ours.cgroup.clone().map(|folder| WorkerCgroups::new(folder, pool.memory_bytes, ours.worker_cores)),
        spec: Box::new(move |name| spec_of(&args, pool, &launcher, Some(name.to_owned()), (None, None))),
    };
    run_worker_pool(plan, inbox, signals.next(), |report| drop(tell(report, FAILURES_MAX))).await;
    Ok(())
}
