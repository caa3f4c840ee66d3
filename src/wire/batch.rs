//! Gathers stream operations into one message: an array whose length is known last.

use super::encoder::Encoder;
use super::message::Message;

/// The marker of an array whose length takes four bytes; the length is filled in at the end.
const ARRAY_32: [u8; 5] = [0xdd, 0, 0, 0, 0];

/// An array of operations under way.
#[derive(Debug, Default)]
pub struct MessageBatch {
    encoder: Encoder,
    items: u32,
}

impl MessageBatch {
    /// A batch without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one item: `write` must write exactly one value (a map with `op`).
    pub fn push(&mut self, write: impl FnOnce(&mut Encoder)) {
        if self.items == 0 {
            self.encoder.warm_up();
            self.encoder.put_raw(&ARRAY_32);
        }
        self.items = self.items.saturating_add(1);
        write(&mut self.encoder);
    }

    /// How many items were pushed.
    pub const fn len(&self) -> usize {
        self.items as usize
    }

    /// No item was pushed.
    pub const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Unit: bytes, frames included.
    pub fn len_bytes(&self) -> usize {
        self.encoder.len_bytes()
    }

    /// The message, an array even when it is empty. The batch is empty afterwards and may be used again.
    pub fn finish(&mut self) -> Message {
        if self.items == 0 {
            self.encoder.put_array(0);
        } else if let Some(length) = self.encoder.head.get_mut(1..5) {
            length.copy_from_slice(&self.items.to_be_bytes());
        }
        self.items = 0;
        self.encoder.finish()
    }
}
