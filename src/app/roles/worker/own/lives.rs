//! One worker after another under the same name, with their nanny if they have one.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::app::command_error::CommandError;
use crate::clock::Clock;
use crate::node::{Nanny, NodeError, WorkerEnd, WorkerPlan, run_worker};
use crate::supervise::policy::{Next, Policy, ProcessEnd, RestartRule};
use crate::supervise::{ExitCause, Story};

/// How it ended, if nothing went wrong.
pub(in crate::app::roles::worker) enum Over {
    Done,
    /// These workers are not made for this Dask, or not for what is asked of them: nothing was started.
    Unfit {
        reason: String,
    },
}

/// What is done about ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) restart: RestartRule,
    /// Failures in a row.
    pub(super) failures_max: u32,
    /// No scheduler, or one that refuses, is the end of it: whoever started us sees that.
    pub(super) joining_is_vital: bool,
}

pub(super) struct Lives {
    plan: WorkerPlan,
    nanny: Option<Nanny>,
    manner: Manner,
    tell: Box<dyn Fn(Story) + Send + Sync>,
}

/// How one life ended.
enum LifeEnd {
    Over(Over),
    /// Another one was asked for.
    Again {
        reason: String,
    },
    Failed {
        why: CommandError,
        had_started: bool,
        is_final: bool,
    },
}

impl Lives {
    /// `tell`: hears what a child's watcher would be told.
    pub(super) fn new(plan: WorkerPlan, manner: Manner, tell: Box<dyn Fn(Story) + Send + Sync>) -> Self {
        Self { plan, nanny: None, manner, tell }
    }

    /// Until one ends for good or `stopped` says so.
    pub(super) async fn live(mut self, stopped: watch::Receiver<bool>) -> Result<Over, CommandError> {
        let over = self.all(stopped).await;
        if let Some(nanny) = self.nanny.take() {
            nanny.close().await;
        }
        over
    }

    async fn all(&mut self, mut stopped: watch::Receiver<bool>) -> Result<Over, CommandError> {
        let mut policy = Policy::new(self.manner.restart, Some(self.manner.failures_max));
        loop {
            let clock = Clock::start();
            let (why, is_final) = match self.one(&mut stopped).await {
                LifeEnd::Over(over) => return Ok(over),
                LifeEnd::Again { reason } => {
                    (self.tell)(Story::Stopped { cause: ExitCause::Told(reason) });
                    continue;
                }
                LifeEnd::Failed { why, had_started, is_final } => {
                    if had_started {
                        policy.had_started();
                    }
                    (why, is_final)
                }
            };
            let is_last = is_final || self.stays_down();
            let next = if is_last { Next::Done } else { policy.on_end(ProcessEnd::Crashed, clock.now().0 / 1000) };
            (self.tell)(Story::Died { cause: ExitCause::Told(why.to_string()), last_lines: Vec::new(), next });
            let Next::After(pause_ms) = next else { return Err(why) };
            tokio::select! {
                () = sleep(Duration::from_millis(pause_ms)) => {}
                _ = stopped.wait_for(|stop| *stop) => return Ok(Over::Done),
            }
            // Said while there was no worker to end.
            if self.stays_down() {
                return Ok(Over::Done);
            }
        }
    }

    /// The nanny was told that there is to be no other worker.
    fn stays_down(&self) -> bool {
        self.nanny.as_ref().is_some_and(Nanny::stays_down)
    }

    async fn one(&mut self, stopped: &mut watch::Receiver<bool>) -> LifeEnd {
        if let (None, Some(ports)) = (&self.nanny, self.plan.nanny_ports) {
            let nanny = tokio::select! {
                nanny = Nanny::start(&self.plan, ports) => nanny,
                _ = stopped.wait_for(|stop| *stop) => return LifeEnd::Over(Over::Done),
            };
            match nanny {
                Ok(nanny) => self.nanny = Some(nanny),
                Err(error) => return self.failed(&error, self.manner.joining_is_vital),
            }
        }
        let (plan, life) = match &self.nanny {
            Some(nanny) => {
                let (plan, life) = nanny.next_life(&self.plan);
                (plan, Some(life))
            }
            None => (self.plan.clone(), None),
        };
        let (its_stop, (said, mut pid)) = (stopped.clone(), mpsc::unbounded_channel());
        // A panic in a worker ends that worker: its task is what unwinds.
        let mut worker = JoinSet::new();
        worker.spawn(async move {
            let started = |pid| {
                let _gone = said.send(pid);
            };
            run_worker(&plan, its_stop, life, started).await
        });
        let ended = loop {
            tokio::select! {
                Some(pid) = pid.recv() => (self.tell)(Story::Started { pid }),
                Some(ended) = worker.join_next() => break ended,
            }
        };
        match ended {
            Ok(Ok(WorkerEnd::Restart { reason })) if self.nanny.is_some() && !self.stays_down() => {
                LifeEnd::Again { reason: reason.to_string() }
            }
            Ok(Ok(WorkerEnd::Closed { reason } | WorkerEnd::Restart { reason })) => {
                tracing::info!(%reason, "worker ended");
                LifeEnd::Over(Over::Done)
            }
            Ok(Err(NodeError::Unfit { reason })) => LifeEnd::Over(Over::Unfit { reason }),
            Ok(Err(NodeError::Stopped)) => LifeEnd::Over(Over::Done),
            // It was registered: a task may have ended its Python process, however often, as with Dask's nannies.
            Ok(Ok(WorkerEnd::Broken { reason })) => {
                LifeEnd::Failed { why: CommandError::world(reason), had_started: true, is_final: false }
            }
            Ok(Err(error)) => {
                let joining = matches!(error, NodeError::NoScheduler { .. } | NodeError::Refused { .. });
                self.failed(&error, joining && self.manner.joining_is_vital)
            }
            Err(panic) => LifeEnd::Failed {
                why: CommandError::world(format!("a worker broke one of its own rules and was closed: {panic}")),
                had_started: false,
                is_final: false,
            },
        }
    }

    fn failed(&self, error: &NodeError, is_final: bool) -> LifeEnd {
        LifeEnd::Failed { why: explained(error), had_started: false, is_final }
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
