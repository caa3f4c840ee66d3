//! Tells protocols apart by their first bytes, without taking them from the socket.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most that is looked at: longer than any sane request head, and than a TLS record may be.
const HEAD_MAX: usize = 20 << 10;
/// What is looked at first: most heads are shorter, and most connections that wait are half-open ones.
const HEAD_FIRST: usize = 1 << 10;
/// Pause between looks while a head is incomplete. Peeking leaves the bytes, so readiness cannot be waited for.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest pause: a thousand half-open connections must not keep us busy.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A TLS handshake, and the server name that it asks for.
    Tls(Option<String>),
    /// A request to turn `/` into a WebSocket: Dask over WebSocket.
    WebSocket,
    /// Another HTTP request.
    Http,
    /// Dask's own frames.
    Dask,
    /// The peer closed it without a byte.
    Nothing,
    /// None of these.
    Unknown,
}

/// Peeks until it is clear what the connection is, and takes no byte from it. Has no deadline of its own.
///
/// Where TLS is not served, its first two bytes tell enough: nobody waits for the rest of a handshake.
pub async fn detect_protocol(stream: &TcpStream, serves_tls: bool) -> io::Result<Protocol> {
    let mut head = vec![0u8; HEAD_FIRST];
    let (mut before, mut pause) = (0, PAUSE);
    loop {
        let count = stream.peek(&mut head).await?;
        let seen = head.get(..count).unwrap_or_default();
        if count == 0 {
            return Ok(Protocol::Nothing);
        }
        if !serves_tls && matches!(seen, [0x16, 0x03, ..]) {
            return Ok(Protocol::Tls(None));
        }
        if count != before
            && let Some(protocol) = judge(seen)
        {
            return Ok(protocol);
        }
        if count == HEAD_MAX {
            return Ok(Protocol::Unknown);
        }
        if count == head.len() {
            head.resize(HEAD_MAX, 0);
            continue;
        }
        if count == before {
            // Nothing more will come from a peer that closed its side.
            if stream.ready(Interest::READABLE).await?.is_read_closed() {
                return Ok(Protocol::Unknown);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        } else {
            pause = PAUSE;
        }
        before = count;
    }
}

/// What `seen` tells; `None`: more bytes are needed.
fn judge(seen: &[u8]) -> Option<Protocol> {
    match seen {
        // A Dask handshake may be 0x16 bytes long: only the second byte makes it TLS.
        [0x16, 0x03, ..] => judge_tls(seen),
        [first, ..]
            if first.is_ascii_uppercase() && seen.iter().take(8).all(|b| b.is_ascii_graphic() || *b == b' ') =>
        {
            judge_http(seen)
        }
        // A Dask message begins with two little-endian u64, both far below 2^40 in a handshake: the upper bytes are 0.
        [_, _, _, _, _, 0, 0, 0, ..] => Some(Protocol::Dask),
        [_, rest @ ..] if rest.len() >= 7 => Some(Protocol::Unknown),
        [..] => None,
    }
}

/// The server name in a client's hello, which may come in pieces.
fn judge_tls(seen: &[u8]) -> Option<Protocol> {
    let (mut acceptor, mut rest) = (Acceptor::default(), seen);
    while !rest.is_empty() {
        // Reading from memory fails only on what is no TLS.
        if acceptor.read_tls(&mut rest).is_err() {
            return Some(Protocol::Unknown);
        }
        match acceptor.accept() {
            Ok(Some(hello)) => return Some(Protocol::Tls(hello.client_hello().server_name().map(str::to_owned))),
            Ok(None) => {}
            Err(_) => return Some(Protocol::Unknown),
        }
    }
    None
}

/// An upgrade to a WebSocket at `/` is Dask's (`distributed/comm/ws.py`); our own pages use other paths.
fn judge_http(seen: &[u8]) -> Option<Protocol> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n");
    let text = String::from_utf8_lossy(seen.get(..end.unwrap_or(seen.len())).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let at_root = lines.next().is_some_and(|request| request.starts_with("GET / "));
    // The request line alone decides for every other path.
    if !at_root && (text.contains("\r\n") || end.is_some()) {
        return Some(Protocol::Http);
    }
    end?;
    let upgrade = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("upgrade") && value.trim().eq_ignore_ascii_case("websocket")
    });
    Some(if upgrade { Protocol::WebSocket } else { Protocol::Http })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_connection_is() {
        let handshake = [0x3a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(judge(&handshake), Some(Protocol::Dask));
        // 71 bytes in all: the prelude starts with the letter G.
        assert_eq!(judge(&[b'G', 0, 0, 0, 0, 0, 0, 0]), Some(Protocol::Dask));
        assert_eq!(judge(b"GET /health HTTP/1.1\r\nHost: x"), Some(Protocol::Http));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Protocol::Http));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nupgrade: WebSocket\r\n\r\n"), Some(Protocol::WebSocket));
        assert_eq!(judge(b"GET /live HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), Some(Protocol::Http));
        assert_eq!(judge(b"GET /eventstream HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), Some(Protocol::Http));
        assert_eq!(judge(b"POST /x HTTP/1.1\r\n"), Some(Protocol::Http));
        // A handshake of 22 bytes begins as a TLS record does.
        assert_eq!(judge(&[0x16, 0, 0, 0, 0, 0, 0, 0]), Some(Protocol::Dask));
        assert_eq!(judge(&[0xff; 8]), Some(Protocol::Unknown));
    }

    /// The hello of a client that asks for `name`.
    fn hello(name: &str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("to memory");
        bytes
    }

    /// Goal: the name is found at the moment the hello is whole, not before; nonsense is told from a slow peer.
    #[test]
    fn the_server_name_is_read_from_a_hello_in_any_pieces() {
        let bytes = hello("daskgateway-my.cluster");
        let (last, half) = bytes.split_last().expect("not empty");
        (1..half.len()).step_by(7).for_each(|cut| assert_eq!(judge(half.get(..cut).expect("shorter")), None, "{cut}"));
        let whole = [half, &[*last]].concat();
        assert_eq!(judge(&whole), Some(Protocol::Tls(Some("daskgateway-my.cluster".to_owned()))));
        assert_eq!(judge(&hello("127.0.0.1")), Some(Protocol::Tls(None)));
        assert_eq!(judge(&[0x16, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff]), Some(Protocol::Unknown));
        assert_eq!(judge(&[&[0x16, 3, 1][..], &[0; 50]].concat()), Some(Protocol::Unknown));
    }

    #[test]
    fn half_a_head_is_no_reason_to_decide() {
        assert_eq!(judge(b""), None);
        assert_eq!(judge(&[0x16]), None);
        assert_eq!(judge(&[0x3a, 0, 0]), None);
        assert_eq!(judge(b"GE"), None);
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
    }
}
