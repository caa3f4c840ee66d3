"""The service: units as systemd reads them, and what `rask up` tells the service manager that started it.

systemd as process 1 cannot be had in most places where tests run. What needs it is skipped, and says so; everything
else is checked with systemd's own tools and with a real notify socket.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from distributed import Client

from harness import Proc, clean_env, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own commands"),
]

ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: systemd)")
needs_systemd = pytest.mark.skipif(
    not os.path.isdir("/run/systemd/system") or os.geteuid() != 0,
    reason="NOT TESTED HERE: systemd does not run this machine, so no unit was started for real (tests/packaging/run systemd boots one that does)",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A tree with the units of both scopes in it, for the binary under test."""
    root = tmp_path_factory.mktemp("root")
    for scope in ("--system", "--user"):
        done = subprocess.run(
            [rask_bin(), "service", "install", scope, "--root", str(root)],
            env=clean_env(root), capture_output=True, text=True, timeout=30,
        )
        assert done.returncode == 0, done.stderr
    return root


def unit(root: Path, scope: str, name: str = "rask.service") -> Path:
    return root / "etc/systemd" / scope / name


@needs_analyze
@pytest.mark.parametrize("scope", ["system", "user"])
def test_the_units_are_clean(root, scope):
    # Its own folder first, then what the machine has: units of systemd itself are referred to.
    path = f"{unit(root, scope).parent}:/usr/lib/systemd/{scope}:/lib/systemd/{scope}"
    checked = subprocess.run(
        [ANALYZE, "verify", f"--{scope}", "--man=no", "--recursive-errors=no",
         *(str(unit(root, scope, name)) for name in ("rask.service", "rask-clusters.service", "rask-join.service"))],
        capture_output=True, text=True, timeout=60,
        env=os.environ | {"SYSTEMD_UNIT_PATH": path, "XDG_RUNTIME_DIR": str(root), "HOME": str(root)},
    )
    # The user `rask` is made at installation: that it is not there yet is not the unit's fault.
    told = [line for line in checked.stderr.splitlines() if "rask" in line and "user" not in line.lower()]
    assert (checked.returncode, told) == (0, []), checked.stderr


@needs_analyze
@pytest.mark.parametrize(("name", "most"), [("rask.service", 3.0), ("rask-clusters.service", 3.0), ("rask-join.service", 3.0)])
def test_the_machines_service_is_hardened(root, name, most):
    told = subprocess.run(
        [ANALYZE, "security", "--offline=true", str(unit(root, "system", name))],
        capture_output=True, text=True, timeout=60,
    )
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", told.stdout)
    assert level, told.stdout + told.stderr
    assert float(level[1]) <= most, told.stdout


