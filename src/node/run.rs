//! A worker's life: its loop, and its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::driver::{Driver, NodeStatus};
use super::error::NodeError;
use super::input::{Inbox, NodeInput};
use super::join::{Joined, join};
use super::peer;
use super::plan::{WorkerEnd, WorkerPlan};
use crate::base::{Limits, Text, Value};
use crate::executor::{FromExecutor, ToControl};
use crate::net::{Acceptor, MessageReader, PlainRule, Refusals};
use crate::wire::op::decode_orders;

/// Messages that are dealt with before anything is sent.
const TURN_MAX: u32 = 256;
/// For plugins to be torn down before the executor is killed.
const WIND_UP: Duration = Duration::from_secs(5);

/// Runs one worker to its end. `stop`: close when it says true. Must run on the main thread's runtime.
///
/// Errors: it could not be started.
pub async fn run_worker(plan: &WorkerPlan, mut stop: watch::Receiver<bool>) -> Result<WorkerEnd, NodeError> {
    let joined = tokio::select! {
        joined = join(plan) => joined?,
        () = told(&mut stop) => return Err(NodeError::Stopped),
    };
    let Joined { mut driver, mut inbox, orders, listener } = joined;
    // Dropped at the end of this function, and with it the listener and the reader.
    let mut tasks = JoinSet::new();
    tasks.spawn(read_orders(orders, driver.inbox.clone()));
    let ip = listener.local_addr().ip();
    tasks.spawn(listener.run(Arc::new(acceptor(&driver, plan, ip.is_loopback()))));
    let end = live(&mut driver, &mut inbox, &mut stop).await;
    leave(driver, inbox, &end).await;
    Ok(end)
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can say it any more: the same wish.
    let _told = stop.wait_for(|stop| *stop).await;
}

fn acceptor(driver: &Driver, plan: &WorkerPlan, is_loopback: bool) -> Acceptor {
    let users = plan.allow_users.clone();
    let (inbox, us) = (driver.inbox.clone(), driver.address.clone());
    Acceptor {
        limits: Arc::new(Limits::default()),
        tls: plan.tls.clone().filter(|_| plan.scheme.is_tls()),
        plain: if plan.scheme.is_tls() {
            PlainRule::Nobody
        } else if is_loopback {
            PlainRule::LoopbackUsers(users)
        } else {
            PlainRule::OwnUsers(users)
        },
        on_comm: Arc::new(move |connection| peer::serve(connection, inbox.clone(), us.clone()).boxed()),
        on_http: None,
        refusals: Refusals::default(),
    }
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
            NodeInput::Fetched { peer, got } => self.on_fetched(peer, got),
            NodeInput::Beat { answer, asked, answered } => self.on_beat(answer, asked, answered),
        }
    }
}

/// Tells the scheduler, then the executor, and waits until that is gone.
async fn leave(mut driver: Driver, mut inbox: mpsc::UnboundedReceiver<NodeInput>, end: &WorkerEnd) {
    let reason: Text = match end {
        WorkerEnd::Closed { reason } => reason.clone(),
        WorkerEnd::Broken { reason } => reason.as_str().into(),
    };
    tracing::info!(worker = %driver.address, %reason, "worker closed");
    let event = Value::map([("action", "closing-worker".into()), ("reason", Value::Str(reason.clone()))]);
    driver.log_event(&driver.address, &event);
    let WorkerEnd::Closed { .. } = end else {
        // Gone at once, as a process that died: what it was doing is suspicious to the scheduler.
        driver.stream.kick();
        driver.stream.close();
        return driver.stream.closed().await;
    };
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
            | NodeInput::Fetched { .. }
            | NodeInput::Beat { .. } => {}
        }
    }
}
