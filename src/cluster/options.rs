//! What one scheduler process is told at its start, and what others may ask of it while it runs.
//!
//! Data only: `app` fills this in from flags and configuration, [`super::run_scheduler`] carries it out.

use std::fmt;
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::base::{Blame, Limits, Text, Value};
use crate::cluster::views::snapshot::{Look, Picture, Stream};
use crate::sched::{SchedConfig, TaskFilter};

/// What is said, at the start and to whoever needs it, when no interpreter was found.
pub const NO_PYTHON: &str = "no Python with dask and distributed was found for this scheduler: collections, HighLevelGraphs, \
    plugins and run_on_scheduler will fail (submit and map work); start it in an environment that has both, or name \
    one with --python";

/// Everything a scheduler process needs. Nothing in here is read from the environment later.
#[derive(Debug)]
pub struct SchedulerOpts {
    /// Where to accept Dask connections, at least one. The first is the one that is announced.
    pub listen: Vec<ListenSpec>,
    /// The address to announce instead of the first listener's (`scheme://host:port`).
    pub contact_address: Option<Text>,
    /// Certificates for `tls://` and `wss://` listeners and for calls to workers.
    pub tls: Option<TlsFiles>,
    /// Refuse plain connections (`distributed.comm.require-encryption`).
    pub require_encryption: bool,
    /// Plain TCP peers on loopback must belong to this user, root or [`SchedulerOpts::allow_users`].
    pub same_user_only: bool,
    /// User ids that count as this user.
    pub allow_users: Vec<u32>,
    /// Write `identity()` here once listening (write, then rename), remove it at the end.
    pub scheduler_file: Option<PathBuf>,
    /// Where the HTTP pages of this scheduler are served, for `identity.services.dashboard`. Served by `app`.
    pub dashboard_port: Option<u16>,
    /// The interpreter for pyhost. None: what needs Python is refused with [`NO_PYTHON`].
    pub python: Option<PathBuf>,
    /// Added to the environment of that interpreter.
    pub python_env: Vec<(String, String)>,
    /// A private folder (0700) for pyhost's files. Made if missing, and removed by whoever chose it.
    pub run_dir: PathBuf,
    /// `--preload` modules, run in pyhost's Python, which shows them a picture of this scheduler.
    pub preload: Vec<String>,
    /// Their arguments, for those that take any.
    pub preload_argv: Vec<String>,
    /// Operations that are refused (`distributed.scheduler.blocked-handlers`).
    pub blocked_handlers: Vec<Text>,
    /// How much is kept for people to read later.
    pub keep: Keep,
    /// What scheduling itself reads.
    pub sched: SchedConfig,
    /// Bounds on what peers may send or make us hold.
    pub limits: Limits,
    /// Requests and connections from the control socket or from this process's own HTTP server.
    pub control: Option<mpsc::Receiver<Control>>,
    /// Makes performance reports; none: a plain one is made here.
    pub reporter: Option<Reporter>,
    /// Told once, when every listener accepts and the scheduler file is written.
    pub ready: Option<oneshot::Sender<Ready>>,
}

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

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// `tcp`, `tls`, `ws` or `wss`.
    pub scheme: Scheme,
    /// None: every interface (then the announced address is this machine's own).
    pub host: Option<IpAddr>,
    /// 0: one that is free.
    pub port: u16,
}

/// The transports that Dask names in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    /// As it stands before `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Does it need certificates?
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// PEM files. Source: `distributed/security.py`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may connect: certificates of the authorities. None: anyone with any certificate is refused.
    pub ca: Option<PathBuf>,
    /// This scheduler's certificate (chain).
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What others may want of a running scheduler. Arrives in [`SchedulerOpts::control`].
#[derive(Debug)]
pub enum Control {
    /// A read, answered at once.
    Ask {
        /// What about.
        what: Ask,
        /// Takes the answer; may be gone when nobody waits any longer.
        reply: oneshot::Sender<Answered>,
    },
    /// A supervisor's wish, answered at once.
    Steer {
        /// Which.
        what: Steer,
        /// Takes the answer.
        reply: oneshot::Sender<Answered>,
    },
    /// A connection that was accepted elsewhere. Nothing was read from it: look at its first bytes as a listener
    /// that takes every scheme would. The peer's user was checked.
    Connection(TcpStream),
    /// A picture for the pages, taken at once. What it asks for is bounded.
    Look {
        /// Which parts.
        look: Look,
        /// Takes the picture; may be gone.
        reply: oneshot::Sender<Box<Picture>>,
    },
    /// A request as a Dask client would send it, with its `op`; answered when it is done.
    Request {
        /// The request's map.
        body: Value,
        /// Takes the value or the text of the exception; may be gone.
        reply: oneshot::Sender<Result<Value, String>>,
    },
    /// Rectangles of the task stream between two times.
    Rects {
        /// Unit: milliseconds since the epoch.
        from_ms: f64,
        /// See `from_ms`.
        to_ms: f64,
        /// Takes them, with all threads and prefixes.
        reply: oneshot::Sender<Box<Stream>>,
    },
    /// Tell workers and clients, then end. The same as `SIGTERM`.
    Stop,
}

