//! The role `rask up`: the front door, the fleet with its cluster `local`, the pages; and their orderly end.

pub(crate) mod background;
mod clusters;
pub(crate) mod config;
mod gateway;
mod https;
mod lan;
mod shell;

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use config::{UpArgs, UpConfig};
use lan::Lan;

use crate::app::commands::doctor::{self, DoctorArgs};
use crate::app::failure::Failure;
use crate::app::local::authority;
use crate::app::local::cli_token::CliToken;
use crate::app::local::desktop::open_browser;
use crate::app::local::python_env::choose as pyenv;
use crate::app::local::sd_notify::Manager;
use crate::app::local::settings::Loaded;
use crate::app::local::state_dir::{self as state, LogPlace, Running, Seat};
use crate::app::process::{Signals, block_on, raise_open_files};
use crate::app::text::counted;
use crate::config::show_size;
use crate::door::{Door, FindCluster, Kind};
use crate::fleet::{FleetHandle, LOCAL};
use crate::gateway::{self as rest, Gateway};
use crate::host::{Group, Interpreter};
use crate::http;
use crate::net::PlainRule;
use crate::peer::Announced;
use crate::pki::Authority;
use crate::store::StoreHandle;

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
        let appliance = Appliance::start(args, loaded, seat, &mut signals, true).await?;
        manager.ready(&format!("Serving {}", appliance.running.http));
        if let Some(line) = &appliance.invitation {
            println!("To add another machine, run there (good for one machine and an hour):\n  {line}");
        }
        let how = if args.detached { "rask down" } else { "Ctrl-C" };
        println!("{}Stop: {how}", appliance.running.how_to());
        if args.open {
            open_browser(&appliance.running.http);
        }
        let signal = signals.next().await;
        manager.stopping();
        if args.keep_clusters {
            eprintln!("{signal}: stopping; clusters go on, and the next rask up takes them over");
            return Ok(());
        }
        eprintln!("{signal}: stopping clusters ...");
        tokio::select! {
            () = appliance.stop() => {}
            _ = signals.next() => eprintln!("second signal: stopping at once; clusters may go on"),
        }
        Ok(())
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

/// All that runs under one `rask up`. Dropping it leaves the clusters alone; [`Appliance::stop`] ends them.
pub(crate) struct Appliance {
    pub(crate) running: Running,
    /// The line that makes another machine join.
    invitation: Option<String>,
    _announced: Option<Announced>,
    fleet: FleetHandle,
    doors: Vec<JoinHandle<()>>,
    /// Commands of this user read it; it goes with us.
    _token: CliToken,
    // Last: the seat is free when everything else is gone.
    seat: Seat,
}

impl Appliance {
    /// Starts everything. Returns when the cluster `local` and its first worker are there. `outlive`: clusters go on
    /// when this process dies.
    ///
    /// Errors: anything on the way, a signal too; what was started is stopped by then.
    pub(crate) async fn start(
        args: &UpArgs,
        loaded: &Loaded,
        seat: Seat,
        signals: &mut Signals,
        outlive: bool,
    ) -> Result<Self, Failure> {
        raise_open_files();
        let config = UpConfig::new(args, loaded)?;
        let before = Running::left_behind(&config.state);
        let everywhere = config.lan && config.outside.is_none();
        let on = if everywhere { IpAddr::from([0, 0, 0, 0]) } else { config.host };
        let http = (config.port, before.as_ref().map(|up| &*up.http));
        let http = bind(on, http, "--port", "up.port").await?;
        let store = clusters::open_store(&config.state)?;
        let authority = Arc::new(authority::authority(&config.state)?);
        let lan = match config.lan {
            true => Some(open_lan(&config, loaded, &authority, store.clone(), local(&http)?.port()).await?),
            false => None,
        };
        // Loopback has a listener of its own, unless all addresses have one.
        let outside = match config.outside.filter(|_| config.lan) {
            Some(address) => Some(bind(address, (local(&http)?.port(), None), "--port", "up.port").await?),
            None => None,
        };
        let dask = (config.scheduler_port, before.as_ref().and_then(|up| up.scheduler.as_deref()));
        let dask = bind(config.host, dask, "--scheduler-port", "up.scheduler_port").await?;
        let (http_at, dask_at) = (local(&http)?, local(&dask)?);
        let python = match config.local_cluster {
            true => Some(signals.during(pyenv::choose(config.python.as_deref(), &config.state)).await?),
            false => None,
        };
        let span = lan.as_ref().and_then(|lan| lan.span(config.outside, config.span_peers));
        let fleet = clusters::fleet_config(&config, loaded, python.as_ref(), (http_at, dask_at), span, outlive);
        let fleet = FleetHandle::start(fleet, store.clone()).await.map_err(|why| clusters::of_store(&why))?;
        let came = match config.local_cluster {
            true => signals.during(clusters::local(&fleet, &config, dask_at)).await,
            false => Ok(()),
        };
        let running = Running {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: format!("http://{http_at}"),
            scheduler: fleet.link(LOCAL).map(|_| format!("tcp://{dask_at}")),
            python: python.as_ref().map(|python| python.path.clone()),
            workers: describe(config.group, python.as_ref()),
            log: Some(LogPlace::of_stderr()),
        };
        let invitation = match &lan {
            Some(lan) => Some(lan.invitation().await?),
            None => None,
        };
        let announced = lan.as_ref().and_then(|lan| lan.announce(http_at.port()));
        if let Some(lan) = &lan {
            tokio::spawn(clusters::release_peers(fleet.clone(), lan.head.clone()));
        }
        let parts = gateway::Parts {
            config: &loaded.config,
            state: &config.state,
            fleet: fleet.clone(),
            store,
            running: &running,
            group: config.group,
            lan: config.lan,
        };
        let (gateway, token) = gateway::gateway(parts).await?;
        let open = Open { fleet: &fleet, gateway: &gateway, authority: &authority, lan: lan.as_ref() };
        let door = Arc::new(door(&config, &open)?);
        let listeners = [http, dask].into_iter().chain(outside);
        let doors = listeners.map(|listener| tokio::spawn(Arc::clone(&door).accept(listener))).collect();
        let appliance = Self { running, invitation, _announced: announced, fleet, doors, _token: token, seat };
        let came = match came {
            Ok(()) => clusters::first_worker(&appliance.fleet, signals).await,
            Err(why) => Err(why),
        };
        if let Err(why) = came {
            appliance.stop().await;
            return Err(why);
        }
        appliance.seat.announce(&appliance.running)?;
        Ok(appliance)
    }

