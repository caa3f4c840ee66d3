//! The ports that an appliance listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::config::UpConfig;
use crate::app::command_error::CommandError;
use crate::app::local::state_dir::Running;

/// Connections that wait for `accept`, as many as a scheduler's: a burst of others' must not cost ours. Source:
/// `distributed.comm.socket-backlog`.
const BACKLOG: i32 = 2048;

/// All listening sockets of an appliance.
pub(super) struct Ports {
    pub(super) listeners: Vec<TcpListener>,
    /// Where programs of this machine find the pages and the APIs.
    pub(super) http_at: SocketAddr,
    /// Where programs of this machine find the scheduler of the cluster `local`.
    pub(super) dask_at: SocketAddr,
}

impl Ports {
    /// Takes the ports of the configuration, or those of a killed appliance before this one where any port will do.
    ///
    /// Errors: a port is in use or not allowed.
    pub(super) async fn open(config: &UpConfig) -> Result<Self, CommandError> {
        let before = Running::left_behind(&config.state);
        let everywhere = config.lan && config.outside.is_none();
        let on = if everywhere { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { config.host };
        let port = (config.port, before.as_ref().map(|up| &*up.http));
        let http = bind(on, port, "--port", "up.port").await?;
        let http_at = local(&http)?;
        let mut listeners = vec![http];
        // Loopback has a listener of its own, unless all addresses have one.
        if let Some(address) = config.outside.filter(|_| config.lan) {
            listeners.push(bind(address, (http_at.port(), None), "--port", "up.port").await?);
        }
        let port = (config.scheduler_port, before.as_ref().and_then(|up| up.scheduler.as_deref()));
        let dask = bind(config.host, port, "--scheduler-port", "up.scheduler_port").await?;
        let dask_at = local(&dask)?;
        listeners.push(dask);
        for listener in &listeners {
            let longer = rustix::net::listen(listener, BACKLOG);
            longer.map_err(|why| CommandError::world(format!("cannot listen: {}", io::Error::from(why))))?;
        }
        Ok(Self { listeners, http_at, dask_at })
    }
}

/// `before`: where the appliance before this one listened, if it was killed. A free port should be the same again: the
/// clients of its clusters look for it there.
async fn bind(
    host: IpAddr,
    (port, before): (u16, Option<&str>),
    flag: &str,
    key: &str,
) -> Result<TcpListener, CommandError> {
    let before = before.and_then(|url| url.rsplit_once(':')?.1.parse::<u16>().ok());
    if let (0, Some(before)) = (port, before)
        && let Ok(listener) = TcpListener::bind((host, before)).await
    {
        return Ok(listener);
    }
    TcpListener::bind((host, port)).await.map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => CommandError::world(format!("port {port} on {host} is in use by another program"))
            .remedy(format!(
                "stop that program, or choose another port with {flag} (0: any free one) or {key} in rask.toml"
            )),
        io::ErrorKind::PermissionDenied => CommandError::world(format!("port {port} may not be opened by this user"))
            .remedy(format!("choose one above 1023 with {flag}")),
        _ => CommandError::world(format!("cannot listen on {host}:{port}: {why}")).remedy("check --host"),
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, CommandError> {
    let at = listener.local_addr();
    let mut at = at.map_err(|why| CommandError::world(format!("a listening socket has no address: {why}")))?;
    // One that listens everywhere is reached on loopback too.
    if at.ip().is_unspecified() {
        at.set_ip(IpAddr::from([127, 0, 0, 1]));
    }
    Ok(at)
}
