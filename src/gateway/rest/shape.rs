//! Bodies of `/api/rask/v1`, in and out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::fleet::{ClusterStatus, ClusterView, JobView};
use crate::gateway::error::ApiError;
use crate::gateway::value::python;

/// Every error.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What failed and why.
    error: String,
    /// What to do about it.
    remedy: Option<String>,
}

/// A cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(super) struct ClusterInfo {
    name: String,
    user: String,
    /// PENDING, RUNNING, STOPPING, STOPPED or FAILED.
    #[schema(value_type = String)]
    status: ClusterStatus,
    /// Why it ends or ended.
    reason: Option<String>,
    /// What its processes said last, if that explains why it failed.
    last_lines: Vec<String>,
    /// As chosen, defaults filled in; values that look like secrets are masked.
    #[schema(value_type = Object)]
    options: Map<String, Value>,
    /// Milliseconds since the epoch.
    start_time: i64,
    /// Milliseconds since the epoch.
    stop_time: Option<i64>,
    /// Workers wanted now.
    target: u32,
    /// The number of workers follows the load between these.
    adapt: Option<Between>,
    /// Workers connected.
    workers: u32,
    /// Workers wanted that fit on none of the machines they may be on: they wait until there is room.
    without_room: u32,
    /// Jobs of a batch system, if its workers are jobs: id, state, reason, node, start_ms, end_ms, workers.
    #[schema(value_type = Vec<Object>)]
    jobs: Vec<JobView>,
    /// Why it has fewer jobs than it wants.
    jobs_note: Option<String>,
    /// Threads of a worker.
    nthreads: u32,
    /// Whose workers they are: rask or stock.
    engine: &'static str,
    /// Bytes of a worker; 0: not limited.
    memory_limit: u64,
    /// For `Client(...)` of the same user on this machine; null: connect through the gateway.
    scheduler_address: Option<String>,
    /// For `Gateway(...).connect(name)`, while it runs.
    gateway_address: Option<String>,
    /// Path of its dashboard, while it runs.
    dashboard: Option<String>,
    /// Seconds without client and work until it ends; null: never.
    idle_timeout: Option<f64>,
    /// Seconds until it ends in any case; null: never.
    max_lifetime: Option<f64>,
    /// Its scheduler's process.
    scheduler_pid: Option<u32>,
}

/// Bounds of an adaptive cluster.
#[derive(Serialize, ToSchema)]
pub(super) struct Between {
    minimum: u32,
    /// null: as many as the load wants.
    maximum: Option<u32>,
}

impl ClusterInfo {
    /// As seen by somebody who reached us at `host`.
    pub(super) fn of(view: &ClusterView, host: &str) -> Self {
        let name = view.name.as_str();
        let running = view.status == ClusterStatus::Running;
        Self {
            name: name.to_owned(),
            user: view.user.clone(),
            status: view.status,
            reason: view.reason.clone(),
            last_lines: view.last_lines.clone(),
            options: view.options.clone(),
            start_time: view.start_ms,
            stop_time: view.stop_ms,
            target: view.target,
            adapt: view.adapt.map(|adapt| Between { minimum: adapt.minimum, maximum: adapt.maximum }),
            workers: view.workers,
            without_room: view.without_room,
            jobs: view.jobs.clone(),
            jobs_note: view.jobs_note.clone(),
            nthreads: view.settings.nthreads,
            engine: view.settings.engine.decided().name(),
            memory_limit: view.settings.worker_memory_bytes,
            scheduler_address: view.plain_address.clone().filter(|_| running),
            gateway_address: (running && view.tls.is_some()).then(|| gateway_address(host, name)),
            dashboard: running.then(|| format!("clusters/{name}/status")),
            idle_timeout: view.settings.idle_timeout_secs,
            max_lifetime: view.settings.max_lifetime_secs,
            scheduler_pid: view.scheduler_pid,
        }
    }
}

/// Where dask-gateway's client connects, without the scheme's default port.
pub(super) fn gateway_address(host: &str, name: &str) -> String {
    format!("gateway://{host}/{name}")
}

