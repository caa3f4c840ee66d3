//! What every handler needs, and the steps that both APIs share: find a cluster for somebody, make, scale, adapt, stop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::auth::{Auth, User};
use super::error::ApiError;
use super::hosts::Hosts;
use super::limits::{ClusterLimits, Used, WorkerSize, clip_adapt, clip_scale};
use super::options::Options;
use super::settings::{self, ClusterWish};
use super::{python, value::python_text};
use crate::config::BackendSection;
use crate::fleet::{
    Adapt, ClusterName, ClusterSettings, ClusterStatus, ClusterView, FleetError, FleetHandle, JobWish, LOCAL,
    NewCluster,
};
use crate::store::{HISTORY_DAYS, StoreHandle};

/// What the composition root gives.
pub struct Setup {
    pub fleet: FleetHandle,
    /// Tokens, history.
    pub store: StoreHandle,
    /// Who asks.
    pub auth: Auth,
    /// Our names.
    pub hosts: Hosts,
    /// What may be chosen.
    pub options: Options,
    /// What may be taken.
    pub limits: ClusterLimits,
    /// Settings of a cluster where no option says otherwise.
    pub usual: ClusterSettings,
    /// Batch systems.
    pub backends: Vec<BackendSection>,
    /// Whose jobs are.
    pub own_user: String,
    /// The state folder.
    pub state: PathBuf,
    /// Longest request body. Unit: bytes.
    pub request_bytes: u64,
    /// Facts about this appliance, shown by `GET /api/rask/v1/`.
    pub info: Value,
    /// What others serve below the same base, for the document of all addresses.
    pub more_paths: utoipa::openapi::OpenApi,
    /// The configuration as it is in force, without secrets.
    pub shown_settings: Value,
}

/// The state of all routes. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    setup: Arc<Setup>,
    turns: Turns,
}

/// Requests that are being granted, by user.
type Turns = Arc<Mutex<HashMap<String, Arc<Turn>>>>;
type Turn = tokio::sync::Mutex<()>;

impl std::ops::Deref for Gateway {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
    }
}

/// What scaling granted.
pub(super) struct ScaleGrant {
    /// None: everything; else what to tell.
    pub told: Option<String>,
}

impl Gateway {
    /// From its parts.
    pub fn new(setup: Setup) -> Self {
        Self { setup: Arc::new(setup), turns: Turns::default() }
    }

    /// May programs of other users of this machine come in, to show a password?
    pub fn admits_strangers(&self) -> bool {
        self.auth.admits_strangers()
    }

    /// Somebody's cluster, alive or ended. Errors: 404 unknown, 403 another's.
    pub(super) fn cluster(&self, user: &User, name: &str, verb: &str) -> Result<Arc<ClusterView>, ApiError> {
        let known = self.fleet.get(name).ok_or_else(|| ApiError::not_found(format!("Cluster {name} not found")))?;
        self.permit(user, &known, verb)?;
        Ok(known)
    }

    fn permit(&self, user: &User, cluster: &ClusterView, verb: &str) -> Result<(), ApiError> {
        if user.may(&cluster.user) {
            return Ok(());
        }
        let name = cluster.name.as_str();
        Err(ApiError::forbidden(format!("User {} lacks permissions to {verb} cluster {name}", user.name)))
    }

    /// Somebody's clusters with one of these states.
    pub(super) fn clusters(&self, user: &User, with: &[ClusterStatus]) -> Vec<Arc<ClusterView>> {
        let mut all = self.fleet.list();
        all.retain(|cluster| user.may(&cluster.user) && with.contains(&cluster.status));
        all
    }

    /// Makes a cluster with these options. Errors: 422 for options, limits and interpreters that cannot be; 409 for a
    /// name that is taken.
    pub(super) async fn create(&self, user: &User, name: ClusterName, options: &Value) -> Result<(), ApiError> {
        let chosen = self.options.validate(options).map_err(ApiError::invalid)?;
        let wish = settings::wish(&self.options, &chosen, &self.usual_wish()).map_err(ApiError::invalid)?;
        self.may_be_called(user, name.as_str()).await?;
        let _turn = self.turn(&user.name).await;
        let used = self.used(&user.name, None);
        self.limits.may_create(&user.name, used, wish.size).map_err(ApiError::invalid)?;
        let python = match &wish.python {
            Some(asked) => Some(python::resolve(asked, &self.state).await.map_err(ApiError::invalid)?),
            None => self.usual.python.clone(),
        };
        let settings = ClusterSettings {
            nthreads: wish.nthreads,
            worker_cores: wish.size.cores,
            worker_memory_bytes: wish.size.memory_bytes,
            python,
            env: wish.env,
            nanny: wish.nanny,
            engine: wish.engine,
            hosts: wish.hosts,
            jobs: self.jobs(user, wish.jobs)?,
            idle_timeout_secs: wish.idle_timeout_secs,
            max_lifetime_secs: wish.max_lifetime_secs,
            max_workers: self.limits.of_cluster(wish.size),
            ..self.usual.clone()
        };
        let new = NewCluster { name, user: user.name.clone(), options: settings::shown(&chosen), settings };
        self.fleet.create(new).await.map_err(|why| failed(&why))
    }

