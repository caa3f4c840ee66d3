"""`rask up`, `rask run`, `rask status` and `rask worker` as a person meets them: lines, exit codes, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import psutil
import pytest
from distributed import Client, get_worker

from harness import STOP_S, Cluster, Proc, clean_env, rask_bin, running_workers, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own commands"),
]


def inc(x):
    return x + 1


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers.get_content_type(), e.read().decode()


class Home:
    """A state folder and what is started in it."""

    def __init__(self, path):
        self.path = path
        self.env = clean_env(path, RASK_STATE_DIR=path / "state", HOME=path)
        self.procs = []

    def start(self, *args: str, before: tuple[str, ...] = ()) -> Proc:
        """`before`: a command that runs it."""
        proc = Proc(f"rask-{args[0]}", [*before, rask_bin(), *args], self.env, self.path)
        self.procs.append(proc)
        return proc

    def up(self, *more: str) -> "Up":
        return Up(self.start("up", "--port", "0", "--scheduler-port", "0", "--nworkers", "2", "--nthreads", "1", *more))

    def run(self, *args: str, timeout: float = 60) -> subprocess.CompletedProcess:
        return subprocess.run(
            [rask_bin(), *args], env=self.env, cwd=self.path, capture_output=True, text=True, timeout=timeout
        )


class Up:
    """A running `rask up`, read from what it printed."""

    def __init__(self, proc: Proc, patience_s: float = 60):
        self.proc = proc

        def printed():
            assert proc.alive(), f"rask up ended:\n{proc.output()}"
            text = proc.output()
            scheduler, http = re.search(r"tcp://127\.0\.0\.1:\d+", text), re.search(r"http://127\.0\.0\.1:\d+", text)
            return "Stop:" in text and scheduler and http and (scheduler[0], http[0])

        self.address, self.http = wait_until(printed, "rask up says how to connect and how to stop", patience_s)
        self.family = proc.children()

    def client(self, **kw) -> Client:
        return Client(self.address, timeout=30, **kw)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    yield home
    for proc in home.procs:
        proc.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One `rask up` for the tests that only look at it."""
    home = Home(tmp_path_factory.mktemp("home"))
    up = home.up()
    up.home = home
    yield up
    for proc in home.procs:
        proc.stop()


def gone(processes, timeout=STOP_S):
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def listening(address: str) -> bool:
    host, port = address.split("://")[1].split(":")
    with socket.socket() as s:
        s.settimeout(2)
        return s.connect_ex((host, int(port))) == 0


# --- rask up -------------------------------------------------------------------------------------


def test_up_computes_and_says_what_a_person_needs(shared):
    text = shared.proc.output()
    assert "Ctrl-C" in text and re.search(r"2 x 1 thread", text) and f'Client("{shared.address}")' in text
    with shared.client() as client:
        client.wait_for_workers(2, timeout=40)
        assert client.gather(client.map(lambda x: x * x, range(10))) == [x * x for x in range(10)]
        assert list(client.ncores().values()) == [1, 1]


def test_up_serves_health_and_metrics(shared):
    assert get(shared.http + "/health")[::2] == (200, "ok")
    status, kind, body = get(shared.http + "/metrics")
    assert status == 200 and kind == "text/plain"
    for name in ("dask_scheduler_workers", "dask_scheduler_tasks", "dask_scheduler_clients"):
        assert re.search(rf"^{name}(\{{.*\}})? \d", body, re.M), f"{name} is not among the metrics"
    status, kind, body = get(shared.http + "/")
    assert status == 200 and kind == "text/html" and "rask" in body
    assert get(shared.http + "/no/such/page")[0] == 404
    counts = lambda: json.loads(get(shared.http + "/json/counts.json")[2])
    wait_until(lambda: counts()["workers"] == 2, "both workers: it is up with the first", 40)
    assert counts()["cores"] == 2


