//! Tells protocols apart by their first bytes, without taking them from the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header};

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// A TLS client hello.
    Tls,
    /// A request to turn `/` into a WebSocket: Dask over WebSocket.
    WebSocket,
    /// Another HTTP request.
    Http,
    /// Anything else: Dask's own framing, or nonsense.
    Dask,
}

const METHODS: [&[u8]; 7] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];
/// Headers that are longer belong to browsers, not to Dask.
const HEADERS_MAX: usize = 8 << 10;
/// Between two looks at a peer that has sent too little. Rare, so it may be coarse.
const RECHECK: Duration = Duration::from_millis(5);

/// Waits for enough first bytes. None: the peer left without a word.
pub(super) async fn look(stream: &TcpStream) -> io::Result<Option<Sniffed>> {
    let mut buffer = vec![0u8; 64];
    let mut seen_before = 0;
    loop {
        let seen = stream.peek(&mut buffer).await?;
        let bytes = buffer.get(..seen).unwrap_or_default();
        if seen == 0 {
            return Ok(None);
        }
        let full = seen == buffer.len();
        match judge(bytes) {
            Some(Sniffed::Http) if full && buffer.len() < HEADERS_MAX => {
                buffer.resize(HEADERS_MAX, 0);
                continue;
            }
            // The header that makes it a WebSocket may still come.
            Some(Sniffed::Http) if !full && !has_end(bytes) => {}
            Some(known) => return Ok(Some(known)),
            None => {}
        }
        // Peeking again returns at once, so wait a little; no progress and a closed peer look alike.
        if seen == seen_before {
            tokio::time::sleep(RECHECK).await;
        }
        seen_before = seen;
    }
}

/// What the bytes are, or none if there are too few to say.
fn judge(bytes: &[u8]) -> Option<Sniffed> {
    if bytes.starts_with(&[0x16, 0x03]) {
        return Some(Sniffed::Tls);
    }
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(if is_websocket(bytes) { Sniffed::WebSocket } else { Sniffed::Http });
    }
    let undecided = bytes == [0x16] || METHODS.iter().any(|method| method.starts_with(bytes));
    (!undecided).then_some(Sniffed::Dask)
}

fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

fn is_websocket(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    let has = |needle: &[u8]| lower.windows(needle.len()).any(|window| window == needle);
    lower.starts_with(b"get / http/1.1\r\n") && has(b"\r\nupgrade: websocket\r\n")
}

/// Turns browsers away: any page that a user visits may open a WebSocket to this machine, and a Dask connection runs
/// code. Browsers always send `Origin`, Dask never does.
pub(super) struct NoBrowser;

impl Callback for NoBrowser {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        if request.headers().contains_key(header::ORIGIN) {
            let mut refusal = ErrorResponse::new(Some("not for browsers".into()));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            return Err(refusal);
        }
        Ok(response)
    }
}

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
pub(super) async fn look_inside<S>(mut stream: S) -> io::Result<(bool, Prefixed<S>)>
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
            this.taken += len;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each protocol is told by its first bytes, and too few of them are not guessed about.
    #[test]
    fn protocols_are_told_apart() {
        assert_eq!(judge(&[0x16, 3, 1]), Some(Sniffed::Tls));
        assert_eq!(judge(&[0x16]), None);
        assert_eq!(judge(b"GE"), None);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n"), Some(Sniffed::WebSocket));
        assert_eq!(judge(b"GET /eventstream HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), Some(Sniffed::Http));
        assert_eq!(judge(b"POST /x HTTP/1.1\r\n"), Some(Sniffed::Http));
        assert_eq!(judge(&[0x3a, 0, 0, 0]), Some(Sniffed::Dask));
    }
}
