//! Framing against messages recorded from stock clients, workers and schedulers (tests/golden/wire, Dask 2026.8.0).

use super::*;
use crate::base::{Rng, Value};
use crate::wire::hello::Handshake;
use crate::wire::op::decode_stream;

macro_rules! golden {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../tests/golden/wire/", $name, ".bin")).as_slice())),*]
    };
}

/// Name and bytes of every recorded message.
fn goldens() -> [(&'static str, &'static [u8]); 11] {
    golden![
        "compute-task",
        "gather",
        "handshake",
        "key-in-memory",
        "releases",
        "result",
        "scatter",
        "set-metadata",
        "task-erred",
        "task-finished",
        "update-graph"
    ]
}

fn decode(bytes: &[u8]) -> Message {
    Decoder::new(&Limits::default()).feed(bytes).expect("recorded bytes are valid").expect("and complete")
}

fn written(message: &Message) -> Vec<u8> {
    let mut gather = Gather::new();
    gather.push(message);
    let mut out = Vec::new();
    while !gather.is_empty() {
        let part = gather.parts().next().expect("something is left").clone();
        // In odd portions, as a socket would take it.
        let portion = part.get(..part.len().min(1_000_003)).expect("within").to_vec();
        gather.advance(portion.len());
        out.extend_from_slice(&portion);
    }
    out
}

/// Goal: wherever the bytes stop, the decoder goes on there and finds the same message, and nothing too early.
#[test]
fn recorded_messages_decode_at_every_cut() {
    for (name, bytes) in goldens() {
        let whole = decode(bytes);
        let step = if bytes.len() > 10_000 { 997 } else { 1 };
        for cut in (0..bytes.len()).step_by(step) {
            let (first, second) = bytes.split_at(cut);
            let mut decoder = Decoder::new(&Limits::default());
            assert_eq!(decoder.feed(first), Ok(None), "{name} at {cut}");
            assert_eq!(decoder.is_idle(), cut == 0, "{name} at {cut}");
            assert_eq!(decoder.feed(second), Ok(Some(whole.clone())), "{name} at {cut}");
            assert!(decoder.is_idle());
        }
    }
}

/// Goal: messages that arrive in one read come out one by one, whatever their sizes.
#[test]
fn messages_in_a_row_come_out_in_order() {
    let all: Vec<u8> = goldens().iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    for chunk in [1, 7, 100_000, all.len()] {
        let mut decoder = Decoder::new(&Limits::default());
        let mut found = Vec::new();
        for piece in all.chunks(chunk) {
            found.extend(decoder.feed(piece).expect("valid"));
            while let Some(message) = decoder.next().expect("valid") {
                found.push(message);
            }
        }
        let expected: Vec<Message> = goldens().iter().map(|(_, bytes)| decode(bytes)).collect();
        assert!(found == expected, "chunks of {chunk}");
    }
}

/// Goal: what we write is what stock would read: same frames, and a total that ends on a frame boundary.
#[test]
fn what_is_written_reads_back() {
    let mut messages: Vec<Message> = goldens().iter().map(|(_, bytes)| decode(bytes)).collect();
    let sizes = [0, 1, 4096, 4097, 65_536, 65_537, 3_000_000, 0, 5];
    let frames = sizes.iter().map(|&size| Bytes::from(vec![7u8; size])).collect();
    messages.push(Message { head: Bytes::from_static(b"\x01"), frames });
    for message in &messages {
        let bytes = written(message);
        assert!(decode(&bytes) == *message);
        let total = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
        let mut end = 8 + 8 * (message.frames.len() as u64 + 1);
        let mut boundaries = vec![end];
        for frame in std::iter::once(&message.head).chain(&message.frames) {
            end += frame.len() as u64;
            boundaries.push(end);
        }
        assert!(boundaries.contains(&total), "{total} of {boundaries:?}");
    }
    let (_, handshake) = goldens()[2];
    assert_eq!(written(&decode(handshake)), handshake);
}

/// Goal: values survive being decoded and encoded again, frames renumbered and orphans dropped.
#[test]
fn recorded_messages_encode_back_to_equal_values() {
    let limits = Limits::default();
    for (name, bytes) in goldens() {
        let value = decode(bytes).to_value(&limits).expect(name);
        let again = Message::from_value(&value);
        assert!(again.to_value(&limits).expect(name) == value, "{name}");
    }
}

/// Goal: no bytes make anything panic or allocate by announcement: every truncation and many corruptions of recorded
/// messages, and plain noise.
#[test]
fn broken_bytes_are_errors_and_nothing_else() {
    let limits = Limits { frame_bytes: 1 << 20, message_bytes: 1 << 20, frames: 1000, ..Limits::default() };
    let mut rng = Rng::new(7);
    let read = |message: &Message| {
        let _ = message.to_value(&limits);
        let _ = decode_stream(message, &limits);
        let _ = Handshake::decode(message, &limits);
    };
    for (_, bytes) in goldens() {
        let whole = decode(bytes);
        for cut in 0..whole.head.len() {
            read(&Message { head: whole.head.slice(..cut), frames: whole.frames.clone() });
        }
        for _ in 0..2000 {
            let mut head = whole.head.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(head.len());
                head[at] = rng.next_u64() as u8;
            }
            let keep = rng.below(whole.frames.len() + 1);
            read(&Message { head: head.into(), frames: whole.frames[..keep].to_vec() });
        }
    }
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..rng.below(64)).map(|_| rng.next_u64() as u8).collect();
        let mut decoder = Decoder::new(&limits);
        let _ = decoder.feed(&noise);
        read(&Message { head: noise.into(), frames: Vec::new() });
    }
}

