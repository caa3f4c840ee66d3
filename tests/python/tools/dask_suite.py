"""Dask's own collection tests, each run on a stock scheduler and on rask: what passes on stock must pass on rask.

    python dask_suite.py                          a sample within 180 seconds
    python dask_suite.py --engine mixed --doubt --sample 100   what the gate runs
    python dask_suite.py --sample 2000 --budget 1800
    python dask_suite.py --full                   everything, slow tests included: hours on two cores
    python dask_suite.py -k rechunk               what the expression selects, as pytest's -k
    python dask_suite.py --doubt --skip 1000 --budget 1800   on, from there; on stock only what fails on rask
    python dask_suite.py --engine rask            rask's own workers on rask; with "mixed" one of them and one of Dask's

The tests are those of the installed dask (its distributions carry them). Most of them ask for a local
scheduler by name ("sync", "threads"); here these names mean a client of the scheduler in turn. So some
tests fail on both, namely those that look into the local process: only a difference is a failure of rask.
The sample is the same for the same dask: in the order of a hash of their names, every test function with
one of its parameters, then with a second one, and so on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

import dask  # noqa: E402
import dask.base  # noqa: E402
import distributed.client  # noqa: E402
import pytest  # noqa: E402
from _pytest.runner import runtestprotocol  # noqa: E402
from distributed import Client  # noqa: E402

from harness import Cluster, rask_bin  # noqa: E402

PACKAGE = Path(dask.__file__).parent
WHERE = ("array/tests", "bag/tests", "dataframe/tests", "dataframe/dask_expr/tests", "tests/test_delayed.py")
# Start clusters of their own, or test Dask's local machinery rather than collections. The last one fails on every
# scheduler of other processes, and then shows an array whose memory it has unmapped: the end of this process.
NOT_HERE = ("test_distributed.py", "test_cupy", "test_sparse.py", "test_diagnostics.py", "test_array_core.py::test_memmap")
LOCAL_NAMES = ("sync", "synchronous", "single-threaded", "threads", "threading")
TEST_S = 60
# Whose the two workers are.
ENGINES = {"stock": ("stock", "stock"), "rask": ("rask", "rask"), "mixed": ("rask", "stock")}


class Target:
    """A cluster with a client that stands in for the local schedulers."""

    def __init__(self, kind: str, engines: tuple[str, str], work_dir: Path):
        self.kind = kind
        self.cluster = Cluster(work_dir, scheduler=kind)
        for name, engine in zip(("a", "b"), engines):
            self.cluster.add_worker(name, *(("--engine", "rask") if engine == "rask" else ()), kind=engine)
        self.client = None
        self.connect()
        self.client.wait_for_workers(2, timeout=60)

    def connect(self):
        """Tests may close or restart the client they find; each starts with one that works."""
        if self.client is None or self.client.status != "running":
            self.client = Client(self.cluster.address, timeout=30, set_as_default=False)

    def get(self, graph, keys, **options):
        self.connect()
        return self.client.get(graph, keys, **options)


class Both:
    """A pytest plugin that runs every test once per target and keeps the outcomes."""

    def __init__(self, targets: list[Target], sample: slice, budget: float | None, doubt: bool):
        self.targets, self.sample, self.budget, self.doubt = targets, sample, budget, doubt
        self.outcomes: dict[str, dict[str, str]] = {}
        self.reasons: dict[str, str] = {}
        self.flaky: list[str] = []

    def pytest_configure(self, config):
        for mark in ("network", "slow", "gpu", "skip_with_pyarrow_strings", "xfail_with_pyarrow_strings", "array_expr", "normal_and_array_expr"):
            config.addinivalue_line("markers", f"{mark}: dask's own")

    def pytest_collection_modifyitems(self, items):
        keep = [i for i in items if not any(n in i.nodeid for n in NOT_HERE)]
        keep.sort(key=lambda item: hashlib.sha1(item.nodeid.encode()).digest())
        # Every function once before any function twice: some have a thousand parametrisations.
        seen: Counter = Counter()
        rank = {}
        for item in keep:
            function = item.nodeid.split("[")[0]
            rank[item] = seen[function]
            seen[function] += 1
        keep.sort(key=rank.__getitem__)
        items[:] = keep[self.sample]

    def pytest_collection_finish(self):
        self.started = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        if self.budget and time.monotonic() - self.started > self.budget:
            item.session.shouldstop = "the budget is used up"
            return True
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        passed = {}
        if self.doubt:
            # Those that pass need no comparison, and the others get it as always.
            passed["rask"], _ = self.run_on(self.targets[-1], item, item.parent)
        for target in self.targets if passed.get("rask", "failed") == "failed" else ():
            # Tear down as if a sibling came next: what belongs to the item goes, its module's fixtures stay.
            outcome, why = self.run_on(target, item, item.parent)
            if outcome == "failed" and passed.get("stock") == "passed":
                # Once more: a timing-dependent test proves nothing either way.
                outcome, why = self.run_on(target, item, item.parent)
                if outcome == "passed":
                    self.flaky.append(item.nodeid)
                else:
                    self.reasons[item.nodeid] = why
                    print(f"worse on rask: {item.nodeid}", flush=True)
            passed[target.kind] = outcome
        self.outcomes[item.nodeid] = passed
        item.session._setupstate.teardown_exact(nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def run_on(self, target: Target, item, nextitem) -> tuple[str, str]:
        if not target.cluster.healthy():
            raise pytest.exit.Exception(f"the {target.kind} cluster died before {item.nodeid}\n{target.cluster.logs()}")
        target.connect()
        for name in LOCAL_NAMES:
            dask.base.named_schedulers[name] = target.get
        distributed.client._set_global_client(target.client)
        item._initrequest()
        try:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        finally:
            distributed.client._del_global_client(target.client)
        for report in reports:
            if report.failed:
                return "failed", f"{report.when}: {report.longreprtext[-1500:]}"
        return ("skipped", "") if any(r.skipped for r in reports) else ("passed", "")


def report(both: Both, kinds: list[str]) -> int:
    count = lambda kind, outcome: sum(o.get(kind) == outcome for o in both.outcomes.values())
    for kind in kinds:
        print(f"{kind}: {count(kind, 'passed')} passed, {count(kind, 'failed')} failed, {count(kind, 'skipped')} skipped")
    if len(kinds) < 2:
        return 0
    worse = [n for n, o in both.outcomes.items() if o.get("stock") == "passed" and o["rask"] != "passed"]
    better = [n for n, o in both.outcomes.items() if o["rask"] == "passed" and o.get("stock") == "failed"]
    for name in both.flaky:
        print(f"passed on rask at the second attempt: {name}")
    for name in better:
        print(f"passed on rask only: {name}")
    for name in worse:
        print(f"\nFAILED on rask only: {name}\n{both.reasons.get(name, '')}")
    print(f"\n{len(both.outcomes)} tests of dask {dask.__version__} compared, {len(worse)} worse on rask")
    return 1 if worse or not both.outcomes else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=None, help="at most this many tests")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first ones of the sample")
    parser.add_argument("--doubt", action="store_true", help="on stock only what fails on rask: half the time")
    parser.add_argument("--budget", type=float, default=None, help="seconds of running tests, after collecting (default 180 without --sample)")
    parser.add_argument("--full", action="store_true", help="all tests, slow ones too")
    parser.add_argument("-k", dest="expression", help="only tests that match, as pytest's -k")
    parser.add_argument("--only", choices=("stock", "rask"), help="one scheduler alone: what fails there")
    parser.add_argument("--engine", choices=ENGINES, default="stock", help="whose workers are on rask's scheduler")
    parser.add_argument("--json", help="write all outcomes to this file")
    parser.add_argument("paths", nargs="*", default=None, help=f"below dask's package (default: {' '.join(WHERE)})")
    args = parser.parse_args()
    kinds = [args.only] if args.only else ["stock", "rask"]
    if "rask" in kinds:
        rask_bin()
    budget = args.budget or (None if args.full or args.sample or args.expression else 180)
    argv = [str(PACKAGE / path) for path in args.paths or WHERE]
    argv += ["-c", str(HERE / "dask_suite.ini"), "--rootdir", str(PACKAGE), "-p", "no:cacheprovider", "-q", "--no-header", "--assert=plain"]
    argv += ["--no-summary", "--timeout", str(TEST_S), "--timeout-method", "signal", "-W", "ignore"]
    argv += ["-m", "not network and not gpu and not array_expr" + ("" if args.full else " and not slow")]
    if args.expression:
        argv += ["-k", args.expression]
    with tempfile.TemporaryDirectory(prefix="dask-suite-", ignore_cleanup_errors=True) as tmp:
        targets: list[Target] = []
        try:
            targets += (Target(kind, ENGINES[args.engine if kind == "rask" else "stock"], Path(tmp)) for kind in kinds)
            sample = slice(args.skip, args.skip + args.sample if args.sample else None)
            both = Both(targets, sample, budget, args.doubt and len(kinds) == 2)
            code = pytest.main(argv, plugins=[both])
            if code == pytest.ExitCode.INTERRUPTED and not both.outcomes or code in (3, 4):
                return int(code)
        finally:
            for target in targets:
                if target.client:
                    target.client.close(timeout=5)
                target.cluster.close()
    if args.json:
        Path(args.json).write_text(json.dumps(both.outcomes, indent=0))
    return report(both, kinds)


if __name__ == "__main__":
    sys.exit(main())
