"""The same client programs against stock `dask scheduler` and `rask scheduler`, alternating in one run.

    python bench.py                 all cases but the heavy one, 3 alternations, medians
    python bench.py --quick         everything once and small, to see that it works (under a minute)
    python bench.py --case map latency --alternations 5 --only stock rask
    python bench.py --case return   2 GiB through the scheduler and back; see "sched +MiB" for what it keeps
    python bench.py --case shared   2 GiB that all workers of the machine read
    python bench.py --case start    how long two workers take to start, and what they take at rest, with nannies

Every alternation starts a scheduler of each kind in turn with two fresh workers of one thread: Dask's, and
with kind `own` rask's own, in one process beside their Pythons. `-inf` kinds run with worker-saturation inf, stock's better setting for tiny
tasks. CPU seconds are given by process role: the scheduler, its children (pyhost), the workers, the client.
Scheduler memory after a case is given relative to before it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import cpu_of_family, family, median, pss_of, rss_of, settle, table

from distributed import Client
from harness import Cluster, clean_env

HERE = Path(__file__).resolve().parent
INF = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "inf"}
# name: the scheduler, settings, the workers' engine
KINDS = {
    "stock": ("stock", {}, "stock"),
    "rask": ("rask", {}, "stock"),
    "own": ("rask", {}, "rask"),
    "stock-inf": ("stock", INF, "stock"),
    "rask-inf": ("rask", INF, "stock"),
}
# name: unit of the value, and whether more is better
CASES = {
    "map": ("tasks/s", True),
    "latency": ("ms p50", False),
    "tree": ("tasks/s", True),
    "transpose": ("s", False),
    "merge": ("s", False),
    "scatter": ("MiB/s", True),
    "gather": ("MiB/s", True),
    "transfer": ("MiB/s", True),
    "small": ("ms", False),
    "shuffle": ("s", False),
    "start": ("s", False),
    "shared": ("s", False),
    "return": ("s", False),
}
# Take up to 8 GiB of memory in all: only when it is asked for.
HEAVY = {"return", "shared"}


def cpu_by_role(cluster: Cluster) -> dict[str, float]:
    scheduler, children = cpu_of_family(cluster.proc.pid)
    workers = sum(sum(cpu_of_family(p.pid)) for p in cluster.workers.values())
    return {"scheduler": scheduler, "children": children, "workers": workers}


def run_case(cluster: Cluster, name: str, scale: float) -> dict:
    argv = [sys.executable, str(HERE / "cases.py"), cluster.address, name, str(scale)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_env(cluster.dir)
    ) as client:
        assert client.stdout.readline() == "ready\n", f"the client of case {name} did not start"
        settle(cluster.proc.pid, limit=3)
        rss, before = rss_of(cluster.proc.pid), cpu_by_role(cluster)
        client.stdin.write("go\n")
        client.stdin.flush()
        line = client.stdout.readline()
        assert line, f"case {name} failed on {cluster.kind}:\n{cluster.logs()}"
        after = cpu_by_role(cluster)
        result = json.loads(line)
    settle(cluster.proc.pid, limit=3)
    result |= {role: after[role] - before[role] for role in after}
    result["rss_mib"] = (rss_of(cluster.proc.pid) - rss) / 2**20
    return result


def run_kind(work_dir: Path, kind: str, cases: list[str], scale: float) -> dict[str, dict]:
    scheduler, env, engine = KINDS[kind]
    own = ("--engine", "rask") if engine == "rask" else ()
    with Cluster(work_dir, scheduler=scheduler, env=env, worker=engine, worker_args=own) as cluster:
        started = time.perf_counter()
        flags = ("--memory-limit", "6GiB") if HEAVY & set(cases) else ()
        if engine == "rask":  # one process for both, as in a cluster of `rask up`
            cluster.add_worker("w", *flags, nworkers=2, nanny=True)
        else:
            for name in ("w0", "w1"):
                cluster.add_worker(name, *flags, nanny="start" in cases)
        with Client(cluster.address, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        seconds = time.perf_counter() - started
        done = {"start": at_rest(cluster, max(1, 10 * scale)) | {"value": seconds}} if "start" in cases else {}
        return done | {case: run_case(cluster, case, scale) for case in cases if case != "start"}


def at_rest(cluster: Cluster, seconds: float) -> dict:
    """What two workers with their nannies take of the machine while nobody wants anything of them."""
    time.sleep(min(2, seconds))  # what start-up leaves to be done
    before = cpu_by_role(cluster)
    time.sleep(seconds)
    spent = cpu_by_role(cluster)["workers"] - before["workers"]
    pids = [pid for proc in cluster.workers.values() for pid in family(proc.pid)]
    figures = {"pss_mib": sum(map(pss_of, pids)) / 2 / 2**20, "idle_percent": spent / seconds / 2 * 100}
    return figures | {"tasks": 1, "client_cpu": 0, "scheduler": 0, "children": 0, "workers": spent, "rss_mib": 0}


def report(case: str, runs: dict[str, list[dict]]) -> str:
    unit, more_is_better = CASES[case]
    medians = {kind: {k: median([r[k] for r in rs]) for k in rs[0]} for kind, rs in runs.items()}
    rows = []
    for kind, m in medians.items():
        base = medians.get("stock-inf" if kind.endswith("-inf") else "stock")
        ratio = m["value"] / base["value"] if base else float("nan")
        notes = {
            "p99": "p99 {:.1f}",
            "more_mib": "{:.0f} MiB more in use",
            "pss_mib": "{:.0f} MiB a worker",
            "idle_percent": "{:.1f} % CPU",
        }
        note = ", ".join(text.format(m[name]) for name, text in notes.items() if name in m)
        spread = f"{min(r['value'] for r in runs[kind]):.3g}..{max(r['value'] for r in runs[kind]):.3g}"
        client_us = m["client_cpu"] * 1e6 / m["tasks"] if case in ("map", "tree") else ""
        cpu = [m["scheduler"], m["children"], m["workers"], m["client_cpu"]]
        rows.append([kind, m["value"], spread, f"{ratio:.2f}x", *cpu, client_us, m["rss_mib"], note])
    better = "more" if more_is_better else "less"
    heads = [f"{case} ({unit}, {better} is better)", "median", "range", "to stock", "sched s", "its children s"]
    heads += ["workers s", "client s", "client us/task", "sched +MiB", ""]
    return table(rows, heads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", choices=CASES, nargs="*", default=[c for c in CASES if c not in HEAVY])
    parser.add_argument("--only", choices=KINDS, nargs="*", default=None)
    parser.add_argument("--alternations", type=int, default=None, help="default 3")
    parser.add_argument("--scale", type=float, default=None, help="size of every case; 1 is what figures are quoted for")
    parser.add_argument("--json", help="also write every run to this file")
    args = parser.parse_args()
    kinds = args.only or (["stock", "rask", "own"] if args.quick else list(KINDS))
    alternations = args.alternations or (1 if args.quick else 3)
    scale = args.scale or (0.05 if args.quick else 1)
    runs: dict[str, dict[str, list]] = {case: {kind: [] for kind in kinds} for case in args.case}
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        for turn in range(alternations):
            for kind in kinds:
                print(f"alternation {turn + 1} of {alternations}: {kind}", file=sys.stderr, flush=True)
                for case, result in run_kind(Path(tmp), kind, args.case, scale).items():
                    runs[case][kind].append(result)
    for case in args.case:
        print(report(case, runs[case]) + "\n", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
