//! What callers of the fleet name and see: clusters, their settings, states and news.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{Blame, BoxError};
use crate::config::Engine;
use crate::pki::{Pair, PkiError};
use crate::store::StoreError;

/// The machine of the appliance itself, among those that workers may be placed on.
pub const HEAD: &str = "head";

/// The cluster of `rask up` itself.
pub const LOCAL: &str = "local";

/// Longest name. Unit: bytes. It is the name of a folder too.
const NAME_MAX: usize = 100;
/// Longest first part. `daskgateway-` goes before it, and a DNS label holds 63 bytes.
const LABEL_MAX: usize = 51;

/// The name of a cluster: fit for URLs, for TLS's server name and for a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClusterName(String);

impl ClusterName {
    /// `None`: letters `a-z`, digits, `.` and `-` only, at most 51 before the first dot; parts are not empty and do not
    /// begin or end with `-`.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let first = text.split('.').next().unwrap_or_default();
        let ok = text.len() <= NAME_MAX && first.len() <= LABEL_MAX && text.split('.').all(fine);
        ok.then(|| Self(text.to_owned()))
    }

    /// A new one that nobody has: 32 hexadecimal digits, as dask-gateway makes them.
    pub fn random() -> Self {
        Self(crate::clock::uuid_v4_text().replace('-', ""))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCluster {
    pub name: ClusterName,
    /// Whose it is.
    pub user: String,
    /// Its options as they are shown, validated.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// What they mean.
    pub settings: ClusterSettings,
}

/// How a cluster's processes are run. Saved in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSettings {
    /// Threads of a worker.
    pub nthreads: u32,
    /// Share of the machine's cores, where the system lets us set one. 0: not limited.
    pub worker_cores: f64,
    /// Memory of a worker. Unit: bytes; 0: not limited.
    pub worker_memory_bytes: u64,
    /// Interpreter or folder of an environment. `None`: the appliance's.
    pub python: Option<PathBuf>,
    /// Added to the environment of the cluster's processes.
    pub env: BTreeMap<String, String>,
    /// With a nanny, which restarts the worker and watches its memory.
    pub nanny: bool,
    /// Whose workers they are.
    pub engine: Engine,
    /// End after this long without client and work. `None`: never.
    pub idle_timeout_secs: Option<f64>,
    /// End after this long. `None`: never.
    pub max_lifetime_secs: Option<f64>,
    /// Longest that the scheduler may take to start.
    pub start_timeout_secs: f64,
    /// Most workers. `None`: any number.
    pub max_workers: Option<u32>,
    /// Machines for its workers, [`HEAD`] or names of those that joined. Empty: all.
    pub hosts: Vec<String>,
    /// Its workers are jobs of a batch system, and nowhere else.
    pub jobs: Option<JobWish>,
}

impl Default for ClusterSettings {
    /// Dask-gateway's worker, and the lifetimes of `[gateway.cluster]`.
    fn default() -> Self {
        Self {
            nthreads: 1,
            worker_cores: 1.0,
            worker_memory_bytes: 2 << 30,
            python: None,
            env: BTreeMap::new(),
            nanny: true,
            engine: Engine::Auto,
            idle_timeout_secs: Some(300.0),
            max_lifetime_secs: Some(86_400.0),
            start_timeout_secs: 120.0,
            max_workers: None,
            hosts: Vec::new(),
            jobs: None,
        }
    }
}

/// What a cluster chose of a batch system. Saved in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobWish {
    /// The batch system's name in the settings.
    pub backend: String,
    /// Empty: the site's default. So are the next two.
    pub partition: String,
    pub account: String,
    pub qos: String,
    /// Until a job is ended. Unit: seconds.
    pub walltime_secs: u64,
}

/// A job, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    pub id: String,
    /// `waiting starting running ending ended`
    pub state: &'static str,
    /// Why it waits or ended, in the batch system's words.
    pub reason: String,
    pub node: String,
    /// Of one that waits: expected. Unit: milliseconds since the epoch.
    pub start_ms: Option<i64>,
    /// When its time is over. Unit: milliseconds since the epoch.
    pub end_ms: Option<i64>,
    /// Workers there.
    pub workers: u32,
}

/// Where a cluster is in its life. Spelled as dask-gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClusterStatus {
    /// Its scheduler starts.
    Pending,
    /// Clients can connect.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended as it was meant to.
    Stopped,
    /// It could not start, or ended otherwise.
    Failed,
}

impl ClusterStatus {
    /// As dask-gateway spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
        }
    }

    /// The status of that name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Stopping, Self::Stopped, Self::Failed]
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Nothing of it runs any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// Between how many workers a cluster follows its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdaptBounds {
    pub minimum: u32,
    /// At most. `None`: as many as the load wants.
    pub maximum: Option<u32>,
}

/// A wish to follow the load, or to stop doing so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapt {
    /// At least. `None`: 0.
    pub minimum: Option<u32>,
    /// At most. `None`: as many as the load wants.
    pub maximum: Option<u32>,
    /// `false`: stay at the present number.
    pub active: bool,
}

