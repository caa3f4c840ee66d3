"""Graphs of delayed, bags and arrays, read by rask and by Dask's own Python: task by task the same.

The scheduler runs with ``ingest = "check"``, so it compares each graph itself; its figures say how each was read.
"""

from __future__ import annotations

import collections
import functools
import operator
import random
import re
import urllib.request

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask._task_spec import DataNode, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client
from graph_kinds import KINDS
from harness import Cluster, wait_until

pytestmark = pytest.mark.timeout(180)

Pair = collections.namedtuple("Pair", "left right")


@pytest.fixture(scope="module")
def checked(work_dir):
    with Cluster(work_dir, dashboard=True, env={"RASK_SCHEDULER__INGEST": "check"}) as cluster:
        cluster.add_worker("only", nthreads=2)
        with Client(cluster.address, set_as_default=False, timeout=30) as client:
            client.wait_for_workers(1, timeout=60)
            client.cluster_under_test = cluster
            yield client


def figures(client) -> dict[str, float]:
    cluster = client.cluster_under_test
    url = f"http://127.0.0.1:{cluster.identity['services']['dashboard']}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    found = {"checked": 0.0, "differences": 0.0, "python": {}}
    for line in text.splitlines():
        if match := re.match(r'dask_scheduler_graphs_read_total\{path="python",reason="(.*)"\} (\S+)', line):
            found["python"][match[1]] = float(match[2])
        elif match := re.match(r"dask_scheduler_graphs_checked_total (\S+)", line):
            found["checked"] = float(match[1])
        elif match := re.match(r"dask_scheduler_graph_differences_total (\S+)", line):
            found["differences"] = float(match[1])
    return found


class Watched:
    """What happened to graphs in between."""

    def __init__(self, client):
        self.client = client
        self.before = figures(client)

    def reasons(self):
        now = figures(self.client)["python"]
        return [reason for reason, count in now.items() if count > self.before["python"].get(reason, 0)]

    def is_same(self, graphs=1):
        """All were read by rask, and as Python reads them."""
        wanted = self.before["checked"] + graphs
        wait_until(lambda: figures(self.client)["checked"] == wanted or self.reasons(), "all graphs to be counted")
        assert self.reasons() == []
        now = figures(self.client)
        assert now["differences"] == self.before["differences"], self.client.cluster_under_test.proc.output()[-6000:]


@pytest.fixture
def watched(checked):
    return Watched(checked)


def known(client, future):
    def is_known():
        if future.status == "error":
            future.result(timeout=20)
        return client.sync(client.scheduler.get_task_status, keys=[future.key])[future.key] is not None

    wait_until(is_known, "the tasks of the graph")


ARRAYS = """sum|transpose|transpose, two means|from_array, std|overlap|rechunk|tensordot|matmul|svd|cumsum|take|stack
block_info|where|anomaly|weekly means|sliding window|histogram|blocks alone|argmax|reshape|fft|percentile"""


@pytest.mark.parametrize(
    "kind",
    ["bag fold", "bag foldby", "bag groupby", "delayed tree", "delayed pairs", *ARRAYS.replace("\n", "|").split("|")],
)
def test_kinds_are_read_as_python_reads_them(checked, watched, kind):
    futures = checked.compute(KINDS[kind](5))
    for future in futures if isinstance(futures, list) else [futures]:
        known(checked, future)
    watched.is_same()


def test_delayed_with_containers_annotations_and_names(checked, watched):
    with dask.annotate(priority=3, retries=2):
        first = delayed(operator.neg)(1)
    with dask.annotate(user="them", workers=["only"], allow_other_workers=True):
        second = delayed(lambda *a, **kw: (a, kw))(first, [first, {"a": first}], x=Pair(1, first), y={first: 2})
    third = delayed(sum)([first, delayed(5)])
    assert checked.compute(third).result(timeout=20) == 4
    args, kwargs = checked.compute(second).result(timeout=20)
    assert args == (-1, [-1, {"a": -1}]) and kwargs["x"] == Pair(1, -1)
    assert checked.compute([third, first]) and [f.result(timeout=20) for f in checked.compute([third, first])] == [4, -1]
    watched.is_same(graphs=4)


