"""Other machines, played by network namespaces: joining, many of them, and what their network carries.

    python bench_peers.py [join] [swarm] [traffic] [--rounds N]

join: from `rask join` (with the environment there) to the result of a task on that machine, goal under 5 s.
swarm: 100 machines with 4 workers each (swarm.py): CPU of the head while nothing runs, goal under 5 % of a core for the
appliance, and how soon the death of one is noticed, goal under 5 s.
traffic: tasks per second and bytes per second between two machines, beside stock Dask with TLS, alternately.

Needs root (namespaces) and the binary at RASK_BIN or target/release/rask.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from measure import cpu_of, median, table

import lan as lans
from harness import wait_until
from lan import Head, Lan

HERE = Path(__file__).resolve().parent
SPAN = ["--span-peers", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "1GiB"]

# Waits for a worker that listens at argv[1] and prints when a task there was done.
FIRST = """
import sys, time
from distributed import Client
with Client("tcp://127.0.0.1:8786", timeout=30) as client:
    print("READY", flush=True)
    while True:
        there = [a for a in client.scheduler_info(n_workers=-1)["workers"] if f"//{sys.argv[1]}:" in a]
        if there:
            client.submit(abs, -1, workers=there, pure=False).result()
            print("DONE", time.time(), flush=True)
            break
        time.sleep(0.02)
"""

# argv: address of the scheduler, two machines' addresses. Prints one JSON line.
TRAFFIC = """
import json, sys, time
from distributed import Client, wait
from distributed.security import Security

def inc(i):
    return i + 1

def block(mb):
    return bytearray(mb << 20)

if __name__ == "__main__":
    address, one, two, *tls = sys.argv[1:]
    security = Security(tls_ca_file=tls[0], tls_client_cert=tls[0], tls_client_key=tls[1]) if tls else None
    with Client(address, timeout=30, security=security) as client:
        def at(host):
            return [a for a in client.scheduler_info(n_workers=-1)["workers"] if f"//{host}:" in a]
        while not (at(one) and at(two)):
            time.sleep(0.1)
        first, second = at(one)[0], at(two)[0]
        for warm in (True, False):
            n, mb = (200, 8) if warm else (5000, 64)
            began = time.monotonic()
            client.gather(client.map(inc, range(n), workers=[first, second], pure=False))
            tasks = n / (time.monotonic() - began)
            rates = []
            for _ in range(1 if warm else 3):
                big = client.submit(block, mb, workers=[first], pure=False)
                wait(big)
                began = time.monotonic()
                client.submit(len, big, workers=[second], pure=False).result()
                rates.append(mb / (time.monotonic() - began))
                del big
        print(json.dumps({"tasks": tasks, "mib": sorted(rates)[1]}))
