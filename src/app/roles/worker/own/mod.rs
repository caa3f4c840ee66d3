//! `rask worker --engine rask`: our own workers, each a task of this process with a Python process of its own.

mod plans;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub(super) use plans::{Places, plans};

use super::process::FAILURES_MAX;
use crate::app::command_error::CommandError;
use crate::app::process::Signals;
use crate::clock::Clock;
use crate::executor::DaskSettings;
use crate::node::{Nanny, NodeError, WorkerEnd, WorkerPlan, run_worker};
use crate::supervise::policy::{Next, Policy, ProcessEnd, RestartRule};

/// What Dask's configuration says, as the workers' Python reads it.
pub(super) async fn settings(places: Places<'_>) -> Result<DaskSettings, CommandError> {
    DaskSettings::ask(places.python, places.run_dir).await.map_err(|why| {
        CommandError::world(format!("cannot read Dask's configuration with {}: {why}", places.python.display()))
            .remedy("check the files in ~/.config/dask and $DASK_CONFIG, and --python")
    })
}

/// After a signal, for all workers to close: longer than one takes at most.
const STOP: Duration = Duration::from_secs(10);

/// How it ended, if nothing went wrong.
pub(super) enum Over {
    Done,
    /// This Dask is not what these workers are made for: nothing was started.
    Unfit {
        reason: String,
    },
}

/// Runs the workers until all of them ended for good or a signal comes.
pub(super) async fn run(
    plans: Vec<WorkerPlan>,
    restart: RestartRule,
    signals: &mut Signals,
) -> Result<Over, CommandError> {
    let (stop, stopped) = watch::channel(false);
    let mut lives = tokio::task::JoinSet::new();
    for plan in plans {
        lives.spawn(live(plan, restart, stopped.clone()));
    }
    drop(stopped);
    let (mut failed, mut unfit) = (None, None);
    loop {
        tokio::select! {
            life = lives.join_next() => match life {
                Some(Ok(Ok(Over::Done))) => {}
                Some(Ok(Ok(Over::Unfit { reason }))) => {
                    // The others are in the same case.
                    stop.send_replace(true);
                    unfit = Some(reason);
                }
                Some(Ok(Err(why))) => failed = Some(why),
                Some(Err(why)) => failed = Some(CommandError::world(format!("a worker was lost: {why}"))),
                None => {
                    let over = unfit.map_or(Over::Done, |reason| Over::Unfit { reason });
                    return failed.map_or(Ok(over), Err);
                }
            },
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                stop.send_replace(true);
                let _killed_when_late = timeout(STOP, async { while lives.join_next().await.is_some() {} }).await;
                return Ok(Over::Done);
            }
        }
    }
}

/// One worker after another under the same name, with their nanny if they have one.
async fn live(
    plan: WorkerPlan,
    restart: RestartRule,
    mut stopped: watch::Receiver<bool>,
) -> Result<Over, CommandError> {
    let nanny = match plan.nanny_ports {
        Some(ports) => {
            let nanny = tokio::select! {
                nanny = Nanny::start(&plan, ports) => nanny,
                _ = stopped.wait_for(|stop| *stop) => return Ok(Over::Done),
            };
            Some(nanny.map_err(|error| explained(&error))?)
        }
        None => None,
    };
    let mut policy = Policy::new(restart, Some(FAILURES_MAX));
    loop {
        let clock = Clock::start();
        let (its_plan, life) = match &nanny {
            Some(nanny) => {
                let (plan, life) = nanny.next_life(&plan);
                (plan, Some(life))
            }
            None => (plan.clone(), None),
        };
        let its_stop = stopped.clone();
        // A panic in a worker ends that worker: its task is what unwinds.
        let ended = tokio::spawn(async move { run_worker(&its_plan, its_stop, life).await }).await;
        let stays_down = nanny.as_ref().is_none_or(Nanny::stays_down);
        let failure = match ended {
            Ok(Ok(WorkerEnd::Restart { reason })) if !stays_down => {
                tracing::info!(%reason, "worker ended; another one starts");
                continue;
            }
            Ok(Ok(WorkerEnd::Closed { reason } | WorkerEnd::Restart { reason })) => {
                tracing::info!(%reason, "worker ended");
                return Ok(Over::Done);
            }
            Ok(Err(NodeError::Unfit { reason })) => return Ok(Over::Unfit { reason }),
            Ok(Err(NodeError::Stopped)) => return Ok(Over::Done),
            Ok(Ok(WorkerEnd::Broken { reason })) => {
                // It was registered: a task may have ended its Python process, however often, as with Dask's nannies.
                policy.had_started();
                CommandError::world(format!("a worker ended: {reason}"))
            }
            Ok(Err(error @ (NodeError::NoScheduler { .. } | NodeError::Refused { .. }))) => {
                return Err(explained(&error));
            }
            Ok(Err(error)) => explained(&error),
            Err(panic) => CommandError::world(format!("a worker broke one of its own rules and was closed: {panic}")),
        };
        let lived_ms = clock.now().0 / 1000;
        let next = if stays_down { Next::Done } else { policy.on_end(ProcessEnd::Crashed, lived_ms) };
        let Next::After(pause_ms) = next else { return Err(failure) };
        tracing::warn!("{failure}; another one starts in {pause_ms} ms");
        tokio::select! {
            () = sleep(Duration::from_millis(pause_ms)) => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(Over::Done),
        }
        // Said while there was no worker to end.
        if nanny.as_ref().is_some_and(Nanny::stays_down) {
            return Ok(Over::Done);
        }
    }
}

fn explained(error: &NodeError) -> CommandError {
    let failure = CommandError::blame(error.blame(), error.to_string());
    match error {
        NodeError::NoScheduler { .. } => failure.remedy("start the scheduler, or check the address"),
        NodeError::Refused { .. } => failure.remedy("another worker may have this name: give --name"),
        NodeError::Listen { .. } => {
            failure.remedy("give another --worker-port, or --host with an address of this machine")
        }
        NodeError::NeverReady { .. } => failure.remedy("its words are above; --engine stock starts Dask's own worker"),
        NodeError::Executor(_) | NodeError::Unfit { .. } | NodeError::Stopped => failure,
    }
}
