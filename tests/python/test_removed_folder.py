"""The state folder is removed while everything runs: who looks for it is still answered, and the log says so."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from distributed import Client

from appliance import Appliance
from harness import rask_bin, scheduler_kind, wait_until

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
