"""Creating clusters over dask-gateway's API: stock's own server and `rask up`, alternating in one run.

    python bench_gateway.py              5 alternations, medians
    python bench_gateway.py --quick      one alternation, to see that it works (under a minute)

Measured with the unmodified dask_gateway client: `new_cluster()` until a client's connection is registered,
the data rate and round trip through `gateway://` beside a direct `tls://` connection to the same scheduler, in turn,
and what the server itself takes while five clusters idle. Stock's server is the package dask-gateway-server; where it is not installed only rask is measured,
and the table says so.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from measure import median, table

import harness
from dask_gateway import Gateway
from distributed import Client
from harness import clean_env, wait_until

STOCK_CONFIG = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.Proxy.address = "127.0.0.1:{http}"
c.DaskGateway.address = "127.0.0.1:{api}"
c.UnsafeLocalBackend.clusters_directory = "{folder}"
c.ClusterConfig.scheduler_cmd = ["{python}", "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = ["{python}", "-m", "distributed.cli.dask_worker"]
"""


# Of gateway and direct connection, in each alternation.
TURNS = 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    # Stock's proxy listens before it knows where to route.
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Server:
    """A gateway of either kind, stopped by its pid."""

    def __init__(self, kind: str, work_dir: Path):
        self.kind = kind
        self.dir = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=work_dir))
        self.port = free_port()
        argv = self._stock() if kind == "stock" else self._rask()
        self.log = open(self.dir / "server.log", "wb")
        self.process = subprocess.Popen(
            argv, env=clean_env(self.dir), cwd=self.dir, stdout=self.log, stderr=subprocess.STDOUT
        )
        wait_until(lambda: answers(self.port), f"{kind} gateway listens", timeout=60)

    def _stock(self) -> list[str]:
        config = self.dir / "config.py"
        config.write_text(
            STOCK_CONFIG.format(http=self.port, api=free_port(), folder=self.dir, python=sys.executable)
        )
        return [sys.executable, "-m", "dask_gateway_server", "-f", str(config)]

    def _rask(self) -> list[str]:
        scheduler_port = free_port()
        return [
            harness.rask_bin(), "up", "--no-local-cluster", "--port", str(self.port),
            "--scheduler-port", str(scheduler_port),
        ]  # fmt: skip

    def gateway(self) -> Gateway:
        return Gateway(f"http://127.0.0.1:{self.port}", auth="basic")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def megabytes_per_second(client: Client, mebibytes: int) -> float:
    """There and back through the scheduler."""
    data = os.urandom(1 << 20) * mebibytes
    start = time.perf_counter()
    # No worker is needed: a published value of bytes stays with the scheduler.
    client.set_metadata("bench", data)
    back = client.get_metadata("bench")
    elapsed = time.perf_counter() - start
    assert back == data
    client.set_metadata("bench", None)
    return 2 * mebibytes / elapsed


def round_trip_ms(client: Client, count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        client.ncores()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def measure(server: Server, mebibytes: int, trips: int) -> dict[str, float]:
    with server.gateway() as gateway:
        start = time.perf_counter()
        with gateway.new_cluster() as cluster, cluster.get_client() as client:
            client.ncores()
            created = time.perf_counter() - start
            direct_address = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address)
            with Client(direct_address, security=cluster.security, timeout=30, set_as_default=False) as direct:
                both = {"gateway": client, "direct": direct}
                rates, trips_ms = ({name: [] for name in both} for _ in range(2))
                for turn in range(TURNS):
                    # Each goes first as often as the other.
                    for name in sorted(both, reverse=turn % 2 == 0):
                        rates[name].append(megabytes_per_second(both[name], mebibytes))
                        trips_ms[name].append(round_trip_ms(both[name], trips))
            cluster.shutdown()
    rates = {f"{name} MiB/s": median(values) for name, values in rates.items()}
    return {"create s": created, **rates, **{f"{name} ms": min(values) for name, values in trips_ms.items()}}


def idle(server: Server, clusters: int, seconds: float) -> dict[str, float]:
    """What the server's own processes take while clusters idle. Unit: MiB, percent of a core."""
    family = [psutil.Process(server.process.pid)]
    if server.kind == "stock":
        family += [child for child in family[0].children() if "proxy" in " ".join(child.cmdline())]
    busy = lambda: sum(sum(p.cpu_times()[:2]) for p in family)
    with server.gateway() as gateway:
        names = [gateway.submit() for _ in range(clusters)]
        wait_until(lambda: all(gateway.get_cluster(name).status.name == "RUNNING" for name in names), "all run", 60)
        time.sleep(5)
        before, start = busy(), time.monotonic()
        time.sleep(seconds)
        spent = (busy() - before) / (time.monotonic() - start)
        resident = sum(p.memory_info().rss for p in family)
        for name in names:
            gateway.stop_cluster(name)
    return {f"MiB, {clusters} idle": resident / (1 << 20), "% of a core": spent * 100}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--alternations", type=int, default=5)
    args = parser.parse_args()
    alternations, mebibytes, trips = (1, 4, 20) if args.quick else (args.alternations, 32, 200)
    clusters, idle_secs = (1, 2) if args.quick else (5, 30)
    try:
        import dask_gateway_server  # noqa: F401

        kinds = ["stock", "rask"]
    except ImportError:
        print("dask-gateway-server is not installed: rask alone (pip install dask-gateway-server compares)")
        kinds = ["rask"]
    results: dict[str, list[dict]] = {kind: [] for kind in kinds}
    footprint: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="rask-bench-") as folder:
        servers = {}
        try:
            for kind in kinds:
                servers[kind] = Server(kind, Path(folder))
            for _ in range(alternations):
                for kind, server in servers.items():
                    results[kind].append(measure(server, mebibytes, trips))
            for kind, server in servers.items():
                footprint[kind] = idle(server, clusters, idle_secs)
        finally:
            for server in servers.values():
                server.close()
    names = list(results[kinds[0]][0])
    rows = []
    for name in names:
        medians = [median(run[name] for run in results[kind]) for kind in kinds]
        rows.append([name, *medians])
    rows += [[name, *(footprint[kind][name] for kind in kinds)] for name in footprint[kinds[0]]]
    for row in rows if len(kinds) == 2 else []:
        row.append(row[2] / row[1] if row[1] else float("nan"))
    print(table(rows, ["", *kinds, *(["rask/stock"] if len(kinds) == 2 else [])]))


if __name__ == "__main__":
    main()
