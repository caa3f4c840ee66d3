"""Creating clusters over dask-gateway's API: stock's own server and `rask up`, alternating in one run.

    python bench_gateway.py              5 alternations, medians
    python bench_gateway.py --quick      one alternation, to see that it works (under a minute)

Measured with the unmodified dask_gateway client: `new_cluster()` until a client's connection is registered,
and the data rate and round trip through `gateway://` beside a direct `tls://` connection to a scheduler of the
same kind. Stock's server is the package dask-gateway-server; where it is not installed only rask is measured,
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
            through = megabytes_per_second(client, mebibytes), round_trip_ms(client, trips)
            with Client(direct_address, security=cluster.security, timeout=30, set_as_default=False) as direct:
                beside = megabytes_per_second(direct, mebibytes), round_trip_ms(direct, trips)
            cluster.shutdown()
    return {
        "create s": created,
        "gateway MiB/s": through[0],
        "direct MiB/s": beside[0],
        "gateway ms": through[1],
        "direct ms": beside[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--alternations", type=int, default=5)
    args = parser.parse_args()
    alternations, mebibytes, trips = (1, 4, 20) if args.quick else (args.alternations, 32, 200)
    try:
        import dask_gateway_server  # noqa: F401

        kinds = ["stock", "rask"]
    except ImportError:
        print("dask-gateway-server is not installed: rask alone (pip install dask-gateway-server compares)")
        kinds = ["rask"]
    results: dict[str, list[dict]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="rask-bench-") as folder:
        servers = {}
        try:
            for kind in kinds:
                servers[kind] = Server(kind, Path(folder))
            for _ in range(alternations):
                for kind, server in servers.items():
                    results[kind].append(measure(server, mebibytes, trips))
        finally:
            for server in servers.values():
                server.close()
    names = list(results[kinds[0]][0])
    rows = []
    for name in names:
        medians = [median(run[name] for run in results[kind]) for kind in kinds]
        rows.append([name, *medians, *([medians[1] / medians[0]] if len(kinds) == 2 else [])])
    print(table(rows, ["", *kinds, *(["rask/stock"] if len(kinds) == 2 else [])]))


if __name__ == "__main__":
    main()
