//! Parts of what one scheduler process is told at its start, and why it may not start.
//!
//! Data only.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Blame, Text};
use crate::net::Scheme;
use crate::sched::MemoryMeasure;
use futures_util::future::BoxFuture;

/// What is said, at the start and to whoever needs it, when no interpreter was found.
pub const NO_PYTHON: &str = "no Python with dask and distributed was found for this scheduler: collections, HighLevelGraphs, \
    plugins and run_on_scheduler will fail (submit and map work); start it in an environment that has both, or name \
    one with --python";

/// Makes the page of `performance_report`: start (seconds since the epoch) and code in, page out. Nothing: it could not.
#[derive(Clone)]
pub struct Reporter(pub Arc<dyn Fn(f64, String) -> BoxFuture<'static, Option<String>> + Send + Sync>);

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// What a scheduler remembers of the past, besides its stories.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// Events per topic (`distributed.admin.low-level-log-length`).
    pub topic_events: usize,
    /// Lines of its own log, for `get_scheduler_logs` (`distributed.admin.log-length`).
    pub log_lines: usize,
    /// Runs of the task stream (`distributed.scheduler.dashboard.tasks.task-stream-length`).
    pub runs: usize,
    /// Rectangles of the pages' task stream. About 50 bytes each, their share of a key included.
    pub rectangles: usize,
    /// How long events of a client or worker outlive it (`distributed.scheduler.events-cleanup-delay`). Unit: seconds.
    pub events_cleanup_secs: f64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            topic_events: 1_000,
            log_lines: 10_000,
            runs: 100_000,
            rectangles: 1_000_000,
            events_cleanup_secs: 3_600.0,
        }
    }
}

/// When `rebalance` moves data. Shares are of a worker's memory.
///
/// Source: `distributed/distributed.yaml`, `distributed.worker.memory.rebalance`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RebalanceRules {
    /// Which memory counts.
    pub measure: MemoryMeasure,
    /// Below this a worker sends nothing away.
    pub sender_min: f64,
    /// Above this a worker takes nothing.
    pub recipient_max: f64,
    /// Workers closer to the mean than half of this are left alone.
    pub sender_recipient_gap: f64,
}

impl Default for RebalanceRules {
    fn default() -> Self {
        Self { measure: MemoryMeasure::Optimistic, sender_min: 0.3, recipient_max: 0.6, sender_recipient_gap: 0.1 }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    pub scheme: Scheme,
    /// None: every interface (then the announced address is this machine's own).
    pub host: Option<IpAddr>,
    /// 0: one that is free.
    pub port: u16,
}

/// Certificates and key: each a file, or PEM text itself. Source: `distributed/security.py`.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may connect: certificates of the authorities. None: anyone with any certificate is refused.
    pub ca: Option<PathBuf>,
    /// This scheduler's certificate (chain).
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

/// The key may be in it as text, and is not for logs.
impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsFiles")
    }
}

/// A scheduler that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The announced address.
    pub address: Text,
    /// The addresses of all listeners, ports filled in.
    pub listening: Vec<Text>,
}

/// Why a scheduler did not start, or ended in another way than asked.
#[derive(Debug)]
pub enum RunError {
    /// Another program has the port.
    PortTaken { listen: ListenSpec },
    /// The address could not be listened on.
    Listen { listen: ListenSpec, source: io::Error },
    /// An encrypted listener without a certificate, or certificates that cannot be used: what is wrong with which file.
    Tls { reason: String },
    /// A module to preload could not be loaded, or needs what only a scheduler in Python has.
    Preload { reason: String },
    /// A file or folder could not be written.
    File { path: PathBuf, source: io::Error },
}

impl RunError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::PortTaken { .. } | Self::Tls { .. } | Self::Preload { .. } => Blame::Caller,
            Self::Listen { .. } | Self::File { .. } => Blame::World,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortTaken { listen } => write!(f, "port {} is in use by another program", listen.port),
            Self::Listen { listen, source } => {
                let host = listen.host.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
                write!(f, "cannot listen on {}://{host}:{}: {source}", listen.scheme.name(), listen.port)
            }
            Self::Tls { reason } => write!(f, "TLS: {reason}"),
            Self::Preload { reason } => write!(f, "cannot preload: {reason}"),
            Self::File { path, source } => write!(f, "cannot write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::File { source, .. } => Some(source),
            Self::PortTaken { .. } | Self::Tls { .. } | Self::Preload { .. } => None,
        }
    }
}

/// How long the present work should take when an adaptive target is asked for without a time. Unit: seconds.
///
/// Source: `distributed/distributed.yaml`, `distributed.adaptive.target-duration`.
pub const DEFAULT_TARGET_SECS: f64 = 5.0;
