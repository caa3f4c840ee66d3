//! The role `rask up`: the front door, the cluster `local`, the pages; and their orderly end.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::lan::Lan;
use super::notify::Manager;
use super::state::{LogPlace, Running, Seat, private_folder};
use super::{Failure, Loaded, Signals, background, block_on, pyenv, settings, state, worker};
use crate::cluster::Ask;
use crate::config::{Auto, LogFormat, show_size};
use crate::door::Door;
use crate::host::{Asked, Group, Interpreter, Machine, size_group};
use crate::http::{self, NoAnswer, Pages};
use crate::link::{Link, Question};
use crate::net::PlainRule;
use crate::store::StoreHandle;
use crate::supervise::policy::Restart;
use crate::supervise::{self, Child, Output, ParentDeath, Report, Spec, Story};

/// A scheduler listens within 0.1 s; a machine that just woke up may be slow.
const SCHEDULER_PATIENCE: Duration = Duration::from_secs(30);
/// Two Pythons start one after the other per worker, from a cold disk in the worst case.
const WORKERS_PATIENCE: Duration = Duration::from_secs(180);
/// Between looks at what is starting.
const LOOK: Duration = Duration::from_millis(25);
/// `rask worker` gives its nannies 5 s; together with the scheduler's this stays below the 10 s that we promise.
const WORKERS_GRACE: Duration = Duration::from_millis(6500);
/// For clients and workers to be told.
const SCHEDULER_GRACE: Duration = Duration::from_millis(2500);
/// Failures in a row of a process that stays needed: after that a person must look.
const FAILURES_MAX: u32 = 8;

