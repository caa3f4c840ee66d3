//! What the doctor looks at, gathered without changing anything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::command_error::CommandError;
use crate::app::commands::configure;
use crate::app::local::left_clusters::{LeftCluster, left_clusters};
use crate::app::local::python_env::path::{on_path, variable};
use crate::app::local::python_env::{choose as pyenv, make as pymake};
use crate::app::local::settings::{self, Loaded};
use crate::app::local::state_dir::Running;
use crate::clock::Clock;
use crate::config::Config;
use crate::host::{
    ControlGroup, Disk, GrantedLimits, Interpreter, Machine, MemoryState, PortHolder, ProbeError, candidates, existing,
    holder_of, multicast_interfaces, packages, probe,
};
use crate::pki;
use crate::store::{self, StoreError};

/// An appliance on this machine answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// Variables that send requests through a proxy.
const PROXIES: &[&str] = &["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What the doctor looks at.
#[derive(Clone, Debug, Default)]
pub struct DoctorArgs {
    pub state_dir: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub python: Option<String>,
}

/// Everything that checks take.
pub(super) struct DoctorFacts {
    pub(super) version: &'static str,
    /// The configuration file, or why it is not one.
    pub(super) config: Result<Option<PathBuf>, CommandError>,
    pub(super) appliance: ApplianceFacts,
    pub(super) dask: Dask,
    pub(super) python: Python,
    pub(super) network: Network,
    pub(super) machine: TheMachine,
    pub(super) files: Files,
    pub(super) certificates: Vec<Certificate>,
}

/// A certificate of ours.
#[derive(Clone)]
pub(super) struct Certificate {
    /// For people.
    pub(super) what: String,
    pub(super) path: PathBuf,
    pub(super) is_authority: bool,
    /// The authority should have signed it.
    pub(super) by_authority: bool,
    /// Its key is where it should be: beside it, and the server's in the appliance's memory alone.
    pub(super) has_key: bool,
    pub(super) facts: Result<pki::CertificateFacts, String>,
}

/// The appliance of the state folder.
#[derive(Default)]
pub(super) struct ApplianceFacts {
    pub(super) running: Option<Running>,
    /// What `/health` said. None: nobody was asked.
    pub(super) health: Option<Result<(), String>>,
    /// Clusters whose control socket somebody listens on.
    pub(super) clusters_alive: Vec<String>,
    /// Clusters whose control socket is left over.
    pub(super) clusters_dead: Vec<String>,
    /// `up.json` is there though nobody runs.
    pub(super) stale_file: bool,
    pub(super) peers: Vec<PeerFacts>,
}

/// A machine that joined, as the appliance sees it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PeerFacts {
    pub(super) name: String,
    pub(super) state: String,
    /// Its clock minus ours. Unit: milliseconds.
    pub(super) clock_skew_ms: i64,
}

/// Where Dask's clients would go by themselves.
#[derive(Default)]
pub(super) struct Dask {
    /// `$DASK_SCHEDULER_ADDRESS`
    pub(super) variable: Option<String>,
    /// The file of `rask configure`, and the address in it.
    pub(super) file: Option<(PathBuf, String)>,
}

/// Interpreters and what they hold.
#[derive(Default)]
pub(super) struct Python {
    /// Workers would run in this one; or why not.
    pub(super) chosen: Option<Result<Interpreter, CommandError>>,
    /// It was asked for by flag or configuration.
    pub(super) asked: Option<String>,
    /// Without one: something here can make one.
    pub(super) maker: Option<String>,
    /// Interpreter and versions of the running appliance's workers.
    pub(super) workers: Option<(PathBuf, BTreeMap<String, String>)>,
    /// The same of the Python that a person gets by typing `python`.
    pub(super) active: Option<(PathBuf, BTreeMap<String, String>)>,
}

/// A port that `rask up` opens.
pub(super) struct Port {
    pub(super) host: String,
    pub(super) number: u16,
    /// Its key in `rask.toml`.
    pub(super) key: &'static str,
    pub(super) flag: &'static str,
    pub(super) state: PortState,
}

pub(super) enum PortState {
    Free,
    /// The running appliance has it.
    Ours,
    Taken(Option<PortHolder>),
    Refused(String),
}

#[derive(Default)]
pub(super) struct Network {
    pub(super) ports: Vec<Port>,
    /// Name and value.
    pub(super) proxies: Vec<(String, String)>,
    pub(super) no_proxy: String,
    pub(super) multicast: Vec<String>,
    /// The host that clients on this machine ask.
    pub(super) host: String,
}

pub(super) struct TheMachine {
    pub(super) machine: Machine,
    pub(super) memory: MemoryState,
    pub(super) granted: GrantedLimits,
    pub(super) group: ControlGroup,
    pub(super) uid: u32,
    /// Unit: seconds since the epoch, as `newest`.
    pub(super) now: f64,
    /// The newest change in the state folder.
    pub(super) newest: Option<f64>,
}

