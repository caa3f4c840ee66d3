use bytes::Bytes;

use super::Kind;
use super::Nodes;
use super::PickleError;
use super::Splitter;
use super::error;
use super::from_key;
use super::from_value;
use super::part_of;
use super::read;
use super::shuffle_run_spec;
use super::shuffle_worker_plugin;
use super::simple_namespace;
use super::to_value;
use super::to_wire;
use crate::base::Key;
use crate::base::Opaque;
use crate::base::PickledPart;
use crate::base::PyError;
use crate::base::ShuffleLayout;
use crate::base::ShuffleSpec;
use crate::base::Value;

/// The lines of a golden file: bytes in hex.
pub(crate) fn unhex(text: &str) -> Vec<Bytes> {
    let byte = |pair: &[u8; 2]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let line = |line: &str| line.as_bytes().as_chunks::<2>().0.iter().map(byte).collect::<Option<Vec<u8>>>();
    text.lines().map(|text| line(text).expect("golden files are hex").into()).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn golden(name: &str) -> Vec<Bytes> {
    unhex(match name {
        "cycles" => include_str!("../../tests/golden/pickle/cycles.hex"),
        "old_protocols" => include_str!("../../tests/golden/pickle/old_protocols.hex"),
        "values" => include_str!("../../tests/golden/pickle/values.hex"),
        "closure" => include_str!("../../tests/golden/pickle/closure.hex"),
        "numpy_numbers" => include_str!("../../tests/golden/pickle/numpy_numbers.hex"),
        "shuffle_spec" => include_str!("../../tests/golden/pickle/shuffle_spec.hex"),
        other => panic!("no golden file {other}"),
    })
}

fn whole(pickle: &Bytes) -> PickledPart {
    let nodes = read(pickle, 0).expect("golden pickles are read");
    Splitter::new(&nodes, &[]).part(nodes.root()).expect("what is read can be written")
}

/// What a pickle builds, with cycles cut: names, kinds and sizes of everything below the root.
fn shape(nodes: &Nodes) -> Vec<(Kind, Option<String>)> {
    let mut all: Vec<_> =
        nodes.below(nodes.root()).into_iter().map(|id| (nodes.kind(id), nodes.text(id).map(str::to_owned))).collect();
    all.sort_by_key(|(kind, text)| (format!("{kind:?}"), text.clone()));
    all
}

/// Goal: all protocols say the same, down to the one of 1995.
#[test]
fn every_protocol_is_read_alike() {
    let expected = Value::Map(vec![
        ("a".into(), vec![Value::Int(1), Value::Float(2.5), Value::Nil, Value::Bool(true), "é".into()].into()),
        ("b".into(), vec![Value::Int(1), Value::Int(1_000_000_000_000)].into()),
        (Value::Int(3), Value::Bin(Bytes::new())),
    ]);
    let pickles = golden("old_protocols");
    assert_eq!(pickles.len(), 6);
    for (protocol, pickle) in pickles.iter().enumerate().skip(3) {
        assert_eq!(to_value(pickle), Ok(expected.clone()), "protocol {protocol}");
    }
    // Before protocol 3, bytes were a call, and text in protocol 0 is escaped: objects to us, but still copied right.
    for pickle in pickles.iter().take(3) {
        assert!(matches!(to_value(pickle), Err(PickleError::NeedsPython(_))));
        let again = read(&whole(pickle).pickle, 0).expect("what we write is a pickle");
        assert_eq!(shape(&again).len(), shape(&read(pickle, 0).expect("golden pickles are read")).len());
    }
}

/// Goal: plain annotations are read without Python, anything callable is not.
#[test]
fn annotations_are_values_or_need_python() {
    let pickles = golden("values");
    let value = to_value(&pickles[0]).expect("plain data");
    assert_eq!(value.get("priority"), Some(&Value::Int(-1)));
    assert_eq!(value.get("workers").and_then(Value::items), Some(["a".into(), "b".into()].as_slice()));
    assert_eq!(value.get("n"), Some(&Value::UInt(1 << 63)));
    assert_eq!(to_value(&pickles[1]), Err(PickleError::NeedsPython("an object")));
    assert!(matches!(to_value(&pickles[2]), Err(PickleError::NeedsPython(_))));
}

/// Goal: keys with numpy's numbers in them are keys. Anything else of numpy's is not taken for a number.
#[test]
fn numbers_of_numpy_are_numbers() {
    let pickles = golden("numpy_numbers");
    let plain = Value::Array(vec![
        "a".into(),
        Value::Int(-3),
        Value::Int(200),
        Value::UInt(u64::MAX),
        Value::Float(2.5),
        Value::Float(0.5),
        Value::Bool(true),
        Value::Int(-2),
        Value::Int(4),
    ]);
    assert_eq!(to_value(&pickles[0]), Ok(plain));
    assert_eq!(to_value(&pickles[1]), Err(PickleError::NeedsPython("an object")), "a moment is no number");
}

/// Goal: lists and tuples that contain themselves come out as they went in, in bounded time.
#[test]
fn cycles_survive_a_copy() {
    let pickle = &golden("cycles")[0];
    let first = whole(pickle).pickle;
    assert_eq!(whole(&first).pickle, first, "a copy of a copy is the same");
}

/// Goal: what cloudpickle does to a function after making it (a call whose result is thrown away) stays with it.
#[test]
fn calls_made_for_their_effect_are_kept() {
    let frames = golden("closure");
    let nodes = read(&frames[1], 0).expect("golden pickles are read");
    let function = nodes.ids().find(|&id| {
        nodes.reduce(id).is_some_and(|(f, _)| nodes.global(f).is_some_and(|(_, name)| name == "_make_function"))
    });
    let part = Splitter::new(&nodes, &[]).part(function.expect("it holds a function")).expect("it can be written");
    let text = String::from_utf8_lossy(&part.pickle).into_owned();
    assert!(text.contains("_function_setstate") && !text.contains("_reconstruct"));
}

/// Goal: large bytes and text are shared with the input as buffers, and small ones copied.
#[test]
fn large_bytes_become_buffers() {
    let mut pickle = vec![0x80, 5, b'B'];
    pickle.extend_from_slice(&100_000u32.to_le_bytes());
    pickle.resize(pickle.len() + 100_000, b'x');
    pickle.extend_from_slice(b"\x94C\x01y\x86.");
    let pickle = Bytes::from(pickle);
    let part = whole(&pickle);
    assert_eq!(part.buffers, [pickle.slice(7..100_007)]);
    assert_eq!(part.buffers[0].as_ptr(), pickle.slice(7..).as_ptr(), "not a copy");
    assert!(part.pickle.len() < 60);
}

/// Goal: no input makes the reader or the writer panic or run away. Method: golden pickles cut and changed everywhere.
#[test]
fn broken_pickles_are_errors() {
    for name in ["cycles", "old_protocols", "values", "closure"] {
        for pickle in golden(name) {
            for at in 0..pickle.len() {
                assert!(read(&pickle.slice(..at), 0).is_err());
                for change in [0x00, 0x01, 0x80, 0xff, b'0', b'(', b't', b'h', b'R', b'2'] {
                    let mut broken = pickle.to_vec();
                    broken[at] = change;
                    if let Ok(nodes) = read(&broken.into(), 0) {
                        let _ = Splitter::new(&nodes, &[]).part(nodes.root());
                        let _ = nodes.value(nodes.root());
                    }
                }
            }
        }
    }
    // Deep nesting costs no stack.
    let mut deep = b"\x80\x05]".to_vec();
    deep.extend_from_slice(&b"\x85".repeat(200_000));
    deep.push(b'.');
    let part = whole(&deep.clone().into());
    assert_eq!(part.pickle.len(), deep.len());
}

/// Goal: a payload is opened and packed as `distributed` does; what is compressed or split is left to Python.
#[test]
fn payloads_are_opened_and_packed() {
    let part = PickledPart { pickle: vec![b'N'; 300].into(), buffers: vec![Bytes::new(), "abc".into()] };
    assert_eq!(part_of(&to_wire(&part)), Ok(part.clone()));
    let serialized =
        Opaque { head: (&b"\x81\xaaserializer\xa6pickle"[..]).into(), frames: vec!["p".into(), "b".into()] };
    assert_eq!(part_of(&serialized), Ok(PickledPart { pickle: "p".into(), buffers: vec!["b".into()] }));
    let packed = b"\x82\xaaserializer\xa6pickle\xabcompression\x91\xa3lz4";
    assert!(part_of(&Opaque { head: (&packed[..]).into(), frames: vec!["p".into()] }).is_err());
    assert!(part_of(&Opaque::default()).is_err());
}

fn written() -> Vec<PickledPart> {
    let key = Key::tuple(&[Key::text("x"), Key::int(1), Key::from_value(&Value::Float(0.5)).expect("a key")]);
    let errors = [
        PyError::builtin("ValueError", "bad"),
        PyError::builtin("TimeoutError", "t"),
        PyError::MissingKey("k".into()),
        PyError::KilledWorker {
            key: key.clone(),
            worker: "tcp://a:1".into(),
            name: "tcp://a:1".into(),
            allowed_failures: 3,
        },
        PyError::NoWorker { key: key.clone(), timeout_secs: 3.0 },
        PyError::NoValidWorker {
            key: key.clone(),
            hosts: vec!["h".into()],
            workers: Vec::new(),
            resources: vec![("GPU".into(), 1.0)],
            timeout_secs: 3.0,
        },
        PyError::P2pConsistency("gone".into()),
    ];
    let set = Value::map([("__Set__", Value::Bool(true)), ("as-list", vec![Value::Int(1)].into())]);
    let long: String = "ü".repeat(200);
    let value = Value::map([
        ("none", Value::Nil),
        ("ints", vec![Value::Int(-1), Value::Int(70_000), Value::Int(i64::MIN), Value::UInt(u64::MAX)].into()),
        ("set", set),
        ("text", long.into()),
        ("bin", Value::Bin("b".into())),
        ("float", Value::Float(-2.5)),
        ("truth", vec![Value::Bool(true), Value::Bool(false)].into()),
    ]);
    let frames = golden("shuffle_spec");
    let (pickle, buffers) = frames.split_first().expect("a pickle comes first");
    let spec = PickledPart { pickle: pickle.clone(), buffers: buffers.to_vec() };
    let data_frame = ShuffleLayout::DataFrame { npartitions: 4, parts_out: vec![0, 2] };
    let data_frame = ShuffleSpec { id: "s1".into(), layout: data_frame, spec: spec.clone() };
    let run = shuffle_run_spec(7, &data_frame, &[(vec![0], "w1".into()), (vec![2], "w2".into())], None);
    let rechunk = ShuffleSpec { id: "s1".into(), layout: ShuffleLayout::Rechunk { new_chunks: vec![1] }, spec };
    let array = shuffle_run_spec(8, &rechunk, &[(vec![0], "w1".into())], Some("span"));
    let mut parts: Vec<PickledPart> =
        errors.iter().map(|e| PickledPart { pickle: error(e), buffers: vec![] }).collect();
    let plain = [
        from_value(&value).expect("plain data"),
        from_key(&key),
        shuffle_worker_plugin(),
        simple_namespace(&[("address", "tcp://a:1".into()), ("n", Value::Int(2))]),
    ];
    parts.extend(plain.into_iter().map(|pickle| PickledPart { pickle, buffers: vec![] }));
    parts.extend([run.expect("the spec is read"), array.expect("the spec is read")]);
    parts
}

/// Goal: every shape we write is, byte for byte, what `tests/python/test_pickles.py` loads with a real Python.
/// A line per shape: the pickle, then its buffers after spaces.
#[test]
fn written_shapes_are_the_ones_that_python_loads() {
    let expected = include_str!("../../tests/golden/pickle/written.txt");
    let line = |part: PickledPart| {
        let frames: Vec<String> = std::iter::once(&part.pickle).chain(&part.buffers).map(|frame| hex(frame)).collect();
        frames.join(" ")
    };
    let got: Vec<String> = written().into_iter().map(line).collect();
    assert_eq!(got, expected.lines().map(str::to_owned).collect::<Vec<_>>(), "\n{}\n", got.join("\n"));
}