    /// The batch system that somebody chose, with what the site is used to. Errors: 422: there is none of that name; jobs
    /// are the appliance user's, so others may have none.
    fn jobs(&self, user: &User, wish: Option<JobWish>) -> Result<Option<JobWish>, ApiError> {
        let Some(wish) = wish else { return Ok(None) };
        let Some(site) = self.backends.iter().find(|site| site.name == wish.backend) else {
            return Err(ApiError::invalid(format!("there is no backend {}", wish.backend)));
        };
        if user.name != self.own_user {
            let why =
                format!("jobs of {} run as {}, so only that user's clusters may have them", site.name, self.own_user);
            return Err(ApiError::invalid(why));
        }
        let or = |chosen: String, usual: &String| if chosen.is_empty() { usual.clone() } else { chosen };
        Ok(Some(JobWish {
            partition: or(wish.partition, &site.partition),
            account: or(wish.account, &site.account),
            qos: or(wish.qos, &site.qos),
            walltime_secs: if wish.walltime_secs == 0 { site.walltime.0 as u64 } else { wish.walltime_secs },
            backend: wish.backend,
        }))
    }

    /// Requests of one user for more are granted one after the other: what was granted counts for the next.
    async fn turn(&self, user: &str) -> Option<OwnedMutexGuard<()>> {
        if !self.limits.any_of_users() {
            return None;
        }
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(user.to_owned()).or_default().clone()
        };
        Some(turn.lock_owned().await)
    }

    /// May this user's next cluster have this name? Errors: 409.
    async fn may_be_called(&self, user: &User, name: &str) -> Result<(), ApiError> {
        if name == LOCAL {
            return Err(ApiError::conflict(format!("the name {LOCAL} is kept for the cluster of rask up itself"))
                .remedy("choose another name"));
        }
        // Logs of a cluster are found by its name.
        if !user.admin && self.store.was_anothers(name, &user.name).await? {
            return Err(ApiError::conflict(format!(
                "another user had a cluster {name} within {HISTORY_DAYS} days, whose logs are kept"
            ))
            .remedy("choose another name"));
        }
        Ok(())
    }

    fn usual_wish(&self) -> ClusterWish {
        let usual = &self.usual;
        ClusterWish {
            size: WorkerSize { cores: usual.worker_cores, memory_bytes: usual.worker_memory_bytes },
            nthreads: usual.nthreads,
            python: None,
            env: usual.env.clone(),
            nanny: usual.nanny,
            engine: usual.engine,
            hosts: usual.hosts.clone(),
            jobs: None,
            idle_timeout_secs: usual.idle_timeout_secs,
            max_lifetime_secs: usual.max_lifetime_secs,
        }
    }

    /// What somebody's clusters take, the one called `besides` aside. The local cluster is nobody's wish.
    fn used(&self, user: &str, besides: Option<&str>) -> Used {
        let mut used = Used::default();
        for cluster in self.fleet.list() {
            let name = cluster.name.as_str();
            let counts = matches!(cluster.status, ClusterStatus::Pending | ClusterStatus::Running);
            if counts && cluster.user == user && name != LOCAL && Some(name) != besides {
                let bounds = cluster.adapt.as_ref().and_then(|adapt| adapt.maximum);
                used.add(bounds.unwrap_or(cluster.target).max(cluster.target), size_of(&cluster));
            }
        }
        used
    }

    fn limit_of(&self, cluster: &ClusterView) -> Option<u32> {
        let name = cluster.name.as_str();
        if name == LOCAL {
            return None;
        }
        self.limits.of_cluster_and_user(self.used(&cluster.user, Some(name)), size_of(cluster))
    }

    /// Wants `count` workers. Errors: 403, 404, 409 unless it runs.
    pub(super) async fn scale(&self, user: &User, name: &str, count: u32) -> Result<ScaleGrant, ApiError> {
        let cluster = self.running(user, name)?;
        let _turn = self.turn(&cluster.user).await;
        let (granted, told) = clip_scale(count, self.limit_of(&cluster));
        self.fleet.scale(name, granted).await.map_err(|why| failed(&why))?;
        Ok(ScaleGrant { told })
    }

    /// Lets the number of workers follow the load, or stops that. Errors: 403, 404, 409 unless it runs.
    pub(super) async fn adapt(&self, user: &User, name: &str, wish: Adapt) -> Result<ScaleGrant, ApiError> {
        let cluster = self.running(user, name)?;
        let _turn = self.turn(&cluster.user).await;
        let (minimum, maximum, told) = match wish.active {
            true => clip_adapt(wish.minimum, wish.maximum, self.limit_of(&cluster)),
            false => (wish.minimum, wish.maximum, None),
        };
        let granted = Adapt { minimum, maximum, active: wish.active };
        self.fleet.adapt(name, granted).await.map_err(|why| failed(&why))?;
        Ok(ScaleGrant { told })
    }

    /// Workers to start with. Errors: those of the fleet.
    pub(super) async fn scale_new(&self, user: &User, name: &str, count: u32) -> Result<(), ApiError> {
        let _turn = self.turn(&user.name).await;
        let cluster = self.fleet.get(name);
        let limit = cluster.as_ref().and_then(|cluster| self.limit_of(cluster));
        let (granted, _) = clip_scale(count, limit);
        self.fleet.scale(name, granted).await.map_err(|why| failed(&why))
    }

    /// Where a cluster's logs are.
    pub(super) fn logs_folder(&self, name: &str) -> PathBuf {
        self.fleet.files(name).logs
    }

    fn running(&self, user: &User, name: &str) -> Result<Arc<ClusterView>, ApiError> {
        let cluster = self.cluster(user, name, "view")?;
        match cluster.status {
            ClusterStatus::Running => Ok(cluster),
            ClusterStatus::Failed => Err(ApiError::conflict(failure_text(&cluster))),
            ClusterStatus::Pending | ClusterStatus::Stopping | ClusterStatus::Stopped => {
                Err(ApiError::conflict(format!("cluster {name} is not running")))
            }
        }
    }

    /// Stops a cluster. One that is unknown or stopped already is fine. Errors: 403.
    pub(super) async fn stop(&self, user: &User, name: &str) -> Result<(), ApiError> {
        let Some(cluster) = self.fleet.get(name) else { return Ok(()) };
        self.permit(user, &cluster, "stop")?;
        match self.fleet.stop(name, &format!("stopped by {}", user.name)).await {
            Ok(()) => Ok(()),
            Err(FleetError::Unknown(_)) => Ok(()),
            Err(why) => Err(failed(&why)),
        }
    }

    /// The cluster, as soon as it is no longer starting; at the latest after `patience`.
    pub(super) async fn settled(
        &self,
        user: &User,
        name: &str,
        patience: Duration,
    ) -> Result<Arc<ClusterView>, ApiError> {
        let first = self.cluster(user, name, "view")?;
        match first.status {
            ClusterStatus::Pending => Ok(self.fleet.wait_not_pending(name, patience).await.unwrap_or(first)),
            ClusterStatus::Running | ClusterStatus::Stopping | ClusterStatus::Stopped | ClusterStatus::Failed => {
                Ok(first)
            }
        }
    }
}

