"""What travels between workers, counted: the same graphs on a stock scheduler and on rask, with stock workers.

    python bench_transfers.py            2 and 4 workers, the median of 5 rounds
    python bench_transfers.py --quick    2 workers, one round of each, to see that it works

Numbers of keys and bytes do not depend on how busy the machine is, though which worker is idle first does.
"""

from __future__ import annotations

import argparse
import tempfile
from operator import add
from pathlib import Path

import dask
import numpy as np
from dask import array as da
from dask import delayed
from distributed import Client

from measure import median, table
from harness import Cluster


def in_pairs(level, join):
    while len(level) > 1:
        level = [join(a, b) for a, b in zip(level[::2], level[1::2])]
    return level[0]


def blob(at):
    return np.full(12_800, float(at))


def squares(side, chunk):
    return da.random.random((side, side), chunks=(chunk, chunk))


def tree():
    return in_pairs([delayed(int)(at) for at in range(1024)], delayed(add))


def tree_of_arrays():
    return in_pairs([delayed(blob)(at) for at in range(256)], delayed(add))


def reduction():
    return squares(1600, 100).mean(axis=0).std()


def transpose():
    x = squares(1000, 125)
    return (x + x.T).sum()


def product():
    x = squares(800, 100)
    return x.dot(x).sum()


def overlap():
    return squares(1000, 125).map_overlap(lambda block: block * 2, depth=2, boundary="none").sum()


def rechunk():
    with dask.config.set({"array.rechunk.method": "tasks"}):
        return squares(1000, 125).rechunk((1000, 50)).sum()


def join():
    import pandas as pd
    from dask import dataframe as dd

    at = np.arange(20_000)
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        left = dd.from_pandas(pd.DataFrame({"k": at % 997, "v": at}), npartitions=16)
        right = dd.from_pandas(pd.DataFrame({"k": at[:997], "w": at[:997]}), npartitions=8)
        return left.merge(right, on="k").w.sum().optimize()


CASES = [tree, tree_of_arrays, reduction, transpose, product, overlap, rechunk, join]


def received(dask_worker):
    """Keys and bytes that a worker has fetched since it was last asked."""
    log = list(dask_worker.transfer_incoming_log)
    dask_worker.transfer_incoming_log.clear()
    return sum(len(fetched["keys"]) for fetched in log), sum(fetched["total"] for fetched in log)


def rounds(work_dir: Path, kind: str, workers: int, count: int) -> dict[str, list[tuple[int, int]]]:
    with Cluster(work_dir, scheduler=kind) as cluster:
        for at in range(workers):
            cluster.add_worker(str(at))
        with Client(cluster.address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            told: dict[str, list] = {case.__name__: [] for case in CASES}
            # The first round is where the scheduler learns what tasks take.
            for at in range(count + 1):
                for case in CASES:
                    client.compute(case()).result(timeout=120)
                    fetched = client.run(received).values()
                    if at or not count:
                        told[case.__name__].append(tuple(map(sum, zip(*fetched))))
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    args.rounds = 0 if args.quick else args.rounds
    with tempfile.TemporaryDirectory(prefix="bench-transfers-") as folder:
        for workers in [2] if args.quick else [2, 4]:
            told = {kind: rounds(Path(folder), kind, workers, args.rounds) for kind in ("stock", "rask")}
            rows = []
            for name in told["stock"]:
                keys, sizes = ([median([r[part] for r in told[k][name]]) for k in ("stock", "rask")] for part in (0, 1))
                rows.append([name, *keys, keys[1] / max(1, keys[0]), *(size / 1024 for size in sizes)])
            print(table(rows, [f"{workers} workers", "keys: stock", "rask", "ratio", "KiB: stock", "rask"]) + "\n", flush=True)


if __name__ == "__main__":
    main()
