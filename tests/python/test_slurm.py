"""Workers on a real Slurm: whole allocations (`rask run --in-job`), and jobs that join an appliance (`[[backends]]`).

Every test runs on one Slurm of virtual nodes that the module starts (`slurm.py`); after each of them no job is left.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import psutil
import pytest

pytest.importorskip("dask_gateway")

from dask_gateway import Gateway  # noqa: E402

import slurm as slurms  # noqa: E402
from appliance import Appliance  # noqa: E402
from harness import clean_env, rask_bin, scheduler_kind, wait_until  # noqa: E402
from slurm import Slurm  # noqa: E402

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
    assert f"workers ['local-n1-{job}-0', 'local-n2-{job}-0']" in text, text
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


# ---- jobs that join an appliance -------------------------------------------------------------------------------------


class Site:
    """An appliance with Slurm as a backend."""

    def __init__(self, slurm: Slurm, folder: Path):
        self.slurm, self.folder = slurm, folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self.start()

    def start(self):
        config = f"""
[gateway.cluster]
adaptive_period = "500ms"
[[backends]]
walltime = "10m"
max_jobs = 4
look = "500ms"
scratch = "{self.scratch}"
"""
        env = {"SLURM_CONF": self.slurm.conf, "SBATCH_PARTITION": "nowhere"}
        self.appliance = Appliance(self.folder, config, "--lan", env=env)

    def cluster(self, name: str) -> dict:
        return self.appliance.ask("GET", f"/api/rask/v1/clusters/{name}").json()

    def jobs(self, name: str, *states: str) -> list[dict]:
        """A cluster's jobs in these states, as rask tells them."""
        return [job for job in self.cluster(name)["jobs"] if job["state"] in states]

    def listed(self, name: str) -> list[dict]:
        """A cluster's jobs that wait or run, as Slurm tells them."""
        return [job for job in self.slurm.jobs().values() if job["comment"].endswith(f":{name}")]

    def ask(self, *args: str) -> str:
        done = subprocess.run(
            [rask_bin(), *args], env=self.appliance.env, cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(slurm, work_dir):
    site = Site(slurm, work_dir / "site")
    yield site
    site.appliance.stop()
    slurm.wait_empty()
    assert left_on_disk(site.scratch) == []


@pytest.fixture
def gateway(site, slurm):
    """A client; afterwards no cluster is left, and no job."""
    with Gateway(site.appliance.address) as gateway:
        yield gateway
        for report in gateway.list_clusters():
            gateway.stop_cluster(report.name)
        slurm.wait_empty()


SMALL = {"worker_cores": 1, "worker_memory": 0.5}


def test_workers_are_jobs_that_come_and_go_with_the_number_wanted(site, slurm, gateway):
    """Goal: the unchanged client's options make jobs, one for each worker; fewer workers are fewer jobs; no secret is shown."""
    cluster = gateway.new_cluster(backend="slurm", **SMALL)
    cluster.scale(2)
    with cluster.get_client() as client:
        client.wait_for_workers(2, timeout=90)
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        # Data on whatever worker leaves is kept.
        kept = client.map(lambda x: x + 1, range(20), pure=False)
        assert client.gather(kept) == list(range(1, 21))
        running = wait_until(lambda: len(r := site.jobs(cluster.name, "running")) == 2 and r, "two jobs run", 10)
        assert all(job["workers"] == 1 and job["node"] in slurm.nodes and job["end_ms"] for job in running), running
        assert {job["id"] for job in running} == {job["id"] for job in site.listed(cluster.name)}
        assert all("rj1" not in slurm.call("scontrol", "show", "job", job["id"]) for job in running)
        assert running[0]["id"] in site.ask("jobs", cluster.name)

        cluster.scale(1)
        wait_until(lambda: len(site.listed(cluster.name)) == 1, "one job is left", 60, 0.2)
        assert client.gather(kept) == list(range(1, 21))

        # Somebody cancels the other one: it is replaced, and its data is made again.
        (job,) = site.listed(cluster.name)
        slurm.call("scancel", job["id"])
        wait_until(lambda: [j["id"] for j in site.jobs(cluster.name, "running")] not in ([], [job["id"]]), "another", 60, 0.2)
        assert client.gather(kept) == list(range(1, 21))
    cluster.shutdown()
    slurm.wait_empty()


def test_what_slurm_refuses_or_never_starts_is_told_in_its_words_and_not_repeated(site, slurm):
    def make(**options):
        return site.appliance.ask("POST", "/api/rask/v1/clusters", {"workers": 1, "options": {"backend": "slurm", **options}})

    def note(**options) -> str:
        name = make(**SMALL, **options).json()["name"]
        told = wait_until(lambda: site.cluster(name)["jobs_note"], "the reason is told", 30, 0.2)
        wait_until(lambda: not site.listed(name), "no job waits", 20, 0.2)
        assert told.split()[0] in site.ask("cluster", "show", name)
        site.ask("cluster", "stop", name)
        return told

    assert "nvalid partition" in note(partition="nope")
    # Which of the two depends on how soon it is looked at.
    assert re.search("Partition(TimeLimit|Config)", note(partition="short", walltime="1h"))
    for odd in ("a b", "-x", "a;id", "$(id)", "a'b", "a\nb"):
        refused = make(partition=odd)
        assert refused.status == 422 and "partition must be" in refused.error, refused
    refused = make(walltime="soon")
    assert refused.status == 422 and "walltime must be" in refused.error, refused


def test_jobs_that_wait_say_why_and_leave_with_the_wish(site, slurm, gateway):
    """Goal: no more jobs than allowed; a full queue is told; what is not wanted any more does not wait on."""
    blocker = slurm.submit("sleep 600", "--nodes=2", "--exclusive")
    wait_until(lambda: slurm.state(blocker) == "RUNNING", "the nodes are taken", 20)
    cluster = gateway.new_cluster(backend="slurm", **SMALL)
    cluster.scale(9)
    waiting = wait_until(lambda: len(w := site.jobs(cluster.name, "waiting")) == 4 and w, "jobs wait", 30, 0.2)
    wait_until(lambda: {j["reason"] for j in site.jobs(cluster.name, "waiting")} & {"Resources", "Priority"}, "a reason", 20)
    assert len({job["id"].split("_")[0] for job in waiting}) == 1, "one array"
    cluster.scale(1)
    wait_until(lambda: len(site.listed(cluster.name)) == 1, "three are cancelled", 20, 0.2)
    cluster.scale(0)
    wait_until(lambda: not site.listed(cluster.name), "none waits", 20, 0.2)
    cluster.shutdown()
    slurm.call("scancel", blocker)


def test_a_new_appliance_finds_its_jobs_and_cancels_those_of_nobody(site, slurm, gateway):
    """Goal: a killed appliance costs no job its worker, and nothing is left behind."""
    blocker = slurm.submit("sleep 600", "--nodes=1", "--exclusive", "--nodelist=n2")
    wait_until(lambda: slurm.state(blocker) == "RUNNING", "a node is taken", 20)
    cluster = gateway.new_cluster(backend="slurm", **SMALL, nthreads=2)
    name = cluster.name
    cluster.scale(3)
    with cluster.get_client() as client:
        client.wait_for_workers(1, timeout=60)
        pid = client.submit(lambda: __import__("os").getpid()).result(timeout=30)
        before = {job["id"] for job in site.listed(name)}
        mark = site.listed(name)[0]["comment"].rsplit(":", 1)[0]
        orphan = slurm.submit("sleep 600", f"--comment={mark}:nobody")
        site.appliance.proc.kill()
        site.start()
        wait_until(lambda: slurm.state(orphan) == "CANCELLED", "the job of nobody is cancelled", 40, 0.2)
        wait_until(lambda: site.jobs(name, "running"), "the machine is back", 40, 0.2)
        assert client.submit(lambda: __import__("os").getpid(), pure=False).result(timeout=30) == pid
        assert {job["id"] for job in site.listed(name)} == before
    slurm.call("scancel", blocker)
    cluster.shutdown()
    slurm.wait_empty()


def test_local_has_its_workers_as_jobs_as_many_as_the_work_needs(slurm, tmp_path):
    env = {"SLURM_CONF": slurm.conf}
    config = '[gateway.cluster]\nadaptive_period = "500ms"\n'
    flags = ("--batch", "slurm", "--walltime", "5m", "--memory-limit", "600MB")
    argv = [rask_bin(), "run", "script.py"]
    (tmp_path / "script.py").write_text(
        "from distributed import Client\nprint(Client().submit(sum, [1, 2]).result(timeout=90))\n"
    )
    with Appliance(tmp_path, config, *flags, "--nworkers", "auto", local=True, env=env) as appliance:
        assert slurm.jobs() == {}
        done = subprocess.run(argv, env=appliance.env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stdout == "3\n", done.stderr

        def states() -> list[str]:
            told = subprocess.run([rask_bin(), "jobs", "--json"], env=appliance.env, capture_output=True).stdout
            return [job["state"] for job in json.loads(told)[0]["jobs"]]

        # A look at the queue may be younger than what the job has done.
        wait_until(lambda: states() == ["running"], "one job runs")
    slurm.wait_empty()


def test_backends_without_lan_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "rask.toml").write_text("[[backends]]\n")
    env = clean_env(tmp_path, RASK_CONFIG=tmp_path / "rask.toml")
    done = subprocess.run([rask_bin(), "up", "--port", "0"], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "add --lan" in done.stderr, done.stderr
