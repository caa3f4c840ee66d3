//! `rask worker --engine rask`: our own workers, each a task of this process with a Python process of its own.

mod lives;
mod plans;
mod pooled;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

pub(super) use lives::Over;
pub(super) use plans::{Places, Refusal, plans};
pub(super) use pooled::starter;

use lives::{Lives, Manner};

use super::process::FAILURES_MAX;
use crate::app::command_error::CommandError;
use crate::app::process::Signals;
use crate::executor::DaskSettings;
use crate::node::WorkerPlan;
use crate::supervise::Story;
use crate::supervise::policy::{Next, RestartRule};

/// What Dask's configuration says, as the workers' Python reads it.
pub(super) async fn settings(places: Places<'_>) -> Result<DaskSettings, CommandError> {
    DaskSettings::ask(places.python, places.run_dir).await.map_err(|why| {
        CommandError::world(format!("cannot read Dask's configuration with {}: {why}", places.python.display()))
            .remedy("check the files in ~/.config/dask and $DASK_CONFIG, and --python")
    })
}

/// After a signal, for all workers to close: longer than one takes at most.
const STOP: Duration = Duration::from_secs(10);

/// Runs the workers until all of them ended for good or a signal comes.
pub(super) async fn run(
    plans: Vec<WorkerPlan>,
    restart: RestartRule,
    signals: &mut Signals,
) -> Result<Over, CommandError> {
    let (stop, stopped) = watch::channel(false);
    let mut lives = tokio::task::JoinSet::new();
    for plan in plans {
        let manner = Manner { restart, failures_max: FAILURES_MAX, joining_is_vital: true };
        let (stopped, name) = (stopped.clone(), plan.name.as_deref().unwrap_or("a worker").to_owned());
        lives.spawn(
            async move { Lives::new(plan, manner, Box::new(move |story| tell(&name, story))).live(stopped).await },
        );
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

fn tell(name: &str, story: Story) {
    match story {
        Story::Died { cause, next: Next::After(pause_ms), .. } => {
            tracing::warn!("{name} ended: {cause}; another one starts in {pause_ms} ms");
        }
        Story::Stopped { cause } => tracing::info!(name, reason = %cause, "worker ended"),
        // What is final is the role's own failure.
        Story::Started { .. } | Story::Died { .. } => {}
    }
}