def test_installing_into_a_tree_writes_all_and_uninstalling_leaves_settings_alone(root, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(root, tree)
    files = sorted(str(path.relative_to(tree)) for path in (tree / "etc").rglob("*") if path.is_file())
    assert files == [
        "etc/rask/rask.toml",
        "etc/systemd/system/rask-clusters.service",
        "etc/systemd/system/rask-join.service",
        "etc/systemd/system/rask.service",
        "etc/systemd/user/rask-clusters.service",
        "etc/systemd/user/rask-join.service",
        "etc/systemd/user/rask.service",
        "etc/sysusers.d/rask.conf",
    ]
    assert f"ExecStart={rask_bin()} up --keep-clusters" in unit(tree, "system").read_text()
    for scope in ("--system", "--user"):
        done = subprocess.run(
            [rask_bin(), "service", "uninstall", scope, "--root", str(tree)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
    assert [str(path.relative_to(tree)) for path in (tree / "etc").rglob("*") if path.is_file()] == ["etc/rask/rask.toml"]


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs this machine")
def test_without_systemd_nothing_is_written_and_the_way_out_is_named(tmp_path):
    env = clean_env(tmp_path, HOME=tmp_path, XDG_CONFIG_HOME=tmp_path / "config")
    done = subprocess.run(
        [rask_bin(), "service", "install", "--user"], env=env, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "process 1 is" in done.stderr and "--no-start" in done.stderr
    assert not (tmp_path / "config").exists()


class Manager:
    """Listens as a service manager does."""

    def __init__(self, address: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(90)
        self.told: list[tuple[float, str]] = []

    def until(self, what: str) -> list[str]:
        """Everything that was said up to `what`."""
        while True:
            self.told.append((time.monotonic(), self.socket.recv(4096).decode()))
            if what in self.told[-1][1].splitlines():
                return [line for _, text in self.told for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_comes_when_all_answers_then_a_pulse_then_the_end(tmp_path, kind):
    address = str(tmp_path / "notify") if kind == "path" else f"@rask-test-{os.getpid()}"
    manager = Manager(address)
    watchdog_s = 1.0
    env = clean_env(tmp_path, HOME=tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC=int(watchdog_s * 1e6))
    up = ["up", "--port", "0", "--scheduler-port", "0", "--nworkers", "1", "--nthreads", "1"]
    # Without a cluster the start is quick; with one, ready must wait for the first worker.
    proc = Proc("rask-up", [rask_bin(), *up, *(["--no-local-cluster"] if kind == "abstract" else [])], env, tmp_path)
    try:
        lines = manager.until("READY=1")
        assert any(line.startswith("STATUS=Starting") for line in lines), lines
        if kind == "path":
            counts = subprocess.run([rask_bin(), "status", "--json"], env=env, capture_output=True, text=True, timeout=30)
            assert '"workers": 1' in counts.stdout, counts.stdout + counts.stderr
        for _ in range(3):
            manager.until("WATCHDOG=1")
        beats = [at for at, text in manager.told if text == "WATCHDOG=1"]
        gaps = [b - a for a, b in zip(beats, beats[1:])]
        assert all(gap < watchdog_s for gap in gaps), gaps
        proc.popen.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert proc.wait(30) == 0, proc.output()
    finally:
        proc.stop()


def test_another_process_is_not_watched(tmp_path):
    address = str(tmp_path / "notify")
    manager = Manager(address)
    env = clean_env(tmp_path, HOME=tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC=200_000, WATCHDOG_PID=1)
    proc = Proc("rask-up", [rask_bin(), "up", "--port", "0", "--scheduler-port", "0", "--no-local-cluster"], env, tmp_path)
    try:
        manager.until("READY=1")
        proc.popen.send_signal(signal.SIGTERM)
        assert "WATCHDOG=1" not in manager.until("STOPPING=1")
    finally:
        proc.stop()


def test_lines_for_the_journal_carry_their_priority_and_no_time(tmp_path):
    # A pipe that the environment calls the journal's.
    read, write = os.pipe()
    stat = os.fstat(write)
    env = clean_env(tmp_path, HOME=tmp_path, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}", RASK_LOG="debug")
    popen = subprocess.Popen(
        [rask_bin(), "up", "--port", "0", "--scheduler-port", "0", "--no-local-cluster"],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=write, text=True,
    )
    os.close(write)
    try:
        wait_until(lambda: "Stop:" in popen.stdout.readline(), "rask up runs", 30, 0)
        popen.send_signal(signal.SIGTERM)
        popen.wait(30)
        with os.fdopen(read) as stream:
            lines = [line for line in stream.read().splitlines() if re.match(r"<\d>", line)]
        assert all(not re.search(r"\d{4}-\d\d-\d\dT", line) for line in lines), lines
    finally:
        popen.kill()
        popen.wait()


@needs_systemd
def test_the_service_starts_restarts_and_stops_for_real():
    binary = "/usr/local/bin/rask"
    shutil.copy(rask_bin(), binary)
    run = lambda *args: subprocess.run(args, capture_output=True, text=True, timeout=900)
    try:
        assert run(binary, "service", "install", "--system").returncode == 0
        pid = run("systemctl", "show", "--property=MainPID", "--value", "rask").stdout
        clusters = run("pgrep", "-u", "rask", "-f", "scheduler").stdout
        assert run("systemctl", "restart", "rask").returncode == 0
        assert run("systemctl", "show", "--property=MainPID", "--value", "rask").stdout != pid
        assert run("pgrep", "-u", "rask", "-f", "scheduler").stdout == clusters
        assert run("systemctl", "stop", "rask").returncode == 0
        wait_until(lambda: not run("pgrep", "-u", "rask").stdout, "nothing of rask is left", 60)
    finally:
        run(binary, "service", "uninstall", "--system")
        os.unlink(binary)


def started(env, path, *more: str) -> Proc:
    """`rask up` as the unit starts it, when it is ready."""
    up = ["up", "--keep-clusters", "--port", "0", "--scheduler-port", "0", "--nworkers", "1", "--nthreads", "1", *more]
    proc = Proc("rask-up", [rask_bin(), *up], env, path)
    wait_until(lambda: "Stop:" in proc.output() or not proc.alive(), "rask up is ready", 90)
    assert proc.alive(), proc.output()
    return proc


def test_a_restart_keeps_the_clusters_work_and_the_stop_command_ends_them(tmp_path):
    env = clean_env(tmp_path, HOME=tmp_path)
    run = lambda *args: subprocess.run([rask_bin(), *args], env=env, capture_output=True, text=True, timeout=60)
    first = started(env, tmp_path)
    procs = []
    try:
        address = re.search(r"tcp://127\.0\.0\.1:\d+", first.output())[0]
        family = [process for process in first.children() if "exec-child" not in process.cmdline()]
        procs += family
        with Client(address, timeout=30, set_as_default=False) as client:
            kept = client.scatter("kept")
            client.publish_dataset(kept=kept)
        first.popen.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0, first.output()
        assert all(process.is_running() for process in family)
        # What systemd does at a restart: the stop command of the clusters' unit is not run.
        second = started(env, tmp_path)
        try:
            address = re.search(r"tcp://127\.0\.0\.1:\d+", second.output())[0]
            with Client(address, timeout=30, set_as_default=False) as client:
                assert client.get_dataset("kept").result(timeout=30) == "kept"
        finally:
            second.popen.send_signal(signal.SIGTERM)
            assert second.wait(30) == 0, second.output()
        # And at a stop: it is.
        ended = run("down", "--clusters-only")
        assert (ended.returncode, "Stopped clusters: local" in ended.stdout) == (0, True), ended.stdout + ended.stderr
        gone, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
    finally:
        first.stop()
        for process in procs:
            if process.is_running():
                process.kill()
