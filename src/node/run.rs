//! A worker's life: its loop, and its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::driver::{Driver, NodeStatus};
use super::error::NodeError;
use super::input::{Inbox, NodeInput};
use super::join::{Joined, join};
use super::keeper::Life;
use super::peer::{Desk, acceptor};
use super::plan::{WorkerEnd, WorkerPlan};
use super::siblings::Sibling;
use crate::base::{Limits, Text, Value};
use crate::executor::{FromExecutor, ToControl};
use crate::net::{MessageReader, Pool};
use crate::wire::Message;
use crate::wire::op::decode_orders;

/// Messages that are dealt with before anything is sent.
const TURN_MAX: u32 = 256;
/// For plugins to be torn down before the executor is killed.
const WIND_UP: Duration = Duration::from_secs(5);
/// For the scheduler to forget a worker. Source: `distributed/nanny.py`, `_unregister`.
const UNREGISTER: Duration = Duration::from_secs(10);

/// Runs one worker to its end. `stop`: close when it says true. `life`: from its nanny, if it has one. `started`:
/// hears the process id of its Python. Must run on the main thread's runtime.
///
/// Errors: it could not be started.
pub async fn run_worker(
    plan: &WorkerPlan,
    mut stop: watch::Receiver<bool>,
    mut life: Option<Life>,
    started: impl FnOnce(u32),
) -> Result<WorkerEnd, NodeError> {
    let joined = tokio::select! {
        joined = join(plan, started) => joined?,
        () = told(&mut stop) => return Err(NodeError::Stopped),
        end = wished(&mut life) => return Ok(end),
    };
    let Joined { mut driver, mut inbox, orders, listener } = joined;
    if let Some(life) = &life {
        life.is_up(&driver.address, driver.executor.pid);
    }
    let _sibling = Sibling::enter(&driver.address, &driver.inbox);
    // Dropped at the end of this function, and with it the listener and the reader.
    let mut tasks = JoinSet::new();
    tasks.spawn(read_orders(orders, driver.inbox.clone()));
    let ip = listener.local_addr().ip();
    let desk = Desk::Worker(driver.folder.clone());
    tasks.spawn(listener.run(Arc::new(acceptor(plan, ip, driver.inbox.clone(), desk, &driver.address))));
    let end = live(&mut driver, &mut inbox, &mut stop, &mut life).await;
    let (pool, address) = (driver.pool.clone(), driver.address.clone());
    leave(driver, inbox, &end).await;
    if life.is_some() {
        unregister(&pool, plan, &address).await;
    }
    Ok(end)
}

/// What the nanny was asked to do with this worker.
async fn wished(life: &mut Option<Life>) -> WorkerEnd {
    match life {
        Some(life) => life.wish().await,
        None => std::future::pending().await,
    }
}

/// The scheduler forgets this worker before another one registers under its name.
///
/// Source: `distributed/nanny.py`, `_unregister`.
async fn unregister(pool: &Pool, plan: &WorkerPlan, address: &Text) {
    let question = Value::map([
        ("op", "unregister".into()),
        ("address", Value::Str(address.clone())),
        ("stimulus_id", "nanny-close".into()),
        ("reply", true.into()),
    ]);
    if let Err(error) = pool.call(&plan.scheduler, Message::from_value(&question), UNREGISTER).await {
        tracing::debug!(%error, "the scheduler was not told that a worker is gone");
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can say it any more: the same wish.
    let _told = stop.wait_for(|stop| *stop).await;
}

async fn read_orders(mut reader: MessageReader, inbox: Inbox) {
    let why = loop {
        let message = match reader.recv().await {
            Ok(Some(message)) => message,
            Ok(None) => break "it ended".to_owned(),
            Err(error) => break error.to_string(),
        };
        match decode_orders(&message, &Limits::default()) {
            Ok(orders) => {
                if inbox.send(NodeInput::Orders(orders)).is_err() {
                    return;
                }
            }
            Err(error) => break error.to_string(),
        }
    };
    let _closed = inbox.send(NodeInput::StreamEnded { why });
}

async fn live(
    driver: &mut Driver,
    inbox: &mut mpsc::UnboundedReceiver<NodeInput>,
    stop: &mut watch::Receiver<bool>,
    life: &mut Option<Life>,
) -> WorkerEnd {
    loop {
        let wait = driver.next_wake().0.saturating_sub(driver.clock.now().0);
        tokio::select! {
            input = inbox.recv() => {
                let mut next = input;
                for _ in 0..TURN_MAX {
                    let Some(input) = next else { break };
                    driver.on_input(input);
                    next = inbox.try_recv().ok();
                }
                // The one that was taken out of the inbox when the turn was over.
                if let Some(input) = next {
                    driver.on_input(input);
                }
            }
            () = sleep(Duration::from_micros(wait)) => {}
            () = told(stop) => driver.close("it was told to stop"),
            end = wished(life) => driver.end_as(end),
        }
        driver.on_time();
        driver.flush();
        if let Some(end) = driver.end.take() {
            return end;
        }
    }
}

impl Driver {
    fn on_input(&mut self, input: NodeInput) {
        if self.end.is_some() {
            return;
        }
        match input {
            NodeInput::Orders(orders) => self.on_orders(orders),
            NodeInput::StreamEnded { why } => self.close(format!("the connection to the scheduler is gone: {why}")),
            NodeInput::Executor(news) => self.on_executor(news),
            NodeInput::Call(call) => self.on_call(call),
            NodeInput::Spilled { number, outcomes } => self.on_spilled(number, outcomes),
            NodeInput::Fetched { peer, got } => self.on_fetched(peer, got),
            NodeInput::Beat { answer, asked, answered } => self.on_beat(answer, asked, answered),
        }
    }
}

/// Tells the scheduler, then the executor, and waits until that is gone.
async fn leave(mut driver: Driver, mut inbox: mpsc::UnboundedReceiver<NodeInput>, end: &WorkerEnd) {
    let reason: Text = match end {
        WorkerEnd::Closed { reason } | WorkerEnd::Restart { reason } => reason.clone(),
        WorkerEnd::Broken { reason } => reason.as_str().into(),
    };
    tracing::info!(worker = %driver.address, %reason, "worker closed");
    let event = Value::map([("action", "closing-worker".into()), ("reason", Value::Str(reason.clone()))]);
    driver.log_event(&driver.address, &event);
    if let WorkerEnd::Broken { .. } = end {
        // Gone at once, as a process that died: what it was doing is suspicious to the scheduler.
        driver.stream.kick();
        driver.stream.close();
        return driver.stream.closed().await;
    }
    driver.set_status(NodeStatus::Closing);
    driver.say("close-stream", &[]);
    driver.stream.kick();
    driver.stream.close();
    driver.executor.tell(&ToControl::Close { reason: &reason });
    let until = Instant::now().checked_add(WIND_UP).unwrap_or_else(Instant::now);
    while let Ok(Some(input)) = timeout_at(until, inbox.recv()).await {
        match input {
            NodeInput::Executor(FromExecutor::Ended { .. }) => break,
            // What is being torn down may still ask.
            NodeInput::Executor(news @ FromExecutor::Inquiry(_)) => driver.on_executor(news),
            NodeInput::Executor(_)
            | NodeInput::Orders(_)
            | NodeInput::StreamEnded { .. }
            | NodeInput::Call(_)
            | NodeInput::Spilled { .. }
            | NodeInput::Fetched { .. }
            | NodeInput::Beat { .. } => {}
        }
    }
}
