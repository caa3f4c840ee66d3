"""Machines on a LAN, played by network namespaces of this one.

Owns: a switch (a bridge in a namespace of its own), one namespace per machine, the cables between them (veth pairs).
Cables are cut with nftables rules, so that packets vanish as they do when a switch dies: nobody is told. Needs root and
iproute2; `why_not()` says what is missing.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Proc, clean_env, rask_bin, wait_until

SUBNET = "10.97.0"
_numbers = itertools.count()


@functools.cache
def why_not() -> str | None:
    """Why no LAN can be made here; None: it can."""
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"{program} is not installed (packages iproute2 and nftables)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"rask-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    try:
        link = ["ip", "-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1"]
        tried = subprocess.run(link, capture_output=True, text=True)
        if tried.returncode != 0:
            return f"veth pairs cannot be made here: {tried.stderr.strip()}"
        ruled = subprocess.run(["ip", "netns", "exec", name, "nft", "add", "table", "inet", "t"], capture_output=True, text=True)
        return f"nftables does not work here: {ruled.stderr.strip()}" if ruled.returncode != 0 else None
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def run(*argv: str, ok: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if ok and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class Machine:
    """One namespace, with an address, a state folder and the processes that were started in it."""

    def __init__(self, lan: "Lan", name: str, number: int):
        self.name, self.number = name, number
        self.ns = f"{lan.tag}-{name}"
        self.address = f"{SUBNET}.{number}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=lan.dir))
        self.state = self.dir / "state"
        self.procs: list[Proc] = []
        self.env = clean_env(self.dir, RASK_STATE_DIR=self.state, HOME=self.dir, TMPDIR=self.dir)
        end = f"v{number}"
        run("ip", "netns", "add", self.ns)
        run("ip", "-n", lan.switch, "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", self.ns)
        run("ip", "-n", lan.switch, "link", "set", end, "master", "br0", "up")
        run("ip", "-n", self.ns, "link", "set", "lo", "up")
        run("ip", "-n", self.ns, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.ns, "link", "set", "eth0", "up")

    def inside(self, argv: list[str]) -> list[str]:
        """The command line that runs this one in the namespace."""
        return ["ip", "netns", "exec", self.ns, *argv]

    def start(self, name: str, *argv: str, env: dict | None = None) -> Proc:
        """Starts a process; it has the pid of the returned Proc."""
        proc = Proc(f"{self.name}-{name}", self.inside(list(argv)), self.env | (env or {}), self.dir)
        self.procs.append(proc)
        return proc

    def rask(self, *args: str, **options) -> Proc:
        return self.start(args[0], rask_bin(), *args, **options)

    def call(self, *argv: str, timeout: float = 60, env: dict | None = None) -> subprocess.CompletedProcess:
        """Runs a program to its end."""
        return subprocess.run(
            self.inside(list(argv)), capture_output=True, text=True, timeout=timeout, cwd=self.dir,
            env=self.env | (env or {}), stdin=subprocess.DEVNULL,
        )

    def ask(self, *args: str, **options) -> subprocess.CompletedProcess:
        """Runs rask to its end."""
        return self.call(rask_bin(), *args, **options)

    def python(self, script: str, *args: str, timeout: float = 90) -> subprocess.CompletedProcess:
        return self.call(sys.executable, "-c", script, *args, timeout=timeout)

    def cut(self, other: "Machine | None" = None):
        """Packets to and from `other` (all machines, if None) vanish until `mend`. Loopback stays."""
        who = "" if other is None else f"ip saddr {other.address} "
        to = 'oifname "eth0" ' if other is None else f"ip daddr {other.address} "
        rules = f'''table inet cut {{
            chain input {{ type filter hook input priority 0; iifname "eth0" {who}drop; }}
            chain output {{ type filter hook output priority 0; {to}drop; }}
        }}'''
        subprocess.run(self.inside(["nft", "-f", "-"]), input=rules, text=True, check=True)

    def mend(self):
        run(*self.inside(["nft", "delete", "table", "inet", "cut"]), ok=False)

    def pids(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.ns, ok=False).split()]

    def die(self):
        """As if its power was cut: nobody is told, then all its processes are gone."""
        self.cut()
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self):
        for proc in reversed(self.procs):
            if proc.alive():
                proc.stop()
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not self.pids(), f"no process is left on {self.name}", 10)
        run("ip", "netns", "del", self.ns, ok=False)

    def logs(self, tail: int = 4000) -> str:
        parts = [f"--- {proc.name}\n{proc.output()[-tail:]}" for proc in self.procs]
        parts += [f"--- {path}\n{path.read_text(errors='replace')[-tail:]}" for path in sorted(self.state.rglob("*.log"))]
        return "\n".join(parts)


class Lan:
    """A switch and its machines. A context manager; nothing is left after it."""

    def __init__(self, work_dir: Path, *names: str):
        self.tag = f"rask-{os.getpid()}-{next(_numbers)}"
        self.dir = Path(tempfile.mkdtemp(prefix="lan-", dir=work_dir))
        self.switch = f"{self.tag}-switch"
        self.machines: dict[str, Machine] = {}
        run("ip", "netns", "add", self.switch)
        try:
            run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", self.switch, "link", "set", "br0", "up")
            for number, name in enumerate(names, start=1):
                self.machines[name] = Machine(self, name, number)
        except RuntimeError:
            self.close()
            raise

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def logs(self) -> str:
        return "\n".join(machine.logs() for machine in self.machines.values())

    def close(self):
        for machine in reversed(self.machines.values()):
            machine.mend()
            machine.close()
        run("ip", "netns", "del", self.switch, ok=False)


class Head:
    """`rask up --lan` on a machine, and what a person asks it."""

    def __init__(self, machine: Machine, *args: str, env: dict | None = None):
        self.machine = machine
        self.args, self.env = args, env
        self.start()

    def start(self):
        argv = ["up", "--lan", "--port", "8787", "--scheduler-port", "8786", *self.args]
        self.proc = self.machine.rask(*argv, env=self.env)

        def invitation():
            if not self.proc.alive():
                raise AssertionError(f"rask up ended:\n{self.proc.output()[-4000:]}")
            found = re.search(r"rask join (\S+) --token (\S+)", self.proc.output())
            return found and "Stop: Ctrl-C" in self.proc.output() and found

        found = wait_until(invitation, "rask up --lan prints the line to paste", 60)
        self.url, self.token = found.groups()

    def new_token(self, *args: str) -> str:
        made = self.machine.ask("token", "create", "--join", *args)
        assert made.returncode == 0, made.stderr
        return made.stdout.split("--token ")[1].strip()

    def peers(self) -> dict[str, dict]:
        listed = self.machine.ask("peers", "--json")
        assert listed.returncode == 0, listed.stderr
        return {peer["name"]: peer for peer in json.loads(listed.stdout)}

    def wait_for(self, name: str, *states: str, timeout: float = 20) -> dict:
        def there():
            peer = self.peers().get(name)
            return peer if peer and peer["state"] in states else None

        return wait_until(there, f"{name} is {' or '.join(states)}", timeout, 0.2)

    def join(self, machine: Machine, *args: str, token: str | None = None, env: dict | None = None) -> Proc:
        return machine.rask("join", self.url, "--token", token or self.new_token(), *args, env=env)
