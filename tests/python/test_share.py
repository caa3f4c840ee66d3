"""What rask takes of the machine: worker processes and memory of all clusters together, folders, names of processes."""

from __future__ import annotations

import psutil
import pytest

from appliance import Appliance
from harness import Cluster, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask starts"),
]

API = "/api/rask/v1/clusters"


@pytest.mark.parametrize("bound", ["max_workers = 3", "max_memory = '3 GiB'"])
def test_workers_of_all_clusters_stay_within_the_machines_share(work_dir, bound):
    config = f"[up]\n{bound}\n[workers]\nmemory_limit = '1 GiB'\n"
    with Appliance(work_dir / bound.split()[0], config) as appliance:
        see = lambda name: appliance.ask("GET", f"{API}/{name}").json()
        numbers = lambda name: ((now := see(name))["workers"], now["without_room"])
        for name, workers in (("a", 2), ("b", 4)):
            answer = appliance.ask("POST", API, {"name": name, "workers": workers})
            assert answer.status in (200, 201), answer
            expected = (2, 0) if name == "a" else (1, 3)
            wait_until(lambda: numbers(name) == expected, f"{name} has {expected}", 90)
        assert "workers wait for room" in appliance.proc.output() and "up.max_workers" in appliance.proc.output()
        # Room that becomes free is used by who waits.
        assert appliance.ask("POST", f"{API}/a/scale", {"count": 0}).status == 200
        wait_until(lambda: numbers("b") == (3, 1), "b has what there is", 90)
        assert numbers("a") == (0, 0)


def test_folders_of_killed_processes_are_swept_at_the_next_start(work_dir):
    place = work_dir / "runtime"
    place.mkdir(mode=0o700)
    env = {"XDG_RUNTIME_DIR": str(place)}
    here = lambda: sorted(path.name for path in place.glob("rask-scheduler-*"))
    foreign = place / "rask-scheduler-notes"
    foreign.mkdir()
    with Cluster(work_dir, env=env) as alive, Cluster(work_dir, env=env) as dead:
        names = {cluster: f"rask-scheduler-{cluster.proc.pid}" for cluster in (alive, dead)}
        dead.proc.kill()
        assert set(names.values()) <= set(here())
        with Cluster(work_dir, env=env) as third:
            assert here() == sorted([names[alive], f"rask-scheduler-{third.proc.pid}", foreign.name])
    assert here() == [foreign.name]


def test_processes_have_the_name_of_rask(work_dir):
    with Appliance(work_dir / "named") as appliance:
        appliance.ask("POST", API, {"name": "a", "workers": 1})
        see = lambda: appliance.ask("GET", f"{API}/a").json()
        pid = wait_until(lambda: see()["status"] == "RUNNING" and see()["scheduler_pid"], "it runs", 60)
        assert {psutil.Process(one).name() for one in (pid, appliance.proc.pid)} == {"rask"}
