//! One message: its msgpack head and the payload frames that the head points at.

use bytes::Bytes;

/// One message as it travels. `frames[0]` is wire frame 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The msgpack part, wire frame 0.
    pub head: Bytes,
    /// Sub-headers and payloads.
    pub frames: Vec<Bytes>,
}

impl Message {
    /// Unit: bytes, all frames together, without framing.
    pub fn size_bytes(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum::<usize>().saturating_add(self.head.len())
    }
}
