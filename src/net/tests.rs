//! Connections over real loopback sockets, without Python.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::base::{Limits, Value};
use crate::wire::Message;

const SOON: Duration = Duration::from_secs(10);

fn text(text: &str) -> Message {
    Message::from_value(&Value::str(text))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(SOON, test).await.expect("the test ends in time") });
}

/// Answers every message with itself; `"bye"` by closing, `"hang"` not at all, `"once"` once and then by closing.
async fn echo(mut connection: Connection) {
    while let Ok(Some(message)) = connection.reader.recv().await {
        if message == text("bye") {
            return;
        }
        if message != text("hang") {
            connection.outbox.send(message.clone());
        }
        if message == text("once") {
            return;
        }
    }
}

async fn serve(limits: Limits, plain: PlainRule) -> SocketAddr {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("loopback is there");
    let at = listener.local_addr();
    let acceptor = Acceptor {
        limits: Arc::new(limits),
        tls: None,
        plain,
        refusals: super::Refusals::default(),
        on_comm: Arc::new(|connection| Box::pin(echo(connection))),
        on_http: Some(Arc::new(|mut stream: TcpStream| {
            Box::pin(async move {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            })
        })),
    };
    tokio::spawn(listener.run(Arc::new(acceptor)));
    at
}

fn pool() -> Pool {
    Pool::new(Arc::new(Limits::default()), None)
}

/// Goal: small, empty and large messages come back whole, over frames and over WebSockets on one port.
#[test]
fn messages_come_back_whole_on_every_plain_scheme() {
    run(async {
        let at = serve(Limits::default(), PlainRule::LoopbackUsers(vec![])).await;
        for scheme in ["tcp", "ws"] {
            for size in [0, 1 << 10, 5 << 20] {
                let frames = vec![vec![1u8; 20].into(), vec![2u8; size].into(), vec![3u8; 5].into()];
                let message = Message { head: text("payload").head, frames };
                let answer = pool().call(&format!("{scheme}://{at}"), message.clone(), SOON).await;
                assert!(answer.is_ok_and(|answer| answer == message), "{scheme} {size}");
            }
        }
    });
}

/// Goal: a frame that lies in a file arrives as if it had been in the message; a file that was cut breaks the connection.
#[test]
fn frames_in_files_arrive_like_others() {
    run(async {
        let at = serve(Limits::default(), PlainRule::LoopbackUsers(vec![])).await;
        let path = std::env::temp_dir().join(format!("rask-frames-{}", std::process::id()));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        std::fs::write(&path, &bytes).expect("a file");
        let file = Arc::new(std::fs::File::open(&path).expect("it is there"));
        std::fs::remove_file(&path).expect("it is ours");
        let frame = |at, offset, len| FileFrame { at, file: file.clone(), offset, len };
        let whole = |frames: Vec<&[u8]>| Message {
            head: text("payload").head,
            frames: frames.into_iter().map(bytes::Bytes::copy_from_slice).collect(),
        };
        let expected = whole(vec![b"first", &bytes[64..], b"between", &bytes[..10], b""]);
        for scheme in ["tcp", "ws"] {
            let address = format!("{scheme}://{at}");
            let mut connection = pool().connect(&address, SOON).await.expect("connects");
            let empty = whole(vec![b"first", b"", b"between", b"", b""]);
            let files = vec![frame(1, 64, bytes.len() as u64 - 64), frame(3, 0, 10)];
            connection.outbox.send_with_files(empty.clone(), files);
            let answer = connection.reader.recv().await.expect("no error").expect("an answer");
            assert!(answer == expected, "{scheme}");
            connection.outbox.send_with_files(empty, vec![frame(1, 0, bytes.len() as u64 + 1)]);
            assert!(!matches!(connection.reader.recv().await, Ok(Some(_))), "{scheme}: it ends");
        }
    });
}

/// Goal: HTTP on the same port is handed on with nothing taken from it; a browser gets no WebSocket.
#[test]
fn http_is_told_apart_and_browsers_are_refused() {
    run(async {
        let at = serve(Limits::default(), PlainRule::Anyone).await;
        let ask = async |request: &str| {
            let mut stream = TcpStream::connect(at).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("writes");
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            String::from_utf8(answer).expect("text")
        };
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        assert_eq!(ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await, "HTTP/1.1 204");
        assert_eq!(ask(&format!("{upgrade}\r\n")).await, "HTTP/1.1 101");
        assert_eq!(ask(&format!("{upgrade}Origin: https://example.org\r\n\r\n")).await, "HTTP/1.1 403");
    });
}