def test_delayed_on_persisted_futures_and_bags(checked, watched):
    future = checked.submit(operator.add, 1, 2, key="three")
    first = checked.persist(delayed(operator.neg)(7))
    bag = db.from_sequence(range(10), npartitions=3)
    both = delayed(lambda *args: args)(first, future, bag, bag.sum())
    assert checked.compute(both).result(timeout=20) == (-7, 3, list(range(10)), 45)
    persisted = checked.persist(bag.map(operator.neg))
    assert checked.compute(persisted.map(operator.neg).filter(lambda x: x % 2)).result(timeout=20) == [1, 3, 5, 7, 9]
    assert checked.compute(persisted.to_delayed()[0]).result(timeout=20) == [0, -1, -2, -3]
    watched.is_same(graphs=6)


def test_bags_of_all_kinds(checked, watched):
    bag = db.from_sequence([(i, i % 3, str(i)) for i in range(40)], npartitions=4)
    numbers = bag.pluck(0)
    collections_ = [
        numbers.map(lambda x, y: x + y, db.from_sequence([3, 4]).max()),
        numbers.map(divmod, 7).starmap(operator.add).topk(3),
        bag.starmap(lambda a, b, c, d: (a, d), d=5).distinct(),
        numbers.accumulate(operator.add),
        numbers.random_sample(0.5, random_state=3).count(),
        db.zip(numbers, numbers.map(operator.neg)).map(sum),
        numbers.reduction(sum, sum, split_every=2),
        numbers.repartition(npartitions=2),
        bag.groupby(operator.itemgetter(1)).map(lambda group: (group[0], len(group[1]))),
        numbers.var(),
        bag.foldby(1, lambda total, item: total + item[0], 0, operator.add, 0),
        db.concat([numbers, numbers]).product(numbers.repartition(1)).count(),
        db.from_delayed([delayed(list)(range(n)) for n in (2, 3)]).map(operator.neg).remove(bool),
        db.range(30, npartitions=3).join([1, 2, 3], lambda x: x),
        numbers.map(functools.partial(max, 17)).to_delayed(),
    ]
    expected = [
        dask.compute(x, scheduler="sync")[0] if isinstance(x, list) else x.compute(scheduler="sync") for x in collections_
    ]
    for one, wanted in zip(collections_, expected, strict=True):
        told = checked.gather(checked.compute(one))
        assert sorted(map(str, told)) == sorted(map(str, wanted)) if isinstance(wanted, list) else told == wanted
    watched.is_same(graphs=len(collections_))


def scaled(block, by=None, block_info=None, block_id=None):
    return block * by[0] + sum(block_id) + len(block_info[0]["shape"])


def arrays_of_all_forms(x, kept):
    loaded = da.from_array(np.arange(20_000.0).reshape(100, 200), chunks=(30, 60))
    return [
        kept + kept.T[:6, :6].sum(),
        (kept + x)[1:5, ::2],
        loaded[::7, 3].std(),
        da.from_array(np.arange(12.0), chunks=5, asarray=False, lock=True) + 1,
        da.ones((6, 8), dtype=int, chunks=(2, 3)).map_blocks(scaled, by=[2], dtype=float)[:2, :3],
        x[x > 7] * 2,
        da.blockwise(np.matmul, "ik", x.astype(float), "ij", da.ones((8, 4), chunks=3), "jk", concatenate=True, dtype=float),
        da.blockwise(lambda blocks: sum(map(np.sum, blocks)), "", x.sum(axis=1), "i", dtype=int),
        da.ones((5, 1), chunks=2) @ x[:1],
        da.from_delayed(delayed(np.ones)(4), (4,), float).map_blocks(np.negative),
        da.stack([x.max(axis=0), x.min(axis=0)]),
        x[1].map_blocks(lambda block, other: block + other, x[0], dtype=int),
        da.map_overlap(lambda block: block * 2, x, depth={0: (1, 0), 1: 2}, boundary="none"),
        x.rechunk((6, 1)).map_overlap(np.sort, depth={0: 0, 1: 1}, boundary="periodic"),
        da.where(x % 2 == 0, x.max(axis=0), 0).cumsum(axis=1),
        da.tril(x) * da.eye(8, chunks=3)[:6],
        da.ones((), dtype=int) + x.max(),
        da.zeros((0, 4), chunks=2).sum(axis=0),
        x.to_delayed()[1, 1],
    ]


