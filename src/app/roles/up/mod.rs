//! The role `rask up`: the front door, the fleet with its cluster `local`, the pages; and their orderly end.

pub(crate) mod background;
mod clusters;
pub(crate) mod config;
mod door;
mod gateway;
mod lan;
mod ports;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use config::{UpArgs, UpConfig};
use lan::Lan;
use ports::Ports;

use crate::app::command_error::CommandError;
use crate::app::local::authority;
use crate::app::local::cli_token::CliToken;
use crate::app::local::desktop::open_browser;
use crate::app::local::python_env::choose as pyenv;
use crate::app::local::sd_notify::Manager;
use crate::app::local::settings::Loaded;
use crate::app::local::state_dir::{self as state, LogPlace, Running, Seat};
use crate::app::process::{Signals, block_on, raise_open_files};
use crate::app::text::counted;
use crate::app::text::outln;
use crate::config::{Engine, show_size};
use crate::fleet::{FleetHandle, LOCAL};
use crate::host::{Interpreter, PoolSize};
use crate::peer::{Announced, HeadHandle};
use crate::pki::Authority;
use crate::store::StoreHandle;

/// Runs the appliance until a signal comes; shows the one that runs already, if one does.
pub fn up(args: &UpArgs, loaded: &Loaded) -> Result<(), CommandError> {
    let state = state::state_dir(args.state_dir.as_deref())?;
    let Some(seat) = Seat::take(&state)? else {
        let running = wait_for_running(&state)?;
        outln!("rask is already running (process {}).\n{}", running.pid, running.how_to());
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
        let mut appliance = Appliance::start(args, loaded, seat, &mut signals, true).await?;
        manager.ready(&format!("Serving {}", appliance.running.http));
        if let Some(line) = &appliance.invitation {
            outln!("To add another machine, run there (good for one machine and an hour):\n  {line}");
        }
        let how = if args.detached { "rask down" } else { "Ctrl-C" };
        outln!("{}Stop: {how}", appliance.running.how_to());
        if args.open {
            open_browser(&appliance.running.http);
        }
        let signal = appliance.run(&mut signals).await;
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
fn in_background(args: &UpArgs, state: &Path) -> Result<(), CommandError> {
    let detached = |arg: OsString| if arg == "--background" { "--detached".into() } else { arg };
    let line: Vec<OsString> = std::env::args_os().skip(1).filter(|arg| arg != "--open").map(detached).collect();
    let running = background::start(&line, state)?;
    outln!("{}Log: rask logs   Stop: rask down", running.how_to());
    if args.open {
        open_browser(&running.http);
    }
    Ok(())
}

/// The one that holds the lock, as soon as it says where it is.
fn wait_for_running(state: &Path) -> Result<Running, CommandError> {
    for _ in 0..100 {
        if let Some(running) = Running::find(state) {
            return Ok(running);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(CommandError::world(format!("another rask up is starting or stopping in {}", state.display()))
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

/// Between two looks at whether the state folder is there.
const SEAT_LOOK: Duration = Duration::from_secs(5);

/// All that runs under one `rask up`. Dropping it leaves the clusters alone; [`Appliance::stop`] ends them.
pub(crate) struct Appliance {
    pub(crate) running: Running,
    /// The line that makes another machine join.
    invitation: Option<String>,
    _announced: Option<Announced>,
    /// Other machines, if they may join.
    pub(crate) head: Option<HeadHandle>,
    pub(crate) fleet: FleetHandle,
    doors: Vec<JoinHandle<()>>,
    /// Commands of this user read it; it goes with us.
    token: CliToken,
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
    ) -> Result<Self, CommandError> {
        raise_open_files();
        let config = UpConfig::new(args, loaded)?;
        let ports = Ports::open(&config).await?;
        let store = clusters::open_store(&config.state)?;
        let authority = Arc::new(authority::authority(&config.state)?);
        let lan = match config.lan {
            true => Some(open_lan(&config, loaded, &authority, store.clone(), ports.http_at.port()).await?),
            false => None,
        };
        let python = match config.local_cluster {
            true => Some(signals.during(pyenv::choose(config.python.as_deref(), &config.state)).await?),
            false => None,
        };
        let span = lan.as_ref().and_then(|lan| lan.span(config.outside, config.span_peers));
        let addresses = (ports.http_at, ports.dask_at);
        let fleet = clusters::fleet_config(&config, loaded, python.as_ref(), addresses, span, outlive);
        let backends = fleet.backends.clone();
        let fleet = FleetHandle::start(fleet, store.clone()).await.map_err(|why| clusters::of_store(&why))?;
        let came = match config.local_cluster {
            true => signals.during(clusters::local(&fleet, &config, ports.dask_at)).await,
            false => Ok(()),
        };
        let running = running(&config, &ports, fleet.link(LOCAL).is_some(), python.as_ref());
        let invitation = match &lan {
            Some(lan) => Some(lan.invitation().await?),
            None => None,
        };
        // Who may join the nodes of a job needs not look for them.
        let announced = lan.as_ref().filter(|_| !config.only_peers).and_then(|lan| lan.announce(ports.http_at.port()));
        if let Some(lan) = &lan {
            tokio::spawn(clusters::release_peers(fleet.clone(), lan.head.clone(), backends));
        }
        let parts = gateway::GatewayParts {
            config: &loaded.config,
            state: &config.state,
            fleet: fleet.clone(),
            store,
            running: &running,
            pool: config.pool,
            engine: config.engine,
            backends: &config.backends,
            lan: config.lan,
        };
        let (gateway, token) = gateway::gateway(parts).await?;
        let behind = door::Behind { fleet: &fleet, gateway: &gateway, authority, lan: lan.as_ref() };
        let door = Arc::new(door::door(&config, behind)?);
        let doors = ports.listeners.into_iter().map(|one| tokio::spawn(Arc::clone(&door).accept(one))).collect();
        let head = lan.map(|lan| lan.head);
        let mut appliance = Self { running, invitation, _announced: announced, head, fleet, doors, token, seat };
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

    /// Until a signal comes: looks after what is there for others to find.
    async fn run(&mut self, signals: &mut Signals) -> &'static str {
        let mut look = tokio::time::interval(SEAT_LOOK);
        loop {
            tokio::select! {
                signal = signals.next() => return signal,
                _ = look.tick() => self.put_back(),
            }
        }
    }

    fn put_back(&mut self) {
        match self.seat.put_back() {
            Ok(false) => {}
            Ok(true) => tracing::error!(
                "the state folder was removed while rask runs. What others find us by is put back; clients and workers \
                 that are there go on, and what else was in it is lost: history, tokens, logs. Start anew when you can: \
                 rask down, then rask up"
            ),
            Err(error) => tracing::error!(%error, "the state folder was removed while rask runs"),
        }
        if let Err(error) = self.token.put_back() {
            tracing::error!(%error, "the token of this user's commands was removed, and cannot be put back");
        }
    }

    /// Nothing new comes in, then all clusters end.
    pub(crate) async fn stop(self) {
        for door in &self.doors {
            door.abort();
        }
        self.fleet.stop_all("rask up was stopped").await;
    }
}

/// What others are told of this appliance.
fn running(config: &UpConfig, ports: &Ports, has_cluster: bool, python: Option<&Interpreter>) -> Running {
    Running {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        http: format!("http://{}", ports.http_at),
        scheduler: has_cluster.then(|| format!("tcp://{}", ports.dask_at)),
        python: python.map(|python| python.path.clone()),
        workers: describe(config.pool, config.engine, python),
        log: Some(LogPlace::of_stderr()),
    }
}

fn describe(pool: PoolSize, engine: Engine, python: Option<&Interpreter>) -> String {
    let (workers, threads) = (pool.nworkers, pool.nthreads);
    let memory = match pool.memory_bytes {
        0 => "no memory limit".to_owned(),
        bytes => format!("{} each", show_size(bytes)),
    };
    let python = python
        .map_or_else(String::new, |python| format!(" (Python {}, distributed {})", python.version, python.distributed));
    let own = if engine.decided() == Engine::Rask { ", rask's own" } else { "" };
    format!("{workers} x {}, {memory}{own}{python}", counted(threads.into(), "thread"))
}

async fn open_lan(
    config: &UpConfig,
    loaded: &Loaded,
    authority: &Arc<Authority>,
    store: StoreHandle,
    port: u16,
) -> Result<Lan, CommandError> {
    let certificate_secs = loaded.config.peers.certificate_life.0 as u64;
    Lan::open(&config.state, Arc::clone(authority), store, (config.outside, port), certificate_secs).await
}
