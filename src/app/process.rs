//! What every long-running rask process does for itself: one event loop, the only handler of signals, its limits.

use std::future::Future;
use std::time::Duration;

use crate::app::command_error::CommandError;
use crate::control::ProcessInfo;
use crate::supervise::ProcessId;

/// Left to tasks that run in the background when the role itself is done.
const LEFTOVERS: Duration = Duration::from_millis(200);

/// Runs a role on the main thread: children are bound to the thread that starts them (`supervise`).
pub(crate) fn block_on<T>(role: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| CommandError::world(format!("cannot start an event loop: {why}")))?;
    let result = runtime.block_on(role);
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

/// The next SIGINT, SIGTERM or SIGHUP, any number of times.
pub(crate) struct Signals {
    /// The terminal was closed. None: whoever started us wants us to go on then (`nohup`).
    hangup: Option<tokio::signal::unix::Signal>,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, CommandError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|why| CommandError::world(format!("cannot listen for signals: {why}")));
        let hangup = if hangup_is_ignored() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Self { hangup, interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Does something that a signal ends by dropping it.
    pub(crate) async fn during<T>(
        &mut self,
        doing: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            done = doing => done,
            signal = self.next() => Err(CommandError::world(format!("stopped by {signal} while starting"))),
        }
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = hung_up(&mut self.hangup) => "SIGHUP",
        }
    }
}

async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Was this process started with SIGHUP ignored? Source: man 5 proc, `SigIgn` of `/proc/PID/status`.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Who answers at our control sockets.
pub(crate) fn this_process() -> ProcessInfo {
    let this = ProcessId::this();
    ProcessInfo::new(this.pid, this.started_ticks)
}

/// Every worker and client needs a descriptor or more.
///
/// Source: `distributed/cli/dask_scheduler.py`, which asks for half of what is allowed.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(error = %why, "the limit of open files stays");
    }
}
