//! The task that writes one connection's outbox: gathers everything queued, writes it, waits for more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;

use super::outbox::{End, FileFrame, Outgoing, Queue, Work};
use super::socket::ByteStream;
use crate::wire::frame::Gather;
use crate::wire::ws;

/// Most pieces per system call: Linux takes 1024, and more than a few dozen bring nothing.
const SLICES_MAX: usize = 64;
/// A peer that takes nothing for this long while its connection is closing is cut off. Dask's `comm.timeouts.tcp`.
const STALL: Duration = Duration::from_secs(30);
/// What is read of a file at once. Unit: bytes.
const FILE_STEP: u64 = 1 << 20;

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
        let bytes = messages.iter().map(|outgoing| outgoing.message.size_bytes() as u64).sum();
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

async fn write_bytes<W>(queue: &Queue, io: &mut W, messages: Vec<Outgoing>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut gather = Gather::new();
    for Outgoing { message, files } in messages {
        if files.is_empty() {
            gather.push(&message);
            continue;
        }
        let mut lengths: Vec<u64> = message.frames.iter().map(|frame| frame.len() as u64).collect();
        for file in &files {
            *lengths.get_mut(file.at).ok_or(io::ErrorKind::InvalidInput)? = file.len;
        }
        gather.push_prelude(std::iter::once(message.head.len() as u64).chain(lengths));
        gather.push_bytes(&message.head);
        let mut files = files.into_iter().peekable();
        for (at, frame) in message.frames.iter().enumerate() {
            match files.next_if(|file| file.at == at) {
                Some(file) => write_file(queue, io, &mut gather, file).await?,
                None => gather.push_bytes(frame),
            }
        }
    }
    drain(queue, io, &mut gather).await?;
    unless_gone(queue, io.flush()).await
}

/// A file's bytes never are in memory all at once.
async fn write_file<W>(queue: &Queue, io: &mut W, gather: &mut Gather, frame: FileFrame) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let FileFrame { file, mut offset, mut len, .. } = frame;
    while len > 0 {
        let step = len.min(FILE_STEP);
        gather.push_bytes(&read_file(file.clone(), offset, step).await?);
        drain(queue, io, gather).await?;
        offset = offset.saturating_add(step);
        len = len.saturating_sub(step);
    }
    Ok(())
}

/// Beside the runtime: a disk may be slow.
async fn read_file(file: Arc<File>, offset: u64, len: u64) -> io::Result<Bytes> {
    let read = move || {
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn drain<W>(queue: &Queue, io: &mut W, gather: &mut Gather) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
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
    Ok(())
}

async fn write_ws<S>(queue: &Queue, sink: &mut S, messages: Vec<Outgoing>) -> io::Result<()>
where
    S: futures_util::Sink<WsMessage> + Unpin,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    for Outgoing { mut message, files } in messages {
        for FileFrame { at, file, offset, len } in files {
            *message.frames.get_mut(at).ok_or(io::ErrorKind::InvalidInput)? = read_file(file, offset, len).await?;
        }
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
