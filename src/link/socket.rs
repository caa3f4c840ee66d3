//! Bytes and descriptors over a Unix socket.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{LinkMessage, MESSAGE_MAX};

/// Longest path of a Unix socket that every system takes. Unit: bytes.
const PATH_MAX: usize = 100;

/// A path for `bind` and `connect`, short enough, and what must stay open until then.
///
/// A long path is reached through the open descriptor of its folder.
pub(super) fn short_path(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= PATH_MAX {
        return Ok((path.to_path_buf(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of a file"));
    };
    let folder = File::open(folder)?;
    Ok((Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name), Some(folder)))
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), descriptors: VecDeque::new() }
    }

    /// The user at the other end.
    pub(super) fn peer_uid(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.stream)?.uid.as_raw())
    }

    /// Sends a message, and a descriptor with it.
    pub(super) async fn send(&self, message: &LinkMessage, descriptor: Option<&(impl AsFd + Sync)>) -> io::Result<()> {
        self.send_body(&serde_json::to_vec(message)?, descriptor).await
    }

    /// Sends a body that need not be a message of ours.
    #[cfg(test)]
    pub(super) async fn send_bytes(&self, body: &[u8]) -> io::Result<()> {
        self.send_body(body, None::<&File>).await
    }

    async fn send_body(&self, body: &[u8], descriptor: Option<&(impl AsFd + Sync)>) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        let mut rest: &[u8] = &bytes;
        let mut descriptor = descriptor;
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_io(Interest::WRITABLE, || send_some(&self.stream, rest, descriptor)) {
                Ok(sent) => {
                    descriptor = None;
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// The next message and the descriptor that came with it. `None`: the other end is gone.
    pub(super) async fn receive(&mut self) -> io::Result<Option<(LinkMessage, Option<OwnedFd>)>> {
        loop {
            if let Some(message) = self.take()? {
                let with_it = if message == LinkMessage::Connection { self.descriptors.pop_front() } else { None };
                return Ok(Some((message, with_it)));
            }
            self.stream.readable().await?;
            let mut buffer = [0u8; 16 << 10];
            let (stream, descriptors) = (&self.stream, &mut self.descriptors);
            match self.stream.try_io(Interest::READABLE, || receive_some(stream, &mut buffer, descriptors)) {
                Ok(0) => return Ok(None),
                Ok(count) => self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why),
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<LinkMessage>> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MESSAGE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {length} bytes")));
        }
        let end = length.saturating_add(4);
        let Some(body) = self.bytes.get(4..end) else { return Ok(None) };
        // The frame is whole, so what comes after it can still be understood.
        let message = serde_json::from_slice(body).unwrap_or(LinkMessage::Unknown);
        self.bytes.drain(..end);
        Ok(Some(message))
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptor: Option<&impl AsFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = descriptor.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds
        && !control.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    Ok(got.bytes)
}
