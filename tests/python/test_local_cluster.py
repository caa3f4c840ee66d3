"""`rask.LocalCluster` beside `distributed.LocalCluster`: what a script or a notebook does with one holds for the other.

Most clusters here have workers in threads of this process, so they cost no start of Python.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
import urllib.request
from unittest import mock

import dask
import distributed
import psutil
import pytest
from distributed import Client, Worker
from distributed.core import Status
from distributed.security import Security

import rask
from harness import ROOT, STOP_S, clean_env, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="compares with stock by itself"),
]

KINDS = {"stock": distributed.LocalCluster, "rask": rask.LocalCluster}
# Nothing but threads, and the dashboard where it disturbs nobody.
SMALL = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}


@pytest.fixture(scope="module", autouse=True)
def program():
    with mock.patch.dict(os.environ, RASK_BIN=rask_bin()):
        yield


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def shared(kind):
    """A cluster that tests leave as they found it: one worker."""
    with kind(name="shared", memory_limit="1 GiB", **SMALL) as cluster:
        yield cluster


def workers_are(cluster, count: int):
    wait_until(lambda: len(cluster.scheduler_info["workers"]) == count, f"{count} workers", 30)


# ------------------------------------------------------------------------------------------ the object


def test_it_takes_the_parameters_of_stock_with_their_defaults():
    def parameters(kind):
        found = inspect.signature(kind).parameters.values()
        return [(parameter.name, parameter.default, parameter.kind) for parameter in found]

    assert parameters(rask.LocalCluster) == parameters(distributed.LocalCluster)
    assert issubclass(rask.LocalCluster, distributed.LocalCluster)


def test_what_it_says_of_itself(shared):
    workers_are(shared, 1)
    address = shared.scheduler_address
    assert address.startswith(("tcp://127.0.0.1:", "inproc://")) and shared.scheduler.address == address
    assert repr(shared) == f"shared(shared, {address!r}, workers=1, threads=2, memory=1.00 GiB)"
    assert (shared.name, shared.status, shared.asynchronous, shared.processes) == ("shared", Status.running, False, False)
    assert shared.plan == shared.requested == shared.observed == {0}
    assert all(isinstance(worker, Worker) and type(worker).__name__ == "Worker" for worker in shared.workers.values())
    info = shared.scheduler_info
    assert info["address"] == address and [worker["name"] for worker in info["workers"].values()] == [0]
    assert list(shared.scheduler.workers) == list(info["workers"])
    assert [worker.nthreads for worker in shared.scheduler.workers.values()] == [2]


def test_a_notebook_shows_it(shared):
    workers_are(shared, 1)
    page = shared._repr_html_()
    for text in ("LocalCluster", "shared", shared.dashboard_link, shared.scheduler_address, "Using processes"):
        assert text in page
    display = mock.MagicMock()
    with mock.patch.dict(sys.modules, {"ipywidgets": None, "IPython.display": display, "IPython": mock.MagicMock()}):
        shared.__dict__.pop("_cached_widget", None)
        shared._ipython_display_()
    (shown,), how = display.display.call_args
    assert how == {"raw": True} and shown["text/plain"] == repr(shared) and "LocalCluster" in shown["text/html"]


def test_its_dashboard_is_served(shared):
    port = shared.scheduler_info["services"]["dashboard"]
    assert f":{port}/status" in shared.dashboard_link
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20) as answer:
        assert answer.read() == b"ok"


def test_clients_come_by_the_cluster(shared):
    with Client(shared) as client:
        assert client.cluster is shared and shared.get_client() is client
        assert client.submit(sum, [1, 2]).result() == 3
        assert client.scheduler_info()["address"] == shared.scheduler_address
    with shared.get_client() as client:
        assert client.cluster is shared
    with pytest.raises(ValueError, match="Unexpected keyword arguments"):
        Client(shared, n_workers=2)


def test_logs_have_a_part_for_each(shared):
    shared.wait_for_workers(1)
    (worker,) = shared.scheduler_info["workers"]
    logs = shared.get_logs()
    assert list(logs) == ["Cluster", "Scheduler", worker] and worker in logs[worker]
    assert list(shared.get_logs(cluster=False, scheduler=False)) == [worker]


def test_it_scales_and_adapts(shared):
    shared.scale(3)
    shared.wait_for_workers(3, timeout=30)
    assert set(shared.worker_spec) == {0, 1, 2}
    shared.scale(cores=4)
    workers_are(shared, 2)
    shared.scale(memory="3 GiB")
    assert len(shared.worker_spec) == 3
    with pytest.raises(distributed.TimeoutError, match="Only ./9 workers arrived"):
        shared.wait_for_workers(9, timeout=0.1)
    with pytest.raises(ValueError, match="positive"):
        shared.wait_for_workers(0)
    adaptive = shared.adapt(minimum=0, maximum=2, interval="20ms", wait_count=1)
    assert (adaptive.minimum, adaptive.maximum) == (0, 2)
    workers_are(shared, 0)
    # At rest with nothing: no worker is on its way out when the next one comes.
    adaptive = shared.adapt(minimum=1, maximum=2)
    workers_are(shared, 1)
    adaptive.stop()
    with Client(shared) as client:
        assert client.submit(abs, -1).result() == 1


def test_only_itself_is_equal_to_it(shared, kind):
    assert shared == shared and shared != KINDS and hash(shared) == id(shared)
    other = next(other for other in KINDS.values() if other is not kind)
    assert not issubclass(kind, other) or type(shared) is not other


# ------------------------------------------------------------------------------------------ parameters


def test_a_cluster_is_closed_once_and_refuses_clients_then(kind):
    cluster = kind(**SMALL | {"n_workers": 0})
    cluster.close()
    cluster.close()
    assert cluster.status == Status.closed
    with pytest.raises(RuntimeError, match="already closed or closing Cluster"):
        Client(cluster)


async def test_it_is_used_with_await(kind):
    before = asyncio.all_tasks()
    async with kind(asynchronous=True, **SMALL) as cluster, Client(cluster, asynchronous=True) as client:
        assert cluster.asynchronous
        assert await client.submit(sum, [1, 2]) == 3
        await cluster.scale(2)
        await cluster
        assert len(cluster.workers) == 2
    assert cluster.status == Status.closed
    # It leaves no task running in the loop that it shared.
    wait = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert wait == []


async def test_it_is_used_in_a_notebook_whose_loop_runs(kind):
    with kind(**SMALL) as cluster, cluster.get_client() as client:
        assert client.submit(sum, [1, 2]).result() == 3


def test_workers_are_of_the_class_that_was_asked_for(kind):
    class MyWorker(Worker):
        pass

    with kind(worker_class=MyWorker, resources={"GOLD": 1}, **SMALL) as cluster, cluster.get_client() as client:
        assert all(isinstance(worker, MyWorker) for worker in cluster.workers.values())
        assert client.submit(abs, -1, resources={"GOLD": 1}).result() == 1


def test_unknown_arguments_of_workers_are_refused(kind):
    with pytest.raises((TypeError, RuntimeError)) as refused:
        kind(typo_kwarg="foo", **SMALL)
    causes = [str(refused.value), str(refused.value.__cause__)]
    assert any("unexpected keyword argument" in cause for cause in causes)


def test_unknown_arguments_of_the_scheduler_are_refused(kind):
    with pytest.raises((TypeError, RuntimeError), match="typo_kwarg|unexpected"):
        kind(scheduler_kwargs={"typo_kwarg": 1}, **SMALL | {"n_workers": 0})


@pytest.mark.parametrize("how", ["parameter", "configuration"])
def test_handlers_are_blocked_by_parameter_and_by_configuration(kind, how):
    names = ["run_function"]
    given = {"blocked_handlers": names} if how == "parameter" else {}
    config = {} if given else {"distributed.scheduler.blocked-handlers": names}
    with dask.config.set(config), kind(**given, **SMALL | {"n_workers": 0}) as cluster, Client(cluster) as client:
        with pytest.raises(ValueError, match="run_function.* has been explicitly disallowed"):
            client.run_on_scheduler(lambda: 1)


def test_a_port_can_be_chosen_and_chosen_again(kind):
    with kind(scheduler_port=0, protocol="tcp", **SMALL | {"n_workers": 0}) as cluster:
        port = cluster.scheduler.port
        assert cluster.scheduler_address == f"tcp://127.0.0.1:{port}"
    with kind(scheduler_port=port, **SMALL | {"n_workers": 0}) as cluster:
        assert cluster.scheduler_address == f"tcp://127.0.0.1:{port}"
        with pytest.raises(RuntimeError, match="Cluster failed to start"):
            kind(scheduler_port=port, **SMALL | {"n_workers": 0})


def test_a_taken_port_of_the_dashboard_is_told(kind):
    with kind(**SMALL | {"n_workers": 0}) as first:
        port = first.scheduler_info["services"]["dashboard"]
        with pytest.warns(UserWarning, match=f"Port {port} is already in use"):
            second = kind(**SMALL | {"n_workers": 0, "dashboard_address": f"127.0.0.1:{port}"})
        assert second.scheduler_info["services"]["dashboard"] != port
        second.close()


def test_a_host_is_where_all_of_it_listens(kind):
    with kind(host="tcp://127.0.0.2", **SMALL) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.2:")
        cluster.wait_for_workers(1)
        assert all(worker.address.startswith("tcp://127.0.0.2:") for worker in cluster.workers.values())


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH to make a certificate with")
    folder = tmp_path_factory.mktemp("pem")
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 2 -subj /CN=node"
    subprocess.run([*line.split(), "-addext", "basicConstraints=critical,CA:FALSE"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("held", ["in files", "as text"])
def test_with_certificates_it_speaks_tls_only(kind, pem, held):
    cert, key = (str(pem / name) if held == "in files" else (pem / name).read_text() for name in ("cert", "key"))
    roles = {f"tls_{role}_{part}": value for role in ("client", "scheduler", "worker") for part, value in (("cert", cert), ("key", key))}
    security = Security(require_encryption=True, tls_ca_file=cert, **roles)
    with kind(security=security, **SMALL) as cluster, cluster.get_client() as client:
        assert cluster.scheduler_address.startswith("tls://") and client.security == cluster.security
        assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises((OSError, RuntimeError)):
            Client(cluster.scheduler_address.replace("tls://", "tcp://"), timeout=2)


def test_only_a_security_object_is_one(kind):
    with pytest.raises(TypeError, match="security must be a Security object"):
        kind(security="secret", **SMALL)


CLIENTS = {"stock": distributed.Client, "rask": rask.Client}


@pytest.mark.parametrize("which", CLIENTS)
def test_a_client_without_an_address_has_a_cluster_of_its_own(which):
    with CLIENTS[which](name="mine", **SMALL) as client:
        assert type(client.cluster) is KINDS[which] and len(client.cluster.workers) == 1
        assert client.submit(sum, [1, 2]).result() == 3
        assert distributed.get_client() is client and "Client-mine-" in client.id
        # One with an address is Dask's in all.
        with CLIENTS[which](client.cluster.scheduler_address, set_as_default=False) as second:
            assert second.cluster is None
    assert client.cluster.status == Status.closed
    with pytest.raises(ValueError, match=r"Unexpected keyword arguments: \['n_workers'\]"):
        CLIENTS[which]("tcp://127.0.0.1:1", n_workers=1)


@pytest.mark.parametrize("which", CLIENTS)
async def test_such_a_client_is_used_with_await(which):
    async with CLIENTS[which](asynchronous=True, **SMALL) as client:
        assert await client.submit(sum, [1, 2]) == 3
    assert client.cluster.status == Status.closed


# ------------------------------------------------------------------------------------------ rask's own


def test_what_a_scheduler_elsewhere_cannot_do_is_said_with_what_to_do_instead():
    refused = {
        "distributed.LocalCluster": {"protocol": "inproc://"},
        "register_plugin": {"scheduler_kwargs": {"plugins": [object()]}},
        "start Jupyter": {"scheduler_kwargs": {"jupyter": True}},
        "prefix": {"service_kwargs": {"dashboard": {"prefix": "/foo"}}},
    }
    for told, options in refused.items():
        with pytest.raises(RuntimeError, match=told):
            rask.LocalCluster(**SMALL | {"n_workers": 0} | options)
    with rask.LocalCluster(**SMALL | {"n_workers": 0}) as cluster:
        with pytest.raises(AttributeError, match="client.run_on_scheduler"):
            cluster.scheduler.tasks
        assert not hasattr(cluster.scheduler, "never_was")


def test_the_configuration_of_the_script_reaches_its_scheduler():
    config = {"distributed.scheduler.allowed-failures": 0, "distributed.scheduler.default-task-durations": {"x-y": "2s"}}
    with dask.config.set(config), rask.LocalCluster(scheduler_kwargs={"idle_timeout": 600}, **SMALL) as cluster:
        line = psutil.Process(cluster.scheduler.pid)
        env = line.environ()
        assert "--idle-timeout 600" in " ".join(line.cmdline())
        assert env["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] == "0"
        assert env["DASK_DISTRIBUTED__SCHEDULER__DEFAULT_TASK_DURATIONS"].endswith("'x-y': '2s'}")


def test_a_program_that_cannot_start_is_told(tmp_path):
    with mock.patch.dict(os.environ, RASK_BIN=str(tmp_path / "none")):
        with pytest.raises(RuntimeError, match="RASK_BIN is .*none, which is not a program"):
            rask.LocalCluster(**SMALL)
    nowhere = mock.patch.multiple("rask.program", shutil=mock.Mock(which=lambda name: None), _folders_of_scripts=list)
    with nowhere, mock.patch.dict(os.environ), pytest.raises(rask.ProgramNotFound, match="install the wheel rask-dask"):
        os.environ.pop("RASK_BIN")
        rask.find_program()


def test_a_scheduler_that_dies_is_told(caplog):
    cluster = rask.LocalCluster(**SMALL | {"n_workers": 0})
    psutil.Process(cluster.scheduler.pid).kill()
    wait_until(lambda: cluster.scheduler.status == Status.failed, "its end is noticed")
    cluster.close()
    assert cluster.status == Status.closed
    assert "ended, exit code -9" in caplog.text


SCRIPT = """
import os, sys
from distributed import Nanny, WorkerPlugin
from rask import LocalCluster

