//! Dask's WebSocket framing: one binary WebSocket message with the number of frames, then one per frame.
//!
//! Source: `distributed/comm/ws.py`.

use bytes::Bytes;

use super::error::WireError;
use super::frame::within;
use super::message::Message;
use crate::base::Limits;

/// The payloads of the binary WebSocket messages that carry `message`, in order.
pub fn encode(message: &Message) -> impl Iterator<Item = Bytes> {
    let count = (message.frames.len() as u64).saturating_add(1).to_le_bytes();
    std::iter::once(Bytes::copy_from_slice(&count))
        .chain(std::iter::once(message.head.clone()))
        .chain(message.frames.iter().cloned())
}

/// Puts messages together from WebSocket payloads.
#[derive(Debug)]
pub struct Assembler {
    frame_bytes: u64,
    message_bytes: u64,
    head_bytes: u64,
    frames: u64,
    /// Frames still to come; none between messages.
    missing: Option<u64>,
    arrived_bytes: u64,
    done: Vec<Bytes>,
}

impl Assembler {
    /// An assembler at the start of a connection.
    pub const fn new(limits: &Limits) -> Self {
        Self {
            frame_bytes: limits.frame_bytes,
            message_bytes: limits.message_bytes,
            head_bytes: limits.head_bytes,
            frames: limits.frames,
            missing: None,
            arrived_bytes: 0,
            done: Vec::new(),
        }
    }

    /// Other limits from now on: a peer that has shaken hands may say more.
    pub const fn set_limits(&mut self, limits: &Limits) {
        self.frame_bytes = limits.frame_bytes;
        self.message_bytes = limits.message_bytes;
        self.head_bytes = limits.head_bytes;
        self.frames = limits.frames;
    }

    /// Nothing of a message has arrived.
    pub const fn is_idle(&self) -> bool {
        self.missing.is_none()
    }

    /// Takes the next payload; gives the message that it completes.
    pub fn push(&mut self, payload: Bytes) -> Result<Option<Message>, WireError> {
        let missing = match self.missing {
            None => {
                let count: [u8; 8] =
                    payload.as_ref().try_into().map_err(|_| WireError::Unexpected { what: "a frame count" })?;
                let count = u64::from_le_bytes(count);
                within("frames in a message", count, self.frames)?;
                count
            }
            Some(missing) => {
                let len = payload.len() as u64;
                let limit = if self.done.is_empty() { self.head_bytes } else { self.frame_bytes };
                within("bytes in a frame", len, limit)?;
                self.arrived_bytes = self.arrived_bytes.saturating_add(len);
                within("bytes in a message", self.arrived_bytes, self.message_bytes)?;
                self.done.push(payload);
                missing.saturating_sub(1)
            }
        };
        if missing > 0 {
            self.missing = Some(missing);
            return Ok(None);
        }
        self.missing = None;
        self.arrived_bytes = 0;
        let mut frames = std::mem::take(&mut self.done);
        let head = if frames.is_empty() { Bytes::new() } else { frames.remove(0) };
        Ok(Some(Message { head, frames }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(frames: &[&'static [u8]]) -> Message {
        Message {
            head: Bytes::from_static(b"\xc0"),
            frames: frames.iter().map(|frame| Bytes::from_static(frame)).collect(),
        }
    }

    /// Puts payloads together; the messages that came of it, or the first error.
    fn assembled(limits: &Limits, payloads: impl IntoIterator<Item = Bytes>) -> Result<Vec<Message>, WireError> {
        let mut assembler = Assembler::new(limits);
        let mut messages = Vec::new();
        for payload in payloads {
            messages.extend(assembler.push(payload)?);
        }
        assert!(assembler.is_idle(), "whole messages only");
        Ok(messages)
    }

    fn count(frames: u64) -> Bytes {
        Bytes::copy_from_slice(&frames.to_le_bytes())
    }

    #[test]
    fn messages_in_a_row_come_back_as_they_were_sent() {
        let sent = [message(&[b"abc", b""]), message(&[]), message(&[b"x"])];
        let payloads: Vec<Bytes> = sent.iter().flat_map(encode).collect();
        assert_eq!(assembled(&Limits::default(), payloads), Ok(sent.to_vec()));
    }

    #[test]
    fn a_message_is_complete_with_its_last_frame_and_not_before() {
        let mut assembler = Assembler::new(&Limits::default());
        let payloads: Vec<Bytes> = encode(&message(&[b"abc"])).collect();
        let (last, first) = payloads.split_last().expect("three payloads");
        for payload in first {
            assert_eq!(assembler.push(payload.clone()), Ok(None));
            assert!(!assembler.is_idle());
        }
        assert_eq!(assembler.push(last.clone()), Ok(Some(message(&[b"abc"]))));
    }

    #[test]
    fn a_message_begins_with_the_number_of_its_frames() {
        for payload in [&b""[..], b"1234567", b"123456789"] {
            let error = assembled(&Limits::default(), [Bytes::copy_from_slice(payload)]);
            assert_eq!(error, Err(WireError::Unexpected { what: "a frame count" }));
        }
    }

    #[test]
    fn each_limit_is_refused_where_it_is_passed() {
        let limits = Limits { frames: 3, head_bytes: 10, frame_bytes: 20, message_bytes: 30, ..Limits::default() };
        let bytes = |len: usize| Bytes::from(vec![0; len]);
        let refused = |payloads: Vec<Bytes>| match assembled(&limits, payloads) {
            Err(WireError::TooLong { what, announced, limit }) => (what, announced, limit),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(vec![count(4)]), ("frames in a message", 4, 3));
        assert_eq!(refused(vec![count(1), bytes(11)]), ("bytes in a frame", 11, 10));
        assert_eq!(refused(vec![count(2), bytes(10), bytes(21)]), ("bytes in a frame", 21, 20));
        assert_eq!(refused(vec![count(3), bytes(10), bytes(20), bytes(1)]), ("bytes in a message", 31, 30));
    }
}