/// The questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `identity()` with all workers, as JSON: the page `/json/identity.json`.
    Identity,
    /// The numbers of `/json/counts.json`, as JSON.
    Counts,
    /// The page `/metrics`, as Prometheus text.
    Metrics,
    /// `/api/v1/get_workers`, as JSON: `{"num_workers": n, "workers": [{"name", "address"}]}`.
    Workers,
    /// One task with everything that decides its fate, as JSON; empty when it is unknown.
    Task(Text),
    /// One worker with its metrics and what it runs and holds, as JSON; empty when it is unknown.
    Worker(Text),
    /// Tasks that pass a filter: `{"total", "tasks"}`. Looks at every task.
    Tasks {
        /// Which ones.
        filter: TaskFilter,
        /// Where to begin.
        offset: usize,
        /// Most that are listed.
        max: usize,
    },
    /// Tasks, workers and prefixes whose names contain a text. Looks at every task.
    Find {
        /// The text.
        text: Text,
        /// Most of each kind.
        max: usize,
    },
    /// One rectangle of the task stream by its number; empty when it is no longer kept.
    Rect(u64),
    /// `{"idle_since": secs or null}`: `/api/v1/check_idle`.
    IdleSince,
    /// `{"workers": n}`: `/api/v1/adaptive_target`.
    AdaptiveTarget,
    /// What clients asked for, one after another.
    Computations,
    /// `{"topics": [name, ..]}`: the topics that have events.
    Topics,
}

/// A supervisor's wishes. Answers are JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Clients, workers, load: what decides about scale and lifetime.
    State,
    /// Retire workers until so many stay. Answered with the chosen names at once; their data moves first.
    Retire {
        /// Workers that stay.
        keep: u32,
    },
    /// Retire these workers. Answered with the names that are known.
    RetireThese {
        /// Their names.
        names: Vec<String>,
    },
    /// Forget these workers: their machine is gone. Answered with the names that were known.
    Lose {
        /// Their names.
        names: Vec<String>,
    },
    /// What a worker was doing when it went without being told to. Told once.
    LastWords {
        /// Its name.
        name: String,
    },
    /// The machine of these workers is silent, or was heard again. Answered with the names that were known.
    Silent {
        /// Their names.
        names: Vec<String>,
        /// Silent, or heard again?
        silent: bool,
    },
    /// Publish on the topic `warn`: clients show it to their users.
    Warn {
        /// What.
        text: String,
    },
}

/// The body of an answer: JSON, or text for [`Ask::Metrics`].
pub type Answered = String;

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
    PortTaken {
        /// As asked for.
        listen: ListenSpec,
    },
    /// The address could not be listened on.
    Listen {
        /// As asked for.
        listen: ListenSpec,
        /// The system's words.
        why: std::io::Error,
    },
    /// An encrypted listener without a certificate, or certificates that cannot be used.
    Tls {
        /// What is wrong with which file.
        why: String,
    },
    /// A module to preload could not be loaded, or needs what only a scheduler in Python has.
    Preload {
        /// What went wrong.
        why: String,
    },
    /// A file or folder could not be written.
    File {
        /// Which one.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
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
            Self::Listen { listen, why } => {
                let host = listen.host.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
                write!(f, "cannot listen on {}://{host}:{}: {why}", listen.scheme, listen.port)
            }
            Self::Tls { why } => write!(f, "TLS: {why}"),
            Self::Preload { why } => write!(f, "cannot preload: {why}"),
            Self::File { path, why } => write!(f, "cannot write {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for RunError {}
