"""Collections whose graphs differ in shape: what the order of tasks is compared on.

``KINDS`` maps a name to a function of a length ``n``; a graph has about 10 to 300 times as many tasks.
"""

from __future__ import annotations

import operator

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask import delayed
from dask._expr import FinalizeCompute
from dask._task_spec import DataNode, Task, TaskRef, convert_legacy_graph
from dask.base import collections_to_expr
from dask.core import istask


def square(n, blocks=None):
    """A square array of ``blocks`` (default ``n``) times as many blocks of 10 by 10."""
    side = 10 * (blocks or n)
    return da.ones((side, side), chunks=10)


def frame_part(i):
    return pd.DataFrame({"a": np.arange(20) + i, "b": np.arange(20) % 5, "c": 1.5})


def frame(n):
    return dd.from_map(frame_part, range(n))


def pandas_frame(n):
    rows = 100 * n
    return dd.from_pandas(pd.DataFrame({"a": np.arange(rows), "b": np.arange(rows) % 7, "c": 1.5}), npartitions=20 * n)


def shuffled(method, n):
    with dask.config.set({"dataframe.shuffle.method": method}):
        return frame(n).shuffle("b").map_partitions(lambda part: part).c.sum()


def merged(method, n):
    return frame(n).merge(frame(n), on="a", shuffle_method=method).c_x.sum()


def with_block_info(block, block_info=None):
    return block


def bag(n):
    return db.from_sequence(range(n), npartitions=n)


def anomaly(n):
    x = da.random.random((100, 10 * n, 10 * max(n // 10, 1)), chunks=10)
    return (x - x.mean(axis=0, keepdims=True)).std()


def weekly(n):
    x = square(n)
    return da.concatenate([x[10 * i : 10 * i + 7].mean(axis=0, keepdims=True) for i in range(n)]).sum()


def tree(n):
    level = [delayed(operator.neg)(i) for i in range(50 * n)]
    while len(level) > 1:
        level = [delayed(sum)(level[i : i + 10]) for i in range(0, len(level), 10)]
    return level[0]


def tensordot(x):
    return da.tensordot(x, x, axes=1).sum()


KINDS = {
    "sum": lambda n: (square(n) + 1).sum(),
    "transpose": lambda n: (lambda x: (x + x.T).sum())(da.random.random((10 * n, 10 * n), chunks=10)),
    "transpose, two means": lambda n: (lambda x: (x + x.T).sum(axis=0).mean())(square(n)),
    "from_array, std": lambda n: (da.from_array(np.zeros((10 * n, 10 * n)), chunks=10)[::2] * 3).std(axis=0),
    "overlap": lambda n: square(n, n // 2).map_overlap(lambda x: 2 * x, depth=1, boundary="none").sum(),
    "rechunk": lambda n: square(n).rechunk((10 * n, 20)).sum(axis=0),
    "tensordot": lambda n: tensordot(square(n, max(n // 4, 2))),
    "matmul": lambda n: (lambda x: x @ x.T)(square(n, max(n // 4, 2))),
    "svd": lambda n: da.linalg.svd(da.random.random((100 * n, 20), chunks=(10, 20)))[1],
    "cumsum": lambda n: da.cumsum(square(n), axis=0).sum(),
    "take": lambda n: square(n)[:, np.arange(0, 10 * n, 3)].mean(),
    "stack": lambda n: da.stack([square(n, max(n // 4, 2)) for _ in range(4)]).max(axis=0),
    "block_info": lambda n: square(n).map_blocks(with_block_info, dtype=float),
    "where": lambda n: (lambda x: da.where(x > 0, x, -x).sum())(square(n)),
    "anomaly": anomaly,
    "weekly means": weekly,
    "sliding window": lambda n: da.lib.stride_tricks.sliding_window_view(da.ones(1000 * n, chunks=100), 5).mean(axis=-1),
    "histogram": lambda n: da.histogram(square(n), bins=10, range=(0, 1))[0],
    "blocks alone": lambda n: square(n) + 1,
    "argmax": lambda n: square(n).argmax(axis=0),
    "reshape": lambda n: square(n).reshape(-1).sum(),
    "fft": lambda n: da.fft.fft(square(n).rechunk({0: -1}), axis=0).real.sum(),
    "percentile": lambda n: da.percentile(da.random.random(1000 * n, chunks=100), [50]),
    "bag fold": lambda n: bag(50 * n).map(operator.neg).filter(lambda x: x % 2).fold(operator.add),
    "bag foldby": lambda n: bag(20 * n).foldby(lambda x: x % 7, operator.add),
    "bag groupby": lambda n: bag(n).groupby(lambda x: x % 7, shuffle="tasks"),
    "frame sum": lambda n: frame(50 * n).assign(z=lambda part: part.a + 1)[["a", "z"]].sum(),
    "frame groupby": lambda n: frame(50 * n).groupby("b").agg({"a": "mean", "c": "sum"}, shuffle_method="tasks"),
    "shuffle by tasks": lambda n: shuffled("tasks", max(8, n // 2)),
    "shuffle by P2P": lambda n: shuffled("p2p", max(8, n // 2)),
    "merge by tasks": lambda n: merged("tasks", max(8, n // 2)),
    "merge by P2P": lambda n: merged("p2p", max(8, n // 2)),
    "rolling": lambda n: pandas_frame(n).a.rolling(3).mean().sum(),
    "frame fused": lambda n: frame(50 * n).assign(z=lambda part: part.a + 1)[["a", "z"]].sum().optimize(),
    "frame repartitioned, fused": lambda n: frame(20 * n).repartition(npartitions=10 * n).assign(z=1)[["a"]].optimize(),
    "set_index": lambda n: frame(n).set_index("a", divisions=list(range(0, 100, 20)), shuffle_method="tasks").c.sum(),
    "repartition": lambda n: frame(20 * n).repartition(npartitions=5 * n).c.sum(),
    "from_pandas": lambda n: pandas_frame(n).b.sum(),
    "delayed tree": tree,
    "delayed pairs": lambda n: [delayed(operator.neg)(delayed(operator.neg)(i)) for i in range(10 * n)],
    "array and delayed": lambda n: [square(n, n // 2).sum(), square(n, n // 2).to_delayed().ravel()[0]],
}


def graph_of(collections) -> dict:
    """The tasks as a scheduler sees them when it orders them."""
    if not isinstance(collections, list):
        collections = [collections]
    expr = FinalizeCompute(collections_to_expr(collections, True)).optimize()
    return convert_legacy_graph(expr.__dask_graph__())


def shape_of(graph: dict, name=str) -> dict:
    """The same graph without its functions and values, under other names for its keys."""
    names = {key: name(key) for key in graph}

    def node(key):
        if not istask(graph[key]):
            return DataNode(names[key], 0)
        return Task(names[key], len, *(TaskRef(names.get(need, need)) for need in graph[key].dependencies))

    return {names[key]: node(key) for key in graph}
