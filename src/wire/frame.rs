//! Dask's TCP framing: a decoder that resumes wherever the bytes stopped, and a gatherer for vectored writes.
//!
//! On the wire: `u64 total, u64 n, n × u64 length, n frames`, little endian. `total` only tells a reader how much to
//! read in one go, so we write it and ignore it. Source: `distributed/comm/tcp.py`, `distributed/comm/utils.py`.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::error::WireError;
use super::message::Message;
use crate::base::Limits;

/// Frames above this get a buffer of their own, so that keeping one keeps nothing else, and giving it up gives the
/// memory back. Smaller ones are slices of the read buffer.
pub const BIG_FRAME_BYTES: usize = 64 << 10;

/// Least to read at once. Thousands of connections wait with a buffer this big, so it is small.
const STEP_MIN: usize = 8 << 10;
/// Most to read at once into the shared buffer.
const STEP_MAX: usize = 256 << 10;
/// Most memory for a big frame on its announcement alone, that is for one shard: Dask cuts what is longer, all but
/// graphs. A longer frame gets twice what has arrived of it.
const BIG_FIRST_BYTES: usize = SHARD_BYTES;
/// Frames from this size on are put in memory that [`Allocate`] gives.
const OUTSIDE_MIN_BYTES: usize = 1 << 20;
/// Dask cuts buffers in pieces of this size. Source: `distributed.comm.shard`.
const SHARD_BYTES: usize = 64 << 20;

/// Memory of a fixed length, zeroed.
pub trait FrameMemory: AsRef<[u8]> + AsMut<[u8]> + Send {}
impl<T: AsRef<[u8]> + AsMut<[u8]> + Send> FrameMemory for T {}

/// Gives memory of this number of bytes, if there is any: a way around the heap for what is big and short-lived.
pub type Allocate = fn(usize) -> Option<Box<dyn FrameMemory>>;

/// Where the next bytes belong. Read at most `room` bytes, append them, then call [`Decoder::took`].
#[derive(Debug)]
pub enum ReadTarget<'a> {
    /// The buffer shared by small things; it has spare capacity.
    Shared { buffer: &'a mut BytesMut, room: usize },
    /// What is missing of one big frame, or the first part of that. Read into it from its start, do not append.
    Own { buffer: &'a mut [u8] },
}

#[derive(Debug)]
enum State {
    /// Before `total` and `n`.
    Prelude,
    /// Number of lengths that are still to come.
    Lengths { missing: u64 },
    /// Lengths are known, frames arrive.
    Frames,
}

/// Cuts messages out of a stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    limits: Bounds,
    shared: BytesMut,
    step: usize,
    state: State,
    lengths: Vec<u64>,
    /// Sum of `lengths`.
    announced: u64,
    done: Vec<Bytes>,
    big: Option<Big>,
    allocate: Allocate,
}

/// A big frame that is arriving.
struct Big {
    memory: Box<dyn FrameMemory>,
    filled: usize,
}

impl std::fmt::Debug for Big {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Big").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl AsRef<[u8]> for Big {
    fn as_ref(&self) -> &[u8] {
        (*self.memory).as_ref().get(..self.filled).unwrap_or_default()
    }
}

impl Big {
    /// Memory for a frame of `len` bytes that begins with `arrived`.
    fn new(allocate: Allocate, len: usize, arrived: &[u8]) -> Self {
        let room = len.min(BIG_FIRST_BYTES.max(arrived.len().saturating_mul(2)));
        let memory = if room < OUTSIDE_MIN_BYTES { None } else { allocate(room) };
        let mut memory = memory.unwrap_or_else(|| Box::new(vec![0; room]));
        if let Some(start) = (*memory).as_mut().get_mut(..arrived.len()) {
            start.copy_from_slice(arrived);
        }
        Self { memory, filled: arrived.len() }
    }

    fn spare(&mut self) -> &mut [u8] {
        (*self.memory).as_mut().get_mut(self.filled..).unwrap_or_default()
    }
}

fn from_heap(len: usize) -> Option<Box<dyn FrameMemory>> {
    Some(Box::new(vec![0; len]))
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    frame: u64,
    message: u64,
    head: u64,
    frames: u64,
}

