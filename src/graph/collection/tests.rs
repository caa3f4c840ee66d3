use bytes::Bytes;

use crate::base::{GraphTask, Key, Opaque, PickledPart};
use crate::graph::{GraphInput, GraphQuestion, GraphRead, Role, Roles, Verdict, Vouched, read};
use crate::pickle::tests::unhex;

const BAG: &str = include_str!("../../../tests/golden/pickle/bag_sum.hex");
/// Of `sum(matmul(x, ones))` with 2 by 2 blocks each, which contracts an axis.
const OUTLINE: &str = include_str!("../../../tests/golden/pickle/array_outline.hex");
const DELAYED: &str = include_str!("../../../tests/golden/pickle/delayed_sum.hex");

fn payload(golden: &str) -> Opaque {
    let frames = unhex(golden);
    let (head, frames) = frames.split_first().expect("the sub-header comes first");
    Opaque { head: head.clone(), frames: frames.to_vec() }
}

fn pickled(pickle: Vec<u8>) -> Opaque {
    Opaque { head: Bytes::from_static(b"\x81\xaaserializer\xa6pickle"), frames: vec![pickle.into()] }
}

/// What a Python would say to whom all names are callable and make plain things.
fn answer(known: &mut Vouched, question: GraphQuestion) {
    let roles = Roles { own: Role::Callable, makes: Some(Role::Callable) };
    known.add(question.names.into_iter().map(|name| (name, (Verdict::Rebuilds, roles))));
    known.add_objects(question.objects.into_iter().map(|object| (object, roles)));
    known.set_fuses_delayed(false);
}

fn input<'a>(expr: &'a Opaque, keys: &'a [Key], known: &'a Vouched, asks: u32) -> GraphInput<'a> {
    let vouched = Some(known);
    GraphInput {
        expr,
        keys,
        internal_priority: None,
        annotations: None,
        vouched,
        asks,
        outline: None,
        was_loaded: false,
    }
}

