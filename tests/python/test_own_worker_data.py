"""Values of rask's own workers: large ones travel in files that are mapped, whatever the machine is like."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, get_worker

import harness
from harness import Cluster, wait_until

LATE_S = 60
CONFINED = (sys.executable, str(harness.HERE / "confined.py"))


class Farm:
    """Two workers of one node, `pair-0` and `pair-1`; one that has no memfd, `poor`; one with few descriptors, `few`; and
    a stock one."""

    def __init__(self, cluster: Cluster, client: Client):
        self.cluster, self.client = cluster, client
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self.addresses = {worker["name"]: address for address, worker in workers.items()}

    def on(self, name: str, function, *args, **kwargs):
        return self.client.submit(function, *args, workers=[self.addresses[name]], pure=False, **kwargs)

    def node(self, name: str) -> Path:
        return Path("/proc", str(self.cluster.workers[name].pid))


@pytest.fixture(scope="module")
def cluster(work_dir):
    with Cluster(work_dir, scheduler="rask") as cluster:
        cluster.add_worker("pair", "--engine", "rask", nworkers=2, nanny=True, kind="rask")
        cluster.add_worker("poor", "--engine", "rask", kind="rask", before=(*CONFINED, "--no-memfd"))
        small = ("--mount", "/dev/shm:1m") if os.geteuid() == 0 else ()
        cluster.add_worker("few", "--engine", "rask", kind="rask", before=(*CONFINED, *small, "--open-files", "256"))
        cluster.add_worker("stock", kind="stock")
        yield cluster


@pytest.fixture
def farm(cluster):
    with Client(cluster.address, timeout=LATE_S) as client:
        client.wait_for_workers(5, timeout=LATE_S)
        yield Farm(cluster, client)
    assert cluster.healthy(), cluster.logs()


def files_of(node: Path) -> set[int]:
    """Files of values that a node has open, by their numbers."""
    found = set()
    for descriptor in (node / "fd").iterdir():
        try:
            target = os.readlink(descriptor)
            if "rask-value" in target or "/value-" in target:
                found.add(descriptor.stat().st_ino)
        except OSError:  # closed meanwhile
            pass
    return found


def mapped_here(array) -> set[int]:
    """The number of the file that an array lies in, mapped into this process; empty if it lies on the heap."""
    at = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        first, end = (int(number, 16) for number in span.split("-"))
        if first <= at < end:
            return {int(inode)} - {0}
    return set()


def fill(count):
    return np.arange(count, dtype=np.int64)


def change(array):
    array += 1  # a task's own copy: writable, as from a stock worker
    changed = array.copy()
    array -= 1  # the scheduler may count on this copy, and have the owner's removed
    return changed


def total(array):
    return int(array.sum())


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pair-0 pair-1", "pair-0 stock", "stock pair-0", "poor few", "few poor", "stock poor"])
def test_an_array_of_100_mb_travels_to_a_peer_and_back(farm, way):
    owner, peer = way.split()
    count = 12_500_000
    array = farm.on(owner, fill, count)
    there = farm.on(peer, change, array)
    back = farm.on(owner, total, there)
    assert back.result(LATE_S) == count * (count - 1) // 2 + count
    assert farm.on(owner, total, array).result(LATE_S) == count * (count - 1) // 2, "its owner's is as it was"


def test_siblings_map_one_file_although_dask_cuts_what_is_in_it(farm):
    """Three shards of 64 MiB at most: they lie behind each other, so nothing is put together again."""
    count = (150 << 20) // 8 + 3
    array = farm.on("pair-0", fill, count)
    inodes = farm.on("pair-1", mapped_here, array).result(LATE_S)
    assert inodes and inodes <= files_of(farm.node("pair"))
    assert farm.on("pair-1", total, array).result(LATE_S) == count * (count - 1) // 2


def peak_bytes(node: Path) -> int:
    line = next(line for line in (node / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def test_a_value_that_many_ask_for_is_written_once_and_never_read_into_the_node(farm):
    node = farm.node("pair")
    wait_until(lambda: not files_of(node), "nothing is left of earlier tests")
    (node / "clear_refs").write_text("5")  # its peak is what it is now
    peak = peak_bytes(node)
    array = farm.on("pair-0", fill, 12_500_000)
    readers = [farm.on(name, total, array) for name in ("pair-1", "poor", "few", "stock")]
    assert len({reader.result(LATE_S) for reader in readers}) == 1
    assert len(files_of(node)) == 1
    assert farm.on("poor", total, array).result(LATE_S) == readers[0].result()
    print(f"node: peak of {peak >> 20} MiB before, {peak_bytes(node) >> 20} MiB after")
    assert peak_bytes(node) - peak < 24 << 20
    del array, readers
    wait_until(lambda: not files_of(node), "its file goes with the value")


def test_scattered_and_gathered_arrays_are_the_same(farm):
    array = fill(1_000_000)
    for name in ("pair-0", "poor", "few"):
        [future] = farm.client.scatter([array], workers=[farm.addresses[name]], hash=False)
        assert farm.on(name, total, future).result(LATE_S) == total(array)
        assert (farm.client.gather(future) == array).all()


def test_values_of_many_parts_and_of_other_shapes_arrive(farm):
    def parts():
        return {"a": [np.ones((300, 300)), np.asfortranarray(np.ones((200, 900)))], "b": b"x" * 700_000, "c": np.ones((0, 3))}

    def weigh(value):
        return sum(part.sum() for part in value["a"]) + len(value["b"]) + len(value["c"])

    for owner, peer in (("pair-0", "pair-1"), ("poor", "stock"), ("stock", "few")):
        assert farm.on(peer, weigh, farm.on(owner, parts)).result(LATE_S) == 300 * 300 + 200 * 900 + 700_000
        empty = farm.on(owner, np.ones, (3, 0))
        assert farm.on(peer, np.shape, empty).result(LATE_S) == farm.client.gather(empty).shape == (3, 0)


# ---- few descriptors, odd values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pair-0 few", "few pair-0"])
def test_more_values_than_there_are_descriptors(farm, way):
    owner, peer = way.split()
    arrays = [farm.on(owner, fill, 40_000 + number) for number in range(300)]
    sums = farm.on(peer, lambda *arrays: [total(array) for array in arrays], *arrays).result(LATE_S)
    assert sums == [n * (n - 1) // 2 for n in range(40_000, 40_300)]
    assert len(list((farm.node("few") / "fd").iterdir())) < 256


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not this one")


def test_what_cannot_be_pickled_is_an_error_that_names_the_key_and_nothing_hangs(farm):
    value = farm.on("pair-0", Unpicklable, key="cannot-be-pickled")
    for peer in ("pair-1", "few"):
        reader = farm.on(peer, id, value)
        with pytest.raises(RuntimeError, match="cannot-be-pickled"):
            reader.result(LATE_S)
        # A copy that is none must not count as one: the scheduler might have the real one removed for it.
        assert farm.client.who_has(value) == {value.key: (farm.addresses["pair-0"],)}
    assert farm.on("pair-0", lambda value: type(value).__name__, value).result(LATE_S) == "Unpicklable"


def boom(*_):
    raise RuntimeError("it does not want to be loaded")


class Unloadable:
    def __init__(self):
        self.bulk = np.ones(200_000)

    def __reduce__(self):
        return boom, (self.bulk,)


def test_what_cannot_be_loaded_fails_the_task_that_reads_it_and_no_other(farm):
    value, sound = farm.on("pair-0", Unloadable, key="cannot-be-loaded"), farm.on("pair-0", fill, 200_000)
    reader, other = farm.on("poor", id, value), farm.on("poor", total, sound)
    with pytest.raises(RuntimeError, match="cannot-be-loaded"):
        reader.result(LATE_S)
    assert other.result(LATE_S) == 200_000 * 199_999 // 2


class Liar:
    def __init__(self, size):
        self.size = size

    def __sizeof__(self):
        return self.size


@pytest.mark.parametrize("size", [-5, 1 << 62, 1 << 70, "big", 2.5])
def test_a_value_that_lies_about_its_size_harms_nobody(farm, size):
    value = farm.on("pair-0", Liar, size)
    reader = farm.on("pair-1", lambda liar: liar.size, value)
    if size == 1 << 62:  # as in Dask, the scheduler does not even try
        with pytest.raises(MemoryError):
            reader.result(LATE_S)
    else:
        assert reader.result(LATE_S) == size
    assert farm.on("pair-0", lambda: get_worker().name).result(LATE_S) == "pair-0"