/// A folder that is or will be written to.
pub(super) struct FolderFacts {
    pub(super) path: PathBuf,
    /// Kind of thing at the path. None: nothing yet.
    pub(super) is_folder: Option<bool>,
    /// Errors: why nothing can be written there.
    pub(super) writable: Result<(), String>,
    pub(super) owner: Option<u32>,
    pub(super) mode: Option<u32>,
    pub(super) disk: io::Result<Disk>,
}

pub(super) struct Files {
    pub(super) uid: u32,
    pub(super) state: FolderFacts,
    pub(super) temp: FolderFacts,
    /// Files with keys whose mode lets others read them.
    pub(super) private_open: Vec<PathBuf>,
    /// Its schema. None: there is none yet.
    pub(super) database: Result<Option<u32>, StoreError>,
}

impl DoctorFacts {
    /// Looks at everything.
    pub(super) async fn gather(args: &DoctorArgs, state: &Path) -> Self {
        let loaded = settings::load(args.config.as_deref());
        let config = loaded.as_ref().map(|loaded| loaded.config.clone()).unwrap_or_default();
        let running = Running::find(state);
        let uid = rustix::process::getuid().as_raw();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            config: loaded.map(|loaded: Loaded| loaded.file),
            dask: dask(),
            python: python(args, &config, state, running.as_ref()).await,
            network: network(&config, running.as_ref()),
            appliance: appliance(state, running).await,
            machine: TheMachine {
                machine: Machine::look(),
                memory: MemoryState::look(),
                granted: GrantedLimits::look(),
                group: ControlGroup::look(),
                uid,
                now: Clock::start().wall(),
                newest: newest(state),
            },
            files: Files {
                uid,
                state: folder(state),
                temp: folder(&std::env::temp_dir()),
                private_open: open_secrets(state),
                database: store::look(&state.join("rask.db")),
            },
            certificates: certificates(state),
        }
    }
}

async fn appliance(state: &Path, running: Option<Running>) -> ApplianceFacts {
    let (health, peers) = match &running {
        Some(running) => {
            let health = ask(&running.http, "/health").await.map(drop);
            // An appliance without a LAN has none, and an older one does not know the question.
            let listed = ask(&running.http, "/api/rask/v1/peers").await.unwrap_or_default();
            (Some(health), serde_json::from_str(&listed).unwrap_or_default())
        }
        None => (None, Vec::new()),
    };
    let (mut clusters_alive, mut clusters_dead) = (Vec::new(), Vec::new());
    for LeftCluster { name, pid, .. } in left_clusters(state).await {
        if pid.is_some() { clusters_alive.push(name) } else { clusters_dead.push(name) }
    }
    let stale_file = running.is_none() && state.join("up.json").exists();
    ApplianceFacts { running, health, clusters_alive, clusters_dead, stale_file, peers }
}

