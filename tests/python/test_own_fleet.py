"""Rask's own workers in clusters of `rask up`, of the gateway and on joined machines; and when Dask's run in their place."""

from __future__ import annotations

import json
import operator
import os
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import Client, Event, get_worker

import lan as lans
from appliance import Appliance
from harness import Cluster, running_workers, scheduler_kind, wait_until
from lan import Head, Lan

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own commands"),
]

LATE_S = 60
API = "/api/rask/v1"


def engines(client) -> dict[str, str]:
    """Of each worker, by its name, as `identity` tells it."""
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"].values()
    return {worker["name"]: worker.get("engine", "stock") for worker in workers}


@pytest.fixture(scope="module")
def appliance(work_dir):
    with Appliance(work_dir / "own", local=True) as appliance:
        yield appliance


@pytest.fixture
def client(appliance):
    with Client(appliance.up["scheduler"], timeout=LATE_S) as client:
        wait_until(lambda: running_workers(client) == ["local-0", "local-1"], "both workers run", LATE_S)
        yield client


def test_rask_up_runs_its_own_workers(appliance, client):
    assert engines(client) == {"local-0": "rask", "local-1": "rask"}
    assert client.gather(client.map(operator.neg, range(20), pure=False)) == [-x for x in range(20)]
    assert "rask's own" in appliance.up["workers"]
    assert appliance.ask("GET", f"{API}/clusters/local").json()["engine"] == "rask"

    def say():
        print("said by a task", get_worker().name, flush=True)

    client.submit(say).result(LATE_S)
    logs = lambda: appliance.ask("GET", f"{API}/clusters/local/logs?tail=200").body.decode()  # noqa: E731
    wait_until(lambda: "said by a task local-" in logs(), "what it printed is in the worker's log", LATE_S)


def test_they_restart_and_a_death_is_told_with_its_cause(appliance, client):
    before = set(client.run(os.getpid).values())
    client.restart(timeout=LATE_S)
    after = client.run(os.getpid)
    assert len(after) == 2 and not before & set(after.values())
    victim = min(after.values())
    psutil.Process(victim).kill()
    wait_until(lambda: victim not in client.run(os.getpid, on_error="ignore").values(), "the worker died", LATE_S)
    wait_until(lambda: running_workers(client) == ["local-0", "local-1"], "both workers run again", LATE_S)
    logs = lambda: appliance.ask("GET", f"{API}/clusters/local/logs?tail=500").body.decode()  # noqa: E731
    wait_until(lambda: "its Python process ended: killed by SIGKILL" in logs(), "its end is told", LATE_S)
    told = lambda: re.search("killed by SIGKILL[^;]*; peak memory seen: ", appliance.proc.output())  # noqa: E731
    wait_until(told, "with what its scheduler knows", LATE_S)


def test_a_killed_node_takes_its_pythons_along_and_both_workers_start_anew(client):
    before = set(client.run(os.getpid).values())
    [node] = {psutil.Process(pid).ppid() for pid in before}
    node = psutil.Process(node)
    assert "worker" in node.cmdline() and {child.pid for child in node.children(recursive=True)} == before
    pythons = node.children()
    node.kill()
    wait_until(lambda: not any(python.is_running() for python in pythons), "they ended with it", LATE_S)
    wait_until(lambda: not before & set(client.run(os.getpid, on_error="ignore").values()), "the scheduler knows", LATE_S)
    wait_until(lambda: running_workers(client) == ["local-0", "local-1"], "both workers run again", LATE_S)
    assert client.gather(client.map(operator.neg, range(5), pure=False)) == [0, -1, -2, -3, -4]


def array_of(seed, count):
    return np.random.default_rng(seed).random(count)


