//! What a connection is, by its first bytes.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Most that is looked at: longer than any sane request head.
const HEAD_MAX: usize = 16 << 10;
/// Pause between looks while a head is incomplete. Peeking leaves the bytes, so readiness cannot be waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Dask's frames, or a WebSocket upgrade of a Dask comm.
    Dask,
    /// A TLS handshake.
    Tls,
    /// An HTTP request that is not Dask's.
    Http,
    /// Closed without a byte.
    Nothing,
    /// None of these.
    Unknown,
}

/// Peeks until it is clear what the connection is. Has no deadline of its own.
pub async fn look(stream: &TcpStream) -> io::Result<Kind> {
    let mut head = vec![0u8; HEAD_MAX];
    let mut before = 0;
    loop {
        let count = stream.peek(&mut head).await?;
        let seen = head.get(..count).unwrap_or_default();
        if let Some(kind) = judge(seen) {
            return Ok(kind);
        }
        if count == HEAD_MAX {
            return Ok(Kind::Unknown);
        }
        if count == before {
            tokio::time::sleep(PAUSE).await;
        }
        before = count;
    }
}

/// What `seen` tells; `None`: more bytes are needed.
fn judge(seen: &[u8]) -> Option<Kind> {
    match seen {
        [] => Some(Kind::Nothing),
        [0x16, ..] => Some(Kind::Tls),
        [first, ..]
            if first.is_ascii_uppercase() && seen.iter().take(8).all(|b| b.is_ascii_graphic() || *b == b' ') =>
        {
            judge_http(seen)
        }
        // A Dask prelude is two little-endian u64, both far below 2^40 in a handshake: zeros in the upper bytes.
        [_, _, _, _, _, 0, 0, 0, ..] => Some(Kind::Dask),
        [_, rest @ ..] if rest.len() < 7 => None,
        [..] => Some(Kind::Unknown),
    }
}

/// An upgrade to a WebSocket at `/` is Dask's (`distributed/comm/ws.py`); our own pages use other paths.
fn judge_http(seen: &[u8]) -> Option<Kind> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n");
    let text = String::from_utf8_lossy(seen.get(..end.unwrap_or(seen.len())).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let at_root = lines.next().is_some_and(|request| request.starts_with("GET / "));
    // The request line alone decides for every other path.
    if !at_root && (text.contains("\r\n") || end.is_some()) {
        return Some(Kind::Http);
    }
    end?;
    let upgrade = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("upgrade") && value.trim().eq_ignore_ascii_case("websocket")
    });
    Some(if upgrade { Kind::Dask } else { Kind::Http })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_connection_is() {
        let handshake = [0x3a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(judge(&handshake), Some(Kind::Dask));
        // 71 bytes in all: the prelude starts with the letter G.
        assert_eq!(judge(&[b'G', 0, 0, 0, 0, 0, 0, 0]), Some(Kind::Dask));
        assert_eq!(judge(&[0x16, 3, 1]), Some(Kind::Tls));
        assert_eq!(judge(b"GET /health HTTP/1.1\r\nHost: x"), Some(Kind::Http));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Kind::Http));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nupgrade: WebSocket\r\n\r\n"), Some(Kind::Dask));
        assert_eq!(judge(b"GET /live HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), Some(Kind::Http));
        assert_eq!(judge(b""), Some(Kind::Nothing));
        assert_eq!(judge(&[0xff; 8]), Some(Kind::Unknown));
    }

    #[test]
    fn half_a_head_is_no_reason_to_decide() {
        assert_eq!(judge(&[0x3a, 0, 0]), None);
        assert_eq!(judge(b"GE"), None);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
    }
}
