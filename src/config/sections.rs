//! The sections of `rask.toml` with their defaults. Names are a promise: add, don't rename.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::backends::BackendSection;
use super::gateway::GatewaySection;
use super::units::{Auto, ByteSize, MaybeSecs, Secs, positive_or_inf};

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The appliance.
    pub up: UpSection,
    /// Its worker processes.
    pub workers: WorkersSection,
    /// Who may talk to it.
    pub security: SecuritySection,
    /// dask-gateway's API: who may use it, and what clusters it makes.
    pub gateway: GatewaySection,
    /// Dask's `distributed.scheduler.*`.
    pub scheduler: SchedulerSection,
    /// Dask's `distributed.comm.*`.
    pub comm: CommSection,
    /// Bounds on what others may send.
    pub limits: LimitsSection,
    /// Other machines.
    pub peers: PeersSection,
    /// Batch systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendSection>,
    /// What is written about it all.
    pub log: LogSection,
}

/// `[peers]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersSection {
    /// Life of their certificates; renewed at two thirds of it.
    pub certificate_life: Secs,
    /// The cluster `local` uses their cores too.
    pub span: bool,
}

impl Default for PeersSection {
    fn default() -> Self {
        Self { certificate_life: Secs(86_400.0), span: false }
    }
}

/// `[up]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpSection {
    /// Where both ports are opened.
    pub host: String,
    /// HTTP.
    pub port: u16,
    /// Dask's protocol.
    pub scheduler_port: u16,
    /// Start the cluster `local`.
    pub local_cluster: bool,
    /// Other machines may join and connect, encrypted.
    pub lan: bool,
    /// Interpreter or environment of the workers, or `"auto"`.
    pub python: String,
    /// Worker processes of all clusters on this machine; 0 for no limit.
    pub max_workers: Auto<u32>,
    /// Memory that is promised to them; 0 for no limit.
    pub max_memory: Auto<ByteSize>,
}

impl Default for UpSection {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8787,
            scheduler_port: 8786,
            local_cluster: true,
            lan: false,
            python: "auto".to_owned(),
            max_workers: Auto::Auto,
            max_memory: Auto::Auto,
        }
    }
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkersSection {
    /// Processes; a negative number counts down from the cores, as Dask's does.
    pub nworkers: Auto<i64>,
    /// Threads in each.
    pub nthreads: Auto<u32>,
    /// Memory of each; 0 for no limit.
    pub memory_limit: Auto<ByteSize>,
    /// Whose workers they are.
    pub engine: Engine,
}

/// Whose workers do the work around Python.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// rask's own, and Dask's where those do not fit.
    #[default]
    Auto,
    /// rask's own.
    Rask,
    /// Dask's.
    Stock,
}

impl Engine {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rask => "rask",
            Self::Stock => "stock",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Rask, Self::Stock].into_iter().find(|engine| engine.name() == name)
    }

    /// The one that it comes to.
    #[must_use]
    pub const fn decided(self) -> Self {
        match self {
            Self::Auto | Self::Rask => Self::Rask,
            Self::Stock => Self::Stock,
        }
    }
}

impl Default for WorkersSection {
    fn default() -> Self {
        Self { nworkers: Auto::Auto, nthreads: Auto::Auto, memory_limit: Auto::Auto, engine: Engine::Auto }
    }
}

/// `[security]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecuritySection {
    /// User ids that may connect besides this user and root.
    pub allow_users: Vec<u32>,
    /// Host names under which browsers and clients may reach us besides our own.
    pub allowed_hosts: Vec<String>,
}

