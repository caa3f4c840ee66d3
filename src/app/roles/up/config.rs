//! From flags and configuration to what one appliance does.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::app::command_error::CommandError;
use crate::app::local::settings::{self, Loaded};
use crate::app::local::state_dir::state_dir;
use crate::base::Limits;
use crate::config::{Auto, BackendSection, Engine};
use crate::fleet::JobWish;
use crate::gateway::HERE;
use crate::host::{AskedSize, Machine, PoolSize, size_pool};

/// Flags of `rask up`, as given; what was not given comes from the configuration.
#[derive(Clone, Debug, Default)]
pub struct UpArgs {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub scheduler_port: Option<u16>,
    pub state_dir: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub python: Option<String>,
    pub nworkers: Option<Auto<i64>>,
    pub nthreads: Option<Auto<u32>>,
    /// `--memory-limit`. Unit: bytes.
    pub memory_limit: Option<Auto<u64>>,
    pub engine: Option<Engine>,
    pub no_local_cluster: bool,
    pub lan: bool,
    pub span_peers: bool,
    /// The cluster `local` has its workers on machines that join, and none here.
    pub only_peers: bool,
    pub batch: Option<BatchArgs>,
    pub open: bool,
    pub background: bool,
    /// `--detached`: this is the one in the background.
    pub detached: bool,
    /// `--keep-clusters`: a signal ends the appliance alone.
    pub keep_clusters: bool,
}

/// `--batch` and what goes with it.
#[derive(Clone, Debug)]
pub struct BatchArgs {
    /// Of one of `[[backends]]`.
    pub name: String,
    pub partition: Option<String>,
    pub account: Option<String>,
    pub walltime_secs: Option<f64>,
}

/// What one `rask up` does, decided before anything starts: flags, then the configuration, then defaults.
pub(crate) struct UpConfig {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) scheduler_port: u16,
    pub(crate) state: PathBuf,
    pub(crate) python: Option<String>,
    /// The configuration file that was read.
    pub(crate) file: Option<PathBuf>,
    pub(crate) local_cluster: bool,
    pub(crate) lan: bool,
    /// The cluster `local` spans machines too.
    pub(crate) span_peers: bool,
    /// The cluster `local` has no workers here.
    pub(crate) only_peers: bool,
    /// Batch systems.
    pub(crate) backends: Vec<BackendSection>,
    /// The cluster `local` has its workers as jobs.
    pub(crate) jobs: Option<JobWish>,
    /// How many workers somebody asked for.
    pub(crate) asked_workers: Option<i64>,
    /// The address for other machines to reach; `None`: every address.
    pub(crate) outside: Option<IpAddr>,
    pub(crate) pool: PoolSize,
    /// Whose workers clusters have, if they do not say.
    pub(crate) engine: Engine,
    pub(crate) allow_users: Vec<u32>,
    /// Logs go there instead of into the clusters' folders.
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) keep: u32,
    pub(crate) limits: Limits,
}

impl UpConfig {
    pub(crate) fn new(args: &UpArgs, loaded: &Loaded) -> Result<Self, CommandError> {
        let config = &loaded.config;
        let host = args.host.as_ref().unwrap_or(&config.up.host);
        let host: IpAddr = match host.as_str() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            text => text.parse().map_err(|_| CommandError::usage(format!("--host {text} is not an IP address")))?,
        };
        let lan = args.lan || config.up.lan;
        let outside = (!host.is_loopback() && !host.is_unspecified()).then_some(host);
        let host = if lan && !host.is_loopback() { IpAddr::from([127, 0, 0, 1]) } else { host };
        if !host.is_loopback() {
            return Err(CommandError::usage(format!("--host {host} is open to the network, and this port has no TLS"))
                .remedy("add --lan: then other machines are let in, with TLS"));
        }
        let asked = AskedSize {
            nworkers: args.nworkers.unwrap_or(config.workers.nworkers).set(),
            nthreads: args.nthreads.unwrap_or(config.workers.nthreads).set(),
            memory_bytes: match args.memory_limit {
                Some(limit) => limit.set(),
                None => config.workers.memory_limit.set().map(|size| size.0),
            },
        };
        let (backends, jobs) = batch(args.batch.as_ref(), &config.backends)?;
        // This machine is not divided by workers that are on others.
        let sized = AskedSize { nworkers: if jobs.is_some() { None } else { asked.nworkers }, ..asked };
        if !backends.is_empty() && !lan {
            return Err(CommandError::usage(
                "[[backends]]: nodes of a batch system are other machines, and none may join",
            )
            .remedy("add --lan, or up.lan = true in rask.toml"));
        }
        let state = state_dir(args.state_dir.as_deref())?;
        let log_dir = (!config.log.dir.is_empty()).then(|| PathBuf::from(&config.log.dir));
        Ok(Self {
            host,
            port: args.port.unwrap_or(config.up.port),
            scheduler_port: args.scheduler_port.unwrap_or(config.up.scheduler_port),
            file: loaded.file.clone(),
            python: args.python.clone().or_else(|| Some(config.up.python.clone())),
            local_cluster: config.up.local_cluster && !args.no_local_cluster,
            lan,
            span_peers: args.span_peers || config.peers.span,
            only_peers: args.only_peers,
            backends,
            jobs,
            asked_workers: asked.nworkers,
            outside,
            pool: size_pool(Machine::look(), sized).map_err(|why| CommandError::blame(why.blame(), why))?,
            engine: args.engine.unwrap_or(config.workers.engine),
            allow_users: config.security.allow_users.clone(),
            limits: settings::limits(config),
            keep: config.log.keep,
            state,
            log_dir,
        })
    }
}

/// The declared batch systems, and what `--batch` chose. `slurm` need not be declared.
fn batch(
    args: Option<&BatchArgs>,
    declared: &[BackendSection],
) -> Result<(Vec<BackendSection>, Option<JobWish>), CommandError> {
    let mut all = declared.to_vec();
    let usual = BackendSection::default();
    if args.is_some_and(|args| args.name == usual.name) && !all.iter().any(|site| site.name == usual.name) {
        all.push(usual);
    }
    let mut names: Vec<&str> = all.iter().map(|site| site.name.as_str()).collect();
    names.sort_unstable();
    let is_twice = names.windows(2).any(|two| two.first() == two.last());
    if is_twice || names.iter().any(|name| name.is_empty() || *name == HERE) {
        return Err(CommandError::usage(format!("[[backends]]: each needs a name of its own, other than {HERE}")));
    }
    let Some(args) = args else { return Ok((all, None)) };
    let known = names.join(", ");
    let site = all.iter().find(|site| site.name == args.name).ok_or_else(|| {
        CommandError::usage(format!("--batch {}: there is no such batch system", args.name))
            .remedy(format!("it may be slurm, or one of [[backends]] in rask.toml: {known}"))
    })?;
    let wish = JobWish {
        backend: site.name.clone(),
        partition: args.partition.clone().unwrap_or_else(|| site.partition.clone()),
        account: args.account.clone().unwrap_or_else(|| site.account.clone()),
        qos: site.qos.clone(),
        walltime_secs: args.walltime_secs.unwrap_or(site.walltime.0) as u64,
    };
    Ok((all, Some(wish)))
}
