"""A scheduler that spins is noticed, spoken of, and ended; one that is only busy, or stopped, is left alone."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil
import pytest
from distributed import Client

import spin
from appliance import Appliance
from harness import Cluster, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask watches"),
]
spins = pytest.mark.skipif(not spin.possible or os.getuid() != 0, reason="needs root and x86-64")


def inc(x):
    return x + 1


def cpu_of_loop(pid: int) -> float:
    main = next(thread for thread in psutil.Process(pid).threads() if thread.id == pid)
    return main.user_time + main.system_time


@spins
def test_a_scheduler_that_spins_says_so_and_ends(work_dir):
    with Cluster(work_dir, env={"RASK_SCHEDULER__STUCK_AFTER": "2s"}) as cluster:
        spin.spin(cluster.proc.pid)
        assert cluster.proc.wait(60) == 1
        assert "the scheduler spins" in cluster.proc.output() and "scheduler.stuck-after" in cluster.proc.output()


@spins
def test_sigterm_ends_a_scheduler_that_spins(work_dir):
    with Cluster(work_dir, env={"RASK_SCHEDULER__STUCK_AFTER": "none"}) as cluster:
        spin.spin(cluster.proc.pid)
        wait_until(lambda: psutil.Process(cluster.proc.pid).cpu_percent(0.3) > 30, "it spins")
        cluster.proc.popen.send_signal(signal.SIGTERM)
        assert cluster.proc.wait(60) == 143
        assert "has not turned since it was told to end" in cluster.proc.output()


def test_one_that_is_busy_or_stopped_is_no_scheduler_that_spins(work_dir):
    with Cluster(work_dir, env={"RASK_SCHEDULER__STUCK_AFTER": "2s"}) as cluster:
        pid = cluster.proc.pid
        with Client(cluster.address, timeout=60) as client:
            # In steps, each of them short: more than the limit altogether.
            for number in range(1000):
                futures = client.map(inc, range(number * 2000, (number + 1) * 2000))
                wait_until(lambda: client.processing() is not None, "it answers", 60)
                del futures
                if cpu_of_loop(pid) > 3:
                    break
            assert cpu_of_loop(pid) > 3
            os.kill(pid, signal.SIGSTOP)
            try:
                wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it is stopped")
                with pytest.raises(subprocess.TimeoutExpired):
                    cluster.proc.popen.wait(4)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert client.scheduler_info()["type"] == "Scheduler" and cluster.proc.alive()


def test_status_and_log_say_that_a_scheduler_does_not_answer(work_dir):
    with Appliance(work_dir / "silent", local=True) as appliance:
        cluster = lambda: appliance.ask("GET", "/api/rask/v1/clusters/local").json()
        status = lambda: subprocess.run(
            [rask_bin(), "status"], env=appliance.env, capture_output=True, text=True, timeout=120
        ).stdout
        pid = cluster()["scheduler_pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            said = wait_until(lambda: cluster()["reason"], "it is noticed", 60)
            assert f"its scheduler (process {pid}) has not answered for" in said
            assert "has not answered for" in status()
            assert "has not answered for" in appliance.proc.output()
            assert cluster()["status"] == "RUNNING"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: cluster()["reason"] is None, "it answers again", 60)
        assert cluster()["scheduler_pid"] == pid


@spins
def test_a_cluster_whose_scheduler_spins_is_started_anew(work_dir):
    with Appliance(work_dir / "spins", "[scheduler]\nstuck-after = '2s'\n", local=True) as appliance:
        cluster = lambda: appliance.ask("GET", "/api/rask/v1/clusters/local").json()
        pid = cluster()["scheduler_pid"]
        spin.spin(pid)
        wait_until(lambda: cluster()["scheduler_pid"] not in (pid, None), "another runs", 90)
        assert "the scheduler spins" in appliance.proc.output()
        with Client(appliance.up["scheduler"], timeout=60) as client:
            assert client.submit(inc, 1).result(timeout=60) == 2
