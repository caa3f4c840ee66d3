"""Control groups of version 2 for real: the machine's size by them, a group for each worker, memory that runs out.

Needs root and a machine where version 2 has the controllers (all current distributions).
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from harness import Proc, scheduler_kind, wait_until
from test_fleet import Place, place, slow_inc  # noqa: F401
from test_up import Up

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
PATIENCE_S = int(os.environ.get("RASK_TEST_PATIENCE_S", "120"))  # an emulated machine needs more


def why_not() -> str | None:
    controllers = ROOT / "cgroup.controllers"
    if not controllers.exists() or not {"cpu", "memory"} <= set(controllers.read_text().split()):
        return "version 2 does not have the controllers cpu and memory here"
    return None if os.getuid() == 0 else "making groups needs root"


pytestmark = [
    pytest.mark.timeout(4 * PATIENCE_S),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own commands"),
    pytest.mark.skipif(why_not() is not None, reason=f"NO TEST OF CONTROL GROUPS: {why_not()}"),
]


class Group:
    """One of our own, as systemd's `Delegate=yes` would make it."""

    def __init__(self, name: str):
        (ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
        self.path = ROOT / f"rask-test-{os.getpid()}-{name}"
        self.path.mkdir()

    def start(self, place: Place, *args: str) -> Proc:
        script = f'echo $$ > {self.path}/cgroup.procs && exec "$@"'
        return place.start("up", "--port", "0", "--scheduler-port", "0", *args, before=("sh", "-c", script, "sh"))

    def remove(self):
        for child in sorted(self.path.rglob("*"), reverse=True):
            if child.is_dir():
                child.rmdir()
        self.path.rmdir()


@pytest.fixture
def group(request, place):
    try:
        group = Group(request.node.name[5:20])
    except OSError as why:  # in a container: read-only, or with processes of others beside ours
        pytest.skip(f"NO TEST OF CONTROL GROUPS: {why}")
    yield group
    for proc in place.procs:
        proc.stop()
    wait_until(lambda: not (group.path / "cgroup.events").read_text().startswith("populated 1"), "nobody is left in it")
    group.remove()


def test_the_groups_limits_are_the_machines_size(place, group):
    """Goal: one core and 768 MiB make one worker with one thread and at most that memory."""
    (group.path / "cpu.max").write_text("100000 100000")
    (group.path / "memory.max").write_text(str(768 * MIB))
    Up(proc := group.start(place), PATIENCE_S)
    size = re.search(r"workers +(\d+) x (\d+) threads?, ([\d.]+) MiB each", proc.output())
    assert size and size[1] == size[2] == "1" and 500 < float(size[3]) <= 768, proc.output()


def burst(mebibytes):
    return len(bytearray(os.urandom(MIB)) * mebibytes)


def test_each_worker_has_a_group_and_only_the_one_whose_memory_runs_out_ends(place, group):
    """Method: a nanny that does not end its worker stands for one that looks too late."""
    place.env["DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE"] = "False"
    up = Up(group.start(place, "--nworkers", "2", "--nthreads", "1", "--memory-limit", "400MiB"), PATIENCE_S)
    folders = [group.path / f"rask-worker-local-{n}" for n in (0, 1)]
    with up.client() as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        pids = client.run(os.getpid)
        names = {w["name"]: address for address, w in client.scheduler_info(n_workers=-1)["workers"].items()}
        for folder in folders:
            pid = pids[names[folder.name.removeprefix("rask-worker-")]]
            assert str(pid) in (folder / "cgroup.procs").read_text().split()
            assert int((folder / "memory.max").read_text()) == (400 + 256) * MIB
            assert int((folder / "cpu.weight").read_text()) == 100
        kept = client.submit(slow_inc, 1, workers=["local-1"], key="kept")
        assert kept.result(timeout=PATIENCE_S) == 2
        hog = client.submit(burst, 900, workers=["local-0"], key="hog", retries=0)
        dead = wait_until(lambda: re.search(r"a worker died: local-0: (.*)", up.proc.output()), "it is told", PATIENCE_S, 0.3)
        assert dead[1].startswith("out of memory (limit 656 MiB, peak ") and "hog" in dead[1], dead[0]
        hog.cancel()
        assert "oom_kill 0" in (folders[1] / "memory.events").read_text()
        # The other one noticed nothing, and the one that died is back, in its group.
        assert client.run(os.getpid, workers=[names["local-1"]]) == {names["local-1"]: pids[names["local-1"]]}
        assert kept.result() == 2
        client.wait_for_workers(2, timeout=PATIENCE_S)
        assert client.submit(slow_inc, 2, workers=["local-0"]).result(timeout=PATIENCE_S) == 3
    assert up.proc.stop() == 0
    time.sleep(0.2)
    assert not [folder for folder in folders if folder.exists()]
