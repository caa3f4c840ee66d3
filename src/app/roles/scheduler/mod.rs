//! The role `rask scheduler`: one cluster's scheduler, with its pages and its control socket.

mod listen;
mod watchdog;

use std::fs::{self, DirBuilder};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub(in crate::app) use listen::{interface_address, resolve};

use listen::Where;

use crate::app::command_error::CommandError;
use crate::app::local::pid_file::PidFile;
use crate::app::local::python_env::choose as pyenv;
use crate::app::local::settings::{self, Loaded};
use crate::app::local::state_dir as state;
use crate::app::process::{Signals, block_on, raise_open_files, this_process};
use crate::cluster::{self, Control, NO_PYTHON, Ready, RunError, SchedulerOptions, TlsFiles};
use crate::config::{self, Config};
use crate::control::Question;
use crate::files::FileLock;
use crate::http::{Pages, serve_pages};
use crate::link::{self, Incoming};
use crate::net::PlainRule;

/// Requests waiting for the scheduler; askers beyond that wait.
const CONTROL_QUEUE: usize = 64;

/// For clients and workers to be told before we end anyway.
const GOODBYE: Duration = Duration::from_secs(5);

/// Flags of `rask scheduler`, as given.
#[derive(Clone, Debug, Default)]
pub struct SchedulerArgs {
    pub host: Option<String>,
    pub port: Option<String>,
    pub interface: Option<String>,
    pub protocol: Option<String>,
    pub tls_ca_file: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// `--dashboard-address`; None with `--no-dashboard`.
    pub dashboard_address: Option<String>,
    pub idle_timeout: Option<String>,
    pub scheduler_file: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preload: Vec<String>,
    /// Arguments of preloaded modules.
    pub preload_argv: Vec<String>,
    pub contact_address: Option<String>,
    pub python: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// Listen here for the appliance.
    pub control_socket: Option<PathBuf>,
    /// Whoever starts us knows that the interpreter has what it needs.
    pub python_checked: bool,
    /// The appliance serves the pages of this scheduler, on this port.
    pub served_dashboard_port: Option<u16>,
    /// `--same-user` (true) or `--any-user` (false): may other users connect without TLS? None: if other machines may.
    pub same_user: Option<bool>,
    /// Serve the pages on this Unix socket, for the appliance.
    pub http_socket: Option<PathBuf>,
    /// Serve the page's files from this folder.
    pub web_dir: Option<PathBuf>,
}

/// Runs one scheduler until it ends or a signal comes.
pub fn scheduler(args: &SchedulerArgs, loaded: &Loaded) -> Result<(), CommandError> {
    raise_open_files();
    let _pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    // Beside the socket if there is one: there the next of us finds what a killed one left.
    let run_dir = RunDir::make("scheduler", args.control_socket.as_deref())?;
    let options = options(args, &loaded.config, &run_dir.0)?;
    let stuck_after = loaded.config.scheduler.stuck_after.0.map(Duration::from_secs_f64);
    block_on(async {
        watchdog::watch(stuck_after)?;
        run(args, options, args.python.as_deref().unwrap_or(&loaded.config.up.python)).await
    })
}

async fn run(args: &SchedulerArgs, mut options: SchedulerOptions, python: &str) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let state = state::state_dir(args.state_dir.as_deref()).ok();
    options.python = match args.python_checked {
        true => Some(PathBuf::from(python)),
        false => signals.during(pyenv::find(Some(python), state.as_deref())).await?,
    };
    if options.python.is_none() {
        tracing::warn!("{NO_PYTHON}");
    }
    let (control, inbox) = mpsc::channel(CONTROL_QUEUE);
    let (ready, when_ready) = oneshot::channel();
    options.control = Some(inbox);
    let (stop, when_stopped) = oneshot::channel();
    options.ready = Some(ready);
    options.stop = Some(when_stopped);
    let _link = args.control_socket.as_deref().map(|path| listen_for_appliance(path, &control)).transpose()?;
    // Clients take it for granted that there is a port, so as with Dask one is served without a dashboard too.
    let address = args.dashboard_address.as_deref().unwrap_or("127.0.0.1:0");
    let tcp = match args.served_dashboard_port {
        Some(_) => None,
        None => Some(listen::dashboard(address, listen::loopback(&options.listen))?),
    };
    let at = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let (_pages, reporter) = serve_pages(Pages {
        control: control.clone(),
        callers: page_callers(&options, tcp.as_ref()),
        tcp,
        socket: args.http_socket.clone(),
        web_dir: args.web_dir.clone(),
    })
    .map_err(CommandError::world)?;
    options.reporter = Some(reporter);
    options.dashboard_port = at.map(|at| at.port()).or(args.served_dashboard_port);
    let dashboard = at.filter(|_| args.dashboard_address.is_some());
    let (default_host, limits_goodbye) = (options.listen.first().and_then(|spec| spec.host), GOODBYE);
    tokio::spawn(announce(when_ready, dashboard, default_host));
    let mut running = std::pin::pin!(cluster::run_scheduler(options));
    let ended = tokio::select! {
        ended = &mut running => ended,
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            drop(stop.send(format!("signal-{signal}")));
            // A second signal, or a peer that cannot be told in time, does not keep us.
            tokio::select! {
                ended = &mut running => ended,
                _ = signals.next() => Ok(()),
                () = tokio::time::sleep(limits_goodbye) => Ok(()),
            }
        }
    };
    ended.map_err(explain)?;
    tracing::info!("End scheduler");
    Ok(())
}

