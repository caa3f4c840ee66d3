use bytes::Bytes;

use super::GraphError;
use super::GraphInput;
use super::GraphRead;
use super::read;
use super::split_bulk;
use crate::base::BulkGraph;
use crate::base::GraphTask;
use crate::base::Key;
use crate::base::Opaque;
use crate::base::PickledPart;
use crate::base::PyError;
use crate::base::Value;
use crate::pickle;
use crate::pickle::tests::hex;
use crate::pickle::tests::unhex;

fn expression(golden: &str) -> Opaque {
    let frames = unhex(golden);
    let (head, frames) = frames.split_first().expect("the sub-header comes first");
    Opaque { head: head.clone(), frames: frames.to_vec() }
}

fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|name| Key::text(name)).collect()
}

fn read_golden(golden: &str, wanted: &[Key], annotations: Option<&Opaque>) -> Result<GraphRead, GraphError> {
    read(&GraphInput {
        expr: &expression(golden),
        keys: wanted,
        internal_priority: None,
        annotations,
        vouched: None,
        asks: 0,
        outline: None,
        was_loaded: false,
    })
}

fn tasks_of(golden: &str, wanted: &[Key]) -> Vec<GraphTask> {
    match read_golden(golden, wanted, None) {
        Ok(GraphRead::Tasks(tasks)) => tasks,
        other => panic!("expected tasks, got {other:?}"),
    }
}

fn pickled(value: &Value) -> Opaque {
    let pickle = pickle::from_value(value).expect("plain data");
    pickle::to_wire(&PickledPart { pickle, buffers: Vec::new() })
}

const NODES: &str = include_str!("../../tests/golden/pickle/graph_nodes.hex");
const MAP_RANGE: &str = include_str!("../../tests/golden/pickle/map_range.hex");
const MAP_FUTURES: &str = include_str!("../../tests/golden/pickle/map_futures.hex");
const LEGACY: &str = include_str!("../../tests/golden/pickle/graph_legacy.hex");

/// Goal: only what is wanted becomes tasks, each after what it needs; an alias to its own key is no task, yet needed.
#[test]
fn a_graph_is_culled_and_sorted() {
    let tasks = tasks_of(NODES, &keys(&["f", "g", "d"]));
    let mut names: Vec<String> = tasks.iter().map(|task| task.key.to_string()).collect();
    names.sort_unstable();
    assert_eq!(names, ["('a', 0)", "b", "c", "d", "f", "g"]);
    for (at, task) in tasks.iter().enumerate() {
        let before = &tasks[..at];
        if task.key == Key::text("g") {
            assert_eq!(task.dependencies, keys(&["self"]));
            continue;
        }
        assert!(task.dependencies.iter().all(|need| before.iter().any(|other| other.key == *need)), "{task:?}");
        assert_eq!(task.order, Some(at as f64));
    }
    assert!(tasks_of(NODES, &keys(&["e"]))[0].data_producer);
}

/// Goal: futures in arguments and in nested containers become dependencies, of named arguments in every row.
#[test]
fn map_depends_on_the_futures_in_its_arguments() {
    let tasks = tasks_of(MAP_FUTURES, &[]);
    let needs: Vec<Vec<Key>> = tasks.iter().map(|task| task.dependencies.clone()).collect();
    assert_eq!(needs, [keys(&["z"]), keys(&["z", "x"]), keys(&["z", "y", "x"])]);
    assert_eq!(tasks[1].key, Key::tuple(&[Key::text("m"), Key::int(1)]));
    assert_eq!(tasks_of(MAP_RANGE, &[]).len(), 3);
}

/// Goal: what only Python understands is handed to Python: legacy tuples, callable annotations.
#[test]
fn what_is_not_read_needs_python() {
    assert!(matches!(read_golden(LEGACY, &keys(&["x"]), None), Ok(GraphRead::NeedsPython(_))));
    let values = unhex(include_str!("../../tests/golden/pickle/values.hex"));
    let callable = pickle::to_wire(&PickledPart { pickle: values[1].clone(), buffers: Vec::new() });
    assert!(matches!(read_golden(MAP_RANGE, &[], Some(&callable)), Ok(GraphRead::NeedsPython(_))));
    let nonsense = Opaque { head: Bytes::from_static(b"\xc1"), frames: vec!["x".into()] };
    let input = GraphInput {
        expr: &nonsense,
        keys: &[],
        internal_priority: None,
        annotations: None,
        vouched: None,
        asks: 0,
        outline: None,
        was_loaded: false,
    };
    assert!(matches!(read(&input), Ok(GraphRead::NeedsPython(_))));
}

/// Goal: an empty collection, which recreating a task sends, is a graph without tasks.
#[test]
fn an_empty_collection_is_an_empty_graph() {
    let input = GraphInput {
        expr: &Opaque::default(),
        keys: &[],
        internal_priority: None,
        annotations: None,
        vouched: None,
        asks: 0,
        outline: None,
        was_loaded: false,
    };
    assert_eq!(read(&input), Ok(GraphRead::Tasks(Vec::new())));
}

