"""What rask writes as pickles, loaded by a real Python. The Rust tests prove that rask writes exactly these bytes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from dask._task_spec import Alias, DataNode, Task

GOLDEN = Path(__file__).parent.parent / "golden" / "pickle"
KEY = ("x", 1, 0.5)


def load(line: str):
    frames = [bytes.fromhex(frame) for frame in line.split(" ")]
    return pickle.loads(frames[0], buffers=frames[1:])


def written() -> list:
    return [load(line) for line in (GOLDEN / "written.txt").read_text().splitlines()]


def test_exceptions_have_their_classes_and_arguments():
    from asyncio import TimeoutError as AsyncTimeout

    from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError
    from distributed.shuffle._exceptions import P2PConsistencyError

    bad, late, missing, killed, nobody, none_valid, shuffle = written()[:7]
    assert type(bad) is ValueError and bad.args == ("bad",)
    assert type(late) is AsyncTimeout and late.args == ("t",)
    assert type(missing) is KeyError and missing.args == ("k",)
    assert type(killed) is KilledWorker and killed.task == KEY and killed.allowed_failures == 3
    assert killed.last_worker.address == "tcp://a:1" and "tcp://a:1" in str(killed)
    assert type(nobody) is NoWorkerError and nobody.args == (KEY, 3.0)
    assert type(none_valid) is NoValidWorkerError
    assert none_valid.args == (KEY, {"h"}, set(), {"GPU": 1.0}, 3.0) and "GPU" in str(none_valid)
    assert type(shuffle) is P2PConsistencyError and shuffle.args == ("gone",)


def test_numbers_of_numpy_are_written_as_rask_reads_them():
    np = pytest.importorskip("numpy")
    first = (GOLDEN / "numpy_numbers.hex").read_text().splitlines()[0]
    assert pickle.loads(bytes.fromhex(first)) == ("a", -3, 200, 2**64 - 1, 2.5, 0.5, True, -2, 4)
    modules = (b"numpy._core.multiarray", b"numpy.core.multiarray")  # since numpy 2, and before
    assert any(module in pickle.dumps(np.int64(4), protocol=5) for module in modules)


def test_plain_values_come_out_as_they_went_in():
    value, key = written()[7:9]
    assert value == {
        "none": None,
        "ints": (-1, 70_000, -(2**63), 2**64 - 1),
        "set": {1},
        "text": "ü" * 200,
        "bin": b"b",
        "float": -2.5,
        "truth": (True, False),
    }
    assert key == KEY


def test_objects_for_workers():
    from distributed.shuffle._core import ShuffleRunSpec
    from distributed.shuffle._worker_plugin import ShuffleWorkerPlugin

    plugin, namespace, frame, array = written()[9:13]
    assert type(plugin) is ShuffleWorkerPlugin
    assert (namespace.address, namespace.n) == ("tcp://a:1", 2)
    assert type(frame) is type(array) is ShuffleRunSpec
    assert (frame.run_id, frame.worker_for, frame.span_id) == (7, {0: "w1", 2: "w2"}, None)
    assert (array.run_id, array.worker_for, array.span_id) == (8, {(0,): "w1"}, "span")
    assert frame.id == "s1" and list(frame.spec.meta.columns) == ["a"]


def graph_tasks() -> list:
    return [load(line.split(" ", 1)[1]) for line in (GOLDEN / "graph_tasks.txt").read_text().splitlines()]


def test_tasks_that_were_cut_out_of_a_graph_run():
    np = pytest.importorskip("numpy")
    nodes = {node.key: node for node in graph_tasks()}
    known = {"self": 4}
    for key in [("a", 0), "b", "c", "d", "e", "g"]:
        known[key] = nodes[key]({need: known[need] for need in nodes[key].dependencies})
    assert (known[("a", 0)], known["b"], known["c"], known["d"], known["g"]) == (3, 120, 123, 123, -4)
    assert np.array_equal(known["e"], [0.0, 1.0, 2.0])
    assert type(nodes["d"]) is Alias and type(nodes["e"]) is DataNode and type(nodes["f"]) is Task
    assert nodes["f"].dependencies == {"b", "c"}


def test_rows_of_a_map_run():
    rows = graph_tasks()[-6:]
    assert [row() for row in rows[:3]] == [6, 120, 5040]
    first, second, third = rows[3:]
    assert [row.dependencies for row in (first, second, third)] == [{"z"}, {"z", "x"}, {"z", "x", "y"}]
    assert first.args == (1, 7) and first.kwargs["default"] == Alias("z")
    assert second.args == (Alias("x"), 8) and second.kwargs["key"](5) == -5
    assert third.args[0]({"x": 1, "y": 2}) == [2, {"k": 1}]
