"""The collections on data of several partitions, compared with numpy, pandas and plain Python."""

from __future__ import annotations

import operator

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask import delayed
from distributed import wait
from pandas.testing import assert_frame_equal, assert_series_equal

pytestmark = pytest.mark.timeout(120)

RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "id": RNG.permutation(4000),
        "group": RNG.integers(0, 40, 4000),
        "value": RNG.normal(size=4000),
        "name": RNG.choice(["a", "b", "cc", None], 4000),
    }
)
OTHER = pd.DataFrame({"id": RNG.permutation(4000)[:2500], "weight": RNG.normal(size=2500)})


def by_id(frame):
    return frame.sort_values("id").reset_index(drop=True)


def holders(client, collection):
    return {w for who in client.who_has(collection).values() for w in who}


def test_keys_with_numbers_of_numpy(client):
    """Some of Dask's own graphs have such keys; they equal the plain ones, by which clients ask."""
    graph = {("n", np.int64(i)): (operator.add, i, np.float64(0.5)) for i in range(3)}
    graph[("sum", np.uint8(0))] = (sum, [("n", i) for i in range(3)])
    assert client.get(graph, [("sum", 0), ("n", 1)]) == [4.5, 1.5]
    diagonal = da.diagonal(da.ones((8, 8), chunks=(4, 4)))
    np.testing.assert_array_equal((diagonal + diagonal).compute(), np.full(8, 2.0))


# --- delayed, bag --------------------------------------------------------------------------------


def test_delayed_diamonds_and_containers(client):
    xs = [delayed(operator.mul)(i, i) for i in range(30)]
    total = delayed(sum)(xs)
    both = delayed(lambda d: d["t"] + len(d["xs"]))({"t": total, "xs": xs})
    assert both.compute() == sum(i * i for i in range(30)) + 30
    pieces = delayed(divmod, nout=2)(17, 5)
    assert dask.compute(*pieces) == (3, 2)


def test_bag_folds_and_groups(client):
    numbers = db.from_sequence(range(1000), npartitions=8)
    assert numbers.map(lambda x: x * 2).filter(lambda x: x % 3 == 0).sum().compute() == sum(
        2 * x for x in range(1000) if 2 * x % 3 == 0
    )
    assert dict(numbers.map(lambda x: x % 7).frequencies().compute()) == {
        r: len(range(r, 1000, 7)) for r in range(7)
    }
    groups = numbers.groupby(lambda x: x % 5, shuffle="tasks").map(lambda kv: (kv[0], sorted(kv[1]))).compute()
    assert sorted(groups) == [(r, list(range(r, 1000, 5))) for r in range(5)]
    assert sorted(numbers.topk(3).compute()) == [997, 998, 999]
    assert numbers.accumulate(operator.add).compute()[-1] == sum(range(1000))


# --- array ---------------------------------------------------------------------------------------


def test_array_transpose_reductions_and_linear_algebra(client):
    a = RNG.normal(size=(600, 400))
    x = client.persist(da.from_array(a, chunks=(100, 100)))
    wait(x)
    assert len(holders(client, x)) == 2
    np.testing.assert_allclose((x + x[::-1] * 2).T.sum(axis=0).compute(), (a + a[::-1] * 2).T.sum(axis=0))
    np.testing.assert_allclose(x.std(axis=1).compute(), a.std(axis=1))
    np.testing.assert_allclose((x @ x.T).compute(), a @ a.T)
    np.testing.assert_array_equal(x.argmax(axis=0).compute(), a.argmax(axis=0))
    np.testing.assert_allclose(da.linalg.svd(x.rechunk((100, 400)))[1].compute(), np.linalg.svd(a)[1])


def test_array_overlap_and_slicing(client):
    a = RNG.normal(size=(200, 200))
    x = da.from_array(a, chunks=(50, 50))
    np.testing.assert_allclose(x[10:150:3, [1, 60, 5]].compute(), a[10:150:3, [1, 60, 5]])
    smoothed = x.map_overlap(lambda b: (b + np.roll(b, 1, 0) + np.roll(b, -1, 0)) / 3, depth={0: 1}, boundary="periodic")
    np.testing.assert_allclose(smoothed.compute(), (a + np.roll(a, 1, 0) + np.roll(a, -1, 0)) / 3)