impl ClusterSettings {
    /// May workers be placed on this machine?
    pub fn may_be_on(&self, host: &str) -> bool {
        if self.jobs.is_some() {
            return host != HEAD;
        }
        self.hosts.is_empty() || self.hosts.iter().any(|allowed| allowed == host)
    }
}

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    pub name: ClusterName,
    /// Whose it is.
    pub user: String,
    /// Where it is in its life.
    pub status: ClusterStatus,
    /// Its options as they are shown.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// What they mean.
    pub settings: ClusterSettings,
    /// When it was made. Unit: milliseconds since the epoch.
    pub start_ms: i64,
    /// When it ended. Unit: milliseconds since the epoch.
    pub stop_ms: Option<i64>,
    /// Why it ends or ended.
    pub reason: Option<String>,
    /// Clients could connect to it once.
    pub ran: bool,
    /// What its scheduler said last, if that explains why it failed.
    pub last_lines: Vec<String>,
    /// Workers wanted now.
    pub target: u32,
    /// It follows its load between these.
    pub adapt: Option<AdaptBounds>,
    /// Workers connected.
    pub workers: u32,
    /// Workers wanted that fit on none of the machines they may be on.
    pub without_room: u32,
    /// Jobs of its batch system, if its workers are jobs.
    pub jobs: Vec<JobView>,
    /// Why it has fewer jobs than it wants.
    pub jobs_note: Option<String>,
    /// Its scheduler's process.
    pub scheduler_pid: Option<u32>,
    /// Where the scheduler itself listens, for its workers: `tls://127.0.0.1:40001`.
    pub scheduler_address: Option<String>,
    /// The credentials of its clients and workers.
    pub tls: Option<Arc<Pair>>,
    /// Where the same user connects without TLS: `tcp://127.0.0.1:8786`.
    pub plain_address: Option<String>,
}

/// Something that happened to a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FleetEvent {
    /// It was made, or found by a new appliance.
    Created {
        cluster: String,
        user: String,
        /// It ran before this appliance did.
        adopted: bool,
    },
    /// Its status changed.
    Status {
        cluster: String,
        user: String,
        status: ClusterStatus,
        /// Why, at its end.
        reason: Option<String>,
    },
    /// More or fewer workers are wanted.
    Target { cluster: String, target: u32 },
    /// The number of connected workers changed.
    Workers { cluster: String, workers: u32 },
    /// A worker died; another is started.
    WorkerDied { cluster: String, cause: String },
}

/// Why the fleet did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A cluster of this name runs.
    #[error("a cluster {0} exists already")]
    NameTaken(String),
    /// There is no such cluster, or it ended.
    #[error("Cluster {0} not found")]
    Unknown(String),
    /// It is starting or ending.
    #[error("cluster {0} is not running")]
    NotRunning(String),
    /// Bounds that contradict each other.
    #[error("the minimum of {minimum} workers is above the maximum of {maximum}")]
    Bounds { minimum: u32, maximum: u32 },
    /// The interpreter that was asked for cannot run workers.
    #[error(transparent)]
    Python(BoxError),
    /// There is no such machine, or none but this one can be used.
    #[error("hosts: no machine called {name} has joined; there are: {all}")]
    Hosts { name: String, all: String },
    /// The store could not note it: it would be lost with the appliance.
    #[error("the cluster could not be recorded: {0}")]
    Store(#[from] StoreError),
    /// Nobody could connect to it.
    #[error("the cluster's certificate could not be made: {0}")]
    Certificate(#[from] PkiError),
    /// The owner of the cluster did not answer.
    #[error("the cluster's owner did not answer in time")]
    Slow,
}

impl FleetError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NameTaken(_)
            | Self::Unknown(_)
            | Self::NotRunning(_)
            | Self::Bounds { .. }
            | Self::Python(_)
            | Self::Hosts { .. } => Blame::Caller,
            Self::Store(_) | Self::Certificate(_) | Self::Slow => Blame::World,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_urls_tls_and_folders() {
        for good in ["local", "a", "0123456789abcdef0123456789abcdef", "ns.my-cluster", &"a".repeat(51)] {
            assert!(ClusterName::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(52);
        for bad in ["", ".", "..", "../x", "a/b", "A", "a b", "a..b", "-a", "a-", "ä", "a_b", "a\0", &long] {
            assert!(ClusterName::parse(bad).is_none(), "{bad}");
        }
        assert!(ClusterName::parse(ClusterName::random().as_str()).is_some());
    }

    #[test]
    fn statuses_are_read_in_any_case() {
        assert_eq!(ClusterStatus::parse("running"), Some(ClusterStatus::Running));
        assert_eq!(ClusterStatus::parse("Stopped"), Some(ClusterStatus::Stopped));
        assert_eq!(ClusterStatus::parse("foo"), None);
    }
}