def pss() -> int:
    """The memory of this process; what it shares with others counts in parts. Unit: bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def meet(where: str, me: int) -> None:
    """Waits until both have come: what a task reads stays on its worker until it ends."""
    Event(f"{where}-{me}").set()
    assert Event(f"{where}-{1 - me}").wait(LATE_S)


def read_together(array, me: int) -> tuple[float, int]:
    total = float(array.sum())
    meet("read", me)
    memory = pss()
    meet("measured", me)
    return total, memory


def test_workers_of_one_machine_have_a_large_array_in_memory_once(client):
    size = 160 << 20
    before = client.run(lambda: np.zeros(1).sum() + pss())
    owner, other = before
    array = client.submit(array_of, 1, size // 8, workers=[owner], pure=False)
    client.submit(len, array, workers=[other], pure=False).result(LATE_S)
    reads = [client.submit(read_together, array, me, workers=[at], pure=False) for me, at in enumerate(before)]
    told = client.gather(reads)
    assert {total for total, _ in told} == {float(array_of(1, size // 8).sum())}
    grown = sum(memory for _, memory in told) - sum(before.values())
    assert 0.9 * size < grown < 1.25 * size, (before, told)


def test_it_grows_and_shrinks_within_one_process(appliance, client):
    assert appliance.ask("POST", f"{API}/clusters/local/scale", {"count": 3}).status < 300
    wait_until(lambda: running_workers(client) == ["local-0", "local-1", "local-2"], "a third worker", LATE_S)
    pids = client.run(os.getpid)
    assert len({psutil.Process(pid).ppid() for pid in pids.values()}) == 1
    assert appliance.ask("POST", f"{API}/clusters/local/scale", {"count": 2}).status < 300
    wait_until(lambda: len(running_workers(client)) == 2, "one of them left", LATE_S)
    gone = set(pids.values()) - set(client.run(os.getpid).values())
    wait_until(lambda: not any(map(psutil.pid_exists, gone)), "its Python is gone", LATE_S)


def test_a_cluster_of_the_gateway_chooses_its_engine(appliance):
    made = {}
    for engine in ("auto", "stock"):
        body = {"name": f"with-{engine}", "workers": 1, "options": {"engine": engine, "worker_memory": 1, "nthreads": 1}}
        made[engine] = appliance.ask("POST", f"{API}/clusters", body)
        assert made[engine].status == 201, made[engine]
    refused = appliance.ask("POST", f"{API}/clusters", {"name": "none", "options": {"engine": "steam"}})
    assert refused.status == 422 and b"steam" in refused.body
    for engine, meant in (("auto", "rask"), ("stock", "stock")):
        path = f"{API}/clusters/with-{engine}"
        wait_until(lambda: appliance.ask("GET", path).json()["workers"] == 1, "its worker is there", LATE_S)
        assert appliance.ask("GET", path).json()["engine"] == meant
        identity = appliance.ask("GET", f"/clusters/with-{engine}/json/identity.json").json()
        assert [worker.get("engine", "stock") for worker in identity["workers"].values()] == [meant]
        assert appliance.ask("DELETE", path).status == 204


@pytest.mark.skipif(lans.why_not() is not None, reason=f"NO TEST OF PEERS: {lans.why_not()}")
def test_a_joined_machine_hosts_them_too(work_dir):
    net = Lan(work_dir, "head", "one")
    try:
        sizes = ["--span-peers", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "512MiB"]
        head = Head(net["head"], *sizes, "--engine", "rask")
        head.join(net["one"], "--name", "one", "--cores", "1")

        def workers() -> dict:
            done = head.machine.call("curl", "-s", "http://127.0.0.1:8787/json/identity.json")
            try:
                return json.loads(done.stdout)["workers"]
            except (ValueError, KeyError):
                return {}

        both = wait_until(lambda: len(workers()) == 2 and workers(), "a worker on each machine", LATE_S, 0.2)
        assert {worker["engine"] for worker in both.values()} == {"rask"}
        assert any(f"//{net['one'].address}:" in address for address in both)
        script = (
            "from distributed import Client, Event, get_worker, wait\n"
            "if __name__ == '__main__':\n"
            "    with Client('tcp://127.0.0.1:8786', timeout=30) as client:\n"
            "        a, b = client.scheduler_info()['workers']\n"
            "        x = client.submit(list, range(100_000), workers=[a]); wait(x)\n"
            "        print(client.submit(sum, x, workers=[b]).result(60))\n"
        )
        done = head.machine.python(script)
        assert done.returncode == 0 and done.stdout.strip() == "4999950000", done.stderr
    finally:
        print(net.logs()[-6000:])
        net.close()


MOVED = """
from distributed.worker import Worker
before = Worker.update_data
Worker.update_data = lambda self, *args, **kwargs: before(self, *args, **kwargs)
"""


def test_a_cluster_whose_dask_moved_has_dasks_workers(appliance, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(MOVED)
    path = os.pathsep.join([str(tmp_path), *filter(None, [appliance.env.get("PYTHONPATH")])])
    options = {"engine": "rask", "worker_memory": 1, "nthreads": 1, "env": {"PYTHONPATH": path}}
    assert appliance.ask("POST", f"{API}/clusters", {"name": "moved", "workers": 1, "options": options}).status == 201
    wait_until(lambda: appliance.ask("GET", f"{API}/clusters/moved").json()["workers"] == 1, "its worker is there", LATE_S)
    identity = appliance.ask("GET", "/clusters/moved/json/identity.json").json()
    assert [(worker["name"], worker.get("engine", "stock")) for worker in identity["workers"].values()] == [("moved-0", "stock")]
    assert "Worker.update_data" in appliance.ask("GET", f"{API}/clusters/moved/logs?tail=200").body.decode()
    assert appliance.ask("DELETE", f"{API}/clusters/moved").status == 204


def test_dasks_workers_run_where_ours_do_not_fit(work_dir, tmp_path):
    """Goal: a Dask whose insides moved is no reason to have no workers. Method: one of its methods has other parameters."""
    (tmp_path / "sitecustomize.py").write_text(MOVED)
    with Cluster(work_dir) as cluster:
        cluster.env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
        moved = cluster.add_worker("moved", kind="rask", nanny=True)
        other = cluster.add_worker("other", "--scheduler-sni", "localhost", kind="rask")
        with Client(cluster.address, timeout=LATE_S) as client:
            client.wait_for_workers(2, timeout=LATE_S)
            assert engines(client) == {"moved": "stock", "other": "stock"}
            assert client.submit(operator.add, 1, 2).result(LATE_S) == 3
        assert "--scheduler-sni" in other.output() and "Dask's run instead" in other.output()
        assert "Worker.update_data" in moved.output() and "Dask's run instead" in moved.output()
