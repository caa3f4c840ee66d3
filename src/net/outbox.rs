//! The writing half of a connection: a queue that never blocks its users, and what the writer task needs of it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::pace::WritePace;
use crate::base::{Limits, Text};
use crate::wire::{Encoder, Message, MessageBatch};

/// Queues messages for one connection. Clones share it; dropping the last one closes the connection after what was
/// queued. A peer that does not read is cut off at [`Limits::outbox_bytes`].
///
/// A connection can become a *stream*: [`Outbox::push`] appends operations to a batch, [`Outbox::kick`] says that
/// the present turn is over and the batch may go. [`WritePace`] says how long a busy stream gathers.
#[derive(Clone, Debug)]
pub struct Outbox {
    handle: Arc<Handle>,
}

/// Closes when the last clone of the outbox is gone; the writer holds the queue, but not this.
#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.end(End::Flush);
    }
}

/// A part of a file that takes the place of a frame of a message, which is empty there.
#[derive(Clone, Debug)]
pub struct FileFrame {
    /// Index of the frame in [`Message::frames`].
    pub at: usize,
    /// The file. It may lose its name, but must stay as it is until it is sent.
    pub file: Arc<File>,
    /// Where the frame begins. Unit: bytes.
    pub offset: u64,
    /// The frame's length. Unit: bytes.
    pub len: u64,
}

/// A message on its way out.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) message: Message,
    /// In the order of their places.
    pub(super) files: Vec<FileFrame>,
}

/// How a connection is to end, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// In use.
    Open,
    /// What is queued is still written.
    Flush,
    /// Nothing is written any more; the reading half ends too.
    Gone,
}

/// What the writer task does next.
#[derive(Debug)]
pub(super) enum Work {
    /// Write these; they count as queued until [`Queue::written`].
    Write(Vec<Outgoing>),
    /// Everything was written: close.
    Close,
}

/// The shared part of an outbox.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    end: watch::Sender<End>,
    peer: Text,
    limit_bytes: u64,
    started: Instant,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Outgoing>,
    /// Messages that are queued or being written.
    queued_bytes: u64,
    batch: MessageBatch,
    /// The batch may go as soon as the pace allows.
    kicked: bool,
    /// The writer will look again by itself when the pace allows.
    armed: bool,
    pace: WritePace,
}

impl Outbox {
    /// An empty outbox, and the queue for its writer.
    pub(super) fn new(peer: Text, limits: &Limits) -> (Self, Arc<Queue>) {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                messages: VecDeque::new(),
                queued_bytes: 0,
                batch: MessageBatch::new(),
                kicked: false,
                armed: false,
                pace: WritePace::at_once(),
            }),
            wake: Notify::new(),
            end: watch::Sender::new(End::Open),
            peer,
            limit_bytes: limits.outbox_bytes,
            started: Instant::now(),
        });
        (Self { handle: Arc::new(Handle { queue: queue.clone() }) }, queue)
    }

    /// Queues one message. What was pushed before goes before it. Sent to a closed outbox, it is dropped.
    pub fn send(&self, message: Message) {
        self.send_with_files(message, Vec::new());
    }

    /// As [`Outbox::send`], with frames that are read from files while they are written; `files` in the order of their
    /// places. A file that is shorter than it should be breaks the connection.
    pub fn send_with_files(&self, message: Message, files: Vec<FileFrame>) {
        let queue = &self.handle.queue;
        if queue.end_now() != End::Open {
            return;
        }
        let mut state = queue.lock();
        state.close_batch();
        state.enqueue(Outgoing { message, files });
        let fits = state.fits(queue.limit_bytes);
        drop(state);
        queue.wake_or_cut(fits);
    }

    /// How long batches gather from now on; [`WritePace::at_once`] until this is called.
    pub fn set_pace(&self, pace: WritePace) {
        self.handle.queue.lock().pace = pace;
    }

    /// Appends one operation to the batch: `write` must write exactly one map, and may not use this outbox.
    /// Nothing is written before a kick. On a closed outbox `write` is not called.
    pub fn push(&self, write: impl FnOnce(&mut Encoder)) {
        let queue = &self.handle.queue;
        if queue.end_now() != End::Open {
            return;
        }
        let mut state = queue.lock();
        state.batch.push(write);
        let fits = state.fits(queue.limit_bytes);
        drop(state);
        if !fits {
            queue.wake_or_cut(false);
        }
    }

    /// The batch may go, now or when the pace allows. Cheap when nothing was pushed.
    pub fn kick(&self) {
        let queue = &self.handle.queue;
        let mut state = queue.lock();
        if state.batch.is_empty() || state.kicked && state.armed {
            return;
        }
        state.kicked = true;
        drop(state);
        queue.wake.notify_one();
    }

    /// Writes what is queued (batch included), then closes.
    pub fn close(&self) {
        self.handle.queue.end(End::Flush);
    }

    /// Closes without writing anything more; the reading half ends at once.
    pub fn abort(&self) {
        self.handle.queue.end(End::Gone);
    }

    /// Nothing more is accepted: closing, closed, aborted, or the connection broke.
    pub fn is_closed(&self) -> bool {
        self.handle.queue.end_now() != End::Open
    }

    /// Waits until the writing half is closed and its last bytes are handed to the operating system.
    pub async fn closed(&self) {
        self.handle.queue.gone().await;
    }

    /// What waits to be written. Unit: bytes.
    pub fn queued_bytes(&self) -> u64 {
        let state = self.handle.queue.lock();
        state.queued_bytes.saturating_add(state.batch.len_bytes() as u64)
    }
}

