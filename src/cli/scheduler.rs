//! Flags of `rask scheduler`. Source: `distributed/cli/dask_scheduler.py`.

use std::path::PathBuf;

use clap::Args;

use super::common::{Common, unsupported};
use crate::app::{CommandError, SchedulerArgs};

/// Flags of `rask scheduler`.
#[derive(Debug, Clone, Args)]
#[command(
    args_override_self = true,
    after_help = "Example:\n  rask scheduler --host 127.0.0.1 --port 0 --scheduler-file scheduler.json"
)]
pub(super) struct SchedulerFlags {
    /// URI, IP or hostname to listen on [default: every interface]
    #[arg(long)]
    host: Option<String>,
    /// Port; 0 for any free one; a list with a list of protocols [default: 8786]
    #[arg(long)]
    port: Option<String>,
    /// Network interface like eth0
    #[arg(long)]
    interface: Option<String>,
    /// tcp, tls, ws or wss; or a list [default: tcp]
    #[arg(long)]
    protocol: Option<String>,
    /// Authorities' certificates for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_ca_file: Option<PathBuf>,
    /// Certificate for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_cert: Option<PathBuf>,
    /// Private key for TLS (PEM file, or its text)
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    tls_key: Option<PathBuf>,
    /// Where the pages are served; another port if this one is taken. Without a host: every interface, or loopback if the
    /// scheduler listens there only
    #[arg(long, default_value = ":8787")]
    dashboard_address: String,
    /// Serve the pages [default]
    #[arg(long, overrides_with = "no_dashboard")]
    dashboard: bool,
    /// Do not serve the pages
    #[arg(long, overrides_with = "dashboard")]
    no_dashboard: bool,
    /// Ignored, as in Dask, where it is deprecated
    #[arg(long, hide = true, overrides_with = "no_show")]
    show: bool,
    /// Ignored, as in Dask, where it is deprecated
    #[arg(long, hide = true, overrides_with = "show")]
    no_show: bool,
    /// Not supported
    #[arg(long, hide = true)]
    jupyter: bool,
    /// The default
    #[arg(long, hide = true)]
    no_jupyter: bool,
    /// Not supported: use relative links behind a proxy
    #[arg(long, hide = true)]
    dashboard_prefix: Option<String>,
    /// Ignored, as in Dask, where it is deprecated
    #[arg(long, hide = true)]
    use_xheaders: Option<String>,
    /// File for the process id
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// File for connection information, as `dask worker --scheduler-file` reads it
    #[arg(long, value_name = "PATH")]
    scheduler_file: Option<PathBuf>,
    /// Python module to load beside the scheduler; may be repeated
    #[arg(long, value_name = "MODULE")]
    preload: Vec<String>,
    /// End after this long without work, like "5 minutes"
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<String>,
    /// Announce this address instead of the one listened on
    #[arg(long, value_name = "ADDRESS")]
    contact_address: Option<String>,
    /// Python for what only Python can read [default: the active one, else python3]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Answer only this user, root and users in security.allow_users, and without TLS only on loopback [default if it
    /// listens on loopback only]
    #[arg(long, overrides_with = "any_user")]
    same_user: bool,
    /// Answer every user of this machine, also on loopback: each of them may run code as you [default if other machines
    /// reach it]
    #[arg(long, overrides_with = "same_user")]
    any_user: bool,
    /// Listen here for the appliance
    #[arg(long, hide = true)]
    control_socket: Option<PathBuf>,
    /// The interpreter is known to be fit
    #[arg(long, hide = true, requires = "python")]
    python_checked: bool,
    /// The appliance serves the pages, on this port
    #[arg(long, hide = true)]
    served_dashboard_port: Option<u16>,
    /// Serve the pages on this Unix socket, for the appliance
    #[arg(long, hide = true)]
    http_socket: Option<PathBuf>,
    /// Serve the page's files from this folder, to develop it
    #[arg(long, hide = true, value_name = "DIR")]
    web_dir: Option<PathBuf>,
    /// Arguments of preloaded modules, for those that take any
    #[arg(value_name = "PRELOAD_ARGV")]
    preload_argv: Vec<String>,
}

impl SchedulerFlags {
    pub(super) fn args(self, common: &Common) -> Result<SchedulerArgs, CommandError> {
        if self.jupyter {
            return Err(unsupported("--jupyter", "start Jupyter on its own"));
        }
        if self.dashboard_prefix.is_some_and(|prefix| !prefix.is_empty()) {
            return Err(unsupported("--dashboard-prefix", "the pages use relative links and work under any prefix"));
        }
        Ok(SchedulerArgs {
            host: self.host,
            port: self.port,
            interface: self.interface,
            protocol: self.protocol,
            tls_ca_file: self.tls_ca_file,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            dashboard_address: (!self.no_dashboard).then_some(self.dashboard_address),
            idle_timeout: self.idle_timeout,
            scheduler_file: self.scheduler_file,
            pid_file: self.pid_file,
            preload: self.preload,
            preload_argv: self.preload_argv,
            contact_address: self.contact_address,
            python: self.python,
            state_dir: common.state_dir.clone(),
            control_socket: self.control_socket,
            python_checked: self.python_checked,
            served_dashboard_port: self.served_dashboard_port,
            same_user: match (self.same_user, self.any_user) {
                (false, false) => None,
                (same_user, _) => Some(same_user),
            },
            http_socket: self.http_socket,
            web_dir: self.web_dir,
        })
    }
}
