//! A poll of a cluster's two processes: questions with a short patience.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::plan::Seen;
use super::step::{Connected, PoolWorker};
use crate::control::{PoolQuestion, PoolReport, Question, SchedulerQuestion, SchedulerState, WorkerProcess};
use crate::link::Link;

/// Longest wait for an answer. One that comes later is asked for again.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was seen; `None` where nobody answered.
#[derive(Debug)]
pub(super) struct Polled {
    pub scheduler: Option<SchedulerState>,
    pub pool: Option<PoolReport>,
}

/// Asks both after a pause. May be dropped at any moment.
pub(super) async fn poll(scheduler: Link, pool: Option<Link>, pause: Duration) -> Polled {
    sleep(pause).await;
    let pool = async {
        match &pool {
            Some(pool) => ask(pool, PoolQuestion::State).await,
            None => None,
        }
    };
    let (scheduler, pool) = tokio::join!(ask(&scheduler, SchedulerQuestion::State), pool);
    Polled { scheduler, pool }
}

/// One question. `None`: no answer, or one that is malformed.
pub(super) async fn ask<T: DeserializeOwned>(link: &Link, what: impl Into<Question>) -> Option<T> {
    match timeout(PATIENCE, link.ask_for(what)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no answer over a link");
            None
        }
        Err(_elapsed) => None,
    }
}

/// What the plan decides on. `workers`: the last that was heard of the pool, if it runs.
pub(super) fn seen(state: &SchedulerState, workers: Option<&[WorkerProcess]>, now_secs: f64, age_secs: f64) -> Seen {
    let connected =
        state.workers.iter().map(|worker| Connected { name: worker.name.clone(), retiring: worker.retiring });
    let workers = workers.map(|workers| {
        let pooled = |worker: &WorkerProcess| PoolWorker {
            name: worker.name.clone(),
            stopping: worker.stopping,
            again: worker.restarts > 0,
        };
        workers.iter().map(pooled).collect()
    });
    Seen {
        now_secs,
        age_secs,
        clients: state.clients,
        busy: state.busy,
        transitions: state.transitions,
        load: state.adaptive_target,
        connected: connected.collect(),
        pool: workers,
        ..Seen::default()
    }
}
