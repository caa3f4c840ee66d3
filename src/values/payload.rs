//! The bytes of one value.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::segment::Segment;
use crate::base::Opaque;

/// Values from this size on are put in files: below, a copy through a socket costs less than a descriptor.
///
/// Unit: bytes.
pub const FILE_MIN_BYTES: u64 = 256 << 10;

/// Frames begin at multiples of this, so that arrays lie as their type wants it. Unit: bytes.
const ALIGN: u64 = 64;

/// The bytes of one value, wherever they are.
#[derive(Clone, Debug)]
pub enum Payload {
    /// In memory.
    Here(Arc<Opaque>),
    /// In a file.
    Filed(Arc<Filed>),
}

/// A value whose frames are in a file, one behind the other, each at a multiple of 64 bytes.
#[derive(Debug)]
pub struct Filed {
    /// The sub-header frame.
    pub head: Bytes,
    /// The frames' lengths. Unit: bytes.
    pub lengths: Vec<u64>,
    /// Where they are.
    pub segment: Segment,
}

impl Filed {
    /// Where each frame is: its offset and its length.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        places(&self.lengths)
    }

    /// The frames' length, without the gaps between them. Unit: bytes.
    pub fn len_bytes(&self) -> u64 {
        self.lengths.iter().copied().fold(0, u64::saturating_add)
    }

    /// A file that another process wrote. Errors: it is no file, or too short for these frames.
    pub fn adopt(head: Bytes, lengths: Vec<u64>, descriptor: std::os::fd::OwnedFd) -> io::Result<Self> {
        let segment = Segment::adopt(descriptor, end_of(&lengths))?;
        Ok(Self { head, lengths, segment })
    }

    /// The same in a file that is open, to be passed on. Errors: it is not there any more, or was cut.
    pub fn opened(&self) -> io::Result<Arc<File>> {
        let file = self.segment.open()?;
        if file.metadata()?.len() < end_of(&self.lengths) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a value's file was cut"));
        }
        Ok(file)
    }

    /// Everything, in memory. Errors: the file was cut meanwhile.
    pub fn read(&self) -> io::Result<Opaque> {
        let file = self.segment.open()?;
        let frame = |(offset, len): (u64, u64)| {
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
        };
        Ok(Opaque { head: self.head.clone(), frames: self.places().map(frame).collect::<io::Result<_>>()? })
    }
}

/// What is copied at once. Unit: bytes.
const STEP: usize = 1 << 20;

/// Offset and length of each frame.
fn places(lengths: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    lengths.iter().scan(0u64, |next, len| {
        let at = next.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
        *next = at.saturating_add(*len);
        Some((at, *len))
    })
}

fn end_of(lengths: &[u64]) -> u64 {
    places(lengths).last().map_or(0, |(at, len)| at.saturating_add(len))
}

impl Payload {
    /// What counts as the value's size: its frames. Unit: bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Here(payload) => size_of(payload),
            Self::Filed(filed) => filed.len_bytes(),
        }
    }

    /// Puts a value that came in messages into a file, if it is large. Blocks while it copies. Memory is given back frame
    /// by frame, if nobody else has them.
    ///
    /// Errors: the bytes could not be written; then they are lost.
    pub fn settle(payload: Arc<Opaque>, folder: &Path) -> io::Result<Self> {
        if size_of(&payload) <= FILE_MIN_BYTES {
            return Ok(Self::Here(payload));
        }
        let lengths: Vec<u64> = payload.frames.iter().map(|frame| frame.len() as u64).collect();
        let segment = match Segment::create(end_of(&lengths), folder) {
            Ok(segment) if !segment.is_scarce() => segment,
            // It stays where it is.
            Ok(_) | Err(_) => return Ok(Self::Here(payload)),
        };
        let Opaque { head, frames } = Arc::unwrap_or_clone(payload);
        for (frame, (offset, _)) in frames.into_iter().zip(places(&lengths)) {
            segment.write_at(&frame, offset)?;
        }
        segment.seal();
        Ok(Self::Filed(Arc::new(Filed { head, lengths, segment })))
    }
}

impl Payload {
    /// Writes a copy to a new file with this name; returns its sub-header and the frames' lengths. Blocks.
    ///
    /// Errors: a full disk; then there is no file.
    pub fn spill(&self, path: &Path) -> io::Result<(Bytes, Vec<u64>)> {
        let (head, lengths) = match self {
            Self::Here(payload) => {
                let lengths = payload.frames.iter().map(|frame| frame.len() as u64).collect();
                (payload.head.clone(), lengths)
            }
            Self::Filed(filed) => (filed.head.clone(), filed.lengths.clone()),
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.set_len(end_of(&lengths)).and_then(|()| match self {
            Self::Here(payload) => {
                let mut frames = payload.frames.iter().zip(places(&lengths));
                frames.try_for_each(|(frame, (offset, _))| file.write_all_at(frame, offset))
            }
            Self::Filed(from) => copy(&*from.segment.open()?, &file, end_of(&lengths)),
        });
        if let Err(why) = written {
            let _leftover = fs::remove_file(path);
            return Err(why);
        }
        Ok((head, lengths))
    }

    /// It occupies memory. Unit: bytes.
    pub fn memory_bytes(&self) -> u64 {
        if self.is_on_disk() { 0 } else { self.size_bytes() }
    }

    /// It occupies a disk and no memory.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::Filed(filed) if filed.segment.is_on_disk())
    }
}

fn copy(from: &File, to: &File, end: u64) -> io::Result<()> {
    let (mut buffer, mut at) = (vec![0; STEP], 0u64);
    while at < end {
        let room = usize::try_from(end.saturating_sub(at)).unwrap_or(STEP).min(STEP);
        let part = buffer.get_mut(..room).unwrap_or_default();
        from.read_exact_at(part, at)?;
        to.write_all_at(part, at)?;
        at = at.saturating_add(room as u64);
    }
    Ok(())
}

fn size_of(payload: &Opaque) -> u64 {
    payload.frames.iter().map(|frame| frame.len() as u64).fold(0, u64::saturating_add)
}
