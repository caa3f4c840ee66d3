//! Our own workers in the pool of a cluster: tasks of the pool's process, so that they share values and one process serves all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;

use super::lives::{Lives, Manner, Over};
use super::plans::{Places, Refusal, plans};
use super::settings;
use crate::app::command_error::CommandError;
use crate::app::roles::worker::args::WorkerArgs;
use crate::app::roles::worker::pool::start_stock;
use crate::app::roles::worker::process::{FAILURES_MAX, GRACE, Launcher};
use crate::config::Engine;
use crate::executor::DaskSettings;
use crate::fleet::NewWorker;
use crate::host::PoolSize;
use crate::node::WorkerPlan;
use crate::supervise::policy::{Next, RestartRule};
use crate::supervise::{Child, ExitCause, Output, Report, Story};

/// What the workers of a pool have in common.
struct Common {
    args: WorkerArgs,
    pool: PoolSize,
    python: PathBuf,
    run_dir: PathBuf,
    settings: OnceCell<DaskSettings>,
    /// Ours do not fit this Dask: its own run.
    is_unfit: AtomicBool,
}

/// Starts workers for a pool, one at a time.
pub(in crate::app::roles::worker) fn starter(
    mut args: WorkerArgs,
    pool: PoolSize,
    python: PathBuf,
    run_dir: PathBuf,
) -> impl Fn(NewWorker) -> Child {
    // None of ours serves pages, wherever they should be.
    if let Some(at) = args.pass.iter().position(|flag| flag == "--dashboard-address") {
        args.pass.drain(at..args.pass.len().min(at.saturating_add(2)));
    }
    let pool = PoolSize { nworkers: 1, ..pool };
    let common = Common { args, pool, python, run_dir, settings: OnceCell::new(), is_unfit: AtomicBool::new(false) };
    let common = Arc::new(common);
    move |new| {
        let (stop, stopped) = watch::channel(false);
        Child::of_task(stop, tokio::spawn(common.clone().lives(new, stopped)))
    }
}

impl Common {
    /// All lives of one worker. Returns how the last one ended.
    async fn lives(self: Arc<Self>, new: NewWorker, mut stopped: watch::Receiver<bool>) -> ExitCause {
        let (name, reports) = (new.name.clone(), new.reports.clone());
        // The pool may be gone.
        let report = |story| drop(reports.send(Report { name: name.clone(), story }));
        if !self.is_unfit.load(Ordering::Relaxed) {
            let mut its_stop = stopped.clone();
            let late = async move {
                told(&mut its_stop).await;
                sleep(GRACE).await;
            };
            let over = tokio::select! {
                over = self.own_lives(&new, stopped.clone()) => over,
                // Dropped, and its Python is killed with it.
                () = late => Ok(Over::Done),
            };
            match over {
                Ok(Over::Unfit { reason }) => {
                    self.is_unfit.store(true, Ordering::Relaxed);
                    tracing::warn!("rask's own workers cannot run here: {reason}; Dask's run instead");
                }
                Ok(Over::Done) => {
                    let cause = ExitCause::Code(0);
                    report(match *stopped.borrow() || stopped.has_changed().is_err() {
                        true => Story::Stopped { cause: cause.clone() },
                        false => Story::Died { cause: cause.clone(), last_lines: Vec::new(), next: Next::Done },
                    });
                    return cause;
                }
                Err(why) => return ExitCause::Told(why.to_string()),
            }
        }
        self.stock_lives(new, &mut stopped).await
    }

    async fn own_lives(&self, new: &NewWorker, stopped: watch::Receiver<bool>) -> Result<Over, CommandError> {
        let (name, reports) = (new.name.clone(), new.reports.clone());
        let log = new.output.clone();
        let tell = move |story: Story| {
            // Its Python cannot say it any more.
            if let (Story::Died { cause, .. }, Output::LineSink(sink)) = (&story, &log) {
                (sink.0)(&format!("rask: {cause}"));
            }
            drop(reports.send(Report { name: name.clone(), story }));
        };
        let manner = Manner {
            restart: RestartRule::Failure,
            failures_max: FAILURES_MAX,
            joining_is_vital: self.args.death_timeout,
        };
        let mut its_stop = stopped.clone();
        let plan = tokio::select! {
            plan = self.plan(new) => plan,
            _ = its_stop.wait_for(|stop| *stop) => return Ok(Over::Done),
        };
        match plan {
            Ok(plan) => Lives::new(plan, manner, Box::new(tell)).live(stopped).await,
            Err(Refusal::NotDone(what)) if self.args.engine == Engine::Auto => {
                Ok(Over::Unfit { reason: format!("they do not do {what} yet") })
            }
            Err(why) => {
                let why = CommandError::from(why);
                tell(Story::Died {
                    cause: ExitCause::Told(why.to_string()),
                    last_lines: Vec::new(),
                    next: Next::GaveUp,
                });
                Err(why)
            }
        }
    }

    async fn plan(&self, new: &NewWorker) -> Result<WorkerPlan, Refusal> {
        let places = Places { python: &self.python, run_dir: &self.run_dir };
        let settings = self.settings.get_or_try_init(|| settings(places)).await?;
        let args = WorkerArgs { name: Some(new.name.clone()), ..self.args.clone() };
        let plan = plans(&args, self.pool, (&[None], &[None]), settings, places)?.into_iter().next();
        let plan = plan.ok_or_else(|| CommandError::world("no plan for a worker".to_owned()))?;
        Ok(WorkerPlan { output: Some(new.output.clone()), cgroup: new.cgroup.clone(), ..plan })
    }

    async fn stock_lives(&self, new: NewWorker, stopped: &mut watch::Receiver<bool>) -> ExitCause {
        let mut child = match Launcher::write(self.python.clone(), &self.run_dir) {
            Ok(launcher) => start_stock(&self.args, self.pool, &launcher, new),
            Err(why) => return ExitCause::Told(why.to_string()),
        };
        let ended = tokio::select! {
            ended = child.ended() => Some(ended),
            () = told(stopped) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => child.stop().await,
        };
        ended.unwrap_or(ExitCause::Code(0))
    }
}

/// Returns when the pool says stop or is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}