"""


def says(proc, word: str, timeout: float = 60) -> str:
    return wait_until(lambda: word in proc.output() and proc.output(), f"{proc.name} says {word}", timeout, 0.02)


def join(work_dir: Path, rounds: int):
    net = Lan(work_dir, "head", "one")
    try:
        head = Head(net["head"], *SPAN)
        secs = []
        for number in range(rounds):
            client = net["head"].start("first", sys.executable, "-c", FIRST, net["one"].address)
            says(client, "READY")
            token, began = head.new_token(), time.time()
            began = time.time()
            joined = head.join(net["one"], "--name", f"one{number}", token=token)
            secs.append(float(says(client, "DONE").split()[-1]) - began)
            client.wait()
            assert net["one"].ask("leave").returncode == 0
            joined.wait()
        print(f"join to first task: {median(secs):.2f} s, {min(secs):.2f} to {max(secs):.2f} s in {rounds} rounds")
    finally:
        net.close()


def swarm(work_dir: Path, rounds: int, peers: int = 100, idle_s: float = 20):
    net = Lan(work_dir, "head", "swarm")
    try:
        head = Head(net["head"], *SPAN)
        token = head.new_token("--uses", str(peers))
        many = net["swarm"].start("swarm", sys.executable, str(HERE / "swarm.py"), head.url, token, "--peers", str(peers))
        began = time.monotonic()
        says(many, "READY", 120)
        print(f"{peers} machines joined and have their 4 workers after {time.monotonic() - began:.1f} s")
        time.sleep(5)
        family = psutil.Process(head.proc.pid).children(recursive=True)
        scheduler = next(child.pid for child in family if "scheduler" in child.cmdline()[1:2])
        shares = {"appliance": [], "scheduler": []}
        for _ in range(rounds):
            before = cpu_of(head.proc.pid), cpu_of(scheduler)
            time.sleep(idle_s)
            for name, pid, was in (("appliance", head.proc.pid, before[0]), ("scheduler", scheduler, before[1])):
                shares[name].append((cpu_of(pid) - was) / idle_s * 100)
        for name, all_of_it in shares.items():
            print(f"idle, {name}: {median(all_of_it):.1f} % of a core, {min(all_of_it):.1f} to {max(all_of_it):.1f} %")
        many.popen.send_signal(signal.SIGUSR1)
        died = time.monotonic()
        head.wait_for("m000", "late", timeout=20)
        print(f"one of {peers} that fell silent was noticed after {time.monotonic() - died:.1f} s")
    finally:
        net.close()


def stock(net: Lan, work_dir: Path, script: list[str]) -> dict:
    """Stock Dask with a certificate as rask makes them."""
    cert, key = work_dir / "tls.crt", work_dir / "tls.key"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-keyout", str(key), "-out", str(cert), "-subj", "/CN=bench"],
            capture_output=True, check=True,
        )
    tls = ["--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key)]
    dask = [sys.executable, "-m", "dask"]
    head = net["head"]
    procs = [head.start("stock", *dask, "scheduler", "--protocol", "tls", "--host", head.address, "--port", "8786", "--no-dashboard", *tls)]
    try:
        says(procs[0], "Scheduler at")
        address = f"tls://{head.address}:8786"
        for name in ("one", "two"):
            where = net[name]
            worker = [*dask, "worker", address, "--host", where.address, "--nthreads", "1", "--memory-limit", "1GiB", "--no-dashboard", *tls]
            procs.append(where.start("stock", *worker))
        return json.loads(measured(head, script, address, net, str(cert), str(key)))
    finally:
        for proc in reversed(procs):
            proc.stop()


def rask(net: Lan, script: list[str]) -> dict:
    head = Head(net["head"], *SPAN)
    joined = [head.join(net[name], "--name", name, "--cores", "1") for name in ("one", "two")]
    try:
        return json.loads(measured(net["head"], script, "tcp://127.0.0.1:8786", net))
    finally:
        for name, proc in zip(("one", "two"), joined):
            net[name].ask("leave")
            proc.stop()
        head.proc.stop()


def measured(head, script: list[str], address: str, net: Lan, *tls: str) -> str:
    done = head.call(sys.executable, *script, address, net["one"].address, net["two"].address, *tls, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def traffic(work_dir: Path, rounds: int):
    path = work_dir / "traffic.py"
    path.write_text(TRAFFIC)
    net = Lan(work_dir, "head", "one", "two")
    found = {"stock": [], "rask": []}
    try:
        for _ in range(rounds):
            found["stock"].append(stock(net, work_dir, [str(path)]))
            found["rask"].append(rask(net, [str(path)]))
    finally:
        net.close()

    def spread(kind: str, what: str) -> str:
        values = [one[what] for one in found[kind]]
        return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"

    rows = [[kind, spread(kind, "tasks"), spread(kind, "mib")] for kind in found]
    print(table(rows, ["", "tasks/s", "MiB/s between machines"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[[], "join", "swarm", "traffic"], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one join, to see that it works")
    args = parser.parse_args()
    if (why := lans.why_not()) is not None:
        print(f"NOTHING IS MEASURED: {why}")
        sys.exit(0 if args.quick else 1)
    if args.quick:
        args.what, args.rounds = ["join"], 1
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        for name, bench in (("join", join), ("swarm", swarm), ("traffic", traffic)):
            if not args.what or name in args.what:
                bench(Path(folder), args.rounds)
