//! Composition roots, one per role: build in order, wire handles, stop in reverse order.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod command_error;
mod commands;
mod install;
mod local;
mod process;
mod roles;
mod text;

pub use command_error::CommandError;
pub use commands::api::Remote;
pub use commands::certs::certs;
pub use commands::cluster::{ClusterCommand, cluster};
pub use commands::configure::{configure, env};
pub use commands::deploy::{DeployArgs, deploy};
pub use commands::docs::generate_docs;
pub use commands::doctor::{Diagnosis, DoctorArgs, Finding, Severity, doctor, examine};
pub use commands::down::down;
pub use commands::explain::explain;
pub use commands::jobs::jobs;
pub use commands::logs::{LogsArgs, logs};
pub use commands::open::open;
pub use commands::pages::Meant;
pub use commands::peers::{PeerDo, peer, peers};
pub use commands::replay::replay_worker;
pub use commands::run::{RunArgs, run};
pub use commands::run_in_job::run_in_job;
pub use commands::status::status;
pub use commands::token::{TokenCommand, token};
pub use commands::top::top;
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
pub use roles::up::config::{BatchArgs, UpArgs};
pub use roles::up::up;
pub use roles::worker::args::{PoolArgs, WorkerArgs};
pub use roles::worker::worker;