fn read_asking(expr: &Opaque, keys: &[Key]) -> GraphRead {
    let mut known = Vouched::default();
    for asks in 0..5 {
        match read(&input(expr, keys, &known, asks)) {
            Ok(GraphRead::Ask(question)) => answer(&mut known, question),
            Ok(other) => return other,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("asked without end");
}

fn tasks(expr: &Opaque, keys: &[Key]) -> Vec<GraphTask> {
    match read_asking(expr, keys) {
        GraphRead::Tasks(tasks) => tasks,
        other => panic!("{other:?}"),
    }
}

fn in_python(expr: &Opaque, keys: &[Key]) -> String {
    match read_asking(expr, keys) {
        GraphRead::NeedsPython(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn delayed_is_culled_ordered_and_annotated() {
    let tasks = tasks(&payload(DELAYED), &[Key::text("three"), Key::text("one")]);
    let told: Vec<_> = tasks
        .iter()
        .map(|task| (task.key.to_string(), task.dependencies.len(), task.annotations.as_ref().map(|all| all.priority)))
        .collect();
    let mut sorted = told.clone();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("one", 0, Some(3.0)), ("three", 2, None), ("two", 2, None), ("unused too", 0, None)];
    assert_eq!(sorted, expected.map(|(key, needs, priority)| (key.to_owned(), needs, priority)));
    assert_eq!(told.last().map(|task| &*task.0), Some("three"));
    assert_eq!(tasks.len(), 4);
}

#[test]
fn chains_of_a_bag_are_fused_under_dasks_names() {
    let text = BAG.lines().nth(1).expect("a frame");
    let pickle = unhex(text)[0].clone();
    let token = pickle.windows(32).rev().filter(|at| at.iter().all(u8::is_ascii_hexdigit)).nth(1).expect("tokens");
    let wanted = Key::text(&format!("finalize-hlgfinalizecompute-{}", String::from_utf8_lossy(token)));
    let tasks = tasks(&payload(BAG), std::slice::from_ref(&wanted));
    let mut keys: Vec<String> = tasks.iter().map(|task| task.key.to_string()).collect();
    keys.sort();
    let beginnings = [
        "('filter-bool-from_sequence-neg-reduce-part-",
        "('filter-bool-from_sequence-neg-reduce-part-",
        "('reduce-part-",
        "('reduce-part-",
        "finalize-hlgfinalizecompute-",
        "reduce-aggregate-finalize-hlgfinalizecompute-",
    ];
    assert_eq!(keys.len(), beginnings.len());
    assert!(keys.iter().zip(beginnings).all(|(key, begin)| key.starts_with(begin)), "{keys:?}");
    assert_eq!(tasks.last().map(|task| &task.key), Some(&wanted));
}

/// An expression of one layer with this mapping (opcodes that push a dict).
fn expression(optimizer: &str, mapping: &[u8]) -> Opaque {
    let mut pickle = b"\x80\x04cdask._expr\nExpr._reconstruct\n(cdask._expr\nHLGExpr\n".to_vec();
    pickle.extend_from_slice(b"cdask.highlevelgraph\nHighLevelGraph\n)\x81}\x8c\x06layers}\x8c\x01l");
    pickle.extend_from_slice(b"cdask.highlevelgraph\nMaterializedLayer\n)\x81}\x8c\x07mapping");
    pickle.extend_from_slice(mapping);
    for part in [b"sbssb", optimizer.as_bytes(), b"](\x8c\x01keNN\x8c\x01t}tR."] {
        pickle.extend_from_slice(part);
    }
    pickled(pickle)
}

const OF_BAGS: &str = "cdask.bag.core\noptimize\n";
const OF_DELAYED: &str = "cdask.delayed\noptimize\n";

#[test]
fn graphs_of_nothing_but_tricks_are_left_to_python_soon() {
    let wanted = [Key::text("k")];
    let of = |value: &[u8]| {
        let mapping = [b"}\x8c\x01k".as_slice(), value, b"s"].concat();
        [OF_BAGS, OF_DELAYED, "N"].map(|optimizer| expression(optimizer, &mapping))
    };
    for expr in of(b"K\x01") {
        assert_eq!(tasks(&expr, &wanted).len(), 1);
    }
    let nested = [vec![b']'; 10_000], b"a".repeat(9_999)].concat();
    let doubled = [b"]".to_vec(), b"2\x86".repeat(60)].concat();
    let doubled_task =
        [b"c_operator\nneg\nK\x01\x86q\x01".to_vec(), b"0(c_operator\nadd\nh\x01h\x01tq\x01".repeat(60)].concat();
    for (value, why) in [
        (nested, "nests very deep"),
        (b"]q\x05h\x05a".to_vec(), "nests very deep"),
        (b"(((c_operator\nneg\n]q\x05h\x05attt".to_vec(), "nests very deep"),
        ([b"\x8d".as_slice(), &(1u64 << 63).to_le_bytes()].concat(), "cut short"),
        (b"\x97".to_vec(), "does not have"),
        (b"jzzzz".to_vec(), "does not have"),
    ] {
        for expr in of(&value) {
            let told = in_python(&expr, &wanted);
            assert!(told.contains(why), "{told:?} does not say {why:?}");
        }
    }
    for value in [doubled, doubled_task] {
        for expr in of(&value) {
            let _ = read_asking(&expr, &wanted);
        }
    }
}

/// Goal: whatever the bytes, reading ends, and without a panic. Method: real graphs, changed everywhere.
#[test]
fn changed_graphs_are_read_or_left_to_python() {
    for golden in [BAG, DELAYED] {
        let whole = payload(golden);
        let pickle = whole.frames[0].clone();
        for at in 0..pickle.len() {
            for change in [b'h', b'N', b'0', pickle[at].wrapping_add(1)] {
                let mut changed = pickle.to_vec();
                changed[at] = change;
                let expr = Opaque { head: whole.head.clone(), frames: vec![changed.into()] };
                let mut known = Vouched::default();
                for asks in 0..4 {
                    match read(&input(&expr, &[Key::text("one")], &known, asks)) {
                        Ok(GraphRead::Ask(question)) => answer(&mut known, question),
                        _ => break,
                    }
                }
            }
        }
    }
}

/// Reads an outline as long as Python is asked.
fn read_outline(outline: &PickledPart, keys: &[Key]) -> GraphRead {
    let expr = pickled(b"N.".to_vec());
    let mut known = Vouched::default();
    for asks in 0..5 {
        match read(&GraphInput { outline: Some(outline), ..input(&expr, keys, &known, asks) }) {
            Ok(GraphRead::Ask(question)) => answer(&mut known, question),
            Ok(other) => return other,
            Err(error) => return GraphRead::NeedsPython(error.to_string().into()),
        }
    }
    panic!("asked without end");
}

fn outline(pickle: Vec<u8>) -> PickledPart {
    PickledPart { pickle: pickle.into(), buffers: Vec::new() }
}

#[test]
fn templates_of_arrays_become_the_tasks_of_all_blocks() {
    let pickle = unhex(OUTLINE)[0].to_vec();
    let text = String::from_utf8_lossy(&pickle).into_owned();
    let wanted = text.find("finalize-hlg").map(|at| Key::text(&text[at..at + 60])).expect("its name");
    let tasks = match read_outline(&outline(pickle), &[wanted]) {
        GraphRead::Tasks(tasks) | GraphRead::Unvouched(tasks, _) => tasks,
        other => panic!("{other:?}"),
    };
    let mut told: Vec<(String, usize)> =
        tasks.iter().map(|task| (task.key.to_string().replace("('", ""), task.dependencies.len())).collect();
    told.iter_mut().for_each(|(key, _)| key.truncate(key.find(['-', '\'']).unwrap_or(key.len())));
    told.sort();
    let four = |name: &str, needs| vec![(name.to_owned(), needs); 4];
    let one = |name: &str, needs| vec![(name.to_owned(), needs)];
    let expected = [four("matmul", 4), four("ones_like", 0), four("sum", 1), four("x", 0)];
    let mut expected = [expected.concat(), one("finalize", 1), one("sum", 4)].concat();
    expected.sort();
    assert_eq!(told, expected);
    for task in &tasks {
        assert!(task.dependencies.iter().all(|need| tasks.iter().any(|other| other.key == *need)), "{}", task.key);
    }
}

/// Goal: outlines that say what cannot be are left to Python, in words, and cost next to nothing.
#[test]
fn odd_outlines_are_left_to_python() {
    let layer = |dims: &[u8]| {
        let parts: [&[u8]; 4] = [
            b"](](\x8c\x01xI0\nta](\x8c\x06blocks\x8c\x01x\x8c\x04mark",
            b"cdask._task_spec\nTask\n)\x81(I00\n(\x91NNN)cbuiltins\nmax\n(\x8c\x04markI-1\nt}tb](",
            dims,
            b"eN](e]tata.",
        ];
        outline(parts.concat())
    };
    let huge = [b"\x8a\x09".as_slice(), &(1u128 << 63).to_le_bytes()[..9]].concat();
    let many = b"J\xff\xff\xff\x7f".repeat(2);
    for (told, why) in [
        (layer(&huge), "no such number"),
        (layer(&many), "more blocks than are counted"),
        (layer(b"I-1\n"), "no such number"),
        (outline(b"]q\x00h\x00a.".to_vec()), "odd form"),
        (outline(b"N.".to_vec()), "odd form"),
        (outline(b"\x97.".to_vec()), "does not have"),
        (outline(b"(lp0\n".to_vec()), "cut short"),
    ] {
        match read_outline(&told, &[Key::text("x")]) {
            GraphRead::NeedsPython(said) => assert!(said.contains(why), "{said:?} does not say {why:?}"),
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn changed_outlines_are_read_or_left_to_python() {
    let pickle = unhex(OUTLINE)[0].to_vec();
    for at in (0..pickle.len()).step_by(3) {
        let mut changed = pickle.clone();
        changed[at] = [b'h', b'N', b'0', pickle[at].wrapping_add(1)][at % 4];
        let _ = read_outline(&outline(changed), &[Key::text("one")]);
    }
}