/// `[scheduler]`: keys as in Dask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SchedulerSection {
    /// Workers that may die with a task before it is given up.
    pub allowed_failures: u32,
    /// First guess between workers. Unit: bytes per second.
    pub bandwidth: ByteSize,
    /// Operations that are refused.
    pub blocked_handlers: Vec<String>,
    /// Announced instead of the listener's address; empty: not.
    pub contact_address: String,
    /// Size of a result that does not know its own.
    pub default_data_size: ByteSize,
    /// Kept after a worker or client is gone.
    pub events_cleanup_delay: Secs,
    /// End after this long without work.
    pub idle_timeout: MaybeSecs,
    /// A task without a fitting worker fails after this long.
    pub no_workers_timeout: MaybeSecs,
    /// Move queued-up work to idle workers.
    pub work_stealing: bool,
    /// How often.
    pub work_stealing_interval: Secs,
    /// Tasks sent ahead, per thread.
    #[serde(deserialize_with = "positive_or_inf")]
    pub worker_saturation: f64,
    /// Most dependency groups of a root-like group.
    pub rootish_taskgroup: usize,
    /// Most tasks in those groups.
    pub rootish_taskgroup_dependencies: usize,
    /// A worker silent for longer is gone.
    pub worker_ttl: MaybeSecs,
    /// Modules to load beside the scheduler.
    pub preload: Vec<String>,
    /// Assumed for tasks never seen.
    pub unknown_task_duration: Secs,
    /// Assumed for these prefixes.
    pub default_task_durations: BTreeMap<String, Secs>,
    /// A step that uses more processor time than this is stuck: the scheduler ends.
    pub stuck_after: MaybeSecs,
    /// Check every invariant after every step.
    pub validate: bool,
    /// Who reads the graphs of collections.
    pub ingest: Ingest,
    /// Semaphores.
    pub locks: Locks,
    /// Modules that a scheduler's Python may load.
    pub allowed_imports: Vec<String>,
    /// Fewer copies of data.
    pub active_memory_manager: ActiveMemoryManager,
    /// `distributed.worker.memory.terminate` is a limit: tasks that cannot fit are refused.
    pub worker_memory_terminate: bool,
    /// `distributed.worker.memory.recent-to-old-time`.
    pub recent_to_old_time: Secs,
    /// `distributed.worker.memory.rebalance`.
    pub rebalance: Rebalance,
    /// `distributed.admin.low-level-log-length`.
    pub low_level_log_length: usize,
    /// `distributed.admin.log-length`.
    pub log_length: usize,
}

impl SchedulerSection {
    /// Is `key` one of ours? Others of Dask's are passed over in the environment.
    pub(super) fn knows(key: &str) -> bool {
        toml::Table::try_from(Self::default()).is_ok_and(|table| table.contains_key(key))
    }
}

impl Default for SchedulerSection {
    fn default() -> Self {
        let quick = ["rechunk-split", "split-shuffle", "split-taskshuffle", "split-stage"];
        Self {
            allowed_failures: 3,
            bandwidth: ByteSize(100_000_000),
            blocked_handlers: Vec::new(),
            contact_address: String::new(),
            default_data_size: ByteSize(1024),
            events_cleanup_delay: Secs(3600.0),
            idle_timeout: MaybeSecs(None),
            no_workers_timeout: MaybeSecs(None),
            work_stealing: true,
            work_stealing_interval: Secs(1.0),
            worker_saturation: 1.1,
            rootish_taskgroup: 5,
            rootish_taskgroup_dependencies: 5,
            worker_ttl: MaybeSecs(Some(300.0)),
            preload: Vec::new(),
            unknown_task_duration: Secs(0.5),
            default_task_durations: quick.into_iter().map(|prefix| (prefix.to_owned(), Secs(1e-6))).collect(),
            stuck_after: MaybeSecs(Some(300.0)),
            validate: false,
            ingest: Ingest::Rust,
            locks: Locks::default(),
            allowed_imports: vec!["dask".to_owned(), "distributed".to_owned()],
            active_memory_manager: ActiveMemoryManager::default(),
            worker_memory_terminate: true,
            recent_to_old_time: Secs(30.0),
            rebalance: Rebalance::default(),
            low_level_log_length: 1_000,
            log_length: 10_000,
        }
    }
}

/// `[scheduler.locks]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Locks {
    /// How often leases are looked over.
    pub lease_validation_interval: Secs,
    /// How long an unrefreshed lease lives.
    pub lease_timeout: Secs,
}

impl Default for Locks {
    fn default() -> Self {
        Self { lease_validation_interval: Secs(10.0), lease_timeout: Secs(30.0) }
    }
}

/// `[scheduler.rebalance]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rebalance {
    /// Which memory counts.
    pub measure: Measure,
    /// Below this share of its memory a worker sends nothing away.
    pub sender_min: f64,
    /// Above this share of its memory a worker takes nothing.
    pub recipient_max: f64,
    /// Workers within half of this share around the mean are left alone.
    pub sender_recipient_gap: f64,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { measure: Measure::Optimistic, sender_min: 0.3, recipient_max: 0.6, sender_recipient_gap: 0.1 }
    }
}

/// `[scheduler.active-memory-manager]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ActiveMemoryManager {
    /// Run it from the start.
    pub start: bool,
    /// How often.
    pub interval: Secs,
    /// Which memory counts.
    pub measure: Measure,
    /// What it does.
    pub policies: Vec<AmmPolicy>,
}