/// Why a cluster failed, for the exception that its user sees.
pub(super) fn failure_text(cluster: &ClusterView) -> String {
    let reason = cluster.reason.as_deref().unwrap_or("see its logs");
    let name = python_text(cluster.name.as_str());
    let what = if cluster.ran { "ran and failed later" } else { "failed to start" };
    let mut text = format!("Cluster {name} {what}: {reason}");
    for line in &cluster.last_lines {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

fn size_of(cluster: &ClusterView) -> WorkerSize {
    WorkerSize { cores: cluster.settings.worker_cores, memory_bytes: cluster.settings.worker_memory_bytes }
}

fn failed(why: &FleetError) -> ApiError {
    let status = match why {
        FleetError::Unknown(_) => StatusCode::NOT_FOUND,
        FleetError::NameTaken(_) | FleetError::NotRunning(_) => StatusCode::CONFLICT,
        FleetError::Bounds { .. } | FleetError::Python(_) | FleetError::Hosts { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        FleetError::Store(_) | FleetError::Certificate(_) | FleetError::Slow => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let error = ApiError::new(status, why.to_string());
    match why {
        FleetError::Store(store) => error.remedy(store.remedy()),
        FleetError::Unknown(_)
        | FleetError::NameTaken(_)
        | FleetError::NotRunning(_)
        | FleetError::Bounds { .. }
        | FleetError::Python(_)
        | FleetError::Hosts { .. }
        | FleetError::Certificate(_)
        | FleetError::Slow => error,
    }
}
