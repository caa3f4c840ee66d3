//! A running scheduler process: listeners, the driver's loop, signals, the scheduler file, and the end of it all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::base::{Limits, Text, Value};
use crate::clock::{Clock, random_u64, uuid_v4_text};
use crate::cluster::codec::args;
use crate::cluster::connection_reader;
use crate::cluster::control::ask;
use crate::cluster::control::steer;
use crate::cluster::jobs::broadcast::failure_text;
use crate::cluster::ops::{info, python};
use crate::cluster::options::{Control, ListenSpec, Ready, RunError, SchedulerOpts, TlsFiles};
use crate::cluster::state::handle::{Desk, INBOX_MAX, Inbound};
use crate::cluster::state::{Driver, Identity, Parts};
use crate::cluster::views::snapshot::Stream;
use crate::cluster::views::take_snapshot;
use crate::net::{Acceptor, Listener, NetError, PlainRule, Pool, Tls, TlsPem};
use crate::pyhost::{Pyhost, PyhostConfig};
use crate::sched::Scheduler;

/// Most messages handled between two flushes. Gathers replies under load, and bounds how long a lone one waits.
const TURN_MESSAGES: usize = 512;

/// Longest the end may take. Source: `traps`, 59: exit within a couple of seconds.
const CLOSE_DEADLINE: Duration = Duration::from_millis(1_500);

/// Python processes at once: one that keeps what users leave behind, and two for graphs, so that one graph that
/// hangs does not hold up the others. Each starts when it is needed.
const PYHOSTS: usize = 3;

/// Runs one scheduler until it is told to stop (signal, [`Control::Stop`], `terminate`, idle timeout).
///
/// Errors: it could not start. See [`RunError`].
pub async fn run_scheduler(mut opts: SchedulerOpts) -> Result<(), RunError> {
    let clock = Clock::start();
    let limits = Arc::new(opts.limits.clone());
    let tls = opts.tls.as_ref().map(load_tls).transpose()?;
    if tls.is_none() && opts.listen.iter().any(|spec| spec.scheme.is_encrypted()) {
        return Err(RunError::Tls { why: "an encrypted address needs a certificate and a key".to_owned() });
    }
    let pool = Pool::new(limits.clone(), tls.clone());
    let (sender, mut inbox) = mpsc::channel(INBOX_MAX);
    let desk = Desk::new(sender, pool, limits.clone(), clock);

    let mut signals = Signals::new().map_err(|why| RunError::File { path: PathBuf::from("signals"), why })?;
    let (listeners, listening) = listen(&opts).await?;
    let address = opts.contact_address.clone().or_else(|| listening.first().cloned()).unwrap_or_default();
    let acceptors = listeners.into_iter().map(|(spec, listener)| {
        let plain = if spec.scheme.is_encrypted() { PlainRule::Nobody } else { plain_rule(&opts) };
        tokio::spawn(listener.run(acceptor(&desk, &limits, tls.clone(), plain)))
    });
    let accepting: Vec<_> = acceptors.collect();
    let handed_over = if opts.require_encryption { PlainRule::Nobody } else { PlainRule::Anyone };
    let handed_over = acceptor(&desk, &limits, tls.clone(), handed_over);

    let mut driver = Driver::new(Parts {
        sched: Scheduler::new(opts.sched.clone(), random_u64()),
        clock,
        desk,
        identity: Identity {
            id: format!("Scheduler-{}", uuid_v4_text()).into(),
            address: address.clone(),
            listening: listening.clone(),
            dashboard_port: opts.dashboard_port,
        },
        pyhost: start_pyhost(&opts, &limits),
        blocked: opts.blocked_handlers.clone(),
        keep: opts.keep.clone(),
        reporter: opts.reporter.clone(),
    });
    if !opts.preload.is_empty() {
        tokio::select! {
            loaded = preload(&mut driver, &opts.preload, &opts.preload_argv) => loaded?,
            name = signals.next() => driver.close_because(format!("signal-{name}")),
        }
    }
    let file = match &opts.scheduler_file {
        Some(path) => Some(SchedulerFile::write(path, &info::identity(&driver, None))?),
        None => None,
    };
    for address in &listening {
        info!("  Scheduler at: {address:>25}");
    }
    if let Some(ready) = opts.ready.take() {
        // Whoever started us may not care.
        drop(ready.send(Ready { address, listening }));
    }
    let mut control = opts.control.take();
    run_loop(&mut driver, &mut inbox, &mut control, &mut signals, &handed_over).await;
    drop(file);
    for task in accepting {
        task.abort();
    }
    close(driver, !opts.preload.is_empty()).await;
    Ok(())
}