impl Bounds {
    const fn of(limits: &Limits) -> Self {
        Self {
            frame: limits.frame_bytes,
            message: limits.message_bytes,
            head: limits.head_bytes,
            frames: limits.frames,
        }
    }
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: &Limits) -> Self {
        Self::with_memory(limits, from_heap)
    }

    /// As [`Decoder::new`], with another place for big frames.
    pub fn with_memory(limits: &Limits, allocate: Allocate) -> Self {
        Self {
            allocate,
            limits: Bounds::of(limits),
            shared: BytesMut::new(),
            step: STEP_MIN,
            state: State::Prelude,
            lengths: Vec::new(),
            announced: 0,
            done: Vec::new(),
            big: None,
        }
    }

    /// Other limits from now on: a peer that has shaken hands may say more.
    pub const fn set_limits(&mut self, limits: &Limits) {
        self.limits = Bounds::of(limits);
    }

    /// Nothing of a message has arrived: the peer may close here without losing anything.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Prelude) && self.shared.is_empty()
    }

    /// Where to put the next bytes.
    pub fn target(&mut self) -> ReadTarget<'_> {
        let next_len = self.lengths.get(self.done.len()).copied().unwrap_or(0) as usize;
        if self.big.is_some() {
            return ReadTarget::Own { buffer: self.big_target(next_len) };
        }
        let frame_missing =
            if matches!(self.state, State::Frames) { next_len.saturating_sub(self.shared.len()) } else { 0 };
        let room = self.step.max(frame_missing);
        // A little left over is read into before more is asked for.
        let spare = |shared: &BytesMut| shared.capacity().saturating_sub(shared.len());
        if spare(&self.shared) < room.min(STEP_MIN / 4).max(frame_missing).max(16) {
            self.shared.reserve(room);
        }
        let room = room.min(spare(&self.shared));
        ReadTarget::Shared { buffer: &mut self.shared, room }
    }

    /// What is missing of the big frame, as far as there is memory for it.
    fn big_target(&mut self, len: usize) -> &mut [u8] {
        let allocate = self.allocate;
        let Some(big) = &mut self.big else { return &mut [] };
        if big.filled < len && big.spare().is_empty() {
            *big = Big::new(allocate, len, (*big).as_ref());
        }
        big.spare()
    }

    /// Tells how many bytes a read brought and how many it could have, so that busy connections read in larger gulps.
    pub fn took(&mut self, read: usize, room: usize) {
        if let Some(big) = &mut self.big {
            big.filled = big.filled.saturating_add(read.min(big.spare().len()));
        } else if read == room {
            self.step = self.step.saturating_mul(2).min(STEP_MAX);
        } else if read < self.step / 4 {
            self.step = (self.step / 2).max(STEP_MIN);
        }
    }

    /// Appends bytes that were read elsewhere.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Message>, WireError> {
        // A message that was complete already is given out first, and the bytes are kept for the next one.
        while !bytes.is_empty() {
            let taken = match self.target() {
                ReadTarget::Shared { buffer, .. } => {
                    buffer.extend_from_slice(bytes);
                    bytes.len()
                }
                ReadTarget::Own { buffer } => {
                    let taken = buffer.len().min(bytes.len());
                    if let (Some(to), Some(from)) = (buffer.get_mut(..taken), bytes.get(..taken)) {
                        to.copy_from_slice(from);
                    }
                    self.took(taken, taken);
                    taken
                }
            };
            bytes.advance(taken);
            if let Some(message) = self.next()? {
                if !bytes.is_empty() {
                    self.shared.extend_from_slice(bytes);
                }
                return Ok(Some(message));
            }
        }
        self.next()
    }

    /// The next complete message. None: more bytes are needed. After an error the connection is of no use.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: none is not the end")]
    pub fn next(&mut self) -> Result<Option<Message>, WireError> {
        loop {
            match self.state {
                State::Prelude => {
                    if self.shared.len() < 16 {
                        return Ok(None);
                    }
                    self.shared.get_u64_le();
                    let missing = self.shared.get_u64_le();
                    within("frames in a message", missing, self.limits.frames)?;
                    self.state = State::Lengths { missing };
                }
                State::Lengths { missing: 0 } => self.state = State::Frames,
                State::Lengths { missing } => {
                    let arrived = (self.shared.len() as u64 / 8).min(missing);
                    if arrived == 0 {
                        return Ok(None);
                    }
                    for _ in 0..arrived {
                        let len = self.shared.get_u64_le();
                        self.announce(len)?;
                    }
                    self.state = State::Lengths { missing: missing.saturating_sub(arrived) };
                }
                State::Frames => {
                    while let Some(&len) = self.lengths.get(self.done.len()) {
                        let Some(frame) = self.frame(len as usize) else { return Ok(None) };
                        self.done.push(frame);
                    }
                    return Ok(Some(self.take()));
                }
            }
        }
    }

    fn announce(&mut self, len: u64) -> Result<(), WireError> {
        let (what, limit) = if self.lengths.is_empty() {
            ("bytes in a head", self.limits.head)
        } else {
            ("bytes in a frame", self.limits.frame)
        };
        within(what, len, limit)?;
        self.announced = self.announced.saturating_add(len);
        within("bytes in a message", self.announced, self.limits.message)?;
        self.lengths.push(len);
        Ok(())
    }

    /// The frame of `len` bytes that comes next, if it is all there.
    fn frame(&mut self, len: usize) -> Option<Bytes> {
        if len <= BIG_FRAME_BYTES {
            return (self.shared.len() >= len).then(|| self.shared.split_to(len).freeze());
        }
        let (shared, allocate) = (&mut self.shared, self.allocate);
        let big = self.big.get_or_insert_with(|| {
            let arrived = shared.split_to(len.min(shared.len()));
            Big::new(allocate, len, &arrived)
        });
        if big.filled < len {
            return None;
        }
        self.big.take().map(Bytes::from_owner)
    }

    fn take(&mut self) -> Message {
        self.state = State::Prelude;
        self.lengths.clear();
        self.lengths.shrink_to(1024);
        self.announced = 0;
        let mut frames = std::mem::take(&mut self.done);
        // Moving everything up by one costs less than a queue would on every message.
        let head = if frames.is_empty() { Bytes::new() } else { frames.remove(0) };
        Message { head, frames }
    }
}