print("imported", flush=True)

class Plugin(WorkerPlugin):
    def setup(self, worker):
        worker.seven = 7

class MyNanny(Nanny):
    pass

def seven(dask_worker):
    return dask_worker.seven

cluster = LocalCluster(n_workers=1, threads_per_worker=1, plugins={Plugin()}, worker_class=MyNanny, dashboard_address=":0")
client = cluster.get_client()
assert isinstance(cluster.workers[0], MyNanny)
assert list(client.run(seven).values()) == [7]
print("pids", cluster.scheduler.pid, client.submit(os.getpid).result(), flush=True)
client.restart()
print("again", list(client.run(seven).values()), flush=True)
match sys.argv[1]:
    case "kill":
        os.kill(os.getpid(), 9)
    case "raise":
        raise ValueError("on purpose")
"""


@pytest.mark.parametrize("end, code", [("", 0), ("raise", 1), ("kill", -9)])
def test_a_script_without_a_guard_runs_once_and_leaves_nothing(tmp_path, end, code):
    (tmp_path / "script.py").write_text(SCRIPT)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = clean_env(tmp_path, RASK_BIN=rask_bin(), TMPDIR=temporary, XDG_RUNTIME_DIR=temporary)
    env["PYTHONPATH"] += os.pathsep + str(ROOT / "packaging/python")
    done = subprocess.run([sys.executable, "script.py", end], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert done.returncode == code, done.stderr
    imported, pids, again = done.stdout.splitlines()
    assert (imported, again) == ("imported", "again [7]"), done.stdout
    family = [int(pid) for pid in pids.split()[1:]]
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in family), "scheduler and worker are gone", STOP_S)
    # A worker that was killed leaves its folder, as with stock; the next one removes it.
    wait_until(lambda: [p.name for p in temporary.iterdir() if p.name != "dask-scratch-space"] == [], "nothing is left", STOP_S)
    if end == "":
        assert "Traceback" not in done.stderr and "rask" not in done.stderr, done.stderr


INTERRUPTED = """
import os, signal, sys, threading, time
from rask import Client

# Whoever started the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
client = Client(n_workers=1, threads_per_worker=1, dashboard_address=":0")

def work():
    open("runs", "w").close()
    while os.path.exists("runs"):
        time.sleep(0.01)
    return os.getpid()

def interrupt():
    while not os.path.exists("runs"):
        time.sleep(0.01)
    os.killpg(os.getpgrp(), signal.SIGINT)

future = client.submit(work)
try:
    threading.Thread(target=interrupt).start()
    future.result()
except KeyboardInterrupt:
    os.remove("runs")
    print(future.result(timeout=30) == client.submit(os.getpid).result(timeout=30))
"""


def test_an_interrupt_reaches_the_script_and_not_its_cluster(tmp_path):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    env = clean_env(tmp_path, RASK_BIN=rask_bin())
    env["PYTHONPATH"] += os.pathsep + str(ROOT / "packaging/python")
    line = [sys.executable, "script.py"]
    done = subprocess.run(
        line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90, start_new_session=True
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
