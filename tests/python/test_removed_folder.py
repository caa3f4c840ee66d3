"""The state folder is removed while everything runs: who looks for it is still answered, and the log says so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest
from distributed import Client

from appliance import Appliance
from harness import Proc, clean_env, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask starts"),
]


def rask(appliance, *line: str) -> subprocess.CompletedProcess:
    return subprocess.run([rask_bin(), *line], env=appliance.env, capture_output=True, text=True, timeout=120)


def test_a_state_folder_that_was_removed_is_put_back(work_dir):
    with Appliance(work_dir / "removed", local=True) as appliance:
        with Client(appliance.up["scheduler"], timeout=60) as before:
            before.wait_for_workers(2, timeout=60)
            shutil.rmtree(appliance.state)
            wait_until(lambda: "the state folder was removed while rask runs" in appliance.proc.output(), "it is said", 60)
            wait_until(lambda: "local" in rask(appliance, "status").stdout, "status finds it", 60)
            # A second one does not start beside it.
            again = rask(appliance, "up", "--port", "0", "--scheduler-port", "0")
            assert again.returncode == 0 and "rask is already running" in again.stdout
            # Who is there goes on, and who comes is let in.
            assert before.submit(sum, [1, 2]).result(timeout=60) == 3

            def connected():
                try:
                    with Client(appliance.up["scheduler"], timeout=10) as after:
                        return after.submit(sum, [2, 2], pure=False).result(timeout=60) == 4
                except OSError:
                    return False

            wait_until(connected, "the control socket is put back", 90)
            wait_until(lambda: (appliance.state / "clusters/local/tls.key").exists(), "the certificates too", 90)
        assert rask(appliance, "down").returncode == 0


def test_python_starts_anew_although_the_current_folder_of_its_scheduler_was_removed(work_dir):
    file, folder = work_dir / "homeless.json", work_dir / "current"
    flags = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    argv = ["sh", "-c", 'mkdir "$1" && cd "$1" && shift && exec "$@"', "sh", str(folder), rask_bin(), "scheduler", *flags]
    scheduler = Proc("homeless", argv, clean_env(work_dir), work_dir)
    try:
        wait_until(file.exists, "it runs", 30)
        with Client(scheduler_file=str(file), timeout=30) as client:
            first = client.run_on_scheduler(os.getpid)
            shutil.rmtree(folder)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(RuntimeError, match="ended with signal 9"):
                client.run_on_scheduler(os.getpid)
            assert client.run_on_scheduler(os.getpid) != first
    finally:
        scheduler.stop()