pub(super) const fn within(what: &'static str, announced: u64, limit: u64) -> Result<(), WireError> {
    if announced <= limit { Ok(()) } else { Err(WireError::TooLong { what, announced, limit }) }
}

// ---- writing ------------------------------------------------------------------------------------------------

/// Frames up to this are copied next to each other, because a system call per frame, or an entry in its gather list,
/// costs more. Longer ones are written from where they are.
const COPY_MAX_BYTES: usize = 4 << 10;
/// A copying buffer is closed at this size.
const COPY_BUFFER_BYTES: usize = 64 << 10;
/// Most small frames that a Python reader is told to take in one read: it keeps that buffer as long as any of them.
const TOTAL_SMALL_BYTES: u64 = 1 << 20;

/// How much a Python reader is told to read in one go, after the lengths: small frames that come first and are soon
/// done with, then the first buffer, all of its shards, because pieces that lie next to each other need not be copied
/// to make one of them. Source: `distributed/comm/tcp.py`, `_add_frames_header`.
fn first_read(mut lengths: impl Iterator<Item = u64>) -> u64 {
    let mut total = 0;
    let first = loop {
        match lengths.next() {
            None => return total,
            Some(len) if len > BIG_FRAME_BYTES as u64 => break len,
            Some(len) if len.saturating_add(total) > TOTAL_SMALL_BYTES => return total,
            Some(len) => total = len.saturating_add(total),
        }
    };
    let mut run = first;
    let mut last = first;
    while last == SHARD_BYTES as u64 {
        last = lengths.next().unwrap_or_default();
        run = last.saturating_add(run);
    }
    // The buffer keeps what was read along with it: that must be little.
    if total > 2048.max(run / 20) { total } else { run.saturating_add(total) }
}

/// Bytes on their way out, in pieces that need not touch.
#[derive(Debug, Default)]
pub struct Gather {
    parts: VecDeque<Bytes>,
    tail: Vec<u8>,
    len_bytes: usize,
}

impl Gather {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one message with its framing.
    pub fn push(&mut self, message: &Message) {
        let frames = std::iter::once(&message.head).chain(&message.frames);
        self.push_prelude(frames.map(|frame| frame.len() as u64));
        self.push_bytes(&message.head);
        for frame in &message.frames {
            self.push_bytes(frame);
        }
    }

    /// Appends what goes before a message's frames: the length of each, the head's first. The frames must follow.
    pub fn push_prelude(&mut self, lengths: impl Iterator<Item = u64> + Clone) {
        let frames = lengths.clone().count() as u64;
        // The number of frames, and the length of each.
        let prelude = frames.saturating_add(1).saturating_mul(8);
        let total = first_read(lengths.clone()).saturating_add(prelude);
        self.tail.extend_from_slice(&total.to_le_bytes());
        self.tail.extend_from_slice(&frames.to_le_bytes());
        for len in lengths {
            self.tail.extend_from_slice(&len.to_le_bytes());
        }
        self.len_bytes = self.len_bytes.saturating_add(8).saturating_add(prelude as usize);
    }

    /// Appends bytes unchanged.
    pub fn push_bytes(&mut self, bytes: &Bytes) {
        self.len_bytes = self.len_bytes.saturating_add(bytes.len());
        if bytes.len() <= COPY_MAX_BYTES {
            self.tail.extend_from_slice(bytes);
        } else {
            self.close_tail();
            self.parts.push_back(bytes.clone());
        }
        if self.tail.len() >= COPY_BUFFER_BYTES {
            self.close_tail();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    /// What is left to write. Unit: bytes.
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Everything was written.
    pub const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The first pieces that are left to write, in order; at least one unless everything was written.
    pub fn parts(&mut self) -> impl Iterator<Item = &Bytes> {
        self.close_tail();
        self.parts.iter()
    }

    /// This number of bytes was written.
    pub fn advance(&mut self, mut written: usize) {
        self.len_bytes = self.len_bytes.saturating_sub(written);
        while let Some(first) = self.parts.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written = written.saturating_sub(first.len());
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