/// Who may look at the pages, and press their buttons: on loopback whoever may connect to the scheduler.
fn page_callers(options: &SchedulerOptions, port: Option<&TcpListener>) -> PlainRule {
    let on_loopback = port.and_then(|port| port.local_addr().ok()).is_some_and(|at| at.ip().is_loopback());
    let anyone_connects = !options.same_user_only && options.listen.iter().any(|spec| !spec.scheme.is_tls());
    match on_loopback && !anyone_connects {
        true => PlainRule::LoopbackUsers(options.allow_users.clone()),
        false => PlainRule::Anyone,
    }
}

/// The second of the lines that launchers look for on standard error; the first comes from the driver.
async fn announce(when_ready: oneshot::Receiver<Ready>, dashboard: Option<SocketAddr>, host: Option<IpAddr>) {
    let Ok(ready) = when_ready.await else { return };
    if let Some(at) = dashboard {
        let shown = if at.ip().is_unspecified() { host.or_else(|| host_of(&ready.address)) } else { Some(at.ip()) };
        let shown = SocketAddr::new(shown.unwrap_or(at.ip()), at.port());
        tracing::info!("  dashboard at:  http://{shown}/status");
    }
}

fn host_of(address: &str) -> Option<IpAddr> {
    let (_, rest) = address.split_once("://")?;
    rest.parse::<SocketAddr>().ok().map(|address| address.ip())
}

fn explain(why: RunError) -> CommandError {
    let failure = CommandError::blame(why.blame(), &why);
    match why {
        // Not wrong usage, even though it takes another flag: exit code 1, as with `rask up`.
        RunError::PortTaken { .. } => {
            CommandError::world(why).remedy("stop that program, or choose another with --port (0: any free one)")
        }
        RunError::Tls { .. } => failure.remedy("check --tls-ca-file, --tls-cert and --tls-key"),
        RunError::Preload { .. } => failure.remedy(
            "check --preload, scheduler.preload in rask.toml and --python; a module may read the scheduler's address, \
             workers and tasks, and add plugins and handlers. For anything else, use a scheduler in Python",
        ),
        RunError::Listen { .. } => failure.remedy("check --host"),
        RunError::File { .. } => failure,
    }
}

fn options(args: &SchedulerArgs, config: &Config, run_dir: &Path) -> Result<SchedulerOptions, CommandError> {
    let tls = tls_files(args, &config.comm.tls)?;
    let by_flag = args.tls_ca_file.is_some() || args.tls_cert.is_some() || args.tls_key.is_some();
    // As in Dask: certificates by flag and no address mean TLS.
    let default_scheme = if by_flag && args.host.is_none() { "tls" } else { config.comm.default_scheme.as_str() };
    let listen = listen::specs(Where {
        host: args.host.as_deref(),
        port: args.port.as_deref(),
        interface: args.interface.as_deref(),
        protocol: args.protocol.as_deref(),
        default_scheme,
    })?;
    let encrypted = listen.iter().any(|spec| spec.scheme.is_tls());
    if encrypted && tls.is_none() {
        return Err(CommandError::usage("TLS needs a certificate and its key")
            .remedy("give --tls-cert, --tls-key and --tls-ca-file"));
    }
    if config.comm.require_encryption && listen.iter().any(|spec| !spec.scheme.is_tls()) {
        return Err(CommandError::usage("encryption is required, and the address is not encrypted")
            .remedy("use --protocol tls"));
    }
    let same_user_only = args.same_user.unwrap_or_else(|| listen::loopback(&listen).is_some());
    let mut sched = settings::sched_config(&config.scheduler);
    if let Some(text) = &args.idle_timeout {
        let secs = config::parse_secs(text).ok_or_else(|| {
            CommandError::usage(format!("--idle-timeout {text} is not a duration")).remedy("try \"5 minutes\" or 300")
        })?;
        sched.idle_timeout_secs = (secs > 0.0).then_some(secs);
    }
    let contact = args.contact_address.clone().or_else(|| some_text(&config.scheduler.contact_address));
    let mut preload = config.scheduler.preload.clone();
    preload.extend(args.preload.iter().cloned());
    for class in settings::policies_left_out(&config.scheduler) {
        tracing::warn!(
            class,
            "a policy of the active memory manager is left out: only Dask's ReduceReplicas is built in"
        );
    }
    let mut python_env = settings::python_env(&config.scheduler);
    python_env.extend(tls.as_ref().into_iter().flat_map(python_tls));
    Ok(SchedulerOptions {
        listen,
        contact_address: contact.map(Into::into),
        tls,
        require_encryption: config.comm.require_encryption,
        same_user_only,
        allow_users: config.security.allow_users.clone(),
        scheduler_file: args.scheduler_file.clone(),
        dashboard_port: None,
        python: None,
        python_env,
        run_dir: run_dir.to_path_buf(),
        preload,
        preload_argv: args.preload_argv.clone(),
        blocked_handlers: config.scheduler.blocked_handlers.iter().map(|name| name.as_str().into()).collect(),
        keep: settings::keep(&config.scheduler),
        rebalance: settings::rebalance(&config.scheduler),
        check_ingest: config.scheduler.ingest == config::Ingest::Check,
        sched,
        limits: settings::limits(config),
        control: None,
        stop: None,
        reporter: None,
        ready: None,
    })
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn tls_files(args: &SchedulerArgs, tls: &config::CommTls) -> Result<Option<TlsFiles>, CommandError> {
    let either = |flag: &Option<PathBuf>, set: &str| flag.clone().or_else(|| some_text(set).map(PathBuf::from));
    let ca = either(&args.tls_ca_file, &tls.ca_file);
    let pair = (either(&args.tls_cert, &tls.scheduler.cert), either(&args.tls_key, &tls.scheduler.key));
    match pair {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { ca, cert, key })),
        // A certificate file may hold its key, as Python's ssl module allows.
        (Some(cert), None) => Ok(Some(TlsFiles { ca, key: cert.clone(), cert })),
        (None, Some(_)) => Err(CommandError::usage("a TLS key without a certificate").remedy("give --tls-cert")),
        (None, None) => Ok(None),
    }
}

