//! What executors say is read at every cut and survives nonsense; what nodes say has the shape that Python reads.

use super::*;
use crate::wire::frame::{Decoder, Gather};

fn framed(messages: &[Message]) -> Vec<u8> {
    let mut gather = Gather::new();
    messages.iter().for_each(|message| gather.push(message));
    gather.parts().flat_map(|part| part.to_vec()).collect()
}

fn payload(bytes: &'static [u8]) -> Arc<Opaque> {
    let head = Message::from_value(&Value::map([("num-sub-frames", Value::Int(1))])).head;
    Arc::new(Opaque { head, frames: vec![bytes.into()] })
}

/// Three answers of a slot: a class that is new, the same by its number with a small value, an error; and other news.
fn answers() -> [Message; 2] {
    let ok = |stamp: i64, kind: Value, value: Value| {
        let (start, stop) = (Value::Float(1.0), Value::Float(1.5));
        Value::Array(vec!["ok".into(), Value::Int(stamp), start, stop, Value::Int(9), Value::Int(28), kind, value])
    };
    let kind = Value::Array(vec![Value::Bin(b"K".as_slice().into()), "int".into()]);
    let texts = |words: &[&str]| words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>();
    let erred = [
        vec!["erred".into(), Value::Int(3), Value::Float(1.0), Value::Float(2.0), Value::Int(9)],
        vec![Value::Bin(b"E".as_slice().into()), Value::Nil],
        texts(&["ValueError('x')", "line 1"]),
    ]
    .concat();
    let recalled = Value::Array(vec!["recalled".into(), Value::Array(vec![Value::Int(4), Value::Int(5)])]);
    [
        vec![ok(1, kind, Value::Nil), ok(2, Value::Int(0), Value::Serialized(payload(b"v")))],
        vec![Value::Array(erred), recalled],
    ]
    .map(|entries| Message::from_value(&Value::Array(entries)))
}

fn read_all(bytes: &[u8], cut: usize) -> Vec<SlotNews> {
    let (mut decoder, mut kinds) = (Decoder::new(&Limits::default()), KindTable::default());
    let mut news = Vec::new();
    for part in [&bytes[..cut], &bytes[cut..]] {
        let mut message = decoder.feed(part).expect("well framed");
        while let Some(found) = message {
            news.extend(kinds.slot_news(&found, &Limits::default()).expect("well formed"));
            message = decoder.next().expect("well framed");
        }
    }
    news
}

#[test]
fn answers_are_read_alike_wherever_the_bytes_were_cut() {
    let bytes = framed(&answers());
    let whole = read_all(&bytes, bytes.len());
    let [SlotNews::Ended(first), SlotNews::Ended(second), SlotNews::Ended(third), SlotNews::Recalled { stamps }] =
        whole.as_slice()
    else {
        panic!("{whole:?}")
    };
    let RunResult::Success { kind, typename, value: None, .. } = &first.result else { panic!("{first:?}") };
    let RunResult::Success { kind: same, value: Some(value), size_bytes: 28, .. } = &second.result else {
        panic!("{second:?}")
    };
    assert_eq!((kind, &**typename, same, value), (&Bytes::from_static(b"K"), "int", kind, &payload(b"v")));
    assert!(matches!(&third.result, RunResult::Failure { traceback: None, .. }) && third.stamp == 3);
    assert_eq!(stamps, &[4, 5]);
    for cut in 0..bytes.len() {
        assert_eq!(read_all(&bytes, cut), whole, "cut at {cut}");
    }
}

/// Goal: user code may write what it likes into our sockets; it ends its own worker and nothing else.
#[test]
fn nonsense_is_an_error_and_never_a_panic() {
    let limits = Limits::default();
    let good = answers().map(|message| message.head);
    let mut state = 42u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..30_000 {
        let mut bytes = good[round % good.len()].to_vec();
        for _ in 0..1 + round % 3 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        if round % 5 == 0 {
            bytes.truncate(next() % (bytes.len() + 1));
        }
        let message = Message { head: bytes.into(), frames: Vec::new() };
        let _ = KindTable::default().slot_news(&message, &limits);
        let _ = (PorterNews::decode(&message, &limits), FacadeNews::decode(&message, &limits));
        let _ = Inquiry::decode(&message, &limits);
    }
    let unknown = Message::from_value(&Value::Array(vec!["what".into()]));
    assert!(FacadeNews::decode(&unknown, &limits).is_err() && Inquiry::decode(&unknown, &limits).is_err());
}

/// Goal: references of a message that is passed on still lead to its own frames, both ways.
#[test]
fn a_message_within_a_message_keeps_its_frames() {
    let inner = Message::from_value(&Value::map([("op", "x".into()), ("data", Value::Serialized(payload(b"d")))]));
    let outer = ToControl::Request { connection: 7, peer: &"tcp://p:1".into(), message: &inner }.encode();
    assert_eq!(outer.frames, inner.frames);
    let words = Message { head: outer.head, frames: Vec::new() }.to_value(&Limits::default()).expect("msgpack");
    assert_eq!(words.items().and_then(|words| words[3].as_bin().cloned()), Some(inner.head.clone()));
    let answer = Value::Array(vec!["answer".into(), Value::Int(7), Value::Bin(inner.head.clone())]);
    let answer = Message { frames: inner.frames.clone(), ..Message::from_value(&answer) };
    let read = FacadeNews::decode(&answer, &Limits::default());
    assert_eq!(read, Ok(FacadeNews::Answer { connection: 7, message: inner }));
}

#[test]
fn a_run_carries_its_spec_as_frames() {
    let spec = payload(b"spec");
    let mut batch = MessageBatch::new();
    let (key, annotations) = (Key::text("x"), Value::Nil);
    for stamp in [1, 2] {
        let (key, spec, annotations) = (&key, &spec, &annotations);
        RunOrder { stamp, key, spec, span: None, executor: None, actor: false, answers_first: true, annotations }
            .put(&mut batch);
    }
    let message = batch.finish();
    assert_eq!(message.frames.len(), 4);
    let value = message.to_value(&Limits::default()).expect("msgpack");
    let second = value.items().and_then(|runs| runs[1].items()).expect("a run");
    assert_eq!((&second[0], &second[2]), (&Value::Int(2), &Value::Pickled(spec)));
}
