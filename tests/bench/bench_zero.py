"""Scheduler CPU per task, with workers that answer at once (zero.py).

    python bench_zero.py            2, 10 and 100 workers, 10,000 and 100,000 tasks; stock only up to 10,000
    python bench_zero.py --stock-max 100000   stock at 100,000 too: minutes per case
    python bench_zero.py --quick    a small one of each, to see that it works (under a minute)
    python bench_zero.py --tasks 10000 --workers 10 --shape layered --only rask

Kinds are run alternately: stock, stock with worker-saturation inf, rask, rask with inf. Each run is a
fresh scheduler, fresh workers and a fresh client. `us/task` is CPU of the scheduler process and its
children from submit until the client knows that everything is done; `free` is what it costs to let go of
it all; `B/task` is resident memory per task held (independent tasks only: the client holds each).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import cpu_of, cpu_of_family, median, rss_of, settle, table

import operator

from dask._task_spec import Task, TaskRef
from distributed import Client, wait
from harness import Cluster, clean_env, wait_until

HERE = Path(__file__).resolve().parent
INF = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "inf"}
KINDS = {"stock": ("stock", {}), "stock-inf": ("stock", INF), "rask": ("rask", {}), "rask-inf": ("rask", INF)}
LAYER = 1000


def independent(n: int):
    """n tasks without edges; the client wants every one."""
    graph = {f"one-{i}": Task(f"one-{i}", operator.neg, i) for i in range(n)}
    return graph, list(graph)


def layered(n: int):
    """Layers of 1,000 tasks, each with three dependencies in the layer before; the client wants the last layer."""
    width = min(LAYER, n)
    graph = {("layer-0", i): Task(("layer-0", i), operator.neg, i) for i in range(width)}
    for depth in range(1, n // width):
        for i in range(width):
            key = (f"layer-{depth}", i)
            refs = (TaskRef((f"layer-{depth - 1}", (i + step) % width)) for step in (0, 1, 7))
            graph[key] = Task(key, max, *refs)
    last = n // width - 1
    return graph, [(f"layer-{last}", i) for i in range(width)]


SHAPES = {"independent": independent, "layered": layered}


def run(work_dir: Path, kind: str, workers: int, shape: str, n: int) -> dict:
    scheduler, env = KINDS[kind]
    graph, keys = SHAPES[shape](n)
    with Cluster(work_dir, scheduler=scheduler, env=env) as cluster:
        zero = subprocess.Popen(
            [sys.executable, str(HERE / "zero.py"), cluster.address, "-n", str(workers)],
            stdout=subprocess.PIPE, text=True, env=clean_env(cluster.dir),
        )
        try:
            assert "registered" in zero.stdout.readline()
            with Client(cluster.address, timeout=60) as client:
                return measure(client, cluster.proc.pid, graph, keys, n)
        finally:
            zero.terminate()
            zero.wait(10)


def measure(client, pid: int, graph: dict, keys: list, n: int) -> dict:
    settle(pid)
    rss = rss_of(pid)
    own, children = cpu_of_family(pid)
    start = time.perf_counter()
    futures = client.get(graph, keys, sync=False)
    wait(futures)
    seconds = time.perf_counter() - start
    settle(pid)
    own_done, children_done = cpu_of_family(pid)
    held = rss_of(pid) - rss
    assert all(f.status == "finished" for f in futures)
    del futures
    wait_until(lambda: not client.futures, "the client has let go", 60)
    wait_until(lambda: no_task_left(client), "the scheduler has forgotten everything", 120, 0.5)
    settle(pid)
    own_freed = cpu_of(pid)
    return {
        "us": (own_done - own + children_done - children) * 1e6 / n,
        "children_us": (children_done - children) * 1e6 / n,
        "free_us": (own_freed - own_done) * 1e6 / n,
        "tasks_s": n / seconds,
        "bytes": held / n,
    }


def no_task_left(client) -> bool:
    return not any(sum(states.values()) for states in client.sync(client.scheduler.get_task_prefix_states).values())


def startup(work_dir: Path, kind: str) -> dict:
    """Time until the scheduler listens; memory and CPU when idle."""
    scheduler, env = KINDS[kind]
    start = time.perf_counter()
    with Cluster(work_dir, scheduler=scheduler, env=env) as cluster:
        listening = time.perf_counter() - start
        settle(cluster.proc.pid)
        before = cpu_of(cluster.proc.pid)
        time.sleep(2)  # the measure itself: CPU used in two idle seconds
        idle = (cpu_of(cluster.proc.pid) - before) / 2
        return {"listening_ms": listening * 1e3, "idle_mib": rss_of(cluster.proc.pid) / 2**20, "idle_cpu_percent": idle * 100}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", type=int, nargs="*", default=None)
    parser.add_argument("--workers", type=int, nargs="*", default=None)
    parser.add_argument("--shape", choices=SHAPES, nargs="*", default=list(SHAPES))
    parser.add_argument("--only", choices=KINDS, nargs="*", default=None)
    parser.add_argument("--stock-max", type=int, default=10_000, help="largest case that stock runs (default 10000)")
    parser.add_argument("--repeat", type=int, default=1, help="alternations; medians are shown (default 1)")
    parser.add_argument("--json", help="also write the medians to this file")
    args = parser.parse_args()
    tasks = args.tasks or ([2_000] if args.quick else [10_000, 100_000])
    workers = args.workers or ([10] if args.quick else [2, 10, 100])
    kinds = args.only or (["stock", "rask"] if args.quick else list(KINDS))
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-zero-") as tmp:
        work_dir = Path(tmp)
        starts = {k: startup(work_dir, k) for k in kinds if not k.endswith("-inf")}
        rows = [[k, s["listening_ms"], s["idle_mib"], s["idle_cpu_percent"]] for k, s in starts.items()]
        print(table(rows, ["scheduler", "listening ms", "idle MiB", "idle CPU %"]) + "\n", flush=True)
        for shape in args.shape:
            for n in tasks:
                for count in workers:
                    able = [k for k in kinds if n <= args.stock_max or not k.startswith("stock")]
                    if able:
                        results |= case(work_dir, able, shape, n, count, args.repeat)
    if args.json:
        named = {" ".join(map(str, k)): v for k, v in results.items()}
        Path(args.json).write_text(json.dumps({"start": starts, "cases": named}, indent=1))


def case(work_dir, kinds, shape, n, count, repeat) -> dict:
    runs = {k: [] for k in kinds}
    for _ in range(repeat):
        for kind in kinds:
            runs[kind].append(run(work_dir, kind, count, shape, n))
    medians = {k: {name: median([r[name] for r in rs]) for name in rs[0]} for k, rs in runs.items()}
    rows = []
    for kind, m in medians.items():
        base = medians.get("stock-inf" if kind.endswith("-inf") else "stock")
        ratio = f"1/{base['us'] / m['us']:.1f}" if base and m["us"] else ""
        memory = round(m["bytes"]) if shape == "independent" else ""
        rows.append([kind, m["us"], m["children_us"], ratio, m["free_us"], memory, round(m["tasks_s"])])
    title = f"{shape}, {n} tasks, {count} workers"
    print(table(rows, [title, "us/task", "of it children", "to stock", "free us/task", "B/task", "tasks/s"]) + "\n", flush=True)
    return {(shape, n, count, k): m for k, m in medians.items()}


if __name__ == "__main__":
    main()
