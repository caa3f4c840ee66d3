//! Composition roots, one per role: build in order, wire handles, stop in reverse order.

mod appliance;
mod background;
mod certs;
mod clusters;
mod deploy;
mod doctor;
mod explain;
mod failure;
mod front;
mod gendocs;
mod group;
mod https;
mod join;
mod lan;
mod listen;
mod logging;
mod members;
mod notify;
mod pages;
mod pages_of;
mod peerenv;
mod pyenv;
mod pymake;
mod remote;
mod run;
mod scheduler;
mod service;
mod settings;
mod shell;
mod state;
mod status;
mod top;
mod uninstall;
mod worker;

pub use appliance::{UpArgs, up};
pub use background::{down, logs, open};
pub use certs::certs;
pub use deploy::{DeployArgs, deploy};
pub use doctor::{Diagnosis, DoctorArgs, Finding, Severity, doctor, examine};
pub use explain::explain;
pub use failure::Failure;
pub use gendocs::generate_docs;
pub use group::GroupArgs;
pub use join::{JoinArgs, join, leave};
pub use logging::init as init_logging;
pub use members::{PeerDo, peer, peers};
pub use pages_of::Meant;
pub use remote::{ClusterCommand, Remote, TokenCommand, cluster, token};
pub use run::{RunArgs, run};
pub use scheduler::{SchedulerArgs, scheduler};
pub use service::{
    Scope, ServiceArgs, install as service_install, release as service_release, status as service_status,
    uninstall as service_uninstall, usual_scope,
};
pub use settings::{Loaded, load as load_config};
pub use state::{LogPlace, Running, state_dir};
pub use status::{configure, env, status};
pub use top::top;
pub use uninstall::{UninstallArgs, uninstall};
pub use worker::{WorkerArgs, worker};

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
