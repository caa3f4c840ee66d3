"""A current folder in which somebody put modules under the names of Python's own: they are not run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from distributed import Client

from appliance import Appliance
from harness import clean_env, rask_bin, scheduler_kind

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask starts"),
]


@pytest.fixture
def hostile(tmp_path):
    """Modules that leave a mark when they are imported, and one that is nobody's else."""
    mark = tmp_path / "ran"
    for name in ("json", "random", "importlib", "multiprocessing", "socket", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\nraise SystemExit(1)\n")
    (tmp_path / "mine_alone.py").write_text("answer = 42\n")
    return tmp_path, mark


def test_doctor_runs_nothing_of_the_current_folder(hostile, work_dir):
    folder, mark = hostile
    env = clean_env(work_dir)
    told = subprocess.run([rask_bin(), "doctor"], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert not mark.exists(), mark.read_text()
    assert sys.executable in told.stdout or "Python" in told.stdout, told


def test_the_appliance_runs_nothing_of_the_current_folder_but_finds_its_modules(hostile):
    folder, mark = hostile
    with Appliance(folder, local=True) as appliance, Client(appliance.up["scheduler"], timeout=60) as client:
        client.wait_for_workers(2, timeout=60)

        def look(_):
            import json
            import mine_alone
            import sys

            return mine_alone.answer, json.dumps(1), sys.path[-1]

        assert client.submit(look, 1).result(timeout=60) == (42, "1", str(folder))
        assert client.run_on_scheduler(lambda: __import__("mine_alone").answer) == 42
        assert not mark.exists(), mark.read_text()
