//! A running scheduler process: the loop, and the end of it all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::base::Value;
use crate::cluster::control::answer::answer_control;
use crate::cluster::control::inbox::Control;
use crate::cluster::options::RunError;
use crate::cluster::start;
use crate::cluster::start::{SchedulerFile, SchedulerOptions, Started};
use crate::cluster::state::State;
use crate::cluster::state::handle::InboxItem;
use crate::cluster::turn;
use crate::cluster::views::identity;
use crate::net::Acceptor;

/// Most messages handled between two flushes. Gathers replies under load, and bounds how long a lone one waits.
const TURN_MESSAGES: usize = 512;

/// Longest the end may take: whoever stopped the process waits for it, and a nanny or batch system kills it after a few
/// seconds.
const CLOSE_DEADLINE: Duration = Duration::from_millis(1_500);

/// Runs one scheduler until it is told to stop (`SchedulerOptions::stop`, [`Control::Stop`], `terminate`, idle timeout).
///
/// Errors: it could not start. See [`RunError`].
pub async fn run_scheduler(mut options: SchedulerOptions) -> Result<(), RunError> {
    let mut stop = options.stop.take();
    let Started { mut state, mut inbox, accepting, handed_over, ready } = start::start(&options).await?;
    if !options.preload.is_empty() {
        tokio::select! {
            loaded = start::preload(&mut state, &options.preload, &options.preload_argv) => loaded?,
            reason = told_to_stop(&mut stop) => state.close_because(reason),
        }
    }
    let file = match &options.scheduler_file {
        Some(path) => Some(SchedulerFile::write(path, &identity::identity(&state, None))?),
        None => None,
    };
    for address in &ready.listening {
        info!("  Scheduler at: {address:>25}");
    }
    if let Some(told) = options.ready.take() {
        // Whoever started this scheduler may not care.
        drop(told.send(ready));
    }
    let mut control = options.control.take();
    run_loop(&mut state, &mut inbox, &mut control, &mut stop, &handed_over).await;
    drop(file);
    for task in accepting {
        task.abort();
    }
    close(state, !options.preload.is_empty()).await;
    Ok(())
}

// ---- the loop -------------------------------------------------------------------------------------------------

async fn run_loop(
    state: &mut State,
    inbox: &mut mpsc::Receiver<InboxItem<State>>,
    control: &mut Option<mpsc::Receiver<Control>>,
    stop: &mut Option<oneshot::Receiver<String>>,
    handed_over: &Arc<Acceptor>,
) {
    let mut items = Vec::with_capacity(TURN_MESSAGES);
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    while state.closing.is_none() {
        let deadline = turn::deadline(state);
        let wait_us = deadline.map(|at| at.0.saturating_sub(state.clock.now().0));
        if let Some(us) = wait_us.filter(|us| *us > 0) {
            sleep.as_mut().reset(Instant::now() + Duration::from_micros(us));
        }
        tokio::select! {
            count = inbox.recv_many(&mut items, TURN_MESSAGES) => {
                if count == 0 {
                    return;
                }
                for item in items.drain(..) {
                    turn::on_item(state, item);
                }
            }
            // Something is due already; readers and jobs get their turn first.
            () = tokio::task::yield_now(), if wait_us == Some(0) => turn::on_deadline(state),
            () = &mut sleep, if wait_us.is_some_and(|us| us > 0) => turn::on_deadline(state),
            told = next_control(control) => match told {
                Some(told) => answer_control(state, told, handed_over),
                // Nobody can ask any more; the scheduler goes on.
                None => *control = None,
            },
            reason = told_to_stop(stop) => {
                info!(reason, "closing");
                state.close_because(reason);
            }
        }
        turn::end(state);
    }
}

async fn next_control(control: &mut Option<mpsc::Receiver<Control>>) -> Option<Control> {
    match control {
        Some(control) => control.recv().await,
        None => std::future::pending().await,
    }
}

/// Why the process was told to end; never, when nobody is left to say so.
async fn told_to_stop(stop: &mut Option<oneshot::Receiver<String>>) -> String {
    if let Some(receiver) = stop {
        let told = receiver.await;
        // A receiver must not be asked again after its answer.
        *stop = None;
        if let Ok(reason) = told {
            return reason;
        }
    }
    std::future::pending().await
}

// ---- the end --------------------------------------------------------------------------------------------------

/// Tells workers to close, drops clients, ends Python. Bounded in time: a peer that does not read holds up nobody.
async fn close(state: State, preloaded: bool) {
    let reason = state.closing.as_ref().map_or("unknown".into(), |closing| closing.0.clone());
    info!(%reason, "closing scheduler");
    let close = Value::map([("op", "close".into()), ("reason", "scheduler-close".into())]);
    let close_stream = Value::map([("op", "close-stream".into())]);
    let mut open = Vec::new();
    for link in state.peers.workers.values() {
        link.outbox.push(|encoder| encoder.put_value(&close));
        link.outbox.push(|encoder| encoder.put_value(&close_stream));
        link.outbox.kick();
        link.outbox.close();
        open.push(link.outbox.clone());
    }
    for link in state.peers.clients.values() {
        link.outbox.abort();
    }
    let others = state.peers.conns.values().map(|found| found.line.outbox.clone());
    for outbox in others {
        outbox.close();
        open.push(outbox);
    }
    let pyhost = state.python.pyhost.clone();
    let written = async {
        join_all(open.iter().map(crate::net::Outbox::closed)).await;
    };
    let python = async {
        if let Some(pyhost) = pyhost {
            if preloaded {
                // What its modules say to this is of no use any more.
                drop(pyhost.call("preload_end", Value::Map(Vec::new())).await);
            }
            pyhost.shutdown().await;
        }
    };
    if tokio::time::timeout(CLOSE_DEADLINE, futures_util::future::join(written, python)).await.is_err() {
        warn!("some peers did not take their last messages in time");
    }
    state.handle.close_pool();
}
