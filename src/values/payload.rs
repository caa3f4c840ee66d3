//! The bytes of one value.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::segment::{Segment, is_scarce};
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

    /// Everything, in memory. Errors: the file was cut meanwhile.
    pub fn read(&self) -> io::Result<Opaque> {
        let frame = |(offset, len): (u64, u64)| {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            self.segment.read_at(len, offset).map(Bytes::from)
        };
        Ok(Opaque { head: self.head.clone(), frames: self.places().map(frame).collect::<io::Result<_>>()? })
    }
}

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
            Ok(segment) if !is_scarce(&**segment.file()) => segment,
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

fn size_of(payload: &Opaque) -> u64 {
    payload.frames.iter().map(|frame| frame.len() as u64).fold(0, u64::saturating_add)
}
