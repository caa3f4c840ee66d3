"""Kills the appliance, schedulers and workers under load, in turn, and looks after each kill what became of the rest.

    python tests/python/tools/kill_loop.py --rounds 100
    python tests/python/tools/kill_loop.py --rounds 20 --who workers --seed 7

After each round: what was submitted to a cluster that lives is computed, and its processes are those that were not
killed; a cluster whose scheduler was killed is FAILED and says why, and nothing of it is left; there is no process and
no file beyond those of the clusters that live. RASK_BIN names the binary, as for the other tests.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cloudpickle
import psutil
from dask_gateway.client import GatewaySecurity
from distributed import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from appliance import Appliance  # noqa: E402
from harness import wait_until  # noqa: E402

WHO = ("appliance", "scheduler", "workers")
# The cluster that lives on, and its workers.
STEADY = "steady"
WORKERS = 2
# Of a killed scheduler: its workers need not die at once, but soon.
GONE_S = 15
# Open files of a process may differ by connections that are just closing.
FILES_SPARE = 12


def slow_inc(x, seconds=0.05):
    time.sleep(seconds)
    return x + 1


class KillLoop:
    """An appliance with a cluster that is to live through it all. A context manager."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.random = random.Random(seed)
        self.numbers = itertools.count()
        self.tmp = folder / "tmp"
        self.tmp.mkdir(parents=True)
        self.start_appliance("0")
        try:
            self.start_load()
        except BaseException:
            self.__exit__(Exception)
            raise

    def start_load(self):
        self.create(STEADY, WORKERS)
        # Dask's workers have nannies. Rask's own are started again by their group's process.
        self.has_nannies = self.ask("GET", f"/{STEADY}")["engine"] == "stock"
        self.client = self.connect(STEADY)
        self.client.wait_for_workers(WORKERS, timeout=90)
        # Results that nobody asks for until the end.
        self.kept = self.client.map(slow_inc, range(20), key=[f"kept-{n}" for n in range(20)])
        assert self.client.gather(self.kept) == list(range(1, 21))
        self.settled_family()
        self.usual_files = self.open_files()

    def start_appliance(self, port: str):
        stale = self.folder / "state" / "up.json"
        stale.unlink(missing_ok=True)
        self.up = Appliance(self.folder, "", "--port", port, env={"TMPDIR": self.tmp})

    # ---- the API. Not through Gateway objects: one that is collected in its own thread waits for itself for ever -----

    def ask(self, method: str, path: str, body=None) -> dict:
        answer = self.up.ask(method, f"/api/rask/v1/clusters{path}", body)
        assert answer.status < 300, answer
        return answer.json() if answer.body else {}

    def create(self, name: str, workers: int):
        options = {"worker_cores": 1, "worker_memory": 1}
        self.ask("POST", "", {"name": name, "workers": workers, "options": options})
        assert self.ask("GET", f"/{name}?wait")["status"] == "RUNNING"

    def connect(self, name: str) -> Client:
        folder = self.folder / "state" / "clusters" / name
        key, cert = ((folder / file).read_text() for file in ("tls.key", "tls.crt"))
        at = self.up.address.replace("http:", "gateway:")
        return Client(
            f"{at}/{name}", security=GatewaySecurity(tls_key=key, tls_cert=cert), timeout=30, set_as_default=False
        )

    # ---- what there is --------------------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """Every process that was started from this folder, directly or not: all have its environment."""
        mine = f"RASK_STATE_DIR={self.folder / 'state'}".encode()
        found = []
        for p in psutil.process_iter():
            try:
                environment = Path(f"/proc/{p.pid}/environ").read_bytes().split(b"\0")
                if mine in environment and p.status() != psutil.STATUS_ZOMBIE:
                    found.append(p)
            except (OSError, psutil.NoSuchProcess):
                pass
        return found

    @staticmethod
    def role(p: psutil.Process) -> str:
        try:
            words = p.cmdline()
        except psutil.NoSuchProcess:
            return "gone"
        if not words:  # it ended meanwhile and was not waited for yet
            return "gone"
        if "python" not in words[0]:
            return "group" if words[1] == "worker" else words[1]
        text = " ".join(words)
        kinds = {"dask_worker": "nanny", "spawn_main": "worker", "resource_tracker": "tracker", "rask_executor": "worker"}
        return next((role for part, role in kinds.items() if part in text), "pyhost")

    def roles(self) -> Counter:
        return Counter(self.role(p) for p in self.family())

    def settled_family(self) -> Counter:
        whole = {"up": 1, "scheduler": 1, "group": 1, "worker": WORKERS}
        whole |= {"nanny": WORKERS, "tracker": WORKERS} if self.has_nannies else {}
        # A scheduler starts its Python when it needs it.
        fits = lambda: (roles := self.roles()).pop("pyhost", 0) <= 1 and roles == whole
        try:
            wait_until(fits, "its processes", 30, 0.2)
        except AssertionError:
            raise AssertionError(f"the processes should be {whole} and are {self.roles()}") from None

    def pick(self, role: str) -> psutil.Process:
        return self.random.choice([p for p in self.family() if self.role(p) == role])

    def scheduler_of(self, name: str) -> psutil.Process:
        [found] = [p for p in self.family() if self.role(p) == "scheduler" and any(name in w for w in p.cmdline())]
        return found

    def open_files(self) -> int:
        return self.scheduler_of(STEADY).num_fds()

    def leaked_files(self) -> list[str]:
        """Files of clusters that are gone, logs aside, and folders of workers that are gone."""
        state = self.folder / "state"
        mine = state / "clusters" / STEADY
        of_others = [p for p in (state / "clusters").rglob("*") if mine not in p.parents and p != mine]
        leaked = [p for p in of_others if not p.is_dir() and "logs" not in p.parts]
        # Each node has a folder while it lives.
        pid = lambda p: p.name.removeprefix("rask-worker-")
        leaked += [p for p in self.tmp.iterdir() if not pid(p).isdigit() or not psutil.pid_exists(int(pid(p)))]
        scratch = [p for p in mine.glob("spill/*/worker-*") if p.is_dir()]
        return [str(p.relative_to(self.folder)) for p in leaked + scratch[WORKERS:]]

    # ---- rounds ---------------------------------------------------------------------------------------------

    def round(self, who: str) -> str:
        number = next(self.numbers)
        futures = self.client.map(slow_inc, range(number, number + 30), key=[f"r{number}-{n}" for n in range(30)])
        scheduler = self.scheduler_of(STEADY).pid
        time.sleep(self.random.uniform(0, 0.5))
        story = getattr(self, f"kill_{who}")()
        assert self.client.gather(futures) == list(range(number + 1, number + 31)), "accepted tasks were lost"
        self.settled_family()
        assert self.scheduler_of(STEADY).pid == scheduler
        wait_until(lambda: len(self.client.scheduler_info(n_workers=-1)["workers"]) == WORKERS, "all workers", 60, 0.2)
        wait_until(lambda: not self.leaked_files(), f"no file is left behind (but {self.leaked_files()})", 10)
        files = self.open_files()
        assert files <= self.usual_files + FILES_SPARE, f"{files} open files, {self.usual_files} in the beginning"
        return story

    def kill_appliance(self) -> str:
        port = str(self.up.hostport[1])
        self.up.proc.kill()
        time.sleep(self.random.uniform(0, 0.5))
        self.start_appliance(port)
        wait_until(lambda: self.ask("GET", f"/{STEADY}")["status"] == "RUNNING", "the cluster is taken over", 10)
        return "the appliance"

    def kill_workers(self) -> str:
        role = self.random.choice(["worker"] * 3 + ["nanny"] * 2 * self.has_nannies + ["group"])
        self.pick(role).kill()
        return f"a {role}"

    def kill_scheduler(self) -> str:
        """That of another cluster, with a worker that computes, or that starts."""
        name = f"victim-{next(self.numbers)}"
        self.create(name, 1)
        with self.connect(name) as client:
            doomed = client.map(slow_inc, range(100))
            time.sleep(self.random.uniform(0, 4))
            self.scheduler_of(name).kill()
            failed = lambda: (told := self.ask("GET", f"/{name}"))["status"] == "FAILED" and told["reason"]
            why = wait_until(failed, "the cluster is FAILED", GONE_S)
            assert why.startswith("its scheduler ended") and ("SIGKILL" in why or "adopted" in why), why
            del doomed
        wait_until(lambda: self.roles()["scheduler"] == 1, "nothing of it runs", GONE_S)
        return "a scheduler"

    # ---- the end --------------------------------------------------------------------------------------------

    def finish(self):
        assert self.client.gather(self.kept) == list(range(1, 21)), "results were lost"
        self.client.close()
        self.ask("DELETE", f"/{STEADY}")
        wait_until(lambda: sum(self.roles().values()) == 1, "only the appliance is left", GONE_S)
        assert self.up.stop() == 0
        wait_until(lambda: not self.family(), "no process is left", 5)
        state = self.folder / "state"
        files = {str(p.relative_to(state)) for p in state.rglob("*") if not p.is_dir() and "logs" not in p.parts}
        files -= {"rask.db", "rask.db-wal", "rask.db-shm", "ca/ca.crt", "ca/ca.key", "ca/server.crt", "ca/server.key"}
        assert not files and not list(self.tmp.iterdir()), f"left behind: {files} {list(self.tmp.iterdir())}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for p in self.family() if kind else []:
            p.kill()


def run(folder: Path, rounds: int, who: str, seed: int, tell=print):
    with KillLoop(folder, seed) as loop:
        for number in range(rounds):
            start = time.monotonic()
            story = loop.round(WHO[number % len(WHO)] if who == "all" else who)
            tell(f"round {number + 1}: {story}, {time.monotonic() - start:.1f} s")
        loop.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--who", choices=(*WHO, "all"), default="all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    # A client whose scheduler was killed has much to say.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = Path(tempfile.mkdtemp(prefix="rask-kill-"))
    print(f"seed {args.seed}, in {folder}", flush=True)
    run(folder, args.rounds, args.who, args.seed, lambda text: print(text, flush=True))
    print("nothing was lost, nothing is left")


if __name__ == "__main__":
    main()
