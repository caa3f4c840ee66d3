//! One socket between a node and its executor: a task that writes, a task that reads. Descriptors travel with the first
//! byte of their message.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::base::Limits;
use crate::wire::frame::{Decoder, Gather, ReadTarget};
use crate::wire::{Message, WireError};

/// Most descriptors with one message; the same number stands in `frames.py`. The kernel takes 253.
pub const DESCRIPTORS_MAX: usize = 64;
/// What is read at once. Unit: bytes.
const READ_BYTES: usize = 64 << 10;
/// Bundles of descriptors that wait for their messages; an executor that sends more does not mean it well.
const BUNDLES_MAX: usize = 1024;

/// Descriptors that came, as they were sent together; fewer of them, if this process has too many.
pub(super) type Bundles = VecDeque<Vec<OwnedFd>>;

/// Where messages go. They are written in order, without anybody waiting for it.
#[derive(Clone, Debug)]
pub(super) struct Outlet(mpsc::UnboundedSender<(Message, Vec<Arc<File>>)>);

impl Outlet {
    /// To a process that is gone, nothing is sent.
    pub(super) fn send(&self, message: Message) {
        self.send_with_files(message, Vec::new());
    }

    /// With descriptors of these files, [`DESCRIPTORS_MAX`] at most.
    pub(super) fn send_with_files(&self, message: Message, files: Vec<Arc<File>>) {
        let _gone = self.0.send((message, files));
    }
}

/// Serves a socket: `on` is called with each message, or with what was wrong with the last one, until it says no more. It
/// takes from the bundles what its message speaks of.
pub(super) fn serve(
    stream: UnixStream,
    mut on: impl FnMut(Result<Message, WireError>, &mut Bundles) -> bool + Send + 'static,
) -> Outlet {
    let (read, write) = stream.into_split();
    let (sender, inbox) = mpsc::unbounded_channel();
    tokio::spawn(write_all(write, inbox));
    tokio::spawn(async move {
        let decoder = Decoder::new(&Limits::default());
        let mut inlet = Inlet { read, decoder, bundles: Bundles::new(), buffer: vec![0; READ_BYTES].into() };
        while let Some(message) = inlet.next().await {
            let is_last = message.is_err();
            if !on(message, &mut inlet.bundles) || is_last || inlet.bundles.len() > BUNDLES_MAX {
                return;
            }
        }
    });
    Outlet(sender)
}

async fn write_all(mut write: OwnedWriteHalf, mut inbox: mpsc::UnboundedReceiver<(Message, Vec<Arc<File>>)>) {
    while let Some(first) = inbox.recv().await {
        let mut gather = Gather::new();
        let mut next = Some(first);
        // A broken socket is the end of its process, which is watched elsewhere.
        while let Some((message, files)) = next {
            if !files.is_empty() && flush(&mut write, &mut gather).await.is_err() {
                return;
            }
            gather.push(&message);
            if !files.is_empty() && write_with_files(&write, &mut gather, &files).await.is_err() {
                return;
            }
            next = inbox.try_recv().ok();
        }
        if flush(&mut write, &mut gather).await.is_err() {
            return;
        }
    }
}

async fn flush(write: &mut OwnedWriteHalf, gather: &mut Gather) -> io::Result<()> {
    for part in gather.parts() {
        write.write_all(part).await?;
    }
    *gather = Gather::new();
    Ok(())
}

/// The first piece, with descriptors.
async fn write_with_files(write: &OwnedWriteHalf, gather: &mut Gather, files: &[Arc<File>]) -> io::Result<()> {
    let stream: &UnixStream = write.as_ref();
    let Some(part) = gather.parts().next().cloned() else { return Ok(()) };
    loop {
        stream.writable().await?;
        match stream.try_io(Interest::WRITABLE, || send_some(stream, &part, files)) {
            Ok(sent) => {
                gather.advance(sent);
                return Ok(());
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            // Too many are under way: the message goes without, and the other end asks for the bytes themselves.
            Err(why) if why.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], files: &[Arc<File>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

struct Inlet {
    read: OwnedReadHalf,
    decoder: Decoder,
    bundles: Bundles,
    buffer: Box<[u8]>,
}

impl Inlet {
    /// None: the other end is closed, which says nothing: children of tasks may hold it open, tasks may close it.
    async fn next(&mut self) -> Option<Result<Message, WireError>> {
        match self.decoder.next() {
            Ok(None) => {}
            Ok(Some(message)) => return Some(Ok(message)),
            Err(error) => return Some(Err(error)),
        }
        loop {
            let stream: &UnixStream = self.read.as_ref();
            stream.readable().await.ok()?;
            let (bundles, target) = (&mut self.bundles, self.decoder.target());
            let (own, buffer) = match target {
                ReadTarget::Own { buffer } => (true, buffer),
                ReadTarget::Shared { .. } => (false, &mut *self.buffer),
            };
            let room = buffer.len();
            let read = match stream.try_io(Interest::READABLE, || receive_some(stream, buffer, bundles)) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            };
            let next = if own {
                self.decoder.took(read, room);
                self.decoder.next()
            } else {
                self.decoder.feed(self.buffer.get(..read).unwrap_or_default())
            };
            if let Some(message) = next.transpose() {
                return Some(message);
            }
        }
    }
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8], bundles: &mut Bundles) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut bundle = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            bundle.extend(descriptors);
        }
    }
    // Where some were lost, their message must not take those of the next one.
    if !bundle.is_empty() || got.flags.contains(ReturnFlags::CTRUNC) {
        bundles.push_back(bundle);
    }
    Ok(got.bytes)
}