impl Default for ActiveMemoryManager {
    fn default() -> Self {
        Self {
            start: true,
            interval: Secs(2.0),
            measure: Measure::Optimistic,
            policies: vec![AmmPolicy { class: AmmPolicy::REDUCE_REPLICAS.to_owned(), arguments: toml::Table::new() }],
        }
    }
}

/// How graphs of collections become tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ingest {
    /// Here where they can be read here, in Python otherwise.
    Rust,
    /// Both, compared; the tasks are Python's.
    Check,
}

/// Source: `distributed/scheduler.py`, `MemoryState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The process's resident memory.
    Process,
    /// Managed data and long-standing unmanaged memory.
    Optimistic,
    /// Data of tasks that is not spilled.
    #[serde(alias = "managed_in_memory")]
    Managed,
    /// Data of tasks, spilled data included.
    ManagedTotal,
}

/// One policy of the active memory manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AmmPolicy {
    /// Its class in Dask, or one of a user's own, which is left out: it would have to run inside the scheduler.
    pub class: String,
    /// Its arguments.
    #[serde(flatten)]
    pub arguments: toml::Table,
}

impl AmmPolicy {
    /// The policy that is built in: drops copies that nobody needs.
    pub const REDUCE_REPLICAS: &str = "distributed.active_memory_manager.ReduceReplicas";

    /// Is it built in?
    pub fn is_known(&self) -> bool {
        self.class == Self::REDUCE_REPLICAS
    }
}

/// `[comm]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommSection {
    /// Scheme of addresses that name none.
    pub default_scheme: String,
    /// Refuse plain connections.
    pub require_encryption: bool,
    /// PEM files.
    pub tls: CommTls,
}

impl Default for CommSection {
    fn default() -> Self {
        Self { default_scheme: "tcp".to_owned(), require_encryption: false, tls: CommTls::default() }
    }
}

/// `[comm.tls]`: PEM files or their text, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommTls {
    /// Certificates of the authorities.
    pub ca_file: String,
    /// The scheduler's own.
    pub scheduler: TlsPair,
    /// The workers' own.
    pub worker: TlsPair,
    /// A client's own, as scripts started by `rask run` use it.
    pub client: TlsPair,
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsPair {
    /// The certificate (chain).
    pub cert: String,
    pub key: String,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Longest single frame.
    pub frame: ByteSize,
    /// Longest message.
    pub message: ByteSize,
    /// Longest first frame.
    pub head: ByteSize,
    /// Most frames in a message.
    pub frames: u64,
    /// Deepest nesting.
    pub depth: u32,
    /// Longest a peer may take to say who it is.
    pub handshake: Secs,
    /// Most connections at once.
    pub connections: u32,
    /// Most that waits for a peer that does not read.
    pub outbox: ByteSize,
    /// Messages read ahead from one connection.
    pub inbox_messages: u32,
    /// Tasks that enter the core in one step.
    pub graph_part_tasks: u32,
    /// Longest a pyhost may work on one request.
    pub pyhost: Secs,
    /// Longest HTTP request body.
    pub request: ByteSize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let base = crate::base::Limits::default();
        Self {
            frame: ByteSize(base.frame_bytes),
            message: ByteSize(base.message_bytes),
            head: ByteSize(base.head_bytes),
            frames: base.frames,
            depth: base.depth,
            handshake: Secs(base.handshake_ms as f64 / 1e3),
            connections: base.connections,
            outbox: ByteSize(base.outbox_bytes),
            inbox_messages: base.inbox_messages,
            graph_part_tasks: base.graph_part_tasks,
            pyhost: Secs(base.pyhost_ms as f64 / 1e3),
            request: ByteSize(base.request_bytes),
        }
    }
}

impl From<&LimitsSection> for crate::base::Limits {
    fn from(limits: &LimitsSection) -> Self {
        Self {
            frame_bytes: limits.frame.0,
            message_bytes: limits.message.0,
            head_bytes: limits.head.0,
            frames: limits.frames,
            depth: limits.depth,
            handshake_ms: (limits.handshake.0 * 1e3) as u64,
            connections: limits.connections,
            outbox_bytes: limits.outbox.0,
            inbox_messages: limits.inbox_messages,
            graph_part_tasks: limits.graph_part_tasks,
            pyhost_ms: (limits.pyhost.0 * 1e3) as u64,
            request_bytes: limits.request.0,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// How lines look.
    pub format: LogFormat,
    /// A filter as in `RASK_LOG`.
    pub level: String,
    /// Folder for the logs of clusters; empty: beside each cluster's other files.
    pub dir: String,
    /// Old log files kept per process.
    pub keep: u32,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned(), dir: String::new(), keep: 3 }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