/// Goal: who says nothing, or nonsense, or only half a handshake, is closed in time.
#[test]
fn strangers_are_closed() {
    run(async {
        let at = serve(Limits { handshake_ms: 100, ..Limits::default() }, PlainRule::Anyone).await;
        let nonsense = [0xff; 64];
        for said in [&b""[..], &b"GE"[..], &nonsense[..], &[0x3a, 0, 0, 0, 0, 0, 0, 0, 1, 0]] {
            let mut stream = TcpStream::connect(at).await.expect("connects");
            stream.write_all(said).await.expect("writes");
            let mut rest = Vec::new();
            // Closed or reset, but over; our own handshake may have come first.
            let _ = stream.read_to_end(&mut rest).await;
        }
    });
}

/// Goal: plain connections are refused where only TLS is allowed.
#[test]
fn plain_is_refused_where_it_is_forbidden() {
    run(async {
        let at = serve(Limits::default(), PlainRule::Nobody).await;
        assert!(pool().call(&format!("tcp://{at}"), text("x"), SOON).await.is_err());
    });
}

/// Goal: a connection that the peer closed while it was idle costs the next call nothing.
#[test]
fn a_stale_connection_is_replaced() {
    run(async {
        let at = format!("tcp://{}", serve(Limits::default(), PlainRule::Anyone).await);
        let pool = pool();
        for said in ["once", "once", "x", "y"] {
            let answer = pool.call(&at, text(said), SOON).await;
            assert!(answer.is_ok_and(|answer| answer == text(said)), "{said}");
        }
        // Reused connection, closed in answer to the question: tried once more, then an error.
        assert!(pool.call(&at, text("bye"), SOON).await.is_err());
    });
}

/// Goal: forgetting a peer ends the calls that wait for it, and a call that gets no answer ends by its deadline.
#[test]
fn calls_end_when_the_peer_is_given_up() {
    run(async {
        let at = format!("tcp://{}", serve(Limits::default(), PlainRule::Anyone).await);
        let pool = pool();
        let short = Duration::from_millis(50);
        assert!(matches!(pool.call(&at, text("hang"), short).await, Err(NetError::Timeout { waited_ms: 50 })));
        let waiting = tokio::spawn({
            let (pool, at) = (pool.clone(), at.clone());
            async move { pool.call(&at, text("hang"), SOON).await }
        });
        while !waiting.is_finished() {
            tokio::task::yield_now().await;
            pool.forget(&at);
        }
        assert!(waiting.await.expect("no panic").is_err());
        assert!(pool.call(&at, text("x"), SOON).await.is_ok());
    });
}

/// Goal: a peer that never reads is cut off, and does not make us hold more than the limit.
#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    run(async {
        let limits = Limits { outbox_bytes: 8 << 20, ..Limits::default() };
        let at = format!("tcp://{}", serve(Limits::default(), PlainRule::Anyone).await);
        let connection = Pool::new(Arc::new(limits), None).connect(&at, SOON).await.expect("connects");
        let big = Message { head: text("x").head, frames: vec![vec![0u8; 1 << 20].into()] };
        // The echoing side stops reading once its answers, which we don't read, fill the sockets: never mind, it
        // reads more than we have, so send until cut.
        while !connection.outbox.is_closed() {
            connection.outbox.send(big.clone());
            assert!(connection.outbox.queued_bytes() <= 9 << 20);
        }
        connection.outbox.closed().await;
    });
}

/// Goal: operations of one turn travel in one message, in order, and whatever is sent afterwards comes after them.
#[test]
fn pushed_operations_travel_together_and_in_order() {
    run(async {
        let at = format!("tcp://{}", serve(Limits::default(), PlainRule::Anyone).await);
        let mut connection = pool().connect(&at, SOON).await.expect("connects");
        connection.outbox.set_pace(WritePace::client());
        let mut sent = 0;
        let mut got = Vec::new();
        for turn in [3, 2, 1] {
            for _ in 0..turn {
                connection.outbox.push(|out| out.put_i64(sent));
                sent += 1;
            }
            connection.outbox.kick();
        }
        connection.outbox.send(text("last"));
        loop {
            let message = connection.reader.recv().await.expect("open").expect("a message");
            match message.to_value(&Limits::default()).expect("a value") {
                Value::Array(items) => got.extend(items.iter().filter_map(Value::as_i64)),
                other => break assert_eq!(other, Value::str("last")),
            }
        }
        assert_eq!(got, (0..sent).collect::<Vec<i64>>());
        connection.outbox.push(|out| out.put_i64(7));
        connection.outbox.close();
        let last = connection.reader.recv().await.expect("open");
        assert!(last.is_none_or(|message| message.to_value(&Limits::default()).is_ok()));
        connection.outbox.closed().await;
    });
}