def test_a_second_up_shows_the_running_one(shared):
    again = shared.home.run("up", "--port", "0", "--scheduler-port", "0")
    assert again.returncode == 0 and shared.address in again.stdout and "already running" in again.stdout


def test_status_and_env_of_the_running_one(shared):
    shown = shared.home.run("status", "--json")
    assert shown.returncode == 0 and shared.address in json.dumps(json.loads(shown.stdout))
    assert shared.address in shared.home.run("status").stdout
    exported = shared.home.run("env")
    assert exported.returncode == 0 and f"DASK_SCHEDULER_ADDRESS={shared.address}" in exported.stdout


def test_the_dask_port_survives_garbage_and_serves_websockets(shared):
    host, port = shared.address.split("://")[1].split(":")
    for data in (b"\xff" * 100, b"", b"\x16\x03\x01" + b"\x00" * 50, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.sendall(data)
    with Client(shared.address.replace("tcp://", "ws://"), timeout=20, set_as_default=False) as client:
        assert client.submit(inc, 1).result(timeout=20) == 2


def test_run_lands_on_the_running_one_and_passes_the_exit_code(shared, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom distributed import Client\n"
        "client = Client()\nprint(client.scheduler.address, client.submit(sum, [1, 2]).result(), sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    ran = shared.home.run("run", str(script), "--flag", "value")
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout.split()[1:] == ["3", "['--flag',", "'value']"] and ran.stdout.startswith(shared.address)


def test_run_without_a_running_one_starts_one_for_the_script(home):
    script = home.path / "script.py"
    script.write_text("from distributed import Client\nprint(Client().submit(sum, [1, 2]).result())\n")
    started = home.start("run", "--port", "0", "--scheduler-port", "0", "--nworkers", "1", str(script))
    assert started.wait(90) == 0 and "3" in started.output()
    assert gone(started.children()) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_everything_within_ten_seconds(home, sig):
    up = home.up()
    assert len(up.family) >= 3  # a scheduler and two workers at least
    t0 = time.monotonic()
    up.proc.popen.send_signal(sig)
    assert up.proc.wait(10) in (0, 128 + sig)
    assert gone(up.family, 1) == [] and time.monotonic() - t0 < 11
    assert not listening(up.address) and not listening(up.http)
    left = [p for p in (home.path / "state").rglob("*") if p.is_socket() or p.suffix == ".pid"]
    assert left == []
    assert home.run("status").returncode == 1


def test_sigkill_of_up_leaves_the_cluster_alone_and_the_next_up_takes_it_over(home):
    """More of this in test_fleet. To end such a cluster: start `rask up` and stop it."""
    up = home.up()
    up.proc.kill()
    assert all(p.is_running() for p in up.family)
    again = home.up()
    with again.client() as client:
        assert client.submit(inc, 1).result(timeout=40) == 2
    assert again.proc.stop() == 0 and gone(up.family, 3) == []


def test_a_worker_that_dies_is_replaced(home):
    up = home.up()
    with up.client() as client:
        client.wait_for_workers(2, timeout=40)
        pids = client.run(os.getpid)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        wait_until(lambda: set(client.run(os.getpid, on_error="ignore").values()) - set(pids.values()), "a new worker", 40)
        client.wait_for_workers(2, timeout=40)
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))


def test_client_shutdown_and_restart_on_the_appliance(home):
    up = home.up()
    with up.client() as client:
        client.wait_for_workers(2, timeout=40)
        before = set(client.run(os.getpid).values())
        client.restart(timeout=60)
        assert not before & set(client.run(os.getpid).values())
        assert client.submit(inc, 1).result() == 2


@pytest.mark.parametrize("flag", ["--port", "--scheduler-port"])
def test_a_port_in_use_is_an_error_that_names_it(home, flag):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = {"--port": "--scheduler-port", "--scheduler-port": "--port"}[flag]
        failed = home.run("up", flag, port, other, "0")
    assert failed.returncode == 1 and port in failed.stderr and flag in failed.stderr
    assert len(failed.stderr.strip().splitlines()) <= 3