@pytest.mark.parametrize("method", ["p2p", "tasks"])
def test_array_rechunk(client, method):
    a = np.arange(300 * 240, dtype="int32").reshape(300, 240)
    x = client.persist(da.from_array(a, chunks=(20, 240)))
    with dask.config.set({"array.rechunk.method": method}):
        y = x.rechunk((300, 30))
    np.testing.assert_array_equal(y.compute(), a)
    assert y.blocks[0, 3].compute().shape == (300, 30)


# --- dataframe -----------------------------------------------------------------------------------


def test_dataframe_aggregations(client):
    df = dd.from_pandas(FRAME, npartitions=6)
    assert df.value.mean().compute() == pytest.approx(FRAME.value.mean())
    expected = FRAME.groupby("group").agg({"value": ["sum", "max"], "id": "count"})
    assert_frame_equal(df.groupby("group").agg({"value": ["sum", "max"], "id": "count"}).compute().sort_index(), expected)
    assert_series_equal(
        df.name.value_counts().compute().sort_index(), FRAME.name.value_counts().sort_index(), check_dtype=False,
        check_index_type=False,
    )
    assert df[df.value > 0].id.nunique().compute() == (FRAME.value > 0).sum()


def test_dataframe_merge_by_p2p(client):
    left, right = dd.from_pandas(FRAME, npartitions=6), dd.from_pandas(OTHER, npartitions=5)
    merged = left.merge(right, on="id", shuffle_method="p2p")
    assert any("p2p" in str(k).lower() for k in merged.optimize().__dask_graph__())
    assert_frame_equal(by_id(merged.compute()), by_id(FRAME.merge(OTHER, on="id")), check_dtype=False)
    outer = left.merge(right, on="id", how="left").compute()
    assert_frame_equal(by_id(outer), by_id(FRAME.merge(OTHER, on="id", how="left")), check_dtype=False)


def test_dataframe_set_index_and_shuffle(client):
    df = dd.from_pandas(FRAME, npartitions=6)
    indexed = df.set_index("id")
    result = indexed.compute()
    assert result.index.is_monotonic_increasing
    assert_frame_equal(result, FRAME.set_index("id").sort_index(), check_dtype=False)
    shuffled = df.shuffle("group", npartitions=4)
    sizes = shuffled.map_partitions(lambda part: part.group.unique().tolist()).compute()
    parts = client.gather(client.compute(shuffled.to_delayed()))
    assert len(sizes) and sorted(g for part in parts for g in part.group.unique()) == sorted(FRAME.group.unique())
    assert indexed.loc[100:110].compute().index.tolist() == list(range(100, 111))


def test_dataframe_groupby_apply_shuffles(client):
    df = dd.from_pandas(FRAME[["group", "value"]], npartitions=6)
    spread = df.groupby("group").apply(lambda part: part.value.max() - part.value.min(), meta=(None, "f8")).compute()
    expected = FRAME.groupby("group").value.agg(lambda v: v.max() - v.min())
    np.testing.assert_allclose(spread.sort_index(), expected)


def test_parquet_round_trip(client, tmp_path):
    dd.from_pandas(FRAME, npartitions=4).to_parquet(tmp_path)
    back = dd.read_parquet(tmp_path, columns=["group", "value"])
    assert back.npartitions == 4
    np.testing.assert_allclose(back.groupby("group").value.sum().compute().sort_index(), FRAME.groupby("group").value.sum())


def test_persisted_frames_mix_with_new_work(client):
    df = client.persist(dd.from_pandas(FRAME, npartitions=4))
    wait(df)
    a, b = dask.compute(df.value.sum(), df.groupby("group").value.count())
    assert a == pytest.approx(FRAME.value.sum()) and b.sum() == 4000
