//! One socket between a node and its executor: a task that writes, a task that reads.

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::base::Limits;
use crate::wire::frame::{Decoder, Gather, ReadTarget};
use crate::wire::{Message, WireError};

/// Where messages go. They are written in order, without anybody waiting for it.
#[derive(Clone, Debug)]
pub(super) struct Outlet(mpsc::UnboundedSender<Message>);

impl Outlet {
    /// To a process that is gone, nothing is sent.
    pub(super) fn send(&self, message: Message) {
        let _gone = self.0.send(message);
    }
}

/// Serves a socket: `on` is called with each message, or with what was wrong with the last one, until it says no more.
pub(super) fn serve(
    stream: UnixStream,
    mut on: impl FnMut(Result<Message, WireError>) -> bool + Send + 'static,
) -> Outlet {
    let (read, write) = stream.into_split();
    let (sender, inbox) = mpsc::unbounded_channel();
    tokio::spawn(write_all(write, inbox));
    tokio::spawn(async move {
        let mut inlet = Inlet { read, decoder: Decoder::new(&Limits::default()) };
        while let Some(message) = inlet.next().await {
            let is_last = message.is_err();
            if !on(message) || is_last {
                return;
            }
        }
    });
    Outlet(sender)
}

async fn write_all(mut write: OwnedWriteHalf, mut inbox: mpsc::UnboundedReceiver<Message>) {
    while let Some(message) = inbox.recv().await {
        let mut gather = Gather::new();
        gather.push(&message);
        while let Ok(message) = inbox.try_recv() {
            gather.push(&message);
        }
        for part in gather.parts() {
            // A broken socket is the end of its process, which is watched elsewhere.
            if write.write_all(part).await.is_err() {
                return;
            }
        }
    }
}

struct Inlet {
    read: OwnedReadHalf,
    decoder: Decoder,
}

impl Inlet {
    /// None: the other end is closed, which says nothing: children of tasks may hold it open, tasks may close it.
    async fn next(&mut self) -> Option<Result<Message, WireError>> {
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            let (read, room) = match self.decoder.target() {
                ReadTarget::Shared { buffer, room } => (self.read.read_buf(&mut buffer.limit(room)).await.ok()?, room),
                ReadTarget::Own { buffer } => (self.read.read(buffer).await.ok()?, buffer.len()),
            };
            if read == 0 {
                return None;
            }
            self.decoder.took(read, room);
        }
    }
}
