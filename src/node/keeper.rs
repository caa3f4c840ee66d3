//! What a nanny is asked about its worker, and how the worker's lives hear of it.
//!
//! Source: `distributed/nanny.py`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::plan::WorkerEnd;
use crate::base::{Text, Value};

/// For a restart, if the asker says nothing. Source: `distributed/nanny.py`, `restart`.
const RESTART_SECS: f64 = 30.0;

/// Shared by the connections to a nanny and the lives of its worker, one after another.
#[derive(Debug)]
pub(super) struct Keeper {
    /// How the life that is being lived is to end.
    wish: watch::Sender<Option<WorkerEnd>>,
    stage: watch::Sender<Stage>,
    stays_down: AtomicBool,
    /// Address and process id of the worker that is up.
    worker: Mutex<Option<(Text, u32)>>,
}

/// How far the worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stage {
    /// Which life, counted from 1.
    life: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Down,
    Starting,
    Up,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            wish: watch::Sender::new(None),
            stage: watch::Sender::new(Stage::default()),
            stays_down: AtomicBool::new(false),
            worker: Mutex::new(None),
        }
    }

    /// The worker starts again.
    pub(super) fn next_life(self: &Arc<Self>) -> Life {
        self.wish.send_replace(None);
        self.stage.send_modify(|stage| *stage = Stage { life: stage.life.saturating_add(1), phase: Phase::Starting });
        Life { keeper: self.clone(), wish: self.wish.subscribe() }
    }

    /// The worker that ends next is the last.
    pub(super) fn stays_down(&self) -> bool {
        self.stays_down.load(Ordering::Relaxed)
    }

    /// Address and process id of the worker, if it is up.
    pub(super) fn worker(&self) -> Option<(Text, u32)> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_worker(&self, worker: Option<(Text, u32)>) {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = worker;
    }

    /// Waits until a worker is registered.
    pub(super) async fn is_up(&self) {
        let mut stages = self.stage.subscribe();
        let _ended = stages.wait_for(|stage| stage.phase == Phase::Up).await;
    }

    /// Is this a request that [`Self::answer`] answers?
    pub(super) fn knows(op: &str) -> bool {
        matches!(op, "kill" | "restart" | "terminate" | "close_gracefully")
    }

    /// Does what is asked; the answer comes when it is done. None: it is not known here.
    pub(super) async fn answer(&self, op: &str, body: &Value) -> Option<Value> {
        let reason =
            body.get("reason").and_then(Value::as_str).map_or_else(|| format!("nanny-{op}").into(), Text::from);
        Some(match op {
            // Another worker is started without being asked for.
            "kill" => {
                self.end(WorkerEnd::Restart { reason }).await;
                Value::Nil
            }
            "restart" => {
                let secs = body.get("timeout").and_then(Value::as_f64).unwrap_or(RESTART_SECS);
                let limit = Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX);
                let again = async {
                    self.end(WorkerEnd::Restart { reason }).await;
                    self.is_up().await;
                };
                if timeout(limit, again).await.is_ok() { "OK".into() } else { "timed out".into() }
            }
            "terminate" => {
                self.stays_down.store(true, Ordering::Relaxed);
                self.end(WorkerEnd::Closed { reason }).await;
                "OK".into()
            }
            "close_gracefully" => {
                self.stays_down.store(true, Ordering::Relaxed);
                Value::Nil
            }
            _ => return None,
        })
    }

    /// Ends the life that is being lived, and waits until it is over.
    async fn end(&self, end: WorkerEnd) {
        let mut stages = self.stage.subscribe();
        let now = *stages.borrow_and_update();
        if now.phase != Phase::Down {
            self.wish.send_replace(Some(end));
            let _ended = stages.wait_for(|stage| stage.life != now.life || stage.phase == Phase::Down).await;
        }
    }
}

/// One life of a nanny's worker. Dropped when it is over.
#[derive(Debug)]
pub struct Life {
    keeper: Arc<Keeper>,
    wish: watch::Receiver<Option<WorkerEnd>>,
}

impl Life {
    /// The worker is registered.
    pub(super) fn is_up(&self, address: &Text, pid: u32) {
        self.keeper.set_worker(Some((address.clone(), pid)));
        self.keeper.stage.send_modify(|stage| stage.phase = Phase::Up);
    }

    /// How the life is to end, when somebody says so.
    pub(super) async fn wish(&mut self) -> WorkerEnd {
        match self.wish.wait_for(Option::is_some).await.ok().and_then(|wish| (*wish).clone()) {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.keeper.set_worker(None);
        self.keeper.stage.send_modify(|stage| stage.phase = Phase::Down);
    }
}
