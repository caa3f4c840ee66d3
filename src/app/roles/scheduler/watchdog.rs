//! Ends a scheduler that spins: one whose loop has stopped to turn and that uses a whole core for nothing.
//!
//! A busy scheduler turns: a step has bounded work, and between two steps the loop comes round. What tells a spin from a
//! long step is processor time of the loop's own thread since it came round last. Time on the clock would not do: a
//! process that was stopped, or that waits for memory or its turn on a crowded machine, is not stuck.
//!
//! A spinning loop cannot hear signals either, so they are heard here as well.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::app::command_error::CommandError;
use crate::app::process::{Signals, block_on};

/// How often the loop says that it turns.
const BEAT: Duration = Duration::from_millis(100);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// After a signal: longer than an orderly end takes, goodbyes included. One who turned meanwhile ends by itself.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(10);
/// Of one that did not turn when it was told to end: 128 and the number of SIGTERM.
const TOLD: i32 = 143;
/// Of one that was found to spin.
const STUCK: i32 = 1;

/// Watches the event loop on which this is called, for as long as the process lives. `limit`: of processor time; None:
/// only signals are heard.
///
/// Errors: there is no thread or no signal handler to be had.
pub(super) fn watch(limit: Option<Duration>) -> Result<(), CommandError> {
    let turns = Arc::new(AtomicU64::new(0));
    let watched = turns.clone();
    tokio::spawn(async move {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            turns.fetch_add(1, Ordering::Relaxed);
        }
    });
    let watching = move || block_on(look(&watched, limit)).err();
    let started = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watching);
    started.map(drop).map_err(|why| CommandError::world(format!("cannot start the watchdog's thread: {why}")))
}

/// Never returns if it can listen for signals.
async fn look(turns: &AtomicU64, limit: Option<Duration>) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let (mut seen, mut used_then, mut told) = (None, None, None);
    loop {
        tokio::select! {
            () = sleep(LOOK) => {}
            signal = signals.next() => told = told.or(Some((signal, Instant::now()))),
        }
        let now = Some(turns.load(Ordering::Relaxed));
        if now != seen {
            (seen, used_then, told) = (now, used_by_loop(), None);
            continue;
        }
        if let Some((signal, since)) = told
            && since.elapsed() >= SIGNAL_PATIENCE
        {
            tracing::error!(signal, "the scheduler has not turned since it was told to end, and is ended");
            std::process::exit(TOLD);
        }
        let used = used_by_loop().zip(used_then).map(|(now, then)| now.saturating_sub(then));
        if let (Some(used), Some(limit)) = (used, limit)
            && used >= limit
        {
            let (used_secs, limit_secs) = (used.as_secs_f64(), limit.as_secs_f64());
            tracing::error!(
                used_secs,
                limit_secs,
                "the scheduler spins: one step has used this much processor time and is not done. It is ended, since it \
                 would never answer again. Please report what was submitted last; scheduler.stuck-after is the limit"
            );
            std::process::exit(STUCK);
        }
    }
}

/// Processor time of the thread that runs the loop: the main thread, whose id is the process's.
///
/// Source: man 5 proc, `schedstat` of Linux's documentation (`scheduler/sched-stats`): nanoseconds on a processor first.
fn used_by_loop() -> Option<Duration> {
    let path = format!("/proc/self/task/{}/schedstat", std::process::id());
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
