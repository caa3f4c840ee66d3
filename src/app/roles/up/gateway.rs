//! From the configuration to the gateway: who may use it, what may be chosen, under which names it answers.

use std::path::Path;

use serde_json::{Value, json};

use super::lan;
use crate::app::command_error::CommandError;
use crate::app::local::cli_token::CliToken;
use crate::app::local::state_dir::Running;
use crate::base::Blame;
use crate::clock::unix_ms;
use crate::config::{BackendSection, Config, Engine};
use crate::fleet::{ClusterSettings, FleetHandle};
use crate::gateway::{Auth, ClusterLimits, Defaults, Gateway, Hosts, Options, Setup};
use crate::host::{Machine, PoolSize};
use crate::peer::hostname;
use crate::store::StoreHandle;

const GIB: f64 = (1u64 << 30) as f64;

/// What the front is made of.
pub(crate) struct GatewayParts<'a> {
    pub config: &'a Config,
    pub state: &'a Path,
    pub fleet: FleetHandle,
    pub store: StoreHandle,
    pub running: &'a Running,
    /// The workers of the local cluster: others are like them, unless options say otherwise.
    pub pool: PoolSize,
    /// Whose workers, unless a cluster chooses.
    pub engine: Engine,
    /// Batch systems.
    pub backends: &'a [BackendSection],
    /// Other machines reach us too.
    pub lan: bool,
}

/// Builds the gateway, and leaves a token for commands of this user in the state folder.
pub(crate) async fn gateway(parts: GatewayParts<'_>) -> Result<(Gateway, CliToken), CommandError> {
    let config = &parts.config.gateway;
    let machine = Machine::look();
    let usual = usual(parts.config, parts.pool, parts.engine);
    let options = Options::declared(&config.options, defaults(&usual)).map_err(CommandError::usage)?;
    let backends: Vec<String> = parts.backends.iter().map(|site| site.name.clone()).collect();
    let options = options.with_backends(!config.options.is_empty(), &backends);
    let auth = Auth::new(config.auth.clone(), &crate::app::local::account::user_name(), parts.store.clone()).await;
    let auth = auth.map_err(|why| CommandError::blame(Blame::Caller, why))?;
    let token = CliToken::leave(parts.state)?;
    auth.set_own(&token.secret).await;
    let gateway = Gateway::new(Setup {
        limits: ClusterLimits::new(&config.cluster, &config.user, machine.cores),
        hosts: Hosts::new(&names(&parts), &parts.config.security.allowed_hosts),
        request_bytes: parts.config.limits.request.0,
        more_paths: if parts.lan { crate::http::peers_document() } else { Default::default() },
        info: info(parts.running),
        shown_settings: shown(parts.config),
        backends: parts.backends.to_vec(),
        own_user: crate::app::local::account::user_name(),
        state: parts.state.to_path_buf(),
        fleet: parts.fleet,
        store: parts.store,
        auth,
        options,
        usual,
    });
    Ok((gateway, token))
}

/// Names in a browser's address bar that mean us.
fn names(parts: &GatewayParts<'_>) -> Vec<String> {
    let mut names = match parts.lan {
        true => lan::names(),
        false => vec![hostname()],
    };
    // As other machines on the LAN find us without a name server.
    names.extend(names.first().map(|name| format!("{name}.local")));
    names.push(parts.config.up.host.clone());
    names
}

/// Settings of a cluster where no option says otherwise.
fn usual(config: &Config, pool: PoolSize, engine: Engine) -> ClusterSettings {
    let cluster = &config.gateway.cluster;
    ClusterSettings {
        nthreads: pool.nthreads,
        worker_cores: f64::from(pool.nthreads),
        worker_memory_bytes: pool.memory_bytes,
        python: None,
        nanny: true,
        engine,
        idle_timeout_secs: cluster.idle_timeout.0,
        max_lifetime_secs: cluster.max_lifetime.0,
        start_timeout_secs: cluster.start_timeout.0,
        ..ClusterSettings::default()
    }
}

fn defaults(usual: &ClusterSettings) -> Defaults {
    // A tenth of a GiB is precise enough to read.
    let gib = (usual.worker_memory_bytes as f64 / GIB * 10.0).floor() / 10.0;
    Defaults {
        worker_cores: usual.nthreads.max(1),
        worker_memory_gib: gib.max(0.1),
        idle_timeout_secs: usual.idle_timeout_secs.unwrap_or(0.0),
        max_lifetime_secs: usual.max_lifetime_secs.unwrap_or(0.0),
    }
}

fn info(running: &Running) -> Value {
    json!({
        "version": running.version,
        "pid": running.pid,
        "started_ms": unix_ms(),
        "addresses": { "http": running.http, "scheduler": running.scheduler },
        "workers": running.workers,
        "python": running.python,
    })
}

/// The configuration without its secrets.
fn shown(config: &Config) -> Value {
    let mut all = serde_json::to_value(config).unwrap_or_default();
    if let Some(password) = all.pointer_mut("/gateway/auth/password")
        && password.as_str() != Some("")
    {
        *password = Value::from("********");
    }
    all
}
