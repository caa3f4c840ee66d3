"""Workers that do nothing, for measuring a scheduler alone.

One process speaks the worker's side of Dask's TCP protocol for N workers and answers every task the
moment it arrives, without looking at it; any data asked for is the integer 0. Only what a scheduler
needs to see is sent; only the first frame of a message is decoded.

    python zero.py tcp://127.0.0.1:8786 -n 10
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pickle
import signal
import struct
import sys
import time
from pathlib import Path

import msgpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python/helpers"))

from rawdask import HELLO, encode, worker_registration  # noqa: E402

PICKLED_ZERO = pickle.dumps(0, protocol=5)
PICKLED_INT = pickle.dumps(int, protocol=5)
PAYLOAD_HEADER = msgpack.packb(
    {
        "serializer": "pickle",
        "writeable": [],
        "compression": [None],
        "split-num-sub-frames": [1],
        "split-offsets": [0],
        "num-sub-frames": 1,
    }
)


class Peer(asyncio.Protocol):
    """One connection. After the handshake every message's first frame goes to `on_message(peer, message)`."""

    def __init__(self, on_message, first=None, on_lost=None):
        self.on_message, self.first, self.on_lost = on_message, first, on_lost
        self.pending = bytearray()
        self.greeted = False

    def connection_made(self, transport):
        self.transport = transport
        transport.write(encode(HELLO))

    def connection_lost(self, exc):
        if self.on_lost:
            self.on_lost()

    def send(self, message, frames=()):
        self.transport.write(encode(message, *frames))

    def data_received(self, data):
        self.pending += data
        used = 0
        while (found := self.next_message(used)) is not None:
            body, used = found
            if self.greeted:
                self.on_message(self, body)
            else:
                self.greeted = True
                if self.first:
                    self.send(self.first)
        del self.pending[:used]

    def next_message(self, at):
        if len(self.pending) < at + 16:
            return None
        (count,) = struct.unpack_from("<Q", self.pending, at + 8)
        start = at + 16 + 8 * count
        if len(self.pending) < start:
            return None
        lengths = struct.unpack_from(f"<{count}Q", self.pending, at + 16)
        end = start + sum(lengths)
        if len(self.pending) < end:
            return None
        first = bytes(self.pending[start : start + lengths[0]])
        return msgpack.unpackb(first, use_list=False, strict_map_key=False), end


class Worker:
    def __init__(self, number: int, host: str, port: int, nthreads: int, versions: dict, claim_s: float = 0):
        self.claim_s = claim_s
        self.number, self.host, self.port, self.nthreads, self.versions = number, host, port, nthreads, versions
        self.answered = 0

    async def start(self):
        loop = asyncio.get_running_loop()
        self.welcome = loop.create_future()
        self.server = await loop.create_server(lambda: Peer(self.on_call), "127.0.0.1", 0)
        self.address = "tcp://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        hello = worker_registration(
            f"zero-{self.number}", self.address, nthreads=self.nthreads, versions=self.versions
        )
        await loop.create_connection(
            lambda: Peer(self.on_stream, hello, on_lost=lambda: os._exit(0)), self.host, self.port
        )
        await asyncio.wait_for(self.welcome, 60)

    def on_stream(self, peer: Peer, messages):
        if not self.welcome.done():
            self.welcome.set_result(None) if messages.get("status") == "OK" else self.welcome.set_exception(
                RuntimeError(repr(messages))
            )
            return
        answers = []
        now = time.time()
        for message in (messages,) if isinstance(messages, dict) else messages:
            op = message["op"]
            if op == "compute-task":
                answers.append(self.finished(message, now))
            elif op == "steal-request":
                # already answered: nothing of it is left here
                answers.append(
                    {"op": "steal-response", "key": message["key"], "state": None, "stimulus_id": message["stimulus_id"]}
                )
            elif op == "acquire-replicas":
                answers.append({"op": "add-keys", "keys": list(message["who_has"]), "stimulus_id": f"zero-{now}"})
            elif op == "remove-replicas":
                stimulus = message["stimulus_id"]
                answers += ({"op": "release-worker-data", "key": k, "stimulus_id": stimulus} for k in message["keys"])
            elif op in ("close", "close-stream"):
                peer.transport.close()
                return
        if answers:
            peer.send(answers)

    def finished(self, task: dict, now: float) -> dict:
        self.answered += 1
        return {
            "op": "task-finished",
            "key": task["key"],
            "run_id": task["run_id"],
            "nbytes": 28,
            "type": PICKLED_INT,
            "typename": "int",
            "metadata": {},
            "thread": 1,
            "startstops": ({"action": "compute", "start": now - self.claim_s, "stop": now},),
            "status": "OK",
            "stimulus_id": f"task-finished-{now}",
        }

    def on_call(self, peer: Peer, message):
        if not isinstance(message, dict):  # the "OK" that ends a get_data exchange
            return
        if message.get("op") == "get_data":
            keys = message["keys"]
            data = {k: {"__Serialized__": 1 + 2 * i} for i, k in enumerate(keys)}
            peer.send({"status": "OK", "data": data}, (PAYLOAD_HEADER, PICKLED_ZERO) * len(keys))
        elif message.get("reply", True):
            peer.send({"status": "OK"})


async def run(args):
    from distributed.versions import get_versions

    versions = get_versions()
    host, port = args.address.split("://")[-1].rsplit(":", 1)
    workers = [Worker(i, host, int(port), args.nthreads, versions, args.claim_ms / 1e3) for i in range(args.n)]
    for worker in workers:
        await worker.start()
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    print(f"{args.n} zero workers registered", flush=True)
    await done.wait()
    print(f"tasks answered: {sum(w.answered for w in workers)}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("-n", type=int, default=10, help="how many workers to be (default 10)")
    parser.add_argument("--nthreads", type=int, default=1, help="threads each claims to have (default 1)")
    parser.add_argument("--claim-ms", type=float, default=0, help="how long each task claims to have run (default 0)")
    asyncio.run(run(parser.parse_args()))
