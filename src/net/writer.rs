//! The task that writes one connection's outbox: gathers everything queued, writes it, waits for more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;

use super::outbox::{End, Queue, Work};
use super::socket::ByteStream;
use crate::wire::Message;
use crate::wire::frame::Gather;
use crate::wire::ws;

/// Most pieces per system call: Linux takes 1024, and more than a few dozen bring nothing.
const SLICES_MAX: usize = 64;
/// A peer that takes nothing for this long while its connection is closing is cut off. Dask's `comm.timeouts.tcp`.
const STALL: Duration = Duration::from_secs(30);

/// Where a connection's bytes go.
pub(super) enum Sink {
    /// Framed bytes.
    Bytes(Box<dyn AsyncWrite + Send + Unpin>),
    /// WebSocket messages.
    Ws(SplitSink<WebSocketStream<Box<dyn ByteStream>>, WsMessage>),
}

/// Writes until the queue ends or the connection breaks; then the connection is closed.
pub(super) async fn run(queue: Arc<Queue>, mut sink: Sink) {
    while let Work::Write(messages) = queue.work().await {
        let bytes = messages.iter().map(|message| message.size_bytes() as u64).sum();
        let wrote = match &mut sink {
            Sink::Bytes(io) => write_bytes(&queue, io, messages).await,
            Sink::Ws(sink) => write_ws(&queue, sink, messages).await,
        };
        queue.written(bytes);
        if wrote.is_err() {
            queue.end(End::Gone);
        }
    }
    if queue.end_now() != End::Gone {
        let closing = async {
            match &mut sink {
                Sink::Bytes(io) => io.shutdown().await,
                Sink::Ws(sink) => sink.close().await.map_err(io::Error::other),
            }
        };
        // Who does not take our last words goes without them.
        let _ = tokio::time::timeout(STALL, closing).await;
    }
    drop(sink);
    queue.end(End::Gone);
}

async fn write_bytes<W>(queue: &Queue, io: &mut W, messages: Vec<Message>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut gather = Gather::new();
    for message in messages {
        gather.push(&message);
    }
    while !gather.is_empty() {
        let mut slices = [io::IoSlice::new(&[]); SLICES_MAX];
        let mut filled = 0usize;
        for (slice, part) in slices.iter_mut().zip(gather.parts()) {
            *slice = io::IoSlice::new(part);
            filled = filled.saturating_add(1);
        }
        let slices = slices.get(..filled).unwrap_or_default();
        match unless_gone(queue, io.write_vectored(slices)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => gather.advance(written),
        }
    }
    unless_gone(queue, io.flush()).await
}

async fn write_ws<S>(queue: &Queue, sink: &mut S, messages: Vec<Message>) -> io::Result<()>
where
    S: futures_util::Sink<WsMessage> + Unpin,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    for message in messages {
        for payload in ws::encode(&message) {
            let feed = async { sink.feed(WsMessage::Binary(payload)).await.map_err(io::Error::other) };
            unless_gone(queue, feed).await?;
        }
    }
    unless_gone(queue, async { sink.flush().await.map_err(io::Error::other) }).await
}

/// `write`, given up when the connection is aborted, or stalls while it is closing.
async fn unless_gone<T>(queue: &Queue, write: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::pin!(write);
    loop {
        tokio::select! {
            biased;
            done = &mut write => return done,
            () = queue.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
            () = tokio::time::sleep(STALL) => {
                if queue.end_now() != End::Open {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}
