"""What a closed terminal, a kill and a lost database leave behind: nothing, or what is found again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import psutil
import pytest
from distributed import Client

from appliance import Appliance
from harness import rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask starts"),
]


def status(appliance, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run([rask_bin(), "status", *more], env=appliance.env, capture_output=True, text=True, timeout=120)


def scheduler_pid(appliance) -> int:
    return appliance.ask("GET", "/api/rask/v1/clusters/local").json()["scheduler_pid"]


@contextlib.contextmanager
def hangups(action):
    """What is started meanwhile inherits whether hangups are ignored, as these tests may have from `nohup`."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_closing_the_terminal_ends_it_and_its_clusters(work_dir):
    with hangups(signal.SIG_DFL):
        appliance = Appliance(work_dir / "closed", local=True)
    with appliance:
        family = appliance.proc.children() + [psutil.Process(scheduler_pid(appliance))]
        assert len(family) >= 2
        appliance.proc.popen.send_signal(signal.SIGHUP)
        assert appliance.proc.wait(60) == 0
        assert "SIGHUP: stopping clusters" in appliance.proc.output()
        wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family), "all end", 60)
        assert "no rask runs" in status(appliance).stderr


def test_with_nohup_it_goes_on(work_dir):
    with hangups(signal.SIG_IGN):
        appliance = Appliance(work_dir / "nohup")
    with appliance:
        for _ in range(3):
            appliance.proc.popen.send_signal(signal.SIGHUP)
            assert appliance.ask("GET", "/health").status == 200
        assert appliance.proc.alive()


def test_status_names_clusters_that_run_without_an_appliance(work_dir):
    appliance = Appliance(work_dir / "left", local=True)
    pid = scheduler_pid(appliance)
    appliance.proc.kill()
    try:
        said = status(appliance)
        assert said.returncode == 1
        assert f"but clusters that outlived it do: local (process {pid})" in said.stderr
        assert "`rask up` takes them over, `rask down` ends them" in said.stderr
    finally:
        down = subprocess.run([rask_bin(), "down"], env=appliance.env, capture_output=True, text=True, timeout=120)
    assert "Stopped clusters: local" in down.stdout
    wait_until(lambda: not psutil.pid_exists(pid), "it is gone", 30)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_clusters_are_taken_over_though_the_database_was_lost(work_dir, how):
    folder = work_dir / f"lost-{how}"
    first = Appliance(folder, local=True)
    pid = scheduler_pid(first)
    with Client(first.up["scheduler"], timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    first.proc.kill()
    # Who reads it waits for the next one's.
    (folder / "state" / "up.json").unlink()
    database = folder / "state" / "rask.db"
    if how == "damaged":
        for file in database.parent.glob("rask.db-*"):
            file.unlink()  # what it says would mend the rest
        database.write_bytes(b"no database" * 1000)
        with pytest.raises(AssertionError, match="rask.db"):
            Appliance(folder, local=True)
    for file in database.parent.glob("rask.db*"):
        os.rename(file, folder / file.name)
    with Appliance(folder, local=True) as second:
        assert scheduler_pid(second) == pid
        assert "local" in status(second).stdout
        with Client(second.up["scheduler"], timeout=60) as client:
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
    wait_until(lambda: not psutil.pid_exists(pid), "it ends with its appliance", 30)