/// What it answers over HTTP. Not blocking: the appliance asks this about itself.
async fn ask(url: &str, path: &str) -> Result<String, String> {
    let address = url.trim_start_matches("http://");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(PATIENCE, exchange).await;
    let answer = answer.map_err(|_| format!("nothing within {} s", PATIENCE.as_secs()))?;
    let answer = answer.map_err(|why| why.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    match head.lines().next() {
        Some(line) if line.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        Some(line) => Err(line.to_owned()),
        None => Err("an empty answer".to_owned()),
    }
}

fn dask() -> Dask {
    let file = configure::dask_file().ok().and_then(|path| {
        let text = fs::read_to_string(&path).ok()?;
        let address = text.lines().find_map(|line| line.strip_prefix("scheduler-address:"))?.trim().to_owned();
        Some((path, address))
    });
    Dask { variable: variable("DASK_SCHEDULER_ADDRESS"), file }
}

async fn python(args: &DoctorArgs, config: &Config, state: &Path, running: Option<&Running>) -> Python {
    let asked = args.python.clone().unwrap_or_else(|| config.up.python.clone());
    let chosen = pyenv::choose_made(Some(&asked), state).await;
    let active = candidates(variable).into_iter().next();
    let workers = match running.and_then(|running| running.python.clone()) {
        Some(path) => versions(path).await,
        None => None,
    };
    let same = |path: &PathBuf| workers.as_ref().is_some_and(|(theirs, _)| theirs == path);
    let active = match active.filter(|path| workers.is_some() && !same(path)) {
        Some(path) => versions(path).await,
        None => None,
    };
    let maker = match &chosen {
        Some(_) => None,
        None => maker().await,
    };
    Python { chosen, asked: (asked != "auto").then_some(asked), maker, workers, active }
}

async fn versions(path: PathBuf) -> Option<(PathBuf, BTreeMap<String, String>)> {
    let versions = packages(&path).await.ok()?;
    Some((path, versions))
}

/// What could make an environment.
async fn maker() -> Option<String> {
    if let Some(uv) = on_path("uv") {
        return Some(uv.display().to_string());
    }
    for path in candidates(variable) {
        // One that only lacks a fit dask can make an environment that has it.
        if let Err(ProbeError::NoDistributed { path, minor } | ProbeError::OldDistributed { path, minor, .. }) =
            probe(&path).await
            && minor >= pymake::OLDEST_MINOR
        {
            return Some(path.display().to_string());
        }
    }
    None
}

fn network(config: &Config, running: Option<&Running>) -> Network {
    let wanted = [
        (config.up.port, "up.port", "--port", running.map(|running| running.http.clone())),
        (
            config.up.scheduler_port,
            "up.scheduler_port",
            "--scheduler-port",
            running.and_then(|running| running.scheduler.clone()),
        ),
    ];
    let host = config.up.host.clone();
    let ports = wanted.into_iter().map(|(configured, key, flag, ours)| {
        let own = ours.and_then(|url| url.rsplit(':').next()?.parse::<u16>().ok());
        let state = if own.is_some() { PortState::Ours } else { port_state(&host, configured) };
        Port { host: host.clone(), number: own.unwrap_or(configured), key, flag, state }
    });
    let named = |name: &&str| Some(((*name).to_owned(), variable(name)?));
    Network {
        ports: ports.collect(),
        proxies: PROXIES.iter().filter_map(named).collect(),
        no_proxy: variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default(),
        multicast: multicast_interfaces(),
        host,
    }
}

fn port_state(host: &str, port: u16) -> PortState {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let Ok(host) = host.parse::<IpAddr>() else { return PortState::Refused(format!("{host} is not an IP address")) };
    match TcpListener::bind((host, port)) {
        Ok(_closed_again) => PortState::Free,
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => PortState::Taken(holder_of(port)),
        Err(why) => PortState::Refused(why.to_string()),
    }
}

fn folder(path: &Path) -> FolderFacts {
    let found = fs::metadata(path);
    let above = existing(path);
    let writable = match fs::metadata(above) {
        Ok(meta) if !meta.is_dir() => Err(format!("{} is not a folder", above.display())),
        Ok(_) => rustix::fs::access(above, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|why| format!("{}: {}", above.display(), io::Error::from(why))),
        Err(why) => Err(why.to_string()),
    };
    FolderFacts {
        path: path.to_path_buf(),
        is_folder: found.as_ref().ok().map(fs::Metadata::is_dir),
        owner: found.as_ref().ok().map(MetadataExt::uid),
        mode: found.ok().map(|meta| meta.mode() & 0o7777),
        disk: Disk::of(path),
        writable,
    }
}

/// Files with keys that others can read.
fn open_secrets(state: &Path) -> Vec<PathBuf> {
    let inside = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_clusters = inside(state.join("clusters")).map(|folder| folder.join("tls.key"));
    let of_authority = inside(state.join("ca")).filter(|path| path.extension().is_some_and(|end| end == "key"));
    let secret = [state.join("rask.db")].into_iter().chain(of_clusters).chain(of_authority);
    let open = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0);
    secret.filter(open).collect()
}

fn certificates(state: &Path) -> Vec<Certificate> {
    let ca = state.join("ca");
    let mut places =
        vec![("the authority".to_owned(), ca.join("ca.crt")), ("the server".to_owned(), ca.join("server.crt"))];
    for folder in fs::read_dir(state.join("clusters")).into_iter().flatten().flatten() {
        places.push((format!("cluster {}", folder.file_name().to_string_lossy()), folder.path().join("tls.crt")));
    }
    let there = places.into_iter().filter(|(_, path)| path.exists());
    there
        .map(|(what, path)| Certificate {
            what,
            is_authority: path.ends_with("ca/ca.crt"),
            by_authority: path.ends_with("ca/server.crt"),
            has_key: path.ends_with("ca/server.crt") || path.with_extension("key").exists(),
            facts: fs::read_to_string(&path)
                .map_err(|why| why.to_string())
                .and_then(|text| pki::facts(&text).map_err(|why| why.to_string())),
            path,
        })
        .collect()
}

/// The latest change of a file that rask itself writes. Unit: seconds since the epoch.
fn newest(state: &Path) -> Option<f64> {
    let times = ["up.json", "rask.db", "rask.db-wal", "clusters"].into_iter();
    times.filter_map(|name| Some(fs::metadata(state.join(name)).ok()?.mtime() as f64)).max_by(f64::total_cmp)
}