/// Flags of `rask up`, as given; what was not given comes from the configuration.
#[derive(Clone, Debug, Default)]
pub struct UpArgs {
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
    /// `--scheduler-port`
    pub scheduler_port: Option<u16>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--python`
    pub python: Option<String>,
    /// `--nworkers`
    pub nworkers: Option<Auto<i64>>,
    /// `--nthreads`
    pub nthreads: Option<Auto<u32>>,
    /// `--memory-limit`. Unit: bytes.
    pub memory_limit: Option<Auto<u64>>,
    /// `--no-local-cluster`
    pub no_local_cluster: bool,
    /// `--lan`
    pub lan: bool,
    /// `--open`
    pub open: bool,
    /// `--background`
    pub background: bool,
    /// `--detached`: this is the one in the background.
    pub detached: bool,
}

/// Runs the appliance until a signal comes; shows the one that runs already, if one does.
pub fn up(args: &UpArgs, loaded: &Loaded) -> Result<(), Failure> {
    let state = state::state_dir(args.state_dir.as_deref())?;
    let Some(seat) = Seat::take(&state)? else {
        let running = wait_for_running(&state)?;
        println!("rask is already running (process {}).\n{}", running.pid, running.how_to());
        if args.open {
            open_browser(&running.http);
        }
        return Ok(());
    };
    if args.background {
        // The other process takes the seat.
        drop(seat);
        return in_background(args, &state);
    }
    if args.detached {
        background::detach();
    }
    let mut manager = Manager::from_env();
    manager.starting("Starting: scheduler and workers");
    block_on(async {
        let mut signals = Signals::listen()?;
        let mut appliance = Appliance::start(args, loaded, seat, &mut signals).await?;
        manager.ready(&format!("Serving {}", appliance.running.http));
        if let Some(line) = &appliance.invitation {
            println!("To add another machine, run there (good for one machine and an hour):\n  {line}");
        }
        let how = if args.detached { "rask down" } else { "Ctrl-C" };
        println!("{}Stop: {how}", appliance.running.how_to());
        if args.open {
            open_browser(&appliance.running.http);
        }
        let ended = tokio::select! {
            signal = signals.next() => {
                eprintln!("{signal}: stopping workers and scheduler ...");
                Ok(())
            }
            why = appliance.given_up() => Err(why),
        };
        manager.stopping();
        tokio::select! {
            () = appliance.stop() => {}
            _ = signals.next() => eprintln!("second signal: stopping at once"),
        }
        ended
    })
}

/// `--background`: the same command line, without a terminal.
fn in_background(args: &UpArgs, state: &Path) -> Result<(), Failure> {
    let detached = |arg: OsString| if arg == "--background" { "--detached".into() } else { arg };
    let line: Vec<OsString> = std::env::args_os().skip(1).filter(|arg| arg != "--open").map(detached).collect();
    let running = background::start(&line, state)?;
    println!("{}Log: rask logs   Stop: rask down", running.how_to());
    if args.open {
        open_browser(&running.http);
    }
    Ok(())
}

/// The one that holds the lock, as soon as it says where it is.
fn wait_for_running(state: &Path) -> Result<Running, Failure> {
    for _ in 0..100 {
        if let Some(running) = Running::find(state) {
            return Ok(running);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::world(format!("another rask up is starting or stopping in {}", state.display()))
        .remedy("wait for it, or give another --state-dir"))
}

impl Running {
    /// What a person does next.
    pub fn how_to(&self) -> String {
        let mut text = format!("  status     {}\n", self.http);
        match &self.scheduler {
            Some(address) => {
                text.push_str(&format!("  scheduler  {address}\n  workers    {}\n", self.workers));
                text.push_str(&format!("Connect: from distributed import Client; client = Client(\"{address}\")\n"));
            }
            None => text.push_str("  no cluster (--no-local-cluster)\n"),
        }
        text
    }
}

pub(super) fn open_browser(url: &str) {
    let opened =
        Command::new("xdg-open").arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match opened {
        // Some openers stay as long as the browser does; an ended one must not stay a zombie.
        Ok(mut opener) => drop(std::thread::spawn(move || opener.wait())),
        Err(why) => tracing::warn!(%why, "xdg-open could not be started, no browser opens; the address is {url}"),
    }
}

/// All that runs under one `rask up`. Dropping it kills what it started; [`Appliance::stop`] is the kind way.
pub(super) struct Appliance {
    pub(super) running: Running,
    /// The line that makes another machine join.
    invitation: Option<String>,
    cluster: Option<LocalCluster>,
    doors: Vec<JoinHandle<()>>,
    // Last: the seat is free when everything else is gone.
    seat: Seat,
}

struct LocalCluster {
    scheduler: Child,
    workers: Child,
    teller: Teller,
    socket: PathBuf,
}

impl Appliance {
    /// Starts everything. Returns when the scheduler and the first workers are there.
    ///
    /// Errors: anything on the way, a signal too; what was started is stopped by then.
    pub(super) async fn start(
        args: &UpArgs,
        loaded: &Loaded,
        seat: Seat,
        signals: &mut Signals,
    ) -> Result<Self, Failure> {
        let plan = Plan::make(args, loaded)?;
        let everywhere = plan.lan && plan.outside.is_none();
        let on = if everywhere { IpAddr::from([0, 0, 0, 0]) } else { plan.host };
        let http = bind(on, plan.port, "--port", "up.port").await?;
        let lan = match plan.lan {
            true => Some(open_lan(&plan, loaded, local(&http)?.port()).await?),
            false => None,
        };
        // Loopback has a listener of its own, unless all addresses have one.
        let outside = match plan.outside.filter(|_| plan.lan) {
            Some(address) => Some(bind(address, local(&http)?.port(), "--port", "up.port").await?),
            None => None,
        };
        let dask = bind(plan.host, plan.scheduler_port, "--scheduler-port", "up.scheduler_port").await?;
        let (http_at, dask_at) = (local(&http)?, local(&dask)?);
        let python = match plan.local_cluster {
            true => Some(signals.during(pyenv::choose(plan.python.as_deref(), &plan.state)).await?),
            false => None,
        };
        let running = Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: format!("http://{http_at}"),
            scheduler: plan.local_cluster.then(|| format!("tcp://{dask_at}")),
            python: python.as_ref().map(|python| python.path.clone()),
            workers: describe(plan.group, python.as_ref()),
            log: Some(LogPlace::of_stderr()),
        };
        let mut cluster = match &python {
            Some(python) => Some(LocalCluster::start(&plan, loaded, python, (http_at, dask_at), signals).await?),
            None => None,
        };
        let link = cluster.as_ref().map(|cluster| Link::new(cluster.socket.clone()));
        let invitation = match &lan {
            Some(lan) => Some(lan.invitation().await?),
            None => None,
        };
        let door = Arc::new(door(&plan, &running, link, lan.as_ref())?);
        let listeners = [http, dask].into_iter().chain(outside);
        let doors = listeners.map(|listener| tokio::spawn(Arc::clone(&door).accept(listener))).collect();
        let came = signals.during(first_worker(cluster.as_mut(), &plan)).await;
        let appliance = Self { running, invitation, cluster, doors, seat };
        if let Err(why) = came {
            appliance.stop().await;
            return Err(why);
        }
        appliance.seat.announce(&appliance.running)?;
        Ok(appliance)
    }

    /// Returns when the scheduler or the workers failed too often to be started once more.
    pub(super) async fn given_up(&mut self) -> Failure {
        let why = match &mut self.cluster {
            Some(cluster) => cluster.teller.given_up.recv().await,
            None => None,
        };
        match why {
            Some(why) => Failure::world(why).remedy("see clusters/local/logs in the state folder"),
            None => std::future::pending().await,
        }
    }

    /// Stops in reverse order: nothing new comes in, then workers, then their scheduler.
    pub(super) async fn stop(self) {
        for door in &self.doors {
            door.abort();
        }
        if let Some(cluster) = self.cluster {
            cluster.workers.stop().await;
            cluster.scheduler.stop().await;
            let _lines_told = timeout(Duration::from_millis(100), cluster.teller.task).await;
            // The scheduler removes it; one that was killed could not.
            let _may_be_gone = std::fs::remove_file(&cluster.socket);
        }
    }
}

/// All decisions, made before anything starts.
struct Plan {
    host: IpAddr,
    port: u16,
    scheduler_port: u16,
    state: PathBuf,
    python: Option<String>,
    local_cluster: bool,
    lan: bool,
    /// Beyond loopback. None: on every address.
    outside: Option<IpAddr>,
    group: Group,
    allow_users: Vec<u32>,
    logs: PathBuf,
    keep: u32,
    limits: crate::base::Limits,
}

impl Plan {
    fn make(args: &UpArgs, loaded: &Loaded) -> Result<Self, Failure> {
        let config = &loaded.config;
        let host = args.host.as_ref().unwrap_or(&config.up.host);
        let host: IpAddr = match host.as_str() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            text => text.parse().map_err(|_| Failure::usage(format!("--host {text} is not an IP address")))?,
        };
        let lan = args.lan || config.up.lan;
        let outside = (!host.is_loopback() && !host.is_unspecified()).then_some(host);
        let host = if lan && !host.is_loopback() { IpAddr::from([127, 0, 0, 1]) } else { host };
        if !host.is_loopback() {
            return Err(Failure::usage(format!("--host {host} is open to the network, and this port has no TLS"))
                .remedy("add --lan: then other machines are let in, with TLS"));
        }
        let asked = Asked {
            nworkers: args.nworkers.unwrap_or(config.workers.nworkers).set(),
            nthreads: args.nthreads.unwrap_or(config.workers.nthreads).set(),
            memory_bytes: match args.memory_limit {
                Some(limit) => limit.set(),
                None => config.workers.memory_limit.set().map(|size| size.0),
            },
        };
        let state = state::state_dir(args.state_dir.as_deref())?;
        let logs = match config.log.dir.as_str() {
            "" => state.join("clusters").join("local").join("logs"),
            dir => Path::new(dir).join("local"),
        };
        Ok(Self {
            host,
            port: args.port.unwrap_or(config.up.port),
            scheduler_port: args.scheduler_port.unwrap_or(config.up.scheduler_port),
            python: args.python.clone().or_else(|| Some(config.up.python.clone())),
            local_cluster: config.up.local_cluster && !args.no_local_cluster,
            lan,
            outside,
            group: size_group(Machine::look(), asked).map_err(|why| Failure::blame(why.blame(), why.to_string()))?,
            allow_users: config.security.allow_users.clone(),
            limits: settings::limits(config),
            keep: config.log.keep,
            state,
            logs,
        })
    }

    fn folder(&self) -> PathBuf {
        self.state.join("clusters").join("local")
    }
}

fn describe(group: Group, python: Option<&Interpreter>) -> String {
    let (workers, threads) = (group.nworkers, group.nthreads);
    let memory = match group.memory_bytes {
        0 => "no memory limit".to_owned(),
        bytes => format!("{} each", show_size(bytes)),
    };
    let plural = |count: u32| if count == 1 { "" } else { "s" };
    let python = python
        .map_or_else(String::new, |python| format!(" (Python {}, distributed {})", python.version, python.distributed));
    format!("{workers} x {threads} thread{}, {memory}{python}", plural(threads))
}

async fn bind(host: IpAddr, port: u16, flag: &str, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind((host, port)).await.map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => Failure::world(format!("port {port} on {host} is in use by another program"))
            .remedy(format!(
                "stop that program, or choose another port with {flag} (0: any free one) or {key} in rask.toml"
            )),
        io::ErrorKind::PermissionDenied => Failure::world(format!("port {port} may not be opened by this user"))
            .remedy(format!("choose one above 1023 with {flag}")),
        _ => Failure::world(format!("cannot listen on {host}:{port}: {why}")).remedy("check --host"),
    })
}

async fn open_lan(plan: &Plan, loaded: &Loaded, port: u16) -> Result<Lan, Failure> {
    let store = StoreHandle::open(&plan.state.join("rask.db"))
        .map_err(|why| Failure::world(why.to_string()).remedy(why.remedy()))?;
    Lan::open(&plan.state, store, port, loaded.config.peers.certificate_life.0 as u64).await
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let at = listener.local_addr();
    let mut at = at.map_err(|why| Failure::world(format!("a listening socket has no address: {why}")))?;
    // One that listens everywhere is reached on loopback too.
    if at.ip().is_unspecified() {
        at.set_ip(IpAddr::from([127, 0, 0, 1]));
    }
    Ok(at)
}

impl LocalCluster {
    async fn start(
        plan: &Plan,
        loaded: &Loaded,
        python: &Interpreter,
        (http_at, dask_at): (SocketAddr, SocketAddr),
        signals: &mut Signals,
    ) -> Result<Self, Failure> {
        private_folder(&plan.folder())?;
        let socket = plan.folder().join("control.sock");
        let _of_a_killed_one = std::fs::remove_file(&socket);
        // Its own door, for its own workers: they need not know the appliance. The same after a restart.
        let own_port = free_port(plan.host).await?;
        let (reports, inbox) = mpsc::unbounded_channel();
        let scheduler = supervise::start(
            scheduler_spec(plan, loaded, python, &socket, (own_port, http_at, dask_at)),
            reports.clone(),
        );
        let link = Link::new(socket.clone());
        let mut teller = Teller::start(inbox);
        if let Err(why) = signals.during(teller.until(wait_for_scheduler(&link, plan))).await {
            scheduler.stop().await;
            return Err(why);
        }
        let workers = supervise::start(worker_spec(plan, loaded, python, own_port), reports);
        Ok(Self { scheduler, workers, teller, socket })
    }
}

/// Tells the log what happens to the children; knows if one was given up.
struct Teller {
    task: JoinHandle<()>,
    lost: mpsc::UnboundedReceiver<String>,
    given_up: mpsc::UnboundedReceiver<String>,
}

impl Teller {
    fn start(mut inbox: mpsc::UnboundedReceiver<Report>) -> Self {
        let (losses, lost) = mpsc::unbounded_channel();
        let (ends, given_up) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(report) = inbox.recv().await {
                let first_death = match &report.story {
                    Story::Died { cause, last_lines, .. } => {
                        let last = last_lines.last().map_or_else(String::new, |line| format!(": {}", line.trim()));
                        Some(format!("the {} ended ({cause}){last}", report.name))
                    }
                    Story::Started { .. } | Story::Stopped { .. } => None,
                };
                // Nobody listens when all stops anyway.
                worker::tell(&report, FAILURES_MAX).into_iter().for_each(|why| drop(ends.send(why)));
                // Only the start listens.
                first_death.into_iter().for_each(|why| drop(losses.send(why)));
            }
        });
        Self { task, lost, given_up }
    }

    /// Waits for `done`, or for the first death of a child.
    async fn until(&mut self, done: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        tokio::select! {
            result = done => result,
            Some(why) = self.lost.recv() => Err(Failure::world(why).remedy("see clusters/local/logs in the state folder")),
        }
    }
}

async fn free_port(host: IpAddr) -> Result<u16, Failure> {
    let listener = TcpListener::bind((host, 0)).await;
    let at = listener.and_then(|listener| listener.local_addr());
    at.map(|at| at.port()).map_err(|why| Failure::world(format!("no free port on {host}: {why}")))
}

fn common_args(plan: &Plan, loaded: &Loaded, command: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![command.into(), "--state-dir".into(), plan.state.clone().into()];
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

fn scheduler_spec(
    plan: &Plan,
    loaded: &Loaded,
    python: &Interpreter,
    socket: &Path,
    (own_port, http_at, dask_at): (u16, SocketAddr, SocketAddr),
) -> Spec {
    let mut args = common_args(plan, loaded, "scheduler");
    let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
    flag("--host", plan.host.to_string().into());
    flag("--port", own_port.to_string().into());
    flag("--protocol", "tcp".into());
    flag("--contact-address", format!("tcp://{dask_at}").into());
    flag("--control-socket", socket.into());
    flag("--served-dashboard-port", http_at.port().to_string().into());
    flag("--python", python.path.clone().into());
    args.extend(["--no-dashboard".into(), "--same-user".into()]);
    spec(plan, "scheduler", args, SCHEDULER_GRACE)
}

fn worker_spec(plan: &Plan, loaded: &Loaded, python: &Interpreter, own_port: u16) -> Spec {
    let mut args = common_args(plan, loaded, "worker");
    args.push(format!("tcp://{}", SocketAddr::new(plan.host, own_port)).into());
    let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
    flag("--nworkers", plan.group.nworkers.to_string().into());
    flag("--nthreads", plan.group.nthreads.to_string().into());
    flag("--memory-limit", format!("{} B", plan.group.memory_bytes).into());
    flag("--name", "local".into());
    flag("--host", plan.host.to_string().into());
    flag("--python", python.path.clone().into());
    spec(plan, "workers", args, WORKERS_GRACE)
}

fn spec(plan: &Plan, name: &str, args: Vec<OsString>, grace: Duration) -> Spec {
    Spec {
        name: name.to_owned(),
        program: "/proc/self/exe".into(),
        args,
        env: Vec::new(),
        output: Output::File { path: plan.logs.join(format!("{name}.log")), keep: plan.keep },
        parent_death: ParentDeath::Term,
        cgroup: None,
        restart: Restart::Always,
        failures_max: Some(FAILURES_MAX),
        grace,
    }
}

async fn wait_for_scheduler(link: &Link, plan: &Plan) -> Result<(), Failure> {
    let answered = timeout(SCHEDULER_PATIENCE, async {
        while link.ask(Question::Identity).await.is_err() {
            sleep(LOOK).await;
        }
    });
    answered.await.map_err(|_| {
        Failure::world(format!("the scheduler did not answer within {} s", SCHEDULER_PATIENCE.as_secs()))
            .remedy(format!("see {}", plan.logs.join("scheduler.log").display()))
    })
}

async fn first_worker(cluster: Option<&mut LocalCluster>, plan: &Plan) -> Result<(), Failure> {
    let Some(cluster) = cluster else { return Ok(()) };
    let link = Link::new(cluster.socket.clone());
    let there = async {
        loop {
            let body = link.ask(Question::Workers).await.unwrap_or_default();
            let known: Value = serde_json::from_str(&body).unwrap_or_default();
            if known.get("num_workers").and_then(Value::as_u64).is_some_and(|count| count > 0) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    };
    timeout(WORKERS_PATIENCE, cluster.teller.until(there)).await.unwrap_or_else(|_| {
        Err(Failure::world(format!("no worker came within {} s", WORKERS_PATIENCE.as_secs()))
            .remedy(format!("see {}", plan.logs.join("workers.log").display())))
    })
}

fn door(plan: &Plan, running: &Running, link: Option<Link>, lan: Option<&Lan>) -> Result<Door, Failure> {
    let rule = PlainRule::LoopbackUsers(plan.allow_users.clone());
    let facts = vec![
        ("appliance".to_owned(), format!("rask {}, process {}", running.version, running.pid)),
        ("scheduler".to_owned(), running.scheduler.clone().unwrap_or_else(|| "none".to_owned())),
        ("workers".to_owned(), running.workers.clone()),
        ("logs".to_owned(), plan.logs.display().to_string()),
    ];
    let mut router = http::router(Pages { ask: link.clone().map(ask_through), facts: Arc::new(facts) });
    if let Some(lan) = lan {
        router = router.merge(http::peers::managed_routes(lan.head.clone()));
    }
    let admit = move |stream: &TcpStream| {
        let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
        let (peer, local) = ends.map_err(|why| why.to_string())?;
        rule.admit(peer, local).map_err(|why| why.to_string())
    };
    let serve = move |stream| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(http::serve_stream(router.clone(), stream))
    };
    let mut door = Door::new(plan.limits.clone(), link, Arc::new(serve), Arc::new(admit));
    if let Some(lan) = lan {
        (door.lan, door.tls) = (true, Some(lan.serve(axum::Router::new())?));
    }
    Ok(door)
}

fn ask_through(link: Link) -> http::AskCluster {
    Arc::new(move |what| {
        let link = link.clone();
        let question = match what {
            Ask::Identity => Question::Identity,
            Ask::Counts => Question::Counts,
            Ask::Metrics => Question::Metrics,
            Ask::Workers => Question::Workers,
            Ask::Task(_)
            | Ask::Worker(_)
            | Ask::Tasks { .. }
            | Ask::Find { .. }
            | Ask::Rect(_)
            | Ask::IdleSince
            | Ask::AdaptiveTarget => {
                return Box::pin(async { Err(NoAnswer("only its own pages know that".to_owned())) });
            }
        };
        Box::pin(async move { link.ask(question).await.map_err(|why| NoAnswer(why.to_string())) })
    })
}
