//! A stream whose first bytes were read already, to see what is spoken inside of TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A stream with some bytes already taken from it, which are read first.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    prefix: [u8; 4],
    /// How many of them were read.
    taken: usize,
    stream: S,
}

/// Reads the first bytes inside an encrypted stream: is it HTTP? A Dask message begins with a length, and no handshake
/// is as long as `GET ` would say.
pub(super) async fn starts_with_get<S>(mut stream: S) -> io::Result<(bool, Prefixed<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut prefix = [0u8; 4];
    stream.read_exact(&mut prefix).await?;
    Ok((prefix == *b"GET ", Prefixed { prefix, taken: 0, stream }))
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.prefix.get(this.taken..).unwrap_or_default();
        if !rest.is_empty() {
            let len = rest.len().min(buf.remaining());
            buf.put_slice(rest.get(..len).unwrap_or_default());
            this.taken = this.taken.saturating_add(len);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
