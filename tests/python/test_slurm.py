"""Workers on a real Slurm: whole allocations (`rask run --in-job`).

Every test runs on one Slurm of virtual nodes that the module starts (`slurm.py`); after each of them no job is left.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

import slurm as slurms
from harness import clean_env, rask_bin, scheduler_kind, wait_until
from slurm import Slurm

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own command"),
    pytest.mark.skipif(slurms.why_not() is not None, reason=f"NO TEST OF SLURM: {slurms.why_not()}"),
]

SCRIPT = """
import sys, time
from distributed import Client

client = Client()
client.wait_for_workers(2, timeout=60)
names = sorted(worker["name"] for worker in client.scheduler_info()["workers"].values())
print("workers", names, flush=True)
print("result", client.submit(sum, [1, 2]).result(), sys.argv[2:], flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def slurm(work_dir):
    with Slurm(work_dir) as slurm:
        yield slurm


@pytest.fixture
def folder(tmp_path, slurm, request):
    """A folder of the test's own. Afterwards there is no job, and no process that was started for one."""
    yield tmp_path
    slurm.wait_empty()
    wait_until(lambda: not processes_in(tmp_path), "no process of a job is left", 20, 0.2)


def processes_in(folder: Path) -> list[str]:
    """Processes whose local disk is below a folder: those of jobs of a test."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if str(folder) in process.environ().get("TMPDIR", ""):
                found.append(" ".join(process.info["cmdline"] or []))
        except psutil.Error:
            continue
    return found


def in_job(slurm: Slurm, folder: Path, *args: str, nodes: int = 2, script: str = SCRIPT) -> tuple[str, Path]:
    """Submits `rask run --in-job`; the job's id and its output."""
    (folder / "script.py").write_text(script)
    env = clean_env(folder, HOME=folder, TMPDIR=folder, SLURM_CONF=slurm.conf)
    env.pop("RASK_STATE_DIR")
    out = folder / "out.txt"
    line = f"exec {rask_bin()} run --in-job --nthreads 1 --nworkers 1 script.py {' '.join(args)}"
    argv = ["sbatch", "--parsable", "--no-requeue", f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
    argv += ["--mem=1500", f"--output={out}"]
    done = subprocess.run(
        argv, input=f"#!/bin/bash\n{line}\n", env=slurm.env | env, cwd=folder, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), out


def left_on_disk(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("rask-*")]


def test_a_script_has_a_cluster_on_all_nodes_of_its_job(slurm, folder):
    """Goal: no daemon elsewhere, no port to choose; the exit code is the script's, and nothing stays on the nodes."""
    job, out = in_job(slurm, folder, "7", "--flag")
    wait_until(lambda: slurm.state(job) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), "the job ends", 90, 0.2)
    text = out.read_text()
    assert "workers ['local-n1-0', 'local-n2-0']" in text, text
    assert "result 3 ['--flag']" in text, text
    assert slurm.state(job) == "FAILED" and "ExitCode=7:0" in slurm.call("scontrol", "show", "job", job), text
    assert left_on_disk(folder) == []


def test_a_cancelled_job_leaves_no_process(slurm, folder):
    job, out = in_job(slurm, folder, "wait")
    wait_until(lambda: out.exists() and "result 3" in out.read_text(), "the script computes", 90, 0.2)
    assert processes_in(folder)
    slurm.call("scancel", job)
    wait_until(lambda: slurm.state(job) == "CANCELLED", "the job ends", 30, 0.2)


def test_outside_of_a_job_it_says_how_to_submit_one(folder):
    (folder / "script.py").write_text("")
    done = subprocess.run(
        [rask_bin(), "run", "--in-job", "script.py"], env=clean_env(folder), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2 and "sbatch" in done.stderr, done.stderr
