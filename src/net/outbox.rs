//! The writing half of a connection: a queue, and one task that writes it out.

use super::pace::Pace;
use crate::wire::{Encoder, Message};

/// Queues messages for one connection. Clones share it; dropping the last one closes the connection after what was
/// queued. A peer that does not read is cut off at [`crate::base::Limits::outbox_bytes`].
///
/// A connection can become a *stream*: [`Outbox::push`] appends operations to a batch, [`Outbox::kick`] says that
/// the present turn is over and the batch may go. [`Pace`] says how long a busy stream gathers.
#[derive(Clone, Debug)]
pub struct Outbox {}

#[rustfmt::skip]
impl Outbox {
    /// Queues one message. What was pushed before goes before it. Sent to a closed outbox, it is dropped.
    pub fn send(&self, _message: Message) {}
    /// How long batches gather from now on; [`Pace::at_once`] until this is called.
    pub fn set_pace(&self, _pace: Pace) {}
    /// Appends one operation to the batch: `write` must write exactly one map. Nothing is written before a kick.
    pub fn push(&self, _write: impl FnOnce(&mut Encoder)) {}
    /// The batch may go, now or when the pace allows. Cheap when nothing was pushed.
    pub fn kick(&self) {}
    /// Writes what is queued (batch included), then closes.
    pub fn close(&self) {}
    /// Closes without writing anything more.
    pub fn abort(&self) {}
    /// Nothing more will be written: closed, aborted, or the connection broke.
    pub fn is_closed(&self) -> bool { false }
    /// Waits until the writing half is closed and its last bytes are handed to the operating system.
    pub async fn closed(&self) {}
    /// What waits to be written. Unit: bytes.
    pub fn queued_bytes(&self) -> u64 { 0 }
}
