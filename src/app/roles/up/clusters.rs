//! What `rask up` does with its fleet: takes it over, and sees to the cluster `local`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::UpConfig;
use crate::app::command_error::CommandError;
use crate::app::local::python_env::choose as pyenv;
use crate::app::local::settings::Loaded;
use crate::app::process::Signals;
use crate::base::BoxError;
use crate::batch::Backend;
use crate::config::{BackendSection, LogFormat, UpSection};
use crate::fleet::{
    self, Adapt, ClusterName, ClusterSettings, ClusterStatus, ClusterView, FindPython, FleetConfig, FleetHandle, LOCAL,
    MachineShare, NewCluster, SpanConfig,
};
use crate::host::{Interpreter, Machine};
use crate::peer::HeadHandle;
use crate::store::{StoreError, StoreHandle};
use crate::supervise::ParentDeath;

/// A scheduler listens within 0.1 s; a machine that just woke up may be slow.
const SCHEDULER_SECS: f64 = 30.0;
/// Two Pythons start one after the other per worker, from a cold disk in the worst case.
const WORKERS_PATIENCE: Duration = Duration::from_secs(180);
/// Somebody watches when a start takes longer than this. It is bounded by the fleet's own limits.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What the fleet needs to know of this appliance. `outlive`: clusters go on when it dies.
pub(crate) fn fleet_config(
    config: &UpConfig,
    loaded: &Loaded,
    python: Option<&Interpreter>,
    (http_at, dask_at): (SocketAddr, SocketAddr),
    span: Option<SpanConfig>,
    outlive: bool,
) -> FleetConfig {
    // The authority's key tells our jobs from those of another appliance of this user.
    let appliance = span.as_ref().map(|span| span.head.pin().hex().chars().take(12).collect::<String>());
    let start = |site: &BackendSection| Some(Backend::start(site.clone(), appliance.clone()?));
    FleetConfig {
        backends: config.backends.iter().filter_map(start).collect(),
        state: config.state.clone(),
        logs: config.log_dir.clone(),
        log_keep: config.keep,
        common_args: common_args(config, loaded),
        host: config.host,
        http_port: http_at.port(),
        plain_address: Some(format!("tcp://{dask_at}")),
        find_python: find_python(config, python),
        adaptive_period: adaptive_period(loaded),
        parent_death: if outlive { ParentDeath::Nothing } else { ParentDeath::Term },
        span,
        cgroup: fleet::delegated(),
        share: share(&loaded.config.up),
    }
}

/// Each worker is a process or two of Python, and what it may keep is promised, not taken: several times the machine's
/// cores and memory are usual, tens of times make it unusable.
fn share(up: &UpSection) -> MachineShare {
    let machine = Machine::look();
    let some = |number: u32| if number == 0 { u32::MAX } else { number };
    let bytes = |size: u64| if size == 0 { u64::MAX } else { size };
    MachineShare {
        workers: up.max_workers.set().map_or(machine.cores.saturating_mul(16).max(64), some),
        memory_bytes: up.max_memory.set().map_or(machine.memory_bytes.saturating_mul(4), |size| bytes(size.0)),
    }
}

/// Ten times a second is as often as a scheduler's view changes; less than once a day is never.
fn adaptive_period(loaded: &Loaded) -> Duration {
    Duration::from_secs_f64(loaded.config.gateway.cluster.adaptive_period.0.clamp(0.1, 86_400.0))
}

fn common_args(config: &UpConfig, loaded: &Loaded) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--state-dir".into(), config.state.clone().into()];
    let format = match loaded.config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    args.extend(["--log-format".into(), format.into()]);
    if let Some(file) = &loaded.file {
        args.extend(["--config".into(), file.clone().into()]);
    }
    args
}

fn find_python(config: &UpConfig, chosen: Option<&Interpreter>) -> FindPython {
    let (state, usual, chosen) = (config.state.clone(), config.python.clone(), chosen.cloned());
    Arc::new(move |asked: Option<PathBuf>| {
        let (state, usual) = (state.clone(), usual.clone());
        let chosen = chosen.clone().filter(|_| asked.is_none());
        Box::pin(async move {
            if let Some(chosen) = chosen {
                return Ok(chosen);
            }
            let asked = asked.map(|path| path.to_string_lossy().into_owned()).or(usual);
            pyenv::choose(asked.as_deref(), &state).await.map_err(BoxError::from)
        })
    })
}

