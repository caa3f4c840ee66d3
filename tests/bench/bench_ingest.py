"""What it costs a scheduler to take in a graph, stock and rask in one run.

    python bench_ingest.py                 all cases, 3 alternations, medians
    python bench_ingest.py --quick         once and small, to see that it works
    python bench_ingest.py --case bag tree --alternations 5

CPU seconds of the scheduler and its children from submission until all tasks are known, without workers. A small
graph of each kind comes first, so that what starts or is imported on demand is there already. "idle" sends nothing.
"""

from __future__ import annotations

import argparse
import operator
import sys
import tempfile
import time
from pathlib import Path

from measure import cpu_of_family, median, settle, table

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask import delayed
from distributed import Client
from harness import Cluster, wait_until

KINDS = ("stock", "rask")


def part(i):
    return pd.DataFrame({"a": np.arange(20) + i, "b": np.arange(20) % 5, "c": 1.5})


def array_sum(scale):
    side = max(4, int(100 * scale**0.5))
    one, two = (da.ones((10 * side, 10 * side), chunks=10) for _ in range(2))
    return (one + two.T).sum()


def overlap(scale):
    side = max(4, int(45 * scale**0.5))
    return da.ones((10 * side, 10 * side), chunks=10).map_overlap(lambda x: 2 * x, depth=1, boundary="none").sum()


def bag(scale):
    count = max(20, int(20_000 * scale))
    return db.from_sequence(range(count), npartitions=count).map(operator.neg).filter(bool).fold(operator.add)


def tree(scale):
    level = [delayed(operator.neg)(i) for i in range(max(40, int(36_000 * scale)))]
    while len(level) > 1:
        level = [delayed(sum)(level[i : i + 10]) for i in range(0, len(level), 10)]
    return level[0]


def groupby(scale):
    return dd.from_map(part, range(max(20, int(2_000 * scale)))).groupby("b").agg({"a": "mean", "c": "sum"})


CASES = {"array sum": array_sum, "bag": bag, "overlap": overlap, "tree": tree, "groupby": groupby}


def submit(client, collection):
    """Returns once the last task of the graph is known."""
    future = client.compute(collection)

    def is_known():
        if future.status == "error":
            future.result(timeout=20)
        return client.sync(client.scheduler.get_task_status, keys=[future.key])[future.key] is not None

    wait_until(is_known, "the tasks of the graph", timeout=300, period=0.1)
    return future


def run(work_dir: Path, kind: str, cases: list[str], scale: float) -> dict[str, tuple[float, float]]:
    """Per case: CPU seconds, seconds."""
    found = {}
    with Cluster(work_dir, scheduler=kind) as cluster, Client(cluster.address, set_as_default=False) as client:
        pid = cluster.proc.pid
        for case in cases:
            submit(client, CASES[case](0.001)).release()
        for case in [*cases, "idle"]:
            collection = CASES[case](scale) if case in CASES else None
            settle(pid)
            before, start = sum(cpu_of_family(pid)), time.monotonic()
            if collection is None:
                time.sleep(2)
            else:
                future = submit(client, collection)
            took = time.monotonic() - start
            found[case] = (sum(cpu_of_family(pid)) - before, took)
            if collection is not None:
                future.release()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", choices=CASES, nargs="*", default=list(CASES))
    parser.add_argument("--only", choices=KINDS, nargs="*", default=KINDS)
    parser.add_argument("--alternations", type=int, default=None, help="default 3")
    parser.add_argument("--scale", type=float, default=None, help="size of every graph; 1 is what figures are quoted for")
    args = parser.parse_args()
    alternations = args.alternations or (1 if args.quick else 3)
    scale = args.scale or (0.01 if args.quick else 1)
    runs: dict = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        for turn in range(alternations):
            for kind in args.only:
                print(f"alternation {turn + 1} of {alternations}: {kind}", file=sys.stderr, flush=True)
                for case, figures in run(Path(tmp), kind, args.case, scale).items():
                    runs.setdefault(case, {}).setdefault(kind, []).append(figures)
    rows = []
    for case, by_kind in runs.items():
        for kind, figures in by_kind.items():
            cpu = [cpu for cpu, _ in figures]
            rows.append([case, kind, median(cpu), f"{min(cpu):.2f}..{max(cpu):.2f}", median([s for _, s in figures])])
    print(table(rows, ["graph", "scheduler", "CPU s", "range", "s until known"]))


if __name__ == "__main__":
    main()