/// Goal: announcements beyond the limits are refused from the announcement alone.
#[test]
fn announcements_beyond_the_limits_are_refused() {
    let limits = Limits { frames: 10, frame_bytes: 1000, message_bytes: 1500, head_bytes: 100, ..Limits::default() };
    let announce = |lengths: &[u64]| {
        let mut bytes = vec![0u8; 8];
        bytes.extend_from_slice(&(lengths.len() as u64).to_le_bytes());
        bytes.extend(lengths.iter().flat_map(|len| len.to_le_bytes()));
        Decoder::new(&limits).feed(&bytes)
    };
    assert_eq!(announce(&[100, 1000]), Ok(None));
    let too_long = |what, announced, limit| Err(WireError::TooLong { what, announced, limit });
    assert_eq!(announce(&[0; 11]), too_long("frames in a message", 11, 10));
    assert_eq!(announce(&[101]), too_long("bytes in a head", 101, 100));
    assert_eq!(announce(&[1, 1001]), too_long("bytes in a frame", 1001, 1000));
    assert_eq!(announce(&[1, 1000, 1000]), too_long("bytes in a message", 2001, 1500));
    assert_eq!(announce(&[1, u64::MAX]), too_long("bytes in a frame", u64::MAX, 1000));
}

/// Goal: a peer that announces much and sends little costs little.
#[test]
fn announced_bytes_are_not_allocated() {
    let mut bytes = vec![0u8; 8];
    bytes.extend_from_slice(&2u64.to_le_bytes());
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(&(8u64 << 30).to_le_bytes());
    bytes.extend_from_slice(&[0xc0, 1, 2, 3]);
    let mut decoder = Decoder::new(&Limits::default());
    assert_eq!(decoder.feed(&bytes), Ok(None));
    let ReadTarget::Own { buffer } = decoder.target() else { panic!("a big frame has its own buffer") };
    assert!(buffer.len() <= BIG_FIRST_BYTES);
}

/// Goal: a frame longer than what its announcement is believed comes out whole, wherever its memory comes from.
#[test]
fn a_frame_outgrows_its_first_memory() {
    let outside: Allocate = |len| (len < 1 << 30).then(|| -> Box<dyn FrameMemory> { Box::new(vec![0; len]) });
    let nowhere: Allocate = |_| None;
    let frame: Vec<u8> = (0..BIG_FIRST_BYTES + 1000).map(|at| (at / 1000) as u8).collect();
    let message = Message { head: Bytes::from_static(b"\x01"), frames: vec![frame.into(), Bytes::from_static(b"end")] };
    let bytes = written(&message);
    for allocate in [outside, nowhere] {
        let mut decoder = Decoder::with_memory(&Limits::default(), allocate);
        let mut found = None;
        for piece in bytes.chunks(20_000_001) {
            found = found.or(decoder.feed(piece).expect("valid"));
        }
        assert!(found.as_ref() == Some(&message));
        assert!(decoder.is_idle());
    }
}

/// Goal: the pieces of one buffer are to be read in one go, so that no reader must put them together; other buffers
/// are not, because they would keep each other.
#[test]
fn a_reader_takes_the_pieces_of_one_buffer_together() {
    const SHARD: u64 = SHARD_BYTES as u64;
    let read = |lengths: &[u64]| first_read(lengths.iter().copied());
    assert_eq!(read(&[]), 0);
    assert_eq!(read(&[100, 20]), 120);
    assert_eq!(read(&[100, 2_000_000, 2_000_000]), 2_000_100);
    assert_eq!(read(&[100, SHARD, SHARD, 7, 9]), 100 + 2 * SHARD + 7);
    assert_eq!(read(&[100, SHARD]), 100 + SHARD);
    assert_eq!(read(&[60_000, 70_000, 70_000]), 60_000);
    assert_eq!(read(&[60_000; 100]), 17 * 60_000);
}

/// Goal: deep nesting is refused, not recursed into.
#[test]
fn deep_nesting_is_refused() {
    let limits = Limits::default();
    let deep = Message { head: vec![0x91; 100_000].into(), frames: Vec::new() };
    assert_eq!(deep.to_value(&limits), Err(WireError::Deep { limit: 512 }));
    let mut fine = vec![0x91; 500];
    fine.push(0xc0);
    assert!(matches!(Message { head: fine.into(), frames: Vec::new() }.to_value(&limits), Ok(Value::Array(_))));
}

/// Goal: the handshake is stock's, byte for byte but for the version.
#[test]
fn the_handshake_is_stocks() {
    let (_, recorded) = goldens()[2];
    let recorded = Handshake::decode(&decode(recorded), &Limits::default()).expect("a recorded handshake");
    assert_eq!(recorded.pickle_protocol, 5);
    assert_eq!(recorded.compression, None);
    let hex = "83ab636f6d7072657373696f6ec0a6707974686f6e93030b07af7069636b6c652d70726f746f636f6c05";
    let ours = Handshake { python: [3, 11, 7], ..Handshake::default() }.encode();
    assert_eq!(data_encoding::HEXLOWER.encode(&ours.head), hex);
}