impl State {
    fn enqueue(&mut self, outgoing: Outgoing) {
        self.queued_bytes = self.queued_bytes.saturating_add(outgoing.message.size_bytes() as u64);
        self.messages.push_back(outgoing);
    }

    fn close_batch(&mut self) -> usize {
        let items = self.batch.len();
        self.kicked = false;
        if items > 0 {
            let message = self.batch.finish();
            self.enqueue(Outgoing { message, files: Vec::new() });
        }
        items
    }

    /// One message may be larger than the limit (a gather of everything), a pile of them may not.
    fn fits(&self, limit_bytes: u64) -> bool {
        let pieces = self.messages.len().saturating_add(usize::from(!self.batch.is_empty()));
        pieces <= 1 || self.queued_bytes.saturating_add(self.batch.len_bytes() as u64) <= limit_bytes
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside `push` leaves a broken batch at worst, which only its own peer sees.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end_now(&self) -> End {
        *self.end.borrow()
    }

    /// Waits until nothing is written any more.
    pub(super) async fn gone(&self) {
        let mut end = self.end.subscribe();
        // The sender lives in `self`, so this can't fail.
        let _ = end.wait_for(|end| *end == End::Gone).await;
    }

    /// Ends the connection; an end is never taken back.
    pub(super) fn end(&self, to: End) {
        let news = self.end.send_if_modified(|end| {
            let later = to > *end;
            *end = to.max(*end);
            later
        });
        if !news {
            return;
        }
        if to == End::Gone {
            let mut state = self.lock();
            state.messages = VecDeque::new();
            state.batch = MessageBatch::new();
            state.queued_bytes = 0;
        }
        self.wake.notify_one();
    }

    fn wake_or_cut(&self, fits: bool) {
        if fits {
            self.wake.notify_one();
        } else if self.end_now() != End::Gone {
            tracing::warn!(peer = %self.peer, limit_bytes = self.limit_bytes, "peer does not read, connection cut");
            self.end(End::Gone);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits for something to write, or for the end.
    pub(super) async fn work(&self) -> Work {
        loop {
            let due_us = {
                let mut state = self.lock();
                let end = self.end_now();
                if end == End::Gone {
                    return Work::Close;
                }
                let now_us = self.now_us();
                let due_us = state.pace.due_us();
                let batch_goes = end == End::Flush || state.kicked && due_us <= now_us;
                if batch_goes {
                    let items = state.close_batch();
                    state.pace.wrote(now_us, items);
                }
                state.armed = false;
                if !state.messages.is_empty() {
                    return Work::Write(std::mem::take(&mut state.messages).into());
                }
                if end == End::Flush {
                    return Work::Close;
                }
                state.armed = state.kicked;
                state.kicked.then_some(due_us)
            };
            match due_us {
                None => self.wake.notified().await,
                Some(due_us) => {
                    let due = self.started.checked_add(Duration::from_micros(due_us)).unwrap_or_else(Instant::now);
                    let _ = timeout_at(due, self.wake.notified()).await;
                }
            }
        }
    }

    /// What [`Queue::work`] gave out is written.
    pub(super) fn written(&self, bytes: u64) {
        let mut state = self.lock();
        state.queued_bytes = state.queued_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::base::Value;

    fn text(text: &str) -> Message {
        Message::from_value(&Value::str(text))
    }

    fn outbox(outbox_bytes: u64) -> (Outbox, Arc<Queue>) {
        Outbox::new("tcp://peer".into(), &Limits { outbox_bytes, ..Limits::default() })
    }

    /// What the writer would write now; `None`: it waits.
    fn written(queue: &Queue) -> Option<Vec<Message>> {
        match queue.work().now_or_never()? {
            Work::Write(messages) => Some(messages.into_iter().map(|outgoing| outgoing.message).collect()),
            Work::Close => Some(Vec::new()),
        }
    }

    #[test]
    fn messages_are_written_in_the_order_they_were_sent() {
        let (outbox, queue) = outbox(1 << 20);
        ["a", "b", "c"].iter().for_each(|name| outbox.send(text(name)));
        assert_eq!(written(&queue), Some(vec![text("a"), text("b"), text("c")]));
        assert_eq!(written(&queue), None, "nothing is left");
    }

    #[test]
    fn pushed_operations_wait_for_a_kick_and_travel_as_one_array() {
        let (outbox, queue) = outbox(1 << 20);
        outbox.push(|out| out.put_i64(1));
        outbox.push(|out| out.put_i64(2));
        assert_eq!(written(&queue), None, "the turn is not over");
        outbox.kick();
        let messages = written(&queue).expect("the batch goes");
        let values: Vec<Value> =
            messages.iter().map(|message| message.to_value(&Limits::default()).expect("a value")).collect();
        assert_eq!(values, [Value::Array(vec![Value::Int(1), Value::Int(2)])]);
    }

    #[test]
    fn what_was_pushed_goes_before_what_is_sent_after_it() {
        let (outbox, queue) = outbox(1 << 20);
        outbox.push(|out| out.put_i64(1));
        outbox.send(text("later"));
        let messages = written(&queue).expect("both go");
        assert_eq!((messages.len(), messages.last()), (2, Some(&text("later"))));
    }

    #[test]
    fn a_closed_outbox_writes_what_it_has_and_takes_nothing_more() {
        let (outbox, queue) = outbox(1 << 20);
        outbox.push(|out| out.put_i64(1));
        outbox.close();
        outbox.send(text("too late"));
        outbox.push(|_| panic!("not called on a closed outbox"));
        assert!(outbox.is_closed());
        assert_eq!(written(&queue).map(|messages| messages.len()), Some(1), "without a kick, since it is the end");
        assert_eq!(written(&queue), Some(Vec::new()), "then the connection closes");
    }

    #[test]
    fn the_last_clone_that_is_dropped_closes_the_connection() {
        let (outbox, queue) = outbox(1 << 20);
        let other = outbox.clone();
        drop(outbox);
        assert_eq!(written(&queue), None);
        other.send(text("last words"));
        drop(other);
        assert_eq!(written(&queue), Some(vec![text("last words")]));
        assert_eq!(written(&queue), Some(Vec::new()));
    }

    #[test]
    fn an_aborted_connection_writes_nothing_more() {
        let (outbox, queue) = outbox(1 << 20);
        outbox.send(text("never written"));
        outbox.abort();
        assert_eq!(written(&queue), Some(Vec::new()));
        assert_eq!(outbox.queued_bytes(), 0);
        assert_eq!(queue.end_now(), End::Gone);
        outbox.close();
        assert_eq!(queue.end_now(), End::Gone, "an end is never taken back");
    }

    /// Goal: the limit bounds what piles up, not how large one result may be.
    #[test]
    fn one_message_may_be_larger_than_the_limit_and_a_pile_may_not() {
        let big = || Message { head: text("x").head, frames: vec![vec![0u8; 2000].into()] };
        let (outbox, queue) = outbox(1000);
        outbox.send(big());
        assert!(!outbox.is_closed());
        outbox.send(text("one too many"));
        assert!(outbox.is_closed());
        assert_eq!(written(&queue), Some(Vec::new()), "cut off: nothing is written any more");
    }

    #[test]
    fn a_batch_counts_against_the_limit_before_it_is_kicked() {
        let (outbox, _queue) = outbox(1000);
        outbox.send(text("first"));
        (0..2000).for_each(|number| outbox.push(|out| out.put_i64(number)));
        assert!(outbox.is_closed());
    }

    #[test]
    fn bytes_count_as_queued_until_they_are_written() {
        let (outbox, queue) = outbox(1 << 20);
        outbox.send(text("abc"));
        let size = outbox.queued_bytes();
        assert!(size > 3 && written(&queue).is_some());
        assert_eq!(outbox.queued_bytes(), size, "the writer has them, the peer has not");
        queue.written(size);
        assert_eq!(outbox.queued_bytes(), 0);
    }
}