def test_arrays_of_all_forms(checked, watched):
    x = da.from_array(np.arange(48).reshape(6, 8), chunks=(2, 3))
    kept = checked.persist(x + 1)
    arrays = arrays_of_all_forms(x, kept)
    for array, local in zip(arrays, arrays_of_all_forms(x, x + 1), strict=True):
        np.testing.assert_allclose(checked.compute(array).result(timeout=30), local.compute(scheduler="sync"))
    watched.is_same(graphs=len(arrays) + 1)
    watched = Watched(checked)
    several = checked.compute([x.sum(), kept.mean(axis=0), x.sum() + 1])
    assert [np.sum(told) for told in checked.gather(several)][0] == 1128
    first, second = checked.persist([x * 2, x * 3])
    assert checked.compute(first + second).result(timeout=30)[5, 7] == 47 * 5
    with dask.annotate(priority=3):
        assert checked.compute((x + 5).max()).result(timeout=30) == 52
    watched.is_same(graphs=4)


def test_several_collections_are_one_graph(checked, watched):
    bag = db.from_sequence(range(12), npartitions=3)
    tree = delayed(sum)([delayed(operator.neg)(i) for i in range(5)])
    futures = checked.compute([bag.map(operator.neg).sum(), tree, bag.map(operator.neg).max(), delayed(operator.neg)(3)])
    # Dask's client brings them by kind.
    assert sorted(future.result(timeout=20) for future in futures) == [-66, -10, -3, 0]
    futures = checked.compute([bag.sum(), tree], optimize_graph=False)
    assert [future.result(timeout=20) for future in futures] == [66, -10]
    watched.is_same(graphs=2)


def legacy(graph: dict, key: str, layer=MaterializedLayer) -> Delayed:
    return Delayed(key, HighLevelGraph({"layer": layer(graph)}, {"layer": set()}), layer="layer")


def print_all(*args):
    return " ".join(map(str, args))


def test_legacy_tasks_of_every_form(checked, watched):
    graph = {
        ("x", 0): (operator.neg, 1),
        ("x", 1.5): (functools.partial(print_all, 3), ("x", 0.0), [("x", 0), "word"]),
        "list": [("x", 0), [("x", 1.5)], "no key"],
        "set": (len, {("x", 0), "number", 7, "word"}),
        "dict": (dict, {"a": ("x", 0), "b": TaskRef("list")}),
        "deep": {"a": "list"},
        "pair": (list, Pair(("x", 0), 5)),
        "plain pair": Pair(1, (2, 3)),
        "nested": (print_all, [(operator.add, ("x", 0), (operator.mul, 2, "number")), ("x", 1.5), np.float64(2.5)]),
        "alias": "list",
        "number": 5,
        "of numbers": (lambda *args: args, 5, True, None, b"bytes", np.arange(3), slice(1, 2), operator.neg, 2**70),
        "frozen": frozenset([("x", 0), 1]),
        "node": Task("node", operator.add, TaskRef("number"), 1),
        "data": DataNode("data", (operator.neg, 1)),
        "tuple": (5, ("x", 0), "number"),
        7: (operator.neg, "number"),
        "seven": (operator.neg, 7.0),
    }
    names = [key for key in graph if isinstance(key, str)]
    graph["all"] = (list, names)
    expected = dask.get(graph, "all")
    told = checked.compute(legacy(graph, "all"), optimize_graph=False).result(timeout=20)
    assert str(told) == str(expected)
    lists = {key: graph[key] for key in [("x", 0), ("x", 1.5), "list", "dict", "alias", "number", "seven", 7, "node", "data"]}
    lists["top"] = (list, ["list", "dict", "seven", "node"])
    assert str(checked.compute(legacy(lists, "top")).result(timeout=20)) == str(dask.get(lists, "top"))
    bag = db.Bag(graph | {("b", 0): (list, [(operator.neg, 3), "number", ("x", 0)])}, "b", 1)
    assert checked.compute(bag.map(operator.neg)).result(timeout=20) == [3, -5, 1]
    watched.is_same(graphs=3)