/// With what functions that run on the scheduler ask it for something.
fn python_tls(tls: &TlsFiles) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut given = vec![("CLIENT__CERT", text(&tls.cert)), ("CLIENT__KEY", text(&tls.key))];
    given.extend(tls.ca.as_deref().map(|ca| ("CA_FILE", text(ca))));
    given.into_iter().map(|(name, value)| (format!("DASK_DISTRIBUTED__COMM__TLS__{name}"), value)).collect()
}

/// Turns what comes over the link into what a scheduler understands.
fn listen_for_appliance(path: &Path, control: &mpsc::Sender<Control>) -> Result<link::Served, CommandError> {
    let (sender, mut inbound) = mpsc::channel(CONTROL_QUEUE);
    let served = link::serve(path, &this_process(), sender)
        .map_err(|why| CommandError::world(format!("cannot listen on the control socket {}: {why}", path.display())))?;
    let control = control.clone();
    tokio::spawn(async move {
        while let Some(message) = inbound.recv().await {
            let message = match message {
                Incoming::Connection(stream) => Control::Connection(stream),
                Incoming::Ask { what: Question::Scheduler(what), reply } => Control::Ask { what, reply },
                Incoming::Ask { what: Question::Stop, reply } => {
                    drop(reply.send("stopping".to_owned()));
                    Control::Stop
                }
                // The transport answers these itself; a pool's questions are meant for another kind of process. The
                // reply is dropped unanswered, and the asker is told so.
                Incoming::Ask { what: Question::Health | Question::Hello | Question::Pool(_), .. } => continue,
            };
            if control.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(served)
}

/// A private folder for this process, gone with it.
pub(in crate::app) struct RunDir(pub(in crate::app) PathBuf, Option<FileLock>);

/// In folders that have the process's id for a name: held while the process lives.
const ALIVE: &str = "alive.lock";

impl RunDir {
    /// Beside the control socket, if there is one. `role`: whose files they are.
    pub(in crate::app) fn make(role: &str, control_socket: Option<&Path>) -> Result<Self, CommandError> {
        let path = control_socket.and_then(Path::parent).map(|place| place.join(role)).unwrap_or_else(|| {
            let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
            let name = format!("rask-{role}-{}", std::process::id());
            let base = base.unwrap_or_else(std::env::temp_dir);
            sweep(&base, role);
            base.join(name)
        });
        // What a process with our id left behind: only if it was ours can it be removed.
        let _may_not_exist = fs::remove_dir_all(&path);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|why| CommandError::world(format!("cannot make the folder {}: {why}", path.display())))?;
        let lock = FileLock::take(&path.join(ALIVE)).ok().flatten();
        Ok(Self(path, lock))
    }
}

/// Removes what killed processes of this user left. A lock tells whether somebody lives, also in another container that
/// shares the folder; without one, as of older versions and for a moment at each start, the process's id does.
fn sweep(base: &Path, role: &str) {
    let ours = rustix::process::geteuid().as_raw();
    for path in fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(&format!("rask-{role}-")).and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        let is_ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == ours);
        let alive = Path::new("/proc").join(pid.to_string()).exists() || FileLock::is_held(&path.join(ALIVE));
        if is_ours && !alive {
            tracing::debug!(path = %path.display(), "left by a process that was killed; removed");
            let _next_time_again = fs::remove_dir_all(&path);
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        drop(self.1.take());
        let _may_be_gone = fs::remove_dir_all(&self.0);
    }
}
