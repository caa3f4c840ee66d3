"""The client side of each case of bench.py: `python cases.py ADDRESS CASE SCALE`.

Says "ready" when connected and warm, waits for a line on stdin, runs the case, and says what it measured
as one line of JSON. SCALE 1 is the size that figures are quoted for.
"""

from __future__ import annotations

import json
import operator
import os
import statistics
import sys
import time

import dask
import numpy as np
from dask import delayed
from distributed import Client, wait


def inc(x):
    return x + 1


def case_map(client, scale):
    n = int(10_000 * scale)
    start = time.perf_counter()
    results = client.gather(client.map(inc, range(n)))
    seconds = time.perf_counter() - start
    assert results == list(range(1, n + 1))
    return {"value": n / seconds, "tasks": n}


def case_latency(client, scale):
    took = []
    for i in range(max(10, int(150 * scale))):
        start = time.perf_counter()
        client.submit(inc, i, pure=False).result()
        took.append((time.perf_counter() - start) * 1e3)
        time.sleep(0.03)  # the spacing is the case: the client's 10 ms send window must be open again
    took.sort()
    return {"value": statistics.median(took), "p99": took[int(len(took) * 0.99)], "tasks": len(took)}


def case_tree(client, scale):
    leaves = 2 ** max(6, round(np.log2(4096 * scale)))
    level = [delayed(inc)(i) for i in range(leaves)]
    while len(level) > 1:
        level = [delayed(operator.add)(a, b) for a, b in zip(level[::2], level[1::2])]
    start = time.perf_counter()
    total = client.compute(level[0]).result()
    seconds = time.perf_counter() - start
    assert total == leaves * (leaves + 1) // 2
    return {"value": (2 * leaves - 1) / seconds, "tasks": 2 * leaves - 1}


def case_transpose(client, scale):
    import dask.array as da

    side = 500 * max(2, round(10 * scale**0.5))
    x = client.persist(da.random.default_rng(0).random((side, side), chunks=(500, 500)))
    wait(x)
    start = time.perf_counter()
    (x + x.T).sum().compute()
    return {"value": time.perf_counter() - start, "tasks": 2 * (side // 500) ** 2}


def case_merge(client, scale):
    import dask.dataframe as dd
    import pandas as pd

    rows = int(400_000 * scale)
    rng = np.random.default_rng(0)
    left = pd.DataFrame({"id": rng.permutation(rows), "a": rng.random(rows)})
    right = pd.DataFrame({"id": rng.permutation(rows), "b": rng.random(rows)})
    left, right = client.persist([dd.from_pandas(f, npartitions=16) for f in (left, right)])
    wait([left, right])
    start = time.perf_counter()
    n = len(left.merge(right, on="id", shuffle_method="p2p"))
    assert n == rows
    return {"value": time.perf_counter() - start, "tasks": 32}


def timed(rounds, action):
    """Seconds of the median round: single transfers are at the mercy of whoever else uses the machine."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def case_scatter(client, scale):
    """Through the scheduler, as a client outside of the workers' network does it."""
    size = int(128 * 2**20 * scale)
    data = np.random.default_rng(0).bytes(size)
    seconds = timed(5, lambda: client.scatter(data, direct=False, hash=False))
    return {"value": size / 2**20 / seconds, "tasks": 5}


def case_gather(client, scale):
    """Through the scheduler, of what a worker made."""
    size = int(128 * 2**20 * scale)
    future = client.submit(os.urandom, size, pure=False)
    wait(future)
    seconds = timed(5, lambda: client.gather(future, direct=False))
    return {"value": size / 2**20 / seconds, "tasks": 5}


def case_transfer(client, scale):
    """From worker to worker: the scheduler says where the data is, and is not on its way."""
    size = int(128 * 2**20 * scale)
    one, other = client.scheduler_info()["workers"]

    def fetch():
        made = client.submit(os.urandom, size, pure=False, workers=[one])
        wait(made)
        start = time.perf_counter()
        assert client.submit(len, made, pure=False, workers=[other]).result() == size
        return time.perf_counter() - start

    seconds = statistics.median(fetch() for _ in range(5))
    return {"value": size / 2**20 / seconds, "tasks": 10}


def case_small(client, scale):
    """A thousand small values that one worker has and a task on the other reads."""
    count = max(10, int(1000 * scale))
    one, other = client.scheduler_info()["workers"]

    def fetch():
        made = client.map(inc, range(count), pure=False, workers=[one])
        wait(made)
        start = time.perf_counter()
        assert client.submit(sum, made, pure=False, workers=[other]).result() == count * (count + 1) // 2
        return (time.perf_counter() - start) * 1e3

    return {"value": statistics.median(fetch() for _ in range(5)), "tasks": 5 * count}


def case_shuffle(client, scale):
    """All rows of a table to other partitions, from peer to peer."""
    import dask.dataframe as dd
    import pandas as pd

    rows = int(2_000_000 * scale)
    rng = np.random.default_rng(0)
    frame = client.persist(dd.from_pandas(pd.DataFrame({"id": rng.permutation(rows), "a": rng.random(rows)}), npartitions=16))
    wait(frame)
    start = time.perf_counter()
    shuffled = client.persist(frame.shuffle("id", shuffle_method="p2p"))
    wait(shuffled)
    seconds = time.perf_counter() - start
    assert len(shuffled) == rows
    return {"value": seconds, "tasks": 32}


def available_mib() -> float:
    line = next(line for line in open("/proc/meminfo") if line.startswith("MemAvailable:"))
    return int(line.split()[1]) / 2**10


def case_shared(client, scale):
    """An array of 2 GiB that all workers of the machine read: the time until all have, and what the machine has less then."""
    size = int(2**31 * scale)
    workers = list(client.scheduler_info()["workers"])
    made = client.submit(np.ones, size // 8, pure=False, workers=[workers[0]])
    wait(made)
    before, start = available_mib(), time.perf_counter()
    read = [client.submit(np.sum, made, pure=False, workers=[worker]) for worker in workers]
    assert client.gather(read) == [size // 8] * len(workers)
    seconds = time.perf_counter() - start
    return {"value": seconds, "tasks": len(workers), "more_mib": before - available_mib()}


def case_return(client, scale):
    """2 GiB through the scheduler and back; what it holds afterwards is in the column of its memory."""
    pieces, size = 8, int(256 * 2**20 * scale)
    data = [np.random.default_rng(i).bytes(size) for i in range(pieces)]
    start = time.perf_counter()
    futures = client.scatter(data, direct=False, hash=False)
    back = client.gather(futures, direct=False)
    seconds = time.perf_counter() - start
    assert back == data
    return {"value": seconds, "tasks": pieces}


CASES = {name[5:]: function for name, function in list(globals().items()) if name.startswith("case_")}


def main(address: str, name: str, scale: float):
    # P2P and rechunk defaults are Dask's own; nothing is set here that a user would not set.
    with dask.config.set({"distributed.comm.timeouts.connect": "60s"}), Client(address, timeout=60) as client:
        CASES[name](client, min(scale, 0.01))  # imports and connections are not the case
        print("ready", flush=True)
        sys.stdin.readline()
        cpu = time.process_time()
        result = CASES[name](client, scale)
        print(json.dumps(result | {"client_cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