# --- usage ---------------------------------------------------------------------------------------

WRONG_USAGE = [
    ("up", "--port", "70000"),
    ("up", "--nworkers", "many"),
    ("up", "--no-such-flag"),
    ("scheduler", "--port", "x"),
    ("worker", "127.0.0.1:1", "--memory-limit", "lots"),
    ("run", "/no/such/script.py"),
    ("no-such-command",),
]


@pytest.mark.parametrize("args", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_exit_code_2_with_a_reason(home, args):
    failed = home.run(*args)
    assert failed.returncode == 2 and failed.stderr.strip() and "panicked" not in failed.stderr


def test_a_python_with_a_dask_that_is_too_old_is_refused_with_the_remedy(home, tmp_path):
    """Method: a program that answers as such a Python would."""
    said = json.dumps({"executable": "old", "version": [3, 11, 2], "distributed": "2024.12.1", "dask": "2024.12.1"})
    old = tmp_path / "python"
    old.write_text(f"#!/bin/sh\necho 'rask-probe {said}'\n")
    old.chmod(0o755)
    for command in (["up", "--port", "0", "--scheduler-port", "0"], ["scheduler", "--port", "0"]):
        refused = home.run(*command, "--python", str(old))
        assert refused.returncode != 0 and "2025.4.0 or newer is needed" in refused.stderr, refused
        assert f"run: {old} -m pip install --upgrade dask distributed" in refused.stderr, refused


def test_help_and_version(home):
    assert home.run("--version").stdout.startswith("rask ")
    for command in ("up", "scheduler", "worker", "run", "status"):
        shown = home.run(command, "--help")
        assert shown.returncode == 0 and "Usage" in shown.stdout


@pytest.mark.parametrize("setting", [("WORKER_SATURATION", "-1"), ("ALLOWED_FAILURES", "few"), ("IDLE_TIMEOUT", "soonish")])
def test_settings_that_make_no_sense_stop_the_start(work_dir, setting):
    name, value = setting
    with pytest.raises(AssertionError, match=f"(?is)ended while starting.*{name.split('_')[0]}"):
        Cluster(work_dir, env={"DASK_DISTRIBUTED__SCHEDULER__" + name: value}).close()


def test_a_flag_given_twice_counts_as_the_last_one(home):
    """As with dask's own commands: launchers append to what users gave."""
    failed = home.run("scheduler", "--port", "1", "--port", "no-port")
    assert failed.returncode == 2 and "no-port" in failed.stderr


# --- rask worker ---------------------------------------------------------------------------------


def test_rask_worker_leaves_no_orphan_when_killed(start_cluster):
    cluster = start_cluster()
    group = cluster.add_worker("g", nworkers=2, kind="rask", nanny=True)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(2, timeout=40)
        family = group.children()
        assert len(family) >= 2
        group.kill()
        assert gone(family) == []
        wait_until(lambda: running_workers(client) == [], "the scheduler sees them go")


def test_rask_worker_stops_its_workers_on_sigterm_and_brings_back_the_dead(start_cluster):
    cluster = start_cluster()
    group = cluster.add_worker("g", kind="rask", nanny=True)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=40)
        # The nanny itself is killed: rask, not the nanny, must bring the worker back.
        nanny = next(iter(client.run(lambda dask_worker: os.getpid(), nanny=True).values()))
        name = client.submit(lambda: get_worker().name, pure=False).result()
        os.kill(nanny, signal.SIGKILL)
        new = lambda: [p for p in client.run(os.getpid, nanny=True, on_error="ignore").values() if p != nanny]
        wait_until(new, "a new nanny", 40)
        assert client.submit(lambda: get_worker().name, pure=False).result(timeout=40) == name
        family = group.children()
    assert group.stop() in (0, 128 + signal.SIGTERM) and gone(family) == []
