"""The Python side of a scheduler, driven through its pipes as rask drives it."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path

import cloudpickle
import dask
import pytest
from dask._task_spec import Alias, Task
from distributed.protocol.core import dumps, loads
from distributed.protocol.serialize import Serialized, serialize, to_serialize
from distributed.utils import ensure_memoryview

SOURCE = Path(__file__).parent.parent.parent / "src" / "pyhost" / "py"


class Pyhost:
    def __init__(self, folder: Path):
        environment = {**os.environ, "RASK_PYHOST_PARENT": str(os.getpid()), "RASK_PYHOST_FILES": str(folder)}
        self.errors = open(folder / "stderr", "w+b")
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            cwd=folder,
        )
        self.count = 0

    def send(self, op, **body):
        self.count += 1
        frames = [ensure_memoryview(frame) for frame in dumps({"id": self.count, "op": op, "body": body})]
        lengths = [frame.nbytes for frame in frames]
        self.process.stdin.write(struct.pack(f"<QQ{len(frames)}Q", 0, len(frames), *lengths))
        for frame in frames:
            self.process.stdin.write(frame)
        self.process.stdin.flush()

    def receive(self):
        head = self.process.stdout.read(16)
        if len(head) < 16:
            raise EOFError
        count = struct.unpack("<QQ", head)[1]
        lengths = struct.unpack(f"<{count}Q", self.process.stdout.read(8 * count))
        answer = loads([self.process.stdout.read(length) for length in lengths])
        assert answer["id"] in (self.count, None)
        return answer

    def ask(self, op, **body):
        self.send(op, **body)
        return self.receive()

    def result(self, op, **body):
        answer = self.ask(op, **body)
        assert answer["ok"], answer["exception_text"] + answer["traceback_text"]
        return answer["result"]

    def call(self, function, *args, snapshot=None, **kwargs):
        packed = {"function": cloudpickle.dumps(function), "args": cloudpickle.dumps(args)}
        return self.ask("call", kwargs=cloudpickle.dumps(kwargs), snapshot=snapshot, **packed)

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def pyhost(tmp_path_factory):
    """One process for all tests that leave it whole: starting it takes a second."""
    host = Pyhost(tmp_path_factory.mktemp("pyhost"))
    yield host
    host.close()


@pytest.fixture
def own(tmp_path):
    """A process that the test may break."""
    host = Pyhost(tmp_path)
    yield host
    host.close()


def expression(*collections) -> Serialized:
    from dask.base import collections_to_expr

    expr = collections_to_expr(collections, optimize_graph=True).finalize_compute().optimize()
    return Serialized(*serialize(to_serialize(expr)))


def run(graph):
    """All values of a graph, in the order its tasks allow."""
    values = {}
    while len(values) < len(graph):
        before = len(values)
        for key, node in graph.items():
            if key not in values and all(need in values for need in node.dependencies):
                values[key] = node({need: values[need] for need in node.dependencies})
        assert len(values) > before, "the graph has a cycle or lacks a task"
    return values


def local_function():
    """Not importable from elsewhere, so it travels by value."""

    def inc(x):
        return x + 1

    return inc


inc = local_function()


def collections():
    import dask.array as da
    import dask.bag as db
    import dask.dataframe as dd
    import pandas as pd
    from dask import delayed

    x = da.ones((40, 40), chunks=(10, 10))
    frame = dd.from_pandas(pd.DataFrame({"a": range(100)}), npartitions=5)
    yield "array", (x + x.T).sum(), 3200
    yield "bag", db.from_sequence(range(20), npartitions=4).map(inc).sum(), 210
    yield "dataframe", frame.assign(b=frame.a + 1).b.sum(), 5050
    yield "delayed", delayed(sum)([delayed(inc)(i) for i in range(10)]), 55


@pytest.mark.parametrize("name, collection, expected", list(collections()), ids=lambda value: str(value)[:9])
def test_collections_become_tasks_that_compute_the_same(pyhost, name, collection, expected):
    told = pyhost.result("graph", expr=expression(collection), keys=[], annotations=None)
    graph = told["nodes"]
    values = run(graph)
    needed = {need for node in graph.values() for need in node.dependencies}
    assert [values[key] for key in graph if key not in needed] == [expected]


def test_a_low_level_graph_is_culled_and_legacy_tasks_converted(pyhost):
    from dask._expr import LLGExpr

    graph = {"a": (inc, 1), "b": (inc, "a"), "c": (inc, "b"), "self": Alias("self"), "d": Task("d", inc, 1)}
    expr = Serialized(*serialize(to_serialize(LLGExpr(graph))))
    told = pyhost.result("graph", expr=expr, keys=["b", "self"], annotations=None)
    assert set(told["nodes"]) == {"a", "b"}
    assert run(told["nodes"]) == {"a": 2, "b": 3}


def test_annotations_are_merged_per_key(pyhost):
    from dask import delayed

    with dask.annotate(workers=["a"], priority=5):
        x = delayed(inc)(1, dask_key_name="x")
    y = delayed(inc)(x, dask_key_name="y")
    everywhere = Serialized({"pickled-obj": cloudpickle.dumps({"retries": 2, "note": lambda key: f"for {key}"})}, [])
    told = pyhost.result("graph", expr=expression(y), keys=[], annotations=everywhere)
    places = dict(told["annotated"])
    found = {key: told["annotations"][places.get(at, 0)] for at, key in enumerate(told["nodes"])}
    assert {"workers": ("a",), "priority": 5, "retries": 2, "note": "for x"} in found.values()
    assert all(map_["retries"] == 2 and map_["note"] == f"for {key}" for key, map_ in found.items())


def test_shuffles_tell_what_placement_needs(pyhost):
    import dask.dataframe as dd
    import pandas as pd

    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        frame = dd.from_pandas(pd.DataFrame({"a": range(100)}), npartitions=4).shuffle("a")
        told = pyhost.result("graph", expr=expression(frame), keys=[], annotations=None)
    [(at, shuffle)] = told["shuffles"]
    assert (shuffle["npartitions"], shuffle["parts_out"]) == (4, (0, 1, 2, 3))
    barrier = list(told["nodes"].values())[at]
    assert type(barrier).__name__ == "P2PBarrierTask" and barrier.spec.id == shuffle["id"] == shuffle["spec"].id


def test_a_graph_of_unknown_modules_is_explained(pyhost):
    nothing = b"\x80\x04\x8c\x0eno_such_module\x8c\x01f\x93."
    expr = Serialized({"serializer": "pickle"}, [nothing])
    answer = pyhost.ask("graph", expr=expr, keys=["x"], annotations=None)
    assert not answer["ok"] and answer["kind"] == "deserialize"
    error = pickle.loads(answer["exception"])
    assert type(error) is RuntimeError and "different environments" in str(error)
    assert pyhost.result("ping")["pid"] == pyhost.process.pid


def test_printing_and_reading_do_not_disturb_the_pipes(own, tmp_path):
    def chatty():
        print("hello from user code", flush=True)
        os.system("echo and from a child")
        return sys.stdin.read()

    assert own.call(chatty)["result"]["result"] == ""
    assert own.call(inc, 1)["result"]["result"] == 2
    assert (tmp_path / "stderr").read_text().count("from") == 2


def test_what_user_code_raises_is_an_answer(pyhost):
    def fail(how):
        raise how

    zero = pyhost.call(fail, ZeroDivisionError("no"))
    assert not zero["ok"] and type(pickle.loads(zero["exception"])) is ZeroDivisionError
    leave = pyhost.call(fail, SystemExit(3))
    assert leave["kind"] == "exit" and type(pickle.loads(leave["exception"])) is RuntimeError
    unknown = pyhost.call(lambda dask_scheduler: dask_scheduler.no_such_thing)
    assert "no_such_thing" in unknown["exception_text"]
    assert not pyhost.ask("no-such-op")["ok"]


def test_a_process_that_ends_itself_ends_the_pipe(own):
    own.send("call", function=cloudpickle.dumps(lambda: os._exit(9)), args=b"", kwargs=b"")
    with pytest.raises(EOFError):
        own.receive()
    assert own.process.wait(10) == 9


def test_a_kill_in_the_middle_of_an_answer_ends_the_pipe(own):
    own.send("call", function=cloudpickle.dumps(lambda: bytes(50_000_000)), args=b"", kwargs=b"")
    assert len(own.process.stdout.read(1000)) == 1000
    own.process.send_signal(signal.SIGKILL)
    assert own.process.wait(10) == -signal.SIGKILL


def test_a_hanging_function_ends_with_its_parent(own):
    import time

    own.send("call", function=cloudpickle.dumps(lambda: time.sleep(600)), args=b"", kwargs=b"")
    own.process.stdin.close()
    assert own.process.wait(20) == 0


def test_functions_see_the_scheduler_and_act_on_it(pyhost):
    def look(dask_scheduler, more=0):
        dask_scheduler.log_event("topic", {"a": 1})
        worker = dask_scheduler.workers["tcp://a"]
        dask_scheduler.kept = getattr(dask_scheduler, "kept", 0) + 1
        keys = sorted(task.key for task in worker.processing)
        return dask_scheduler.monitor.count, worker.nthreads, keys, dask_scheduler.kept, more

    snapshot = {
        "monitor": {"count": 7},
        "address": "tcp://s",
        "workers": {"tcp://a": {"nthreads": 2, "processing": ["x"]}},
        "tasks": {"x": {"state": "processing", "processing_on": "tcp://a"}},
    }
    told = pyhost.call(look, snapshot=snapshot, more=3)["result"]
    assert tuple(told["result"]) == (7, 2, ["x"], 1, 3)
    assert told["actions"] == (("log_event", "topic", {"a": 1}),)

    async def later(dask_scheduler):
        return dask_scheduler.kept

    assert pyhost.call(later)["result"]["result"] == 1


def test_what_functions_see_can_be_returned_to_clients_that_have_no_such_classes(pyhost):
    def look(dask_scheduler):
        return type(dask_scheduler), dask_scheduler.workers

    answer = pyhost.call(look, snapshot={"workers": {"tcp://a": {"nthreads": 2}}})
    assert answer["ok"], answer["exception_text"]
    seen, workers = answer["result"]["result"]
    assert seen.__name__ == "SchedulerView"
    assert workers["tcp://a"].memory.process == 0
    refused = pickle.loads(pyhost.call(lambda dask_scheduler: dask_scheduler.nonesuch)["exception"])
    assert isinstance(refused, AttributeError) and type(refused).__name__ == "NotOffered"


def test_workers_are_grouped_by_a_function(pyhost):
    workers = {f"tcp://{name}": {"name": name, "host": host} for name, host in [("a", "h"), ("b", "h"), ("c", "i")]}
    by_host = cloudpickle.dumps(lambda worker: worker.host)
    told = pyhost.result("keycall", function=by_host, workers=["tcp://c", "tcp://a"], snapshot={"workers": workers})
    assert told["groups"] == (("tcp://c",), ("tcp://a",))


def test_plugins_hear_what_they_override(pyhost):
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Listener(SchedulerPlugin):
        name = "listener"

        def __init__(self):
            self.heard = []

        def transition(self, key, start, finish, *args, **kwargs):
            self.heard.append((key, start, finish))

        def add_worker(self, scheduler, worker):
            raise ValueError("logged, not fatal")

    told = pyhost.result("plugin_add", plugin=cloudpickle.dumps(Listener()), name=None, idempotent=False)
    assert (told["name"], told["hooks"], told["known"]) == ("listener", ("add_worker", "transition"), False)
    events = [("add_worker", ["tcp://a"], {}), ("transition", ["k", "waiting", "memory"], {"stimulus_id": "s"})]
    pyhost.result("plugin_event", events=[*events, ("close", [], {})])
    heard = pyhost.call(lambda dask_scheduler: dask_scheduler.plugins["listener"].heard)["result"]["result"]
    assert [tuple(item) for item in heard] == [("k", "waiting", "memory")]
    assert pyhost.result("plugin_add", plugin=cloudpickle.dumps(Listener()), name=None, idempotent=True)["known"]
    pyhost.result("plugin_remove", name="listener")
    assert "ValueError" in pyhost.ask("plugin_remove", name="listener")["exception_text"]


def test_uploaded_files_can_be_imported_and_are_told(pyhost, tmp_path):
    from distributed.diagnostics.plugin import SchedulerUploadFile

    path = tmp_path / "rask_uploaded.py"
    path.write_text("VALUE = 42\n")
    told = pyhost.result("plugin_add", plugin=cloudpickle.dumps(SchedulerUploadFile(str(path))), name=None)
    [file] = told["files"]
    path.unlink()

    def value():
        import rask_uploaded

        return rask_uploaded.VALUE

    assert pyhost.call(value)["result"]["result"] == 42
    pyhost.result("import_file", **{**file, "data": b"VALUE = 43\n"})
    assert pyhost.call(value)["result"]["result"] == 43


def test_a_dump_is_written_where_the_url_says(pyhost, tmp_path):
    from distributed.cluster_dump import load_cluster_dump

    state = {"scheduler": {"tasks": {"x": {"state": "memory"}}}, "workers": {}, "versions": {}}
    for format, suffix in (("msgpack", ".msgpack.gz"), ("yaml", ".yaml")):
        answer = pyhost.ask("write_state", url=f"file://{tmp_path}/dump", format=format, state=state, storage_options={})
        assert answer["ok"], answer
        assert load_cluster_dump(f"{tmp_path}/dump{suffix}") == state
    answer = pyhost.ask("write_state", url="nowhere://dump", format="yaml", state=state)
    assert not answer["ok"] and "nowhere" in answer["exception_text"]


def test_versions_are_the_interpreters(pyhost):
    told = pyhost.result("versions")
    assert told["packages"]["dask"] == dask.__version__
    assert told["host"]["python"].startswith(".".join(map(str, sys.version_info[:3])))