def any_value(rng, keys, depth=0):
    """Something that may stand in a legacy graph, with references to these keys."""

    def inner(most):
        return [any_value(rng, keys, depth + 1) for _ in range(rng.randrange(most))]

    kind = 0 if depth > 3 else rng.randrange(12)
    if kind < 2:
        return rng.choice([1, 2.5, "word", None, True, (1, "x"), b"b", np.arange(2), ("word", 0), *keys, *keys])
    if kind < 5:
        return (rng.choice([print_all, list, tuple, functools.partial(print_all, 1), lambda *args: args]), *inner(4))
    makers = [
        lambda: inner(4),
        lambda: tuple(inner(3)),
        lambda: (print_all, {"a": any_value(rng, keys, depth + 1), "b": 1}),
        lambda: Pair(1, rng.choice(keys)),
        lambda: {rng.choice([1, "word", *keys]) for _ in range(3)},
        lambda: (print_all, TaskRef(rng.choice(keys))),
        lambda: [Task(None, print_all, TaskRef(rng.choice(keys)), [1], x=2)],
    ]
    return makers[kind - 5]()


def any_graph(rng, name) -> dict:
    graph = {(name, "first"): (operator.neg, 1)}
    for i in range(rng.randrange(2, 14)):
        near = list(graph)[-3:]
        value = any_value(rng, near)
        if rng.random() < 0.3:
            value = (rng.choice([list, print_all]), (list, near[-1]))
        graph[rng.choice([f"{name}-{i}", (f"{name}-a", i), (name, i, "x"), (f"{name}-b", i + 0.0)])] = value
    return graph


def test_random_legacy_graphs_are_read_as_python_reads_them(checked, watched):
    count, futures = 240, []
    for seed in range(count):
        rng = random.Random(seed)
        graph = any_graph(rng, f"random{seed}")
        key = rng.choice(list(graph))
        if seed % 3 == 0:
            first = {(f"bag{seed}", 0): (list, list(graph)[-1]), (f"bag{seed}", 1): (list, key)}
            futures.append(checked.compute(db.Bag(graph | first, f"bag{seed}", 2).map(operator.neg)))
        else:
            futures.append(checked.compute(legacy(graph, key), optimize_graph=seed % 3 == 1))
    wait_until(lambda: all(future.done() for future in futures), "the end of all graphs", timeout=60)
    now = figures(checked)
    assert now["differences"] == watched.before["differences"], checked.cluster_under_test.proc.output()[-6000:]
    assert now["checked"] - watched.before["checked"] > count / 2


class OwnLayer(MaterializedLayer):
    pass


class OwnTask(Task):
    pass


class Items(list):
    pass


def test_what_only_python_knows_goes_to_python(checked, watched):
    assert checked.compute(legacy({"own": (operator.neg, 1)}, "own", OwnLayer)).result(timeout=20) == -1
    assert checked.compute(legacy({"k": OwnTask("k", operator.neg, 2)}, "k")).result(timeout=20) == -2
    assert checked.compute(legacy({"i": (len, Items([1, "j"])), "j": 3}, "i")).result(timeout=20) == 2
    blockwise = db.from_sequence(range(4), npartitions=2).map_partitions(sorted, reverse=True)
    assert checked.compute(blockwise).result(timeout=20) == [1, 0, 3, 2]
    with dask.config.set(delayed_optimize=lambda dsk, keys, **kwargs: dsk):
        assert checked.compute(delayed(operator.neg)(4)).result(timeout=20) == -4
    assert checked.compute(da.ones(4, chunks=2).sum(), optimize_graph=False).result(timeout=20) == 4
    assert checked.compute(da.arange(10, chunks=5)[1:][2:].sum()).result(timeout=20) == 42
    both = checked.compute([da.ones(6, chunks=2).sum(), delayed(operator.neg)(6)])
    assert [future.result(timeout=20) for future in both] == [6, -6]
    with dask.annotate(priority=lambda key: 1):
        assert checked.compute(delayed(operator.neg)(5)).result(timeout=20) == -5
    assert len(watched.reasons()) >= 7
