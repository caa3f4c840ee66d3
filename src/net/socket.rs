//! Options of TCP sockets, as Dask sets them.
//!
//! Source: `distributed/comm/tcp.py`, `set_tcp_timeout`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long a silent peer may be unreachable before the connection breaks: `distributed.comm.timeouts.tcp`.
/// Unit: seconds.
const TIMEOUT_SECS: u64 = 30;
/// Probes before giving up.
const PROBES: u32 = 10;
/// Between two probes. Unit: seconds.
const PROBE_SECS: u64 = (TIMEOUT_SECS - TIMEOUT_SECS / 4) / PROBES as u64;
/// Silence before the first probe. Unit: seconds.
const IDLE_SECS: u64 = TIMEOUT_SECS - PROBE_SECS * PROBES as u64;

/// A byte stream in both directions.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Sets what every connection has. A system that lacks an option does without it.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(IDLE_SECS));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(PROBE_SECS));
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
    let _ = sockopt::set_tcp_user_timeout(stream, (TIMEOUT_SECS * 1000) as u32);
}

/// A TCP stream that acknowledges what it reads at once.
///
/// Tornado's WebSocket client writes a message in several small pieces and leaves Nagle's algorithm on, so it holds
/// the second piece back until the first is acknowledged, which Linux would delay by 40 ms.
#[derive(Debug)]
pub(super) struct Prompt(pub TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        // The kernel forgets this with every answer that we send.
        let _ = sockopt::set_tcp_quickack(&self.0, true);
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
