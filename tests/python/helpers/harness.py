"""Starts and stops the processes that the tests talk to.

Owns: schedulers (stock `dask scheduler` or `rask scheduler`), stock or rask workers, their logs.
Which scheduler is under test comes from RASK_TEST_SCHEDULER (rask, the default, or stock); the
binary from RASK_BIN, else target/release/rask. RASK_TEST_ENGINE (rask or stock) is whose workers tests
get that do not say it. Every process is stopped by its pid.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent

# A process that starts Python on a loaded two-core machine takes seconds, not tens of seconds.
START_S = 40
STOP_S = 15


def scheduler_kind() -> str:
    kind = os.environ.get("RASK_TEST_SCHEDULER", "rask")
    if kind not in ("rask", "stock"):
        raise RuntimeError(f"RASK_TEST_SCHEDULER is {kind!r}: use rask or stock")
    return kind


def rask_bin() -> str:
    """Path of the binary under test."""
    given = os.environ.get("RASK_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(given) if given else target / "release" / "rask"
    if not path.exists():
        raise RuntimeError(f"no rask binary at {path}: build it or set RASK_BIN")
    return str(path)


def wait_until(condition, what: str, timeout: float = 15, period: float = 0.05):
    """Polls until `condition()` is true and returns what it returned; a late one is an error that names `what`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what} (last answer: {value!r})")
        time.sleep(period)


def clean_env(work_dir: Path, **more) -> dict[str, str]:
    """The environment of every child: no Dask settings of the person who runs the tests, this interpreter first."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "RASK_")) or k == "RASK_BIN"}
    empty = work_dir / "no-config"
    empty.mkdir(exist_ok=True)
    env |= {
        "DASK_CONFIG": str(empty),
        "XDG_CONFIG_HOME": str(empty),
        "RASK_STATE_DIR": str(work_dir / "state"),
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}",
        # Workers import what tests send them by name.
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in (HERE.parent, HERE, HERE.parent / "tools")),
        "PYTHONUNBUFFERED": "1",
        # With Dask's default of 20 ms an idle nanny uses 1.6 % of a core, with this 0.5 %, and there may be a dozen.
        "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "200ms",
    }
    if engine := os.environ.get("RASK_TEST_ENGINE"):
        env["RASK_WORKERS__ENGINE"] = engine
    env.update({k: str(v) for k, v in more.items()})
    return env


class Proc:
    """One child process with its output in a file."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], work_dir: Path):
        fd, log = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=work_dir)
        self.name = name
        self.log = Path(log)
        self.popen = subprocess.Popen(
            argv, env=env, cwd=work_dir, stdin=subprocess.DEVNULL, stdout=fd, stderr=subprocess.STDOUT
        )
        os.close(fd)
        self.pid = self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = STOP_S) -> int:
        """Waits for the process to end by itself; returns its exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout} s:\n{self.output()[-4000:]}") from None

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self):
        """SIGKILL, to this process alone."""
        if self.alive():
            self.popen.kill()
        self.popen.wait(STOP_S)

    def stop(self, sig: int = signal.SIGTERM, timeout: float = STOP_S) -> int:
        """Asks, waits, then kills; children that outlive their parent are killed too."""
        family = self.children()
        if self.alive():
            self.popen.send_signal(sig)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(STOP_S)
        finally:
            _, left = psutil.wait_procs(family, timeout=3)
            for p in left:
                try:
                    p.kill()
                except psutil.NoSuchProcess:
                    pass


class Cluster:
    """One scheduler and its workers. A context manager; everything is gone after it."""

    def __init__(
        self,
        work_dir: Path,
        *,
        scheduler: str | None = None,
        worker: str = "stock",
        args: tuple[str, ...] = (),
        env: dict | None = None,
        worker_args: tuple[str, ...] = (),
        host: str = "127.0.0.1",
        dashboard: bool = False,
    ):
        self.dir = Path(tempfile.mkdtemp(prefix="cluster-", dir=work_dir))
        self.kind = scheduler or scheduler_kind()
        self.worker_kind = worker
        self.env = clean_env(self.dir, **(env or {}))
        self.worker_args = worker_args
        self.workers: dict[str, Proc] = {}
        self.file = self.dir / "scheduler.json"
        program = [rask_bin(), "scheduler"] if self.kind == "rask" else [sys.executable, "-m", "dask", "scheduler"]
        argv = [*program, "--host", host, "--port", "0", "--scheduler-file", str(self.file)]
        argv += ["--dashboard-address", "127.0.0.1:0"] if dashboard else ["--no-dashboard"]
        self.proc = Proc("scheduler", [*argv, *args], self.env, self.dir)
        self.identity = self._identity()
        self.address: str = self.identity["address"]

    def _identity(self) -> dict:
        def read():
            if not self.proc.alive():
                raise AssertionError(f"the scheduler ended while starting:\n{self.proc.output()[-4000:]}")
            try:
                return json.loads(self.file.read_text())
            except (OSError, ValueError):
                return None

        return wait_until(read, "a complete scheduler file", START_S, 0.02)

    @property
    def hostport(self) -> tuple[str, int]:
        host, port = self.address.split("://")[-1].rsplit(":", 1)
        return host, int(port)

    def add_worker(
        self,
        name: str,
        *more: str,
        nworkers: int = 1,
        nthreads: int = 1,
        nanny: bool = False,
        kind: str | None = None,
        before: tuple[str, ...] = (),
    ) -> Proc:
        """Starts one worker process group; does not wait until it has registered. `before`: what starts it."""
        engine = os.environ.get("RASK_TEST_ENGINE")
        kind = kind or ("rask" if engine else self.worker_kind)
        if kind == "rask" and engine and "--engine" not in more:
            more = ("--engine", engine, *more)
        program = [rask_bin(), "worker"] if kind == "rask" else [sys.executable, "-m", "dask", "worker"]
        argv = [*before, *program, self.address, "--name", name, "--nworkers", str(nworkers), "--nthreads", str(nthreads)]
        argv += ["--memory-limit", "2GiB", "--no-dashboard", "--local-directory", str(self.dir)]
        argv += ["--nanny" if nanny else "--no-nanny", *self.worker_args, *more]
        proc = Proc(f"worker-{name}", argv, self.env, self.dir)
        self.workers[name] = proc
        return proc

    def healthy(self) -> bool:
        return self.proc.alive() and all(p.alive() for p in self.workers.values())

    def logs(self, tail: int = 3000) -> str:
        return "\n".join(f"--- {p.name}\n{p.output()[-tail:]}" for p in [self.proc, *self.workers.values()])

    def close(self):
        # Scheduler last: workers that lose it first would wait for it to come back.
        for p in self.workers.values():
            if p.alive():
                p.popen.terminate()
        for p in self.workers.values():
            p.stop()
        self.proc.stop()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exc):
        self.close()


def running_workers(client) -> list[str]:
    """Names of the workers that take tasks now (registered is not enough: plugins run first)."""
    info = client.sync(client.scheduler.identity, n_workers=-1)
    return sorted(w["name"] for w in info["workers"].values() if w["status"] == "running")


def address_of(client, name: str) -> str | None:
    """Where the worker with this name is; none if it is gone for now."""
    info = client.sync(client.scheduler.identity, n_workers=-1)
    return next((a for a, w in info["workers"].items() if w["name"] == name), None)
