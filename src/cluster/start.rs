//! The beginning of a scheduler process: what it is told, listeners, certificates, Python, the scheduler file.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::base::{Limits, Text, Value};
use crate::clock::{Clock, uuid_v4_text};
use crate::cluster::codec::args;
use crate::cluster::codec::failures::failure_text;
use crate::cluster::codec::json::json_of;
use crate::cluster::connection_reader;
use crate::cluster::control::inbox::Control;
use crate::cluster::jobs::python::{add_hooks, carry_out};
use crate::cluster::options::{Keep, ListenSpec, Ready, RebalanceRules, Reporter, RunError, TlsFiles};
use crate::cluster::state::handle::{INBOX_MAX, InboxItem};
use crate::cluster::state::{Handle, SchedulerSetup, State};
use crate::cluster::views::python_snapshot;
use crate::files;
use crate::net::{Acceptor, Listener, NetError, PlainRule, Pool, Refusals, Tls, TlsPem};
use crate::pyhost::{Pyhost, PyhostConfig};
use crate::sched::{SchedConfig, Scheduler};

/// Python processes at once: one that keeps what users leave behind, and two for graphs, so that one graph that
/// hangs does not hold up the others. Each starts when it is needed.
const PYHOSTS: usize = 3;

/// Everything a scheduler process needs. Nothing in here is read from the environment later.
#[derive(Debug)]
pub struct SchedulerOptions {
    /// Where to accept Dask connections, at least one. The first is the one that is announced.
    pub listen: Vec<ListenSpec>,
    /// The address to announce instead of the first listener's (`scheme://host:port`).
    pub contact_address: Option<Text>,
    /// Certificates for `tls://` and `wss://` listeners and for calls to workers.
    pub tls: Option<TlsFiles>,
    /// Refuse plain connections (`distributed.comm.require-encryption`).
    pub require_encryption: bool,
    /// Plain TCP peers on loopback must belong to this user, root or [`SchedulerOptions::allow_users`].
    pub same_user_only: bool,
    /// User ids that count as this user.
    pub allow_users: Vec<u32>,
    /// Write `identity()` here once listening (write, then rename), remove it at the end.
    pub scheduler_file: Option<PathBuf>,
    /// Where the HTTP pages of this scheduler are served, for `identity.services.dashboard`. Served by `app`.
    pub dashboard_port: Option<u16>,
    /// The interpreter for pyhost. None: what needs Python is refused in words.
    pub python: Option<PathBuf>,
    /// Added to the environment of that interpreter.
    pub python_env: Vec<(String, String)>,
    /// A private folder (0700) for pyhost's files. Made if missing, and removed by whoever chose it.
    pub run_dir: PathBuf,
    /// `--preload` modules, run in pyhost's Python, which shows them a snapshot of this scheduler.
    pub preload: Vec<String>,
    /// Their arguments, for those that take any.
    pub preload_argv: Vec<String>,
    /// Operations that are refused (`distributed.scheduler.blocked-handlers`).
    pub blocked_handlers: Vec<Text>,
    /// How much is kept for people to read later.
    pub keep: Keep,
    /// When `rebalance` moves data.
    pub rebalance: RebalanceRules,
    /// Graphs that are read here are read in Python too, and compared.
    pub check_ingest: bool,
    /// What scheduling itself reads.
    pub sched: SchedConfig,
    /// Bounds on what peers may send or make us hold.
    pub limits: Limits,
    /// Requests and connections from the control socket or from this process's own HTTP server.
    pub control: Option<mpsc::Receiver<Control>>,
    /// Takes the reason when this process is told to end, by a signal say; whoever runs the process listens for those.
    pub stop: Option<oneshot::Receiver<String>>,
    /// Makes performance reports; none: a plain one is made here.
    pub reporter: Option<Reporter>,
    /// Told once, when every listener accepts and the scheduler file is written.
    pub ready: Option<oneshot::Sender<Ready>>,
}

/// A scheduler that accepts connections and has not looked at its inbox yet.
pub struct Started {
    pub state: State,
    pub inbox: mpsc::Receiver<InboxItem<State>>,
    /// Accepts connections at each listener, until aborted.
    pub accepting: Vec<JoinHandle<()>>,
    /// Accepts connections that come through the control socket.
    pub handed_over: Arc<Acceptor>,
    pub ready: Ready,
}

/// Listens, and makes the state of a scheduler to which nothing has happened yet.
pub async fn start(options: &SchedulerOptions) -> Result<Started, RunError> {
    let limits = Arc::new(options.limits.clone());
    let tls = options.tls.as_ref().map(load_tls).transpose()?;
    if tls.is_none() && options.listen.iter().any(|spec| spec.scheme.is_tls()) {
        return Err(RunError::Tls { reason: "an encrypted address needs a certificate and a key".to_owned() });
    }
    let pool = Pool::new(limits.clone(), tls.clone());
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    let handle = Handle::new(sender, pool, limits.clone(), Clock::start());
    let (listeners, listening) = listen(options).await?;
    let address = options.contact_address.clone().or_else(|| listening.first().cloned()).unwrap_or_default();
    let acceptors = listeners.into_iter().map(|(spec, listener)| {
        let plain = if spec.scheme.is_tls() { PlainRule::Nobody } else { plain_rule(options) };
        tokio::spawn(listener.run(acceptor(&handle, &limits, tls.clone(), plain)))
    });
    let accepting = acceptors.collect();
    let handed_over = if options.require_encryption { PlainRule::Nobody } else { PlainRule::Anyone };
    let handed_over = acceptor(&handle, &limits, tls, handed_over);
    let setup = SchedulerSetup {
        identity: crate::cluster::state::Identity {
            id: format!("Scheduler-{}", uuid_v4_text()).into(),
            address: address.clone(),
            listening: listening.clone(),
            dashboard_port: options.dashboard_port,
        },
        blocked: options.blocked_handlers.iter().cloned().collect(),
        graph_part_tasks: usize::try_from(limits.graph_part_tasks).unwrap_or(usize::MAX).max(1),
        keep: options.keep.clone(),
        rebalance: options.rebalance,
        check_ingest: options.check_ingest,
        reporter: options.reporter.clone(),
    };
    let sched = Scheduler::new(options.sched.clone());
    let state = State::new(sched, handle, setup, start_pyhost(options, &limits));
    Ok(Started { state, inbox, accepting, handed_over, ready: Ready { address, listening } })
}

