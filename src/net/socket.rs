//! Options of TCP sockets, as Dask sets them.
//!
//! Source: `distributed/comm/tcp.py`, `set_tcp_timeout`.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long a silent peer may be unreachable before the connection breaks: `distributed.comm.timeouts.tcp`.
/// Unit: seconds.
const TIMEOUT_SECS: u64 = 30;
/// Probes before giving up.
const PROBES: u64 = 10;

/// Sets what every connection has. A system that lacks an option does without it.
pub(super) fn prepare(stream: &TcpStream) {
    let interval = 1.max((TIMEOUT_SECS - 2.max(TIMEOUT_SECS / 4)) / PROBES);
    let idle = 2.max(TIMEOUT_SECS - interval * PROBES);
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(idle));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(interval));
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES as u32);
    let _ = sockopt::set_tcp_user_timeout(stream, (TIMEOUT_SECS * 1000) as u32);
}
