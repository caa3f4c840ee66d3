"""What people who watch cost the scheduler: its CPU with and without viewers of the status page, under load.

    python bench_viewers.py                 10 viewers, 10,000 tasks/s on rask, 1,000 tasks/s on stock, 5 rounds each
    python bench_viewers.py --quick         a small one, to see that it works

Workers are simulated (zero.py). Rounds without and with viewers alternate on one scheduler. A viewer of rask asks for what
the status page asks for; one of stock loads `/status` and connects as Bokeh's page does. `extra` is CPU of the scheduler's
process per wall second, with viewers less without, in percent of one core. `KB/s` is what one viewer receives. Latency is
submit until result of one small task, from a client of its own, while the load runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from measure import cpu_of, median, rss_of, settle, table

from harness import Cluster, clean_env

HERE = Path(__file__).resolve().parent
WISH = {"v": 1, "want": ["overview", "workers", "prefixes", "stream", "lanes", "names"], "stream": {"span": 60, "px": 0}}
#: What the tasks pretend to have taken, so that there is something to draw.
CLAIM_MS = 2
#: Of each task that the loading client asks for.
INPUTS = 50


# ---- processes of their own: load, questions, viewers -------------------------------------------------------------


def load(address: str, rate: int, seconds: float) -> None:
    """Submits `rate` tasks each second, as fast as they are taken if that is slower. Prints tasks and time.

    Graphs are made and pickled beforehand: this process has to leave the cores to those who are measured.
    """
    from dask._task_spec import Task, TaskRef
    from distributed import Client, wait

    size = rate // 2  # two graphs a second
    with Client(address, timeout=60) as client:
        send = client._send_to_scheduler

        def prepared(number: int) -> tuple[list, list, int]:
            parts = [(f"part-{number}", i) for i in range(size)]
            graph = {key: Task(key, operator.neg, 1) for key in parts}
            # The client asks for sums only: what it could be told of every part would be what is measured.
            sums = [(f"sum-{number}", i) for i in range(0, size, INPUTS)]
            graph.update({key: Task(key, max, *map(TaskRef, parts[key[1] : key[1] + INPUTS])) for key in sums})
            messages: list = []
            client._send_to_scheduler = messages.append
            futures = client.get(graph, sums, sync=False, optimize_graph=False)
            client._send_to_scheduler = send
            return messages, futures, len(graph)

        batches = [prepared(number) for number in range(round(2 * seconds))]
        print("ready", flush=True)
        sys.stdin.readline()
        start, done, held = time.perf_counter(), 0, []
        for messages, futures, count in batches:
            for message in messages:
                send(message)
            held.append(futures)
            done += count
            if len(held) > 2:
                wait(held.pop(0))
            time.sleep(max(0.0, start + done / rate - time.perf_counter()))  # the pace is what is measured at
        for futures in held:
            wait(futures)
        print(json.dumps({"tasks": done, "seconds": time.perf_counter() - start}), flush=True)


def ask(address: str) -> None:
    """Submits one small task after another. Prints the times when it is told to stop."""
    from distributed import Client

    times, stop = [], threading.Event()
    with Client(address, timeout=60) as client:
        print("ready", flush=True)
        threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
        number = 0
        while not stop.is_set():
            number += 1
            start = time.perf_counter()
            client.submit(operator.neg, number, key=f"ask-{number}").result()
            times.append(time.perf_counter() - start)
            stop.wait(0.02)
    print(json.dumps(times), flush=True)


async def watch(kind: str, url: str, count: int) -> None:
    """Opens pages as a browser does, as far as the scheduler can tell, and takes what comes."""
    from tornado.httpclient import AsyncHTTPClient
    from tornado.websocket import websocket_connect

    socket_url = url.replace("http", "ws", 1)

    async def one():
        if kind == "rask":
            socket = await websocket_connect(f"{socket_url}/feed", max_message_size=2**30)
            await socket.write_message(json.dumps(WISH))
            return socket
        # Bokeh makes a session for each page that is loaded; the page names it when it connects.
        page = (await AsyncHTTPClient().fetch(f"{url}/status", request_timeout=60)).body.decode()
        token = re.search(r'"token":"([^"]+)"', page)[1]
        return await websocket_connect(f"{socket_url}/status/ws", subprotocols=["bokeh", token], max_message_size=2**30)

    async def read(socket):
        while await socket.read_message() is not None:
            pass

    sockets = [await one() for _ in range(count)]
    print("ready", flush=True)
    await asyncio.gather(*map(read, sockets))


# ---- the measure --------------------------------------------------------------------------------------------------


class Role:
    """This file as another process, ready to go."""

    def __init__(self, cluster: Cluster, *args: str):
        argv = [sys.executable, __file__, "--role", *args]
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_env(cluster.dir))
        assert "ready" in self.proc.stdout.readline(), args

    def tell(self) -> None:
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()

    def answer(self):
        return json.loads(self.proc.stdout.readline())

    def end(self) -> None:
        self.proc.terminate()
        self.proc.wait(20)


def received(port: int) -> dict[str, int]:
    """Bytes that clients of a local port received so far, by socket. Source: ss(8), `bytes_received`."""
    text = subprocess.run(["ss", "-tinOH", "state", "established", f"dport = :{port}"], capture_output=True, text=True, check=True)
    found = {}
    for line in text.stdout.splitlines():
        fields = line.split()
        count = [field for field in fields if field.startswith("bytes_received:")]
        found[fields[2]] = int(count[0].split(":")[1]) if count else 0
    return found


def one_round(cluster: Cluster, url: str, viewers: int, rate: int, seconds: float) -> dict:
    pid, port = cluster.proc.pid, int(url.rsplit(":", 1)[1])
    watching = Role(cluster, "watch", cluster.kind, url, str(viewers)) if viewers else None
    loader = Role(cluster, "load", cluster.address, str(rate), str(seconds))
    asker = Role(cluster, "ask", cluster.address)
    settle(pid)
    before, cpu, start = received(port), cpu_of(pid), time.perf_counter()
    loader.tell()
    loaded = loader.answer()
    cpu, took = cpu_of(pid) - cpu, time.perf_counter() - start
    after = received(port)
    asker.tell()
    times = sorted(asker.answer())
    for role in (watching, loader, asker):
        if role:
            role.end()
    grown = [count - before.get(at, 0) for at, count in after.items()]
    assert len(grown) >= viewers, "viewers were lost"
    return {
        "cpu": 100 * cpu / took,
        "rate": loaded["tasks"] / took,
        "us": cpu * 1e6 / loaded["tasks"],
        "kb": sum(grown) / took / 1e3 / viewers if viewers else 0.0,
        "p50": times[len(times) // 2] * 1e3,
        "p99": times[int(len(times) * 0.99)] * 1e3,
    }


def dashboard(cluster: Cluster) -> str:
    return f"http://127.0.0.1:{cluster.identity['services']['dashboard']}"


def measure(work_dir: Path, kind: str, viewers: int, rate: int, seconds: float, rounds: int) -> list[list]:
    with Cluster(work_dir, scheduler=kind, dashboard=True) as cluster:
        argv = [sys.executable, str(HERE / "zero.py"), cluster.address, "-n", "10", "--claim-ms", str(CLAIM_MS)]
        zero = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=clean_env(cluster.dir))
        try:
            assert "registered" in zero.stdout.readline()
            one_round(cluster, dashboard(cluster), 0, rate, min(seconds, 3))  # warm
            pairs = [[one_round(cluster, dashboard(cluster), n, rate, seconds) for n in (0, viewers)] for _ in range(rounds)]
            mib = rss_of(cluster.proc.pid) / 2**20
        finally:
            zero.terminate()
            zero.wait(10)
    extra = [full["cpu"] - none["cpu"] for none, full in pairs]

    def spread(which: int, field: str) -> str:
        values = [pair[which][field] for pair in pairs]
        return f"{median(values):.3g} ({min(values):.3g}..{max(values):.3g})"

    head = [kind, viewers, f"{median([full['rate'] for _, full in pairs]):.0f}"]
    cost = [spread(0, "cpu"), spread(1, "cpu"), f"{median(extra):.2g} ({min(extra):.2g}..{max(extra):.2g})", spread(1, "kb")]
    return [*head, *cost, spread(0, "p50"), spread(1, "p50"), spread(0, "p99"), spread(1, "p99"), mib]


HEADS = ["scheduler", "viewers", "tasks/s", "CPU % without", "with", "extra", "KB/s each", "p50 ms without", "with", "p99 ms without", "with", "MiB"]


def main() -> None:
    if sys.argv[1:2] == ["--role"]:
        role, *args = sys.argv[2:]
        if role == "load":
            load(args[0], int(args[1]), float(args[2]))
        elif role == "ask":
            ask(args[0])
        else:
            asyncio.run(watch(args[0], args[1], int(args[2])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--rate", type=int, default=10_000, help="tasks per second on rask (default 10000)")
    parser.add_argument("--stock-rate", type=int, default=1_000, help="tasks per second on stock (default 1000)")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["rask", "stock"], nargs="*", default=["rask", "stock"])
    args = parser.parse_args()
    if args.quick:
        args.viewers, args.seconds, args.rounds, args.rate, args.stock_rate = 2, 2, 1, 1_000, 200
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-viewers-") as tmp:
        for kind in args.only:
            rate = args.rate if kind == "rask" else args.stock_rate
            rows.append(measure(Path(tmp), kind, args.viewers, rate, args.seconds, args.rounds))
    print(table(rows, HEADS), flush=True)


if __name__ == "__main__":
    main()