fn acceptor(handle: &Handle, limits: &Arc<Limits>, tls: Option<Tls>, plain: PlainRule) -> Arc<Acceptor> {
    let handle = handle.clone();
    Arc::new(Acceptor {
        limits: limits.clone(),
        tls,
        plain,
        refusals: Refusals::default(),
        on_comm: Arc::new(move |connection| connection_reader::serve(connection, handle.clone()).boxed()),
        on_http: None,
    })
}

fn plain_rule(options: &SchedulerOptions) -> PlainRule {
    if options.require_encryption {
        PlainRule::Nobody
    } else if options.same_user_only {
        PlainRule::LoopbackUsers(options.allow_users.clone())
    } else {
        PlainRule::Anyone
    }
}

async fn listen(options: &SchedulerOptions) -> Result<(Vec<(ListenSpec, Listener)>, Vec<Text>), RunError> {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for spec in &options.listen {
        let host = spec.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let listener = Listener::bind(SocketAddr::new(host, spec.port)).await.map_err(|error| match error {
            NetError::Io(error) if error.kind() == io::ErrorKind::AddrInUse => {
                RunError::PortTaken { listen: spec.clone() }
            }
            NetError::Io(source) => RunError::Listen { listen: spec.clone(), source },
            other => RunError::Listen { listen: spec.clone(), source: io::Error::other(other) },
        })?;
        let mut at = listener.local_addr();
        if at.ip().is_unspecified() {
            at.set_ip(own_ip());
        }
        addresses.push(Text::from(format!("{}://{at}", spec.scheme.name())));
        listeners.push((spec.clone(), listener));
    }
    Ok((listeners, addresses))
}

/// The address that others reach this machine under. Source: `distributed/utils.py`, `get_ip`.
fn own_ip() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only picks the interface that leads outside.
    let outside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::new(8, 8, 8, 8), 80)).and_then(|()| socket.local_addr()));
    outside.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |at| at.ip())
}

/// Is it PEM text rather than the name of a file that holds it? Dask takes either.
fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

fn load_tls(files: &TlsFiles) -> Result<Tls, RunError> {
    let read = |path: &Path| match path.to_str().filter(|text| is_pem(text)) {
        Some(text) => Ok(text.to_owned()),
        None => std::fs::read_to_string(path)
            .map_err(|error| RunError::Tls { reason: format!("{}: {error}", path.display()) }),
    };
    let pem = TlsPem {
        ca: files.ca.as_deref().map(read).transpose()?.unwrap_or_default(),
        cert: read(&files.cert)?,
        key: read(&files.key)?,
    };
    Tls::new(&pem).map_err(|error| RunError::Tls { reason: error.to_string() })
}

fn start_pyhost(options: &SchedulerOptions, limits: &Limits) -> Option<Pyhost> {
    let python = options.python.clone()?;
    Some(Pyhost::new(PyhostConfig {
        python,
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        env: options.python_env.clone(),
        run_dir: options.run_dir.clone(),
        max_processes: PYHOSTS,
        deadline: Duration::from_millis(limits.pyhost_ms),
    }))
}

/// Runs `dask_setup` of the modules; plugins that they add hear of what happens from now on.
pub async fn preload(state: &mut State, modules: &[String], argv: &[String]) -> Result<(), RunError> {
    let refused = |reason: String| RunError::Preload { reason };
    let Some(pyhost) = state.python.pyhost.clone() else {
        return Err(refused(format!("{} needs a Python interpreter, and none was found", modules.join(", "))));
    };
    let list = |texts: &[String]| Value::Array(texts.iter().map(|text| text.as_str().into()).collect());
    let request =
        Value::map([("modules", list(modules)), ("argv", list(argv)), ("snapshot", python_snapshot::snapshot(state))]);
    let answer = pyhost.call("preload", request).await.map_err(|failure| refused(failure_text(&failure)))?;
    for plugin in answer.get("plugins").and_then(Value::items).unwrap_or_default() {
        if let Some([Value::Str(name), hooks]) = plugin.items() {
            add_hooks(state, &pyhost, name.clone(), args::texts(Some(hooks)));
        }
    }
    // The loop has not begun: nobody would take this from the inbox yet.
    let handle = state.handle.clone();
    tokio::spawn(async move { carry_out(&handle, &answer).await });
    Ok(())
}

/// The scheduler file: complete from the moment it appears, removed at the end.
pub struct SchedulerFile {
    path: PathBuf,
}

impl SchedulerFile {
    /// Writes the file.
    pub fn write(path: &Path, identity: &Value) -> Result<Self, RunError> {
        let failed = |source: io::Error| RunError::File { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(&json_of(identity)).map_err(|error| failed(error.into()))?;
        files::write_atomic(path, text.as_bytes(), files::SHARED).map_err(failed)?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for SchedulerFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %self.path.display(), %error, "the scheduler file could not be removed");
        }
    }
}