// ---- the loop -------------------------------------------------------------------------------------------------

async fn run_loop(
    driver: &mut Driver,
    inbox: &mut mpsc::Receiver<Inbound>,
    control: &mut Option<mpsc::Receiver<Control>>,
    signals: &mut Signals,
    handed_over: &Arc<Acceptor>,
) {
    let mut turn = Vec::with_capacity(TURN_MESSAGES);
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    while driver.closing.is_none() {
        let deadline = driver.deadline();
        let wait_us = deadline.map(|at| at.0.saturating_sub(driver.clock.now().0));
        if let Some(us) = wait_us.filter(|us| *us > 0) {
            sleep.as_mut().reset(Instant::now() + Duration::from_micros(us));
        }
        tokio::select! {
            count = inbox.recv_many(&mut turn, TURN_MESSAGES) => {
                if count == 0 {
                    return;
                }
                for inbound in turn.drain(..) {
                    driver.on_inbound(inbound);
                }
            }
            // Something is due already; readers and jobs get their turn first.
            () = tokio::task::yield_now(), if wait_us == Some(0) => driver.on_turn(),
            () = &mut sleep, if wait_us.is_some_and(|us| us > 0) => driver.on_turn(),
            told = next_control(control) => on_control(driver, control, told, handed_over),
            name = signals.next() => {
                info!(signal = name, "closing");
                driver.close_because(format!("signal-{name}"));
            }
        }
        driver.flush();
    }
}

async fn next_control(control: &mut Option<mpsc::Receiver<Control>>) -> Option<Control> {
    match control {
        Some(control) => control.recv().await,
        None => std::future::pending().await,
    }
}