/// Goal: annotations are shared by all tasks and mean what Dask says; a wrong type is the user's error.
#[test]
fn annotations_are_understood_or_refused() {
    let map = Value::map([
        ("priority", Value::Int(5)),
        ("workers", vec![Value::str("a"), Value::Int(3)].into()),
        ("retries", Value::Int(2)),
        ("resources", Value::map([("GPU", Value::Int(1))])),
        ("mine", Value::Nil),
    ]);
    let Ok(GraphRead::Tasks(tasks)) = read_golden(MAP_RANGE, &[], Some(&pickled(&map))) else {
        panic!("plain annotations are read");
    };
    let all = tasks[2].annotations.as_ref().expect("annotated");
    assert!(std::sync::Arc::ptr_eq(all, tasks[0].annotations.as_ref().expect("annotated")));
    assert_eq!((all.priority, all.retries, all.workers.len()), (5.0, 2, 2));
    assert_eq!(all.resources, [("GPU".into(), 1.0)]);
    let wrong = pickled(&Value::map([("retries", "many".into())]));
    let Err(error) = read_golden(MAP_RANGE, &[], Some(&wrong)) else { panic!("retries must be a number") };
    let told = PyError::builtin("TypeError", "annotation \"retries\" must be an int");
    assert_eq!(error.failure(), crate::base::Failure::Raised(told));
}

/// Goal: the client's own order is used, row by row or by key.
#[test]
fn the_clients_order_is_kept() {
    let given: Vec<(Key, f64)> = vec![(Key::text("m-2"), 7.0), (Key::text("m-1"), 8.5)];
    let expr = expression(MAP_RANGE);
    let input = GraphInput {
        expr: &expr,
        keys: &[],
        internal_priority: Some(&given),
        annotations: None,
        vouched: None,
        asks: 0,
        outline: None,
        was_loaded: false,
    };
    let Ok(GraphRead::Tasks(tasks)) = read(&input) else { panic!("a plain map is read") };
    let orders: Vec<Option<f64>> = tasks.iter().map(|task| task.order).collect();
    assert_eq!(orders, [None, Some(8.5), Some(7.0)]);
}

/// Goal: what we cut out is, byte for byte, what `tests/python/test_pickles.py` loads and runs with a real Python.
/// A line per task: its key, its pickle, its buffers.
#[test]
fn tasks_are_the_ones_that_python_runs() {
    let expected = include_str!("../../tests/golden/pickle/graph_tasks.txt");
    let mut all = tasks_of(NODES, &keys(&["f", "d", "e", "g"]));
    all.sort_by_key(|task| task.key.to_string());
    all.extend(tasks_of(MAP_RANGE, &[]));
    all.extend(tasks_of(MAP_FUTURES, &[]));
    let line = |task: &GraphTask| {
        let part = pickle::part_of(task.run_spec.as_ref().expect("a task has work")).expect("packed by us");
        let frames: Vec<String> = std::iter::once(&part.pickle).chain(&part.buffers).map(|frame| hex(frame)).collect();
        format!("{} {}", hex(task.key.as_bytes()), frames.join(" "))
    };
    let got: Vec<String> = all.iter().map(line).collect();
    assert_eq!(got, expected.lines().map(str::to_owned).collect::<Vec<_>>(), "\n{}\n", got.join("\n"));
}

/// Goal: a reply of pyhost that contradicts itself is an error, not a wrong graph.
#[test]
fn an_odd_reply_is_refused() {
    let nodes = |pickle: &'static [u8]| PickledPart { pickle: pickle.into(), buffers: Vec::new() };
    let reply = |nodes| BulkGraph { nodes, ..BulkGraph::default() };
    let split = |pickle| split_bulk(&reply(nodes(pickle)), None);
    assert_eq!(split(b"\x80\x05}."), Ok(Vec::new()));
    assert!(split(b"\x80\x05N.").is_err());
    assert!(split(b"\x80\x05}K\x01Ns.").is_err());
}

/// Goal: a graph that needs itself is refused in Dask's words. Method: two aliases to each other.
#[test]
fn a_cycle_is_named() {
    let pickle = b"\x80\x05}(\x8c\x01a\x8c\x0fdask._task_spec\x8c\x05Alias\x93\x94\x8c\x01a\x8c\x01b\x86R\
                   \x8c\x01bh\x00\x8c\x01b\x8c\x01a\x86Ru.";
    let nodes = PickledPart { pickle: Bytes::from_static(pickle), buffers: Vec::new() };
    let Err(error) = split_bulk(&BulkGraph { nodes, ..BulkGraph::default() }, None) else { panic!("a cycle") };
    assert_eq!(error, GraphError::Cycle(keys(&["a", "b", "a"])));
    assert_eq!(error.to_string(), "Cycle detected between the following keys:\n  -> a\n  -> b\n  -> a");
}
