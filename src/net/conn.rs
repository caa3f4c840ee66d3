//! One open connection: its two halves, and the handshake that makes it one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::error::NetError;
use super::memory;
use super::outbox::{Outbox, Queue};
use super::socket::ByteStream;
use super::writer::{self, Sink};
use crate::base::{Limits, Text};
use crate::wire::Message;
use crate::wire::frame::{Decoder, ReadTarget};
use crate::wire::hello::Handshake;
use crate::wire::ws::Assembler;

/// A connection that is ready for messages.
#[derive(Debug)]
pub struct Connection {
    /// Where messages come from.
    pub reader: MessageReader,
    /// Where messages go.
    pub outbox: Outbox,
    /// Who is at the other end.
    pub peer: PeerInfo,
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The other end, `tcp://1.2.3.4:5`: the socket's address, not one the peer listens on.
    pub address: Text,
    /// This end.
    pub local: Text,
    /// Encrypted, the peer's certificate checked.
    pub tls: bool,
}

/// The reading half. Not cloneable: one task reads.
pub struct MessageReader {
    source: Source,
    queue: Arc<Queue>,
}

enum Source {
    Bytes { io: Box<dyn AsyncRead + Send + Unpin>, decoder: Box<Decoder> },
    Ws { io: SplitStream<WebSocketStream<Box<dyn ByteStream>>>, assembler: Assembler },
}

impl fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").finish_non_exhaustive()
    }
}

impl MessageReader {
    /// The next message; none when the peer closed cleanly, or this side closed. Cancel-safe: a dropped call loses
    /// nothing. Errors: broken connection, closed in mid-message, bytes that are not the protocol.
    pub async fn recv(&mut self) -> Result<Option<Message>, NetError> {
        if let Source::Bytes { decoder, .. } = &mut self.source
            && let Some(message) = decoder.next()?
        {
            return Ok(Some(message));
        }
        let source = &mut self.source;
        let queue = &self.queue;
        let next = async {
            match source {
                Source::Bytes { io, decoder } => recv_bytes(io, decoder).await,
                Source::Ws { io, assembler } => recv_ws(io, assembler).await,
            }
        };
        tokio::select! {
            biased;
            message = next => message,
            () = queue.gone() => Ok(None),
        }
    }

    /// Nothing of the next message has arrived yet.
    pub(super) fn is_idle(&self) -> bool {
        match &self.source {
            Source::Bytes { decoder, .. } => decoder.is_idle(),
            Source::Ws { assembler, .. } => assembler.is_idle(),
        }
    }

    fn set_limits(&mut self, limits: &Limits) {
        match &mut self.source {
            Source::Bytes { decoder, .. } => decoder.set_limits(limits),
            Source::Ws { assembler, .. } => assembler.set_limits(limits),
        }
    }
}

async fn recv_bytes<R>(stream: &mut R, decoder: &mut Decoder) -> Result<Option<Message>, NetError>
where
    R: AsyncRead + Unpin,
{
    loop {
        let (read, room) = match decoder.target() {
            ReadTarget::Shared { buffer, room } => (stream.read_buf(&mut buffer.limit(room)).await, room),
            ReadTarget::Own { buffer } => (stream.read(buffer).await, buffer.len()),
        };
        let read = match read {
            // OpenSSL peers leave without TLS's good-bye; between messages nothing can have been cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        if read == 0 {
            return if decoder.is_idle() { Ok(None) } else { Err(NetError::Closed) };
        }
        decoder.took(read, room);
        if let Some(message) = decoder.next()? {
            return Ok(Some(message));
        }
    }
}

async fn recv_ws<S>(io: &mut S, assembler: &mut Assembler) -> Result<Option<Message>, NetError>
where
    S: futures_util::Stream<Item = Result<WsMessage, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        let payload = match io.next().await {
            Some(Ok(WsMessage::Binary(payload))) => payload,
            // Tornado sends bytes as binary; a peer that says the same as text means the same.
            Some(Ok(WsMessage::Text(text))) => text.into(),
            Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_))) => continue,
            Some(Ok(WsMessage::Close(_))) | None => {
                return if assembler.is_idle() { Ok(None) } else { Err(NetError::Closed) };
            }
            Some(Err(error)) => return Err(error.into()),
        };
        if let Some(message) = assembler.push(payload)? {
            return Ok(Some(message));
        }
    }
}

/// A stream on which framed messages travel.
pub(super) enum Opened {
    /// TCP.
    Tcp(tokio::net::TcpStream),
    /// Anything else that is bytes: TLS.
    Bytes(Box<dyn ByteStream>),
    /// WebSocket.
    Ws(Box<WebSocketStream<Box<dyn ByteStream>>>),
}

/// Starts the writer and shakes hands. Both sides write first, so neither waits for the other.
pub(super) async fn establish(stream: Opened, peer: PeerInfo, limits: &Limits) -> Result<Connection, NetError> {
    let (outbox, queue) = Outbox::new(peer.address.clone(), limits);
    let first = hello_limits(limits);
    let framed = |io| Source::Bytes { io, decoder: Box::new(Decoder::with_memory(&first, memory::map)) };
    let (source, sink) = match stream {
        Opened::Tcp(stream) => {
            let (read, write) = stream.into_split();
            (framed(Box::new(read)), Sink::Bytes(Box::new(write)))
        }
        Opened::Bytes(stream) => {
            let (read, write) = tokio::io::split(stream);
            (framed(Box::new(read)), Sink::Bytes(Box::new(write)))
        }
        Opened::Ws(stream) => {
            let (write, read) = (*stream).split();
            (Source::Ws { io: read, assembler: Assembler::new(&first) }, Sink::Ws(write))
        }
    };
    tokio::spawn(writer::run(queue.clone(), sink));
    let mut reader = MessageReader { source, queue };
    outbox.send(Handshake::default().encode());
    let wait = Duration::from_millis(limits.handshake_ms);
    let hello = tokio::time::timeout(wait, reader.recv()).await;
    match hello.map_err(|_| NetError::Timeout { waited_ms: limits.handshake_ms }).and_then(|message| message) {
        Ok(Some(message)) => Handshake::decode(&message, limits)?,
        Ok(None) => return Err(NetError::Closed),
        Err(error) => {
            outbox.abort();
            return Err(error);
        }
    };
    reader.set_limits(limits);
    Ok(Connection { reader, outbox, peer })
}

/// A handshake is one small frame: a stranger is not believed when it announces more.
fn hello_limits(limits: &Limits) -> Limits {
    const HELLO_BYTES: u64 = 64 << 10;
    Limits {
        frames: 16,
        head_bytes: HELLO_BYTES,
        frame_bytes: HELLO_BYTES,
        message_bytes: HELLO_BYTES,
        ..limits.clone()
    }
}

/// Bounds for the WebSocket layer. It reserves what a frame announces, so this is lower than for TCP.
pub(super) fn ws_config(limits: &Limits) -> WebSocketConfig {
    const WS_FRAME_BYTES: u64 = 1 << 30;
    let bytes = usize::try_from(limits.frame_bytes.min(WS_FRAME_BYTES)).unwrap_or(usize::MAX);
    WebSocketConfig::default().max_message_size(Some(bytes)).max_frame_size(Some(bytes))
}
