"""Machines that joined a head, played by one process: each has a membership and a link of its own, beats, and has its
workers at the scheduler, which do nothing (zero.py). What a real one does with Python is left out, and workers'
heartbeats.

    python swarm.py https://head:8787 TOKEN --peers 100 --workers 4

Says READY when all workers are connected. SIGUSR1: the first machine falls silent, its connections stay open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

import zero
from distributed.versions import get_versions
from rawdask import worker_registration

API = "/api/rask/v1/peers"


def trusting(cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Believes anybody: it is not the pin that is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert:
        context.load_cert_chain(cert, key)
    return context


class Worker(zero.Worker):
    async def start(self, name: str, context: ssl.SSLContext):
        loop = asyncio.get_running_loop()
        self.welcome = loop.create_future()
        # Nobody asks it for data.
        address = f"tls://127.1.{self.number >> 8}.{self.number & 255}:1"
        hello = worker_registration(name, address, nthreads=self.nthreads, versions=self.versions)
        make = lambda: zero.Peer(self.on_stream, hello)
        await loop.create_connection(make, self.host, self.port, ssl=context, server_hostname="")
        await asyncio.wait_for(self.welcome, 60)


class Machine:
    def __init__(self, number: int, cores: int, folder: Path, key: Path, csr: str):
        self.number, self.cores, self.folder, self.key, self.csr = number, cores, folder, key, csr
        self.group, self.names, self.silent = None, [], False

    async def join(self, session: aiohttp.ClientSession, url: str, token: str):
        ask = {"token": token, "name": f"m{self.number:03}", "csr": self.csr, "version": "0"}
        async with session.post(url + API + "/join", json=ask, ssl=trusting()) as answer:
            assert answer.status == 200, await answer.text()
            cert = self.folder / f"{self.number}.crt"
            cert.write_text((await answer.json())["cert"])
        context = trusting(cert, self.key)
        self.socket = await session.ws_connect(url.replace("https", "wss") + API + "/link", ssl=context)
        asyncio.create_task(self.beats())
        asyncio.create_task(self.obeys())

    async def beat(self):
        gib = 1 << 30
        facts = {"version": "0", "hostname": "swarm", "cores": self.cores, "memory_bytes": 64 * gib, "memory_free_bytes": 60 * gib,
                 "load": 0.1, "python": "3.11.7", "distributed": "0", "now_ms": int(time.time() * 1000), "disk_free_bytes": 64 * gib}
        worker = {"pid": 1, "restarts": 0, "stopping": False, "last_cause": None, "last_lines": []}
        groups = []
        if self.group:
            workers = [worker | {"name": name} for name in self.names]
            groups = [{"cluster": self.group["cluster"], "running": len(workers), "phase": "running", "note": "",
                       "revision": self.group["revision"], "workers": workers, "deaths": 0, "recent_deaths": []}]
        if not self.silent:
            await self.socket.send_str(json.dumps({"say": "beat", "facts": facts, "groups": groups}))

    async def beats(self):
        while True:
            await self.beat()
            await asyncio.sleep(2)

    async def obeys(self):
        async for message in self.socket:
            said = json.loads(message.data)
            if said["say"] == "want" and said["groups"]:
                self.group = said["groups"][0]
                await self.grow()
                await self.beat()

    async def grow(self):
        files = [self.folder / f"cluster.{end}" for end in ("crt", "key")]
        for path, text in zip(files, (self.group["cert"], self.group["key"])):
            path.write_text(text)
        host, port = self.group["scheduler"].removeprefix("tls://").rsplit(":", 1)
        while len(self.names) < self.group["count"]:
            name = f"{self.group['name']}-{len(self.names)}"
            number = self.number * self.cores + len(self.names) + 1
            await Worker(number, host, int(port), 1, VERSIONS).start(name, trusting(*files))
            self.names.append(name)


VERSIONS = get_versions()


async def main(args):
    folder = Path(tempfile.mkdtemp(prefix="swarm-"))
    key = folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-subj", "/CN=x"],
        capture_output=True, text=True, check=True,
    )
    machines = [Machine(number, args.workers, folder, key, made.stdout) for number in range(args.peers)]
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: setattr(machines[0], "silent", True))
    async with aiohttp.ClientSession() as session:
        for machine in machines:
            await machine.join(session, args.url, args.token)
        while sum(len(machine.names) for machine in machines) < args.peers * args.workers:
            await asyncio.sleep(0.1)
        print("READY", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    try:
        asyncio.run(main(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(0)