/// Opens the store of a state folder. Errors: with the way out.
pub(crate) fn open_store(state: &Path) -> Result<StoreHandle, CommandError> {
    StoreHandle::open(&state.join("rask.db")).map_err(|why| of_store(&why))
}

pub(crate) fn of_store(why: &StoreError) -> CommandError {
    CommandError::blame(why.blame(), why).remedy(why.remedy())
}

/// The cluster `local`: the one that runs already, or a new one. Returns when clients can connect.
///
/// Errors: it could not be started, and why.
pub(crate) async fn local(fleet: &FleetHandle, config: &UpConfig, dask_at: SocketAddr) -> Result<(), CommandError> {
    if fleet.get(LOCAL).is_some_and(|view| !view.status.is_final()) {
        // One of an appliance before this one; if it is gone, it is closed now, and a new one can be made.
        let found = fleet.wait_not_pending(LOCAL, START_PATIENCE).await;
        if found.is_some_and(|view| !view.status.is_final()) {
            return Ok(());
        }
    }
    let Some(name) = ClusterName::parse(LOCAL) else { return Ok(()) };
    let settings = ClusterSettings {
        nthreads: config.pool.nthreads,
        worker_cores: f64::from(config.pool.nthreads),
        worker_memory_bytes: config.pool.memory_bytes,
        idle_timeout_secs: None,
        max_lifetime_secs: None,
        start_timeout_secs: SCHEDULER_SECS,
        engine: config.engine,
        jobs: config.jobs.clone(),
        ..ClusterSettings::default()
    };
    let new =
        NewCluster { name, user: crate::app::local::account::user_name(), options: serde_json::Map::new(), settings };
    let workers = match (&config.jobs, config.asked_workers) {
        _ if config.only_peers => 0,
        (Some(_), asked) => asked.and_then(|asked| u32::try_from(asked).ok()).unwrap_or(0),
        (None, _) => config.pool.nworkers,
    };
    let made = fleet.create_plain(new, format!("tcp://{dask_at}"), workers).await;
    made.map_err(|why| CommandError::world(format!("the cluster local could not be made: {why}")))?;
    match fleet.wait_not_pending(LOCAL, START_PATIENCE).await {
        // Whoever did not say how many jobs wants as many as the work needs.
        Some(view)
            if view.status == ClusterStatus::Running && config.jobs.is_some() && config.asked_workers.is_none() =>
        {
            let wish = Adapt { minimum: Some(0), maximum: None, active: true };
            fleet.adapt(LOCAL, wish).await.map_err(CommandError::world)
        }
        Some(view) if view.status == ClusterStatus::Running => Ok(()),
        Some(view) => Err(failed(&view, fleet)),
        None => Err(CommandError::world("the cluster local vanished while it started")),
    }
}

/// Waits for the first worker of `local`, if it is meant to have one.
pub(crate) async fn first_worker(fleet: &FleetHandle, signals: &mut Signals) -> Result<(), CommandError> {
    let waits = |view: &ClusterView| view.target > 0 && view.settings.jobs.is_none();
    let there = |view: &ClusterView| view.workers > 0 || !waits(view) || view.status.is_final();
    let waited = async { Ok(fleet.wait_until(LOCAL, WORKERS_PATIENCE, there).await) };
    let Some(view) = signals.during(waited).await? else { return Ok(()) };
    if view.status.is_final() {
        return Err(failed(&view, fleet));
    }
    if !there(&view) {
        let secs = WORKERS_PATIENCE.as_secs();
        return Err(CommandError::world(format!("no worker came within {secs} s")).remedy(see_logs(fleet)));
    }
    Ok(())
}

fn failed(view: &ClusterView, fleet: &FleetHandle) -> CommandError {
    let why = view.reason.as_deref().unwrap_or("nobody knows why");
    CommandError::world(format!("the cluster {} ended: {why}", view.name)).remedy(see_logs(fleet))
}

fn see_logs(fleet: &FleetHandle) -> String {
    format!("see the logs in {}", fleet.files(LOCAL).logs.display())
}

/// Machines that joined may hear what is wanted of them as soon as all clusters that were found have said it. Jobs that
/// belong to none of them end.
pub(crate) async fn release_peers(fleet: FleetHandle, head: HeadHandle, backends: Vec<Backend>) {
    for view in fleet.list().iter().filter(|view| !view.status.is_final()) {
        drop(fleet.wait_not_pending(view.name.as_str(), START_PATIENCE).await);
    }
    head.release().await;
    for backend in backends {
        backend.sweep().await;
    }
}