fn on_control(
    driver: &mut Driver,
    control: &mut Option<mpsc::Receiver<Control>>,
    told: Option<Control>,
    handed_over: &Arc<Acceptor>,
) {
    match told {
        // Its sender is gone; this scheduler goes on without it.
        None => *control = None,
        Some(Control::Ask { what, reply }) => {
            // The asker may have given up.
            drop(reply.send(ask::answer(driver, &what)));
        }
        Some(Control::Steer { what, reply }) => drop(reply.send(steer::answer(driver, &what))),
        Some(Control::Look { look, reply }) => drop(reply.send(Box::new(take_snapshot::picture(driver, &look)))),
        Some(Control::Rects { from_ms, to_ms, reply }) => {
            let chunks = driver.rects.between(from_ms, to_ms);
            drop(reply.send(Box::new(Stream { chunks, ..take_snapshot::stream(driver, 0) })));
        }
        Some(Control::Request { body, reply }) => {
            let (answer, answered) = oneshot::channel();
            driver.on_inner_request(body, answer);
            tokio::spawn(async move {
                let Ok(outcome) = answered.await else { return };
                drop(reply.send(outcome.map_err(|failure| failure_text(&failure))));
            });
        }
        Some(Control::Connection(stream)) => {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            match stream {
                Ok(stream) => drop(tokio::spawn(handed_over.clone().serve_stream(stream))),
                Err(error) => warn!(%error, "a connection that was handed over can't be used"),
            }
        }
        Some(Control::Stop) => driver.close_because("stopped"),
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

// ---- the beginning --------------------------------------------------------------------------------------------

fn acceptor(desk: &Desk, limits: &Arc<Limits>, tls: Option<Tls>, plain: PlainRule) -> Arc<Acceptor> {
    let desk = desk.clone();
    Arc::new(Acceptor {
        limits: limits.clone(),
        tls,
        plain,
        on_comm: Arc::new(move |connection| connection_reader::serve(connection, desk.clone()).boxed()),
        on_http: None,
    })
}

fn plain_rule(opts: &SchedulerOpts) -> PlainRule {
    if opts.require_encryption {
        PlainRule::Nobody
    } else if opts.same_user_only {
        PlainRule::LoopbackUsers(opts.allow_users.clone())
    } else {
        PlainRule::Anyone
    }
}

async fn listen(opts: &SchedulerOpts) -> Result<(Vec<(ListenSpec, Listener)>, Vec<Text>), RunError> {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for spec in &opts.listen {
        let host = spec.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let listener = Listener::bind(SocketAddr::new(host, spec.port)).await.map_err(|error| match error {
            NetError::Io(why) if why.kind() == io::ErrorKind::AddrInUse => RunError::PortTaken { listen: spec.clone() },
            NetError::Io(why) => RunError::Listen { listen: spec.clone(), why },
            other => RunError::Listen { listen: spec.clone(), why: io::Error::other(other.to_string()) },
        })?;
        let mut at = listener.local_addr();
        if at.ip().is_unspecified() {
            at.set_ip(own_ip());
        }
        addresses.push(Text::from(format!("{}://{at}", spec.scheme)));
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

fn load_tls(files: &TlsFiles) -> Result<Tls, RunError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|why| RunError::Tls { why: format!("{}: {why}", path.display()) })
    };
    let pem = TlsPem {
        ca: files.ca.as_deref().map(read).transpose()?.unwrap_or_default(),
        cert: read(&files.cert)?,
        key: read(&files.key)?,
    };
    Tls::new(&pem).map_err(|error| RunError::Tls { why: error.to_string() })
}

fn start_pyhost(opts: &SchedulerOpts, limits: &Limits) -> Option<Pyhost> {
    let python = opts.python.clone()?;
    Some(Pyhost::new(PyhostConfig {
        python,
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        env: opts.python_env.clone(),
        run_dir: opts.run_dir.clone(),
        max_processes: PYHOSTS,
        deadline: Duration::from_millis(limits.pyhost_ms),
    }))
}

/// Runs `dask_setup` of the modules; plugins that they add hear of what happens from now on.
async fn preload(driver: &mut Driver, modules: &[String], argv: &[String]) -> Result<(), RunError> {
    let refused = |why: String| RunError::Preload { why };
    let Some(pyhost) = driver.pyhost.clone() else {
        return Err(refused(format!("{} needs a Python interpreter, and none was found", modules.join(", "))));
    };
    let list = |texts: &[String]| Value::Array(texts.iter().map(|text| text.as_str().into()).collect());
    let request =
        Value::map([("modules", list(modules)), ("argv", list(argv)), ("snapshot", python::snapshot(driver))]);
    let answer = pyhost.call("preload", request).await.map_err(|failure| refused(failure_text(&failure)))?;
    for plugin in answer.get("plugins").and_then(Value::items).unwrap_or_default() {
        if let Some([Value::Str(name), hooks]) = plugin.items() {
            driver.add_hooks(&pyhost, name.clone(), args::texts(Some(hooks)));
        }
    }
    // The loop has not begun: nobody would take this from the inbox yet.
    let desk = driver.desk.clone();
    tokio::spawn(async move { python::carry_out(&desk, &answer).await });
    Ok(())
}

/// The scheduler file: complete from the moment it appears, removed at the end.
struct SchedulerFile {
    path: PathBuf,
}

impl SchedulerFile {
    fn write(path: &Path, identity: &Value) -> Result<Self, RunError> {
        let failed = |why: io::Error| RunError::File { path: path.to_owned(), why };
        let text = serde_json::to_string_pretty(&ask::json(identity)).map_err(|why| failed(why.into()))?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        std::fs::write(&draft, text).map_err(failed)?;
        std::fs::rename(&draft, path).map_err(failed)?;
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

// ---- the end --------------------------------------------------------------------------------------------------

/// Tells workers to close, drops clients, ends Python. Bounded in time: a peer that does not read holds up nobody.
async fn close(driver: Driver, preloaded: bool) {
    let reason = driver.closing.as_ref().map_or("unknown".into(), |closing| closing.0.clone());
    info!(%reason, "closing scheduler");
    let close = Value::map([("op", "close".into()), ("reason", "scheduler-close".into())]);
    let close_stream = Value::map([("op", "close-stream".into())]);
    let mut open = Vec::new();
    for link in driver.workers.values() {
        link.outbox.push(|encoder| encoder.put_value(&close));
        link.outbox.push(|encoder| encoder.put_value(&close_stream));
        link.outbox.kick();
        link.outbox.close();
        open.push(link.outbox.clone());
    }
    for link in driver.clients.values() {
        link.outbox.abort();
    }
    let others = driver.conns.values().map(|found| found.line.outbox.clone());
    for outbox in others {
        outbox.close();
        open.push(outbox);
    }
    let pyhost = driver.pyhost.clone();
    let written = async {
        join_all(open.iter().map(crate::net::Outbox::closed)).await;
    };
    let python = async {
        if let Some(pyhost) = pyhost {
            if preloaded {
                // What its modules say to this is of no use any more.
                drop(pyhost.call("preload_end", Value::Map(Vec::new())).await);
            }
            pyhost.shutdown().await;
        }
    };
    if tokio::time::timeout(CLOSE_DEADLINE, futures_util::future::join(written, python)).await.is_err() {
        warn!("some peers did not take their last messages in time");
    }
    driver.desk.close_pool();
}