    /// Nothing new comes in, then all clusters end.
    pub(crate) async fn stop(self) {
        for door in &self.doors {
            door.abort();
        }
        self.fleet.stop_all("rask up was stopped").await;
    }
}

fn describe(group: Group, python: Option<&Interpreter>) -> String {
    let (workers, threads) = (group.nworkers, group.nthreads);
    let memory = match group.memory_bytes {
        0 => "no memory limit".to_owned(),
        bytes => format!("{} each", show_size(bytes)),
    };
    let python = python
        .map_or_else(String::new, |python| format!(" (Python {}, distributed {})", python.version, python.distributed));
    format!("{workers} x {}, {memory}{python}", counted(threads.into(), "thread"))
}

/// `before`: where the appliance before this one listened, if it was killed. A free port should be the same again: the
/// clients of its clusters look for it there.
async fn bind(
    host: IpAddr,
    (port, before): (u16, Option<&str>),
    flag: &str,
    key: &str,
) -> Result<TcpListener, Failure> {
    let before = before.and_then(|url| url.rsplit_once(':')?.1.parse::<u16>().ok());
    if let (0, Some(before)) = (port, before)
        && let Ok(listener) = TcpListener::bind((host, before)).await
    {
        return Ok(listener);
    }
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

async fn open_lan(
    config: &UpConfig,
    loaded: &Loaded,
    authority: &Arc<Authority>,
    store: StoreHandle,
    port: u16,
) -> Result<Lan, Failure> {
    Lan::open(&config.state, Arc::clone(authority), store, port, loaded.config.peers.certificate_life.0 as u64).await
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

/// What is behind the door.
struct Open<'a> {
    fleet: &'a FleetHandle,
    gateway: &'a Gateway,
    authority: &'a Arc<Authority>,
    lan: Option<&'a Lan>,
}

fn door(config: &UpConfig, open: &Open<'_>) -> Result<Door, Failure> {
    let rule = PlainRule::LoopbackUsers(config.allow_users.clone());
    let fleet = open.fleet.clone();
    let router = routes(config, open);
    let http = https::plain(router.clone(), rule.clone());
    let joining = match open.lan {
        Some(lan) => router.merge(http::peers::open_routes(lan.head.clone())),
        None => router,
    };
    let tls = https::encrypted(joining, rule.clone(), open.authority, &config.state)?;
    let anybody = open.gateway.admits_strangers();
    let admit = move |stream: &TcpStream, kind: &Kind| match kind {
        // The other side of TLS shows who it is by its certificate or a password.
        Kind::Tls(_) => Ok(()),
        // With a password, programs of other users of this machine may come too.
        Kind::Http if anybody => Ok(()),
        Kind::Http | Kind::Dask | Kind::Nothing | Kind::Unknown => {
            let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
            let (peer, local) = ends.map_err(|why| why.to_string())?;
            rule.admit(peer, local).map_err(|why| why.to_string())
        }
    };
    let find: FindCluster = Arc::new(move |name| fleet.link(name));
    let mut door = Door::new(config.limits.clone(), find, http, Arc::new(admit));
    (door.lan, door.tls) = (open.lan.is_some(), Some(tls));
    Ok(door)
}

/// Everything that is served over HTTP.
fn routes(config: &UpConfig, open: &Open<'_>) -> axum::Router {
    let pages = shell::pages(open.fleet.clone());
    let mut all = rest::viewers_only(open.gateway, pages).merge(rest::router(open.gateway));
    if let Some(lan) = open.lan {
        all = all.merge(rest::for_admins(open.gateway, http::peers::managed_routes(lan.head.clone())));
    }
    all = all.merge(rest::for_admins(open.gateway, http::doctor_routes(doctor_of(config))));
    rest::guarded(open.gateway, all)
}

/// The doctor, as this appliance would be looked at from a terminal.
fn doctor_of(config: &UpConfig) -> http::Examine {
    let args = DoctorArgs {
        state_dir: Some(config.state.clone()),
        config: config.file.clone(),
        python: config.python.clone(),
    };
    Arc::new(move || {
        let args = args.clone();
        Box::pin(async move {
            let diagnosis = doctor::examine(&args).await.map_err(|why| why.to_string())?;
            serde_json::to_value(diagnosis).map_err(|why| why.to_string())
        })
    })
}
