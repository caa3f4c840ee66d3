"""A real Slurm in a folder: munged, slurmctld and one slurmd per virtual node, all on loopback.

Owns: its daemons, its configuration, its jobs. Nodes are virtual: their cores and memory are believed, not measured, and all
of them are this machine. Nothing of /etc, no systemd, no accounting. Partitions: `main` (default), `short` (at most two
minutes), and `low`, whose jobs give way to those of `main`. Needs Debian's slurm-wlm and munge; `why_not()` says what is
missing.
"""

from __future__ import annotations

import functools
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil

from harness import wait_until

PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun", "sinfo")


@functools.cache
def why_not() -> str | None:
    """Why no Slurm can be started here; None: it can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    return f"{', '.join(missing)} not installed (packages slurm-wlm and munge)" if missing else None


def free_ports(count: int) -> int:
    """So many free ports that follow each other: slurmctld and its nodes name theirs in one file, before they listen."""
    for base in random.sample(range(21000, 30000, count), 100):
        sockets = []
        try:
            for port in range(base, base + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports for Slurm")


class Slurm:
    """A context manager; no job and no process is left after it."""

    def __init__(self, work_dir: Path, nodes: int = 2, cpus: int = 2, memory_mb: int = 4000, conf: str = ""):
        self.dir = Path(tempfile.mkdtemp(prefix="slurm-", dir=work_dir))
        self.conf = self.dir / "slurm.conf"
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        self.env |= {"PATH": PATH, "SLURM_CONF": str(self.conf)}
        for name in ("log", "state", "spool"):
            (self.dir / name).mkdir()
        key = self.dir / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.conf.write_text(self._conf(free_ports(nodes + 1), cpus, memory_mb) + conf)
        (self.dir / "cgroup.conf").write_text("CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n")
        try:
            for name in ("munged", "slurmctld", *self.nodes):
                self.revive(name)
            idle = str(nodes)
            ready = lambda: self.call("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D", ok=False).strip() == idle
            wait_until(ready, f"{nodes} nodes are idle", 30)
        except BaseException:
            self.close()
            raise

    def _conf(self, port: int, cpus: int, memory_mb: int) -> str:
        host, user, here = socket.gethostname(), getpass.getuser(), self.dir
        lines = f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={here}/munge.sock
CommunicationParameters=NoInAddrAny
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool/%n
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/%n.pid
SlurmctldLogFile={here}/log/slurmctld.log
SlurmdLogFile={here}/log/%n.log
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,default_queue_depth=1000
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
ReturnToService=2
DefMemPerCPU={memory_mb // cpus}
"""
        for number, node in enumerate(self.nodes, start=1):
            lines += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} "
            lines += f"CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN\n"
        lines += "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10\n"
        lines += "PartitionName=short Nodes=ALL MaxTime=2 State=UP PriorityTier=10\n"
        return lines + "PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1\n"

    # ---- what a person does --------------------------------------------------------------------------------------

    def call(self, *argv: str, ok: bool = True, timeout: float = 30, **options) -> str:
        """Runs a program of Slurm to its end; what it wrote."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=timeout, cwd=self.dir, **options)
        if ok and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, script: str, *args: str) -> str:
        """Submits a script of bash; its id."""
        return self.call("sbatch", "--parsable", *args, input=f"#!/bin/bash\n{script}").strip().split(";")[0]

    def jobs(self, states: str = "pending,running,completing,suspended,configuring") -> dict[str, dict[str, str]]:
        """Jobs by id, each element of an array on its own."""
        lines = self.call("squeue", "-h", "-r", f"--states={states}", "-o", "%i|%j|%T|%k|%P|%N|%r").splitlines()
        keys = ("id", "name", "state", "comment", "partition", "node", "reason")
        found = [dict(zip(keys, line.split("|", len(keys) - 1), strict=True)) for line in lines]
        return {job["id"]: job for job in found}

    def state(self, job: str) -> str:
        return self.call("squeue", "-h", "--states=all", "--job", job, "-o", "%T", ok=False).strip()

    def wait_empty(self, timeout: float = 30):
        wait_until(lambda: not self.jobs(), "no job is left", timeout, 0.2)

    # ---- its daemons ---------------------------------------------------------------------------------------------

    def revive(self, name: str):
        """Starts a daemon: munged, slurmctld or a node."""
        here = self.dir
        argv = {
            # By force: folders of tests are nobody else's, and munge would rather have its socket open to all users.
            "munged": ["munged", "--force", f"--key-file={here}/munge.key", f"--socket={here}/munge.sock"]
            + [f"--pid-file={here}/munged.pid", f"--log-file={here}/log/munged.log", f"--seed-file={here}/munge.seed"],
            "slurmctld": ["slurmctld", "-f", str(self.conf)],
        }.get(name, ["slurmd", "-f", str(self.conf), "-N", name])
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=30, cwd=here)
        assert done.returncode == 0, f"{argv[0]}: {done.stderr}\n{self.logs()}"

    def process(self, name: str) -> psutil.Process | None:
        """The process of a daemon, if it runs; its command line names our folder."""
        try:
            process = psutil.Process(int((self.dir / f"{name}.pid").read_text()))
            return process if str(self.dir) in " ".join(process.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def kill(self, name: str):
        """Ends a daemon without a word."""
        process = self.process(name)
        assert process is not None, f"{name} does not run"
        process.kill()
        wait_until(lambda: self.process(name) is None, f"{name} is dead", 10)

    def close(self):
        if self.process("slurmctld"):
            left = sorted({job.split("_")[0] for job in self.jobs()})
            if left:
                self.call("scancel", *left, ok=False)
            wait_until(lambda: not self.jobs(), "no job is left", 20, 0.2)
        daemons = [process for name in ("slurmctld", *self.nodes, "munged") if (process := self.process(name))]
        for process in daemons:
            process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(daemons, timeout=10)
        # A step that outlived its slurmd would try to reach it for days.
        for process in psutil.process_iter(["name", "cmdline"]):
            if process.info["name"] == "slurmstepd" and self._is_ours(process):
                alive.append(process)
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("SLURM_CONF") == str(self.conf)
        except psutil.Error:
            return False

    def logs(self, tail: int = 3000) -> str:
        files = sorted((self.dir / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-tail:]}" for path in files)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
