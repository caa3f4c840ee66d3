"""Memory of rask's own workers: values move to the disk when it runs short, come back when they are read, and a disk that is
full, small or damaged harms nobody."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

import harness
from harness import Cluster, wait_until

LATE_S = 60
CONFINED = (sys.executable, str(harness.HERE / "confined.py"))
ENDLESS = {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}
MAX_SPILL = {"DASK_DISTRIBUTED__WORKER__MEMORY__MAX_SPILL": "32MiB", **ENDLESS}
LIMIT = ("--memory-limit", "400MiB")
# Values of 16 MiB: fifteen of them are the target, 60 % of the limit.
COUNT = (16 << 20) // 8


def make(work_dir, scheduler: str) -> Cluster:
    # Tasks that each leave 16 MiB within milliseconds may pass the pause by more than is left above it.
    cluster = Cluster(work_dir, scheduler=scheduler, env=ENDLESS)
    cluster.add_worker("ours", "--engine", "rask", *LIMIT, kind="rask")
    cluster.add_worker("stock", kind="stock")
    return cluster


@pytest.fixture(scope="module", params=["rask", "stock"])
def cluster(request, work_dir):
    cluster = make(work_dir, request.param)
    yield cluster
    cluster.close()


@pytest.fixture
def client(cluster):
    with Client(cluster.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        yield client
    assert cluster.healthy(), cluster.logs()


def fill(number):
    return np.full(COUNT, number)


def total(array):
    return int(array.sum())


def worker_of(client, name: str):
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return next((address, worker) for address, worker in workers.items() if worker["name"] == name)


def spilled(client, name: str) -> dict:
    return worker_of(client, name)[1]["metrics"]["spilled_bytes"]


def made(client, name: str, count: int) -> list:
    return client.map(fill, range(count), workers=[worker_of(client, name)[0]], pure=False)


def files(cluster: Cluster) -> list[Path]:
    return [path for path in cluster.dir.glob("**/storage/*") if path.is_file()]


def check(client, name: str, arrays) -> None:
    """Each of the values, read by a task of its own where it lies."""
    address = worker_of(client, name)[0]
    sums = client.gather(client.map(total, arrays, workers=[address], pure=False))
    assert sums == [number * COUNT for number in range(len(arrays))]


def test_twice_the_memory_fits_and_comes_back(client, cluster):
    arrays = made(client, "ours", 36)
    check(client, "ours", arrays)
    wait_until(lambda: spilled(client, "ours")["disk"] >= 15 * COUNT * 8, "the scheduler hears of it", LATE_S)
    told = spilled(client, "ours")
    assert told["memory"] >= 15 * COUNT * 8 and len(files(cluster)) >= 15
    assert worker_of(client, "ours")[1]["metrics"]["memory"] < 420 << 20
    # From the disk to a peer, and to the client.
    stock = worker_of(client, "stock")[0]
    assert client.submit(total, arrays[1], workers=[stock]).result(LATE_S) == COUNT
    assert total(client.gather(arrays[2])) == 2 * COUNT
    check(client, "ours", arrays)
    del arrays
    wait_until(lambda: not files(cluster), "files go with their values", LATE_S)
    wait_until(lambda: spilled(client, "ours") == {"memory": 0, "disk": 0}, "the scheduler hears of it", LATE_S)


def test_values_that_were_fetched_move_to_the_disk_as_well(client, cluster):
    arrays = made(client, "stock", 30)
    check(client, "ours", arrays)
    wait_until(lambda: len(files(cluster)) >= 10, "some of them lie in files", LATE_S)
    check(client, "ours", arrays)


class Stubborn:
    def __init__(self):
        self.bulk = np.ones(COUNT)

    def __sizeof__(self):
        return self.bulk.nbytes

    def __reduce__(self):
        raise RuntimeError("not this one")


def test_what_cannot_be_pickled_stays_in_memory_and_is_said_once(client, cluster):
    address = worker_of(client, "ours")[0]
    stubborn = client.submit(Stubborn, workers=[address], key="stubborn")
    check(client, "ours", made(client, "ours", 30))
    assert client.submit(lambda value: value.bulk.sum(), stubborn, workers=[address]).result(LATE_S) == COUNT

    def said():
        return [line for line in cluster.workers["ours"].output().splitlines() if "it stays in memory" in line]

    wait_until(said, "it is said", LATE_S)
    assert len(said()) == 1 and "stubborn" in said()[0]


def test_a_file_that_was_cut_or_removed_is_computed_anew(client, cluster):
    arrays = made(client, "ours", 40)
    wait_until(lambda: len(files(cluster)) >= 8, "some of them lie in files", LATE_S)
    for number, path in enumerate(files(cluster)[:6]):
        if number % 2:
            os.truncate(path, 100)
        else:
            path.unlink()
    check(client, "ours", arrays)
    assert "must be computed anew" in cluster.workers["ours"].output()
    stock = worker_of(client, "stock")[0]
    wait_until(lambda: len(files(cluster)) >= 8, "some of them lie in files", LATE_S)
    for path in files(cluster):
        path.unlink()
    sums = client.gather(client.map(total, arrays, workers=[stock], pure=False))
    assert sums == [number * COUNT for number in range(40)]


class Circle:
    def __init__(self):
        self.bulk, self.itself = np.ones(21 * COUNT), self


def test_a_paused_worker_goes_on_when_memory_is_only_held_by_garbage(work_dir):
    """As after many values of the sizes that the C library keeps for later: nobody would free it."""
    with Cluster(work_dir, scheduler="rask", env=ENDLESS) as cluster:
        cluster.add_worker("ours", "--engine", "rask", *LIMIT, kind="rask")
        with Client(cluster.address, timeout=LATE_S) as client:
            client.wait_for_workers(1, timeout=LATE_S)

            def leaves_garbage():
                import gc

                gc.disable()
                Circle()

            client.submit(leaves_garbage).result(LATE_S)
            wait_until(lambda: "worker paused" in cluster.workers["ours"].output(), "the worker pauses", LATE_S)
            assert client.submit(total, np.ones(3), pure=False).result(LATE_S) == 3


# ---- other disks -----------------------------------------------------------------------------------------------------


def test_max_spill_is_kept(work_dir):
    """And nothing is left behind when it stops."""
    with Cluster(work_dir, scheduler="rask", env=MAX_SPILL) as cluster:
        cluster.add_worker("ours", "--engine", "rask", *LIMIT, kind="rask")
        with Client(cluster.address, timeout=LATE_S) as client:
            client.wait_for_workers(1, timeout=LATE_S)
            arrays = made(client, "ours", 16)
            check(client, "ours", arrays)
            wait_until(lambda: spilled(client, "ours")["disk"] > 0, "some lie in files", LATE_S)
            wait_until(lambda: "max-spill is reached" in cluster.workers["ours"].output(), "it is said", LATE_S)
            assert spilled(client, "ours")["disk"] <= 32 << 20
            check(client, "ours", arrays)
        cluster.workers["ours"].stop()
        assert not files(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which takes root")
def test_a_full_disk_is_said_and_the_worker_pauses_in_time(work_dir):
    with Cluster(work_dir, scheduler="rask", env=ENDLESS) as cluster:
        small = cluster.dir / "small"
        small.mkdir()
        before = (*CONFINED, "--mount", f"{small}:40m")
        more = ("--local-directory", str(small))
        cluster.add_worker("ours", "--engine", "rask", *LIMIT, *more, kind="rask", before=before)
        with Client(cluster.address, timeout=LATE_S) as client:
            client.wait_for_workers(1, timeout=LATE_S)
            arrays = made(client, "ours", 40)
            wait_until(lambda: "cannot be moved to the disk" in cluster.workers["ours"].output(), "it is said", LATE_S)
            wait_until(lambda: worker_of(client, "ours")[1]["status"] == "paused", "it pauses", LATE_S)
            wait_until(lambda: 0 < spilled(client, "ours")["disk"] <= 40 << 20, "what fitted is there", LATE_S)
            for array in arrays[10:]:
                array.release()
            check(client, "ours", arrays[:10])