/// A list of clusters, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Clusters {
    pub clusters: Vec<ClusterInfo>,
}

/// A cluster to be made. All may be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NewClusterBody {
    /// Letters a-z, digits, dots and dashes; made up if not given.
    pub name: Option<String>,
    /// See GET /options.
    #[schema(value_type = Object)]
    pub options: Value,
    /// Workers to start with.
    #[schema(value_type = Option<u32>)]
    pub workers: Option<Value>,
}

/// How many workers.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes a body that is read field by field, for messages that users know")]
pub(super) struct ScaleBody {
    count: u32,
}

/// Between how many workers.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes a body that is read field by field, for messages that users know")]
pub(super) struct AdaptBody {
    minimum: Option<u32>,
    maximum: Option<u32>,
    /// false: stay at the present number.
    active: bool,
}

/// What scaling granted.
#[derive(Serialize, ToSchema)]
pub(super) struct ScaleAnswer {
    /// false: less than was asked for.
    pub ok: bool,
    /// What was granted instead.
    pub msg: Option<String>,
}

/// What a client needs to connect.
#[derive(Serialize, ToSchema)]
pub(super) struct Credentials {
    pub gateway_address: String,
    /// PEM; the certificate is the authority too.
    pub tls_cert: String,
    pub tls_key: String,
}

/// A token without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenInfo {
    pub id: String,
    pub label: String,
    pub user: String,
    /// admin or user
    pub role: String,
    /// Milliseconds since the epoch.
    pub created_time: i64,
    /// Milliseconds since the epoch; null: never.
    pub expires_time: Option<i64>,
    /// Milliseconds since the epoch; null: not yet.
    pub used_time: Option<i64>,
    pub expired: bool,
}

/// All tokens that somebody may see.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    pub tokens: Vec<TokenInfo>,
}

/// A token to be made.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NewTokenBody {
    /// What it is for.
    pub label: String,
    /// Whom it stands for; whoever asks, if not given.
    pub user: Option<String>,
    /// admin or user
    pub role: Option<String>,
    /// Seconds, or a text like "30 days"; not given: it does not expire.
    #[schema(value_type = Option<String>)]
    pub expires_in: Option<Value>,
}

/// A token just made.
#[derive(Serialize, ToSchema)]
pub(super) struct MintedToken {
    /// The secret. It is shown this once and cannot be found out again.
    pub secret: String,
    pub token: TokenInfo,
}

/// A cluster that ended.
#[derive(Serialize, ToSchema)]
pub(super) struct PastCluster {
    pub name: String,
    pub user: String,
    pub status: String,
    pub reason: Option<String>,
    /// Milliseconds since the epoch.
    pub start_time: i64,
    /// Milliseconds since the epoch.
    pub stop_time: Option<i64>,
}

/// What a cluster computed.
#[derive(Serialize, ToSchema)]
pub(super) struct PastComputation {
    pub cluster: String,
    pub id: String,
    /// Milliseconds since the epoch.
    pub start_time: i64,
    /// Milliseconds since the epoch.
    pub stop_time: Option<i64>,
    /// Groups, states, code.
    #[schema(value_type = Object)]
    pub body: Value,
}

/// Clusters that ended within 30 days, the latest first, and what was computed.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct ClusterHistory {
    pub clusters: Vec<PastCluster>,
    pub computations: Vec<PastComputation>,
}

/// Reads a body into its type. Errors: 422 that names the field.
pub(super) fn typed<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|why| ApiError::invalid(format!("the body does not fit: {why}")))
}

/// Seconds from a number or a text like "30 days". Errors: 422.
pub(super) fn seconds(name: &str, given: &Value) -> Result<f64, ApiError> {
    let read = match given {
        Value::String(text) => crate::config::parse_secs(text),
        other => other.as_f64().filter(|secs| secs.is_finite() && *secs >= 0.0),
    };
    read.ok_or_else(|| ApiError::invalid(format!("{name} must be seconds or like \"30 days\", got {}", python(given))))
}
