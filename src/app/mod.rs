//! Composition roots, one per role: build in order, wire handles, stop in reverse order.

mod commands;
mod failure;
mod install;
mod local;
mod roles;

pub use commands::background::{down, logs, open};
pub use commands::certs::certs;
pub use commands::deploy::{DeployArgs, deploy};
pub use commands::docs::generate_docs;
pub use commands::doctor::{Diagnosis, DoctorArgs, Finding, Severity, doctor, examine};
pub use commands::explain::explain;
pub use commands::pages::Meant;
pub use commands::peers::{PeerDo, peer, peers};
pub use commands::remote::{ClusterCommand, Remote, TokenCommand, cluster, token};
pub use commands::run::{RunArgs, run};
pub use commands::status::{configure, env, status};
pub use commands::top::top;
pub use failure::Failure;
pub use install::service::{
    Scope, ServiceArgs, install as service_install, release as service_release, status as service_status,
    uninstall as service_uninstall, usual_scope,
};
pub use install::uninstall::{UninstallArgs, uninstall};
pub use local::logging::init as init_logging;
pub use local::settings::{Loaded, load as load_config};
pub use local::state_dir::{LogPlace, Running, state_dir};
pub use roles::join::{JoinArgs, join, leave};
pub use roles::scheduler::{SchedulerArgs, scheduler};
pub use roles::up::{UpArgs, up};
pub use roles::worker::{GroupArgs, WorkerArgs, worker};

use std::future::Future;
use std::time::Duration;

/// Left to tasks that run in the background when the role itself is done.
const LEFTOVERS: Duration = Duration::from_millis(200);

/// Runs a role on the main thread: children are bound to the thread that starts them (`supervise`).
fn block_on<T>(role: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::world(format!("cannot start an event loop: {why}")))?;
    let result = runtime.block_on(role);
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

/// The next SIGINT or SIGTERM, any number of times.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|why| Failure::world(format!("cannot listen for signals: {why}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Does something that a signal ends by dropping it.
    async fn during<T>(&mut self, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            done = doing => done,
            signal = self.next() => Err(Failure::world(format!("stopped by {signal} while starting"))),
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// `1 worker`, `2 workers`.
fn counted(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Who this user is, as Python's `getpass.getuser` says it: clusters of its clients get the same name.
fn user_name() -> String {
    let said = ["LOGNAME", "USER", "LNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    said.filter(|name| !name.is_empty()).or_else(name_of_uid).unwrap_or_else(|| "me".to_owned())
}

fn name_of_uid() -> Option<String> {
    account(2, &rustix::process::getuid().as_raw().to_string())?.into_iter().next()
}

/// The fields of the account of this machine whose field `at` is `value`: name, password, uid, gid and so on.
fn account(at: usize, value: &str) -> Option<Vec<String>> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = table.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    lines.find(|fields| fields.get(at).is_some_and(|field| field == value))
}
