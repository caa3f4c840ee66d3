"""What workers cannot unpickle: an error that names the cause for who sent it, and nothing for anybody else."""

from __future__ import annotations

import os
import sys
import time

import dask
import dask.array
import dask.bag
import pytest
from distributed import Client

pytestmark = pytest.mark.timeout(120)

ONLY_HERE = """
from distributed import WorkerPlugin

def f(*args):
    return 1

class Value:
    pass

class Counter:
    def count(self):
        return 1

class Plugin(WorkerPlugin):
    pass
"""


def inc(x):
    return x + 1


class Refuses:
    """Pickles well and cannot be loaded."""

    def __setstate__(self, state):
        raise ValueError("this cannot be loaded")

    def __getstate__(self):
        return {"a": 1}


class Ends:
    """Loading it ends the process that does; making its token would load it, too."""

    def __setstate__(self, state):
        os._exit(9)

    def __getstate__(self):
        return {"a": 1}


class Hangs:
    """Loading it does not end."""

    def __reduce__(self):
        return time.sleep, (3600,)


class Calls:
    """Its pickle makes a call that fails."""

    def __reduce__(self):
        return int, ("no number",)


@pytest.fixture(scope="module")
def only_here(tmp_path_factory):
    """A module that this process alone can import."""
    folder = tmp_path_factory.mktemp("client-only")
    (folder / "only_here.py").write_text(ONLY_HERE)
    sys.path.insert(0, str(folder))
    import only_here

    yield only_here
    sys.path.remove(str(folder))
    del sys.modules["only_here"]


@pytest.fixture
def unharmed(cluster, client, second):
    """Workers keep their processes, and another client's data stays."""
    before = client.run(os.getpid)
    kept = second.submit(inc, 41, key="kept", workers=list(before)[0])
    scattered = second.scatter({"scattered": 7})["scattered"]
    assert kept.result(timeout=30) == 42
    yield client
    assert client.run(os.getpid) == before
    assert set(second.who_has([kept, scattered])) == {"kept", "scattered"}
    assert (kept.result(timeout=30), scattered.result(timeout=30)) == (42, 7)
    assert client.submit(inc, 1, pure=False).result(timeout=30) == 2


def refusal(future, cause=ModuleNotFoundError):
    with pytest.raises(RuntimeError, match="Error during deserialization of the task graph") as told:
        future.result(timeout=30)
    assert isinstance(told.value.__cause__, cause), told.value.__cause__


def test_a_function_of_a_module_that_only_the_client_has(unharmed, only_here):
    refusal(unharmed.submit(only_here.f, 1))
    refusal(unharmed.submit(only_here.f, 2))


def test_an_argument_of_a_class_that_only_the_client_has(unharmed, only_here):
    refusal(unharmed.submit(inc, only_here.Value()))
    refusal(unharmed.submit(inc, [1, {"a": only_here.Value}]))


def test_a_function_sent_by_value_that_uses_a_module_only_the_client_has(unharmed, only_here):
    refusal(unharmed.submit(lambda x: only_here.f(x), 1))


@pytest.mark.parametrize("value", [Refuses, Calls])
def test_an_argument_whose_loading_raises(unharmed, value):
    refusal(unharmed.submit(inc, value()), ValueError)
    # Known by now, and asked about all the same.
    refusal(unharmed.submit(inc, value()), ValueError)
    refusal(unharmed.submit(inc, {1: [value()]}), ValueError)


def test_an_argument_whose_loading_ends_its_process(unharmed):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Error during deserialization of the task graph: (.|\n)*exit code 9"):
            unharmed.submit(inc, Ends(), pure=False).result(timeout=30)
    for future in unharmed.map(inc, [1, Ends()], pure=False):
        with pytest.raises(RuntimeError, match="Error during deserialization of the task graph"):
            future.result(timeout=30)
    with dask.annotate(note=Ends()), pytest.raises(RuntimeError, match="exit code 9"):
        unharmed.submit(inc, 1, pure=False).result(timeout=30)


def test_an_argument_whose_loading_never_ends(start_cluster):
    cluster = start_cluster(env={"RASK_LIMITS__PYHOST": "10s"})
    cluster.add_worker("alice")
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        pid = client.run(os.getpid)
        with pytest.raises(RuntimeError, match="took longer than 10 s"):
            client.submit(inc, Hangs(), pure=False).result(timeout=60)
        assert client.submit(inc, 1).result(timeout=30) == 2
        assert client.run(os.getpid) == pid


def test_one_bad_item_among_good_ones_of_a_map(unharmed, only_here):
    for bad, cause in [(only_here.Value(), ModuleNotFoundError), (Refuses(), ValueError)]:
        futures = unharmed.map(inc, [1, 2, bad, 4], pure=False)
        for future in futures:
            refusal(future, cause)
    assert unharmed.gather(unharmed.map(inc, [1, 2])) == [2, 3]


def test_graphs_of_collections(unharmed, only_here):
    array = dask.array.ones(4, chunks=2).map_blocks(only_here.f, dtype=float)
    bag = dask.bag.from_sequence([1, 2]).map(only_here.f)
    delayed = dask.delayed(only_here.f)(1)
    for collection in (array, bag, delayed, dask.delayed(inc)(Refuses())):
        with pytest.raises(RuntimeError, match="Error during deserialization of the task graph"):
            unharmed.compute(collection, sync=True)


def test_an_actor_whose_class_only_the_client_has(unharmed, only_here):
    refusal(unharmed.submit(only_here.Counter, actor=True))


@pytest.mark.parametrize("direct", [False, True])
def test_scattering_a_value_whose_loading_raises(unharmed, only_here, direct):
    with pytest.raises(Exception):
        future = unharmed.scatter(Refuses(), direct=direct, hash=False)
        unharmed.submit(inc, future).result(timeout=30)


def test_a_worker_plugin_that_only_the_client_has(unharmed, only_here):
    with pytest.raises(ModuleNotFoundError):
        unharmed.register_plugin(only_here.Plugin(), name="only-here")
    try:
        unharmed.unregister_worker_plugin("only-here")
    except Exception:
        pass  # it was never there


def test_classes_that_load_well_go_on_working(unharmed):
    class Plain:
        def __init__(self):
            self.a = 1

    class Own:
        def __setstate__(self, state):
            self.a = state["b"]

        def __getstate__(self):
            return {"b": 3}

    get = lambda value: value.a
    assert unharmed.gather(unharmed.map(get, [Plain(), Own()])) == [1, 3]
    assert unharmed.submit(get, Own()).result() == 3
