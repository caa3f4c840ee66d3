"""A Dask connection made of a socket and msgpack, for saying things that no stock peer would say."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import sys
import time
import uuid

import msgpack

HELLO = {"compression": None, "python": list(sys.version_info[:3]), "pickle-protocol": 5}


def frames(parts: list[bytes]) -> bytes:
    head = struct.pack(f"<{1 + len(parts)}Q", len(parts), *map(len, parts))
    return struct.pack("<Q", len(head) + sum(map(len, parts))) + head + b"".join(parts)


def encode(message, *more: bytes) -> bytes:
    return frames([msgpack.packb(message), *more])


class Raw:
    """A connection to a scheduler; shakes hands unless told not to."""

    def __init__(self, hostport, hello=HELLO, timeout: float = 10):
        self.sock = socket.create_connection(hostport, timeout=timeout)
        self.port = self.sock.getsockname()[1]
        if hello is not None:
            self.send(hello)
            self.receive()

    def send(self, message, *more: bytes):
        self.send_bytes(encode(message, *more))

    def send_bytes(self, data: bytes):
        self.sock.sendall(data)

    def exactly(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            part = self.sock.recv(min(n - len(data), 1 << 20))
            if not part:
                raise EOFError("the peer closed the connection")
            data += part
        return bytes(data)

    def receive(self):
        """The first frame of the next message, decoded."""
        _, count = struct.unpack("<QQ", self.exactly(16))
        lengths = struct.unpack(f"<{count}Q", self.exactly(8 * count))
        bodies = [self.exactly(n) for n in lengths]
        return msgpack.unpackb(bodies[0], strict_map_key=False, use_list=False)

    def ask(self, op: str, **fields):
        self.send({"op": op, "reply": True, **fields})
        return self.receive()

    def closed(self, within: float = 10) -> bool:
        """Whether the peer closes the connection in time; what it still says before that is read and dropped."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                if not self.sock.recv(1 << 20):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def close(self):
        self.sock.close()

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *exc):
        self.close()


class RawClient(Raw):
    """Registered as a client: from now on its connection is a stream."""

    def __init__(self, hostport, **kw):
        super().__init__(hostport, **kw)
        self.name = f"Client-raw-{uuid.uuid4()}"
        self.send({"op": "register-client", "client": self.name, "reply": False, "versions": {}})
        assert self.receive()[0]["op"] == "stream-start"


def worker_registration(name: str, address: str, **more) -> dict:
    """What a worker says first: the least that a stock scheduler accepts."""
    now = time.time()
    transfer = ("incoming_bytes", "incoming_count", "incoming_count_total")
    transfer += ("outgoing_bytes", "outgoing_count", "outgoing_count_total")
    metrics = {
        "task_counts": {},
        "bandwidth": {"total": 100_000_000, "workers": {}, "types": {}},
        "digests_total_since_heartbeat": {},
        "managed_bytes": 0,
        "spilled_bytes": {"memory": 0, "disk": 0},
        "transfer": dict.fromkeys(transfer, 0),
        "event_loop_interval": 0.02,
        "cpu": 0.0,
        "memory": 50_000_000,
        "time": now,
        "host_net_io": {"read_bps": 0.0, "write_bps": 0.0},
        "host_disk_io": {"read_bps": 0.0, "write_bps": 0.0},
        "num_fds": 20,
    }
    return {
        "op": "register-worker",
        "reply": False,
        "address": address,
        "status": "running",
        "nthreads": 1,
        "name": name,
        "now": now,
        "resources": {},
        "memory_limit": 4_000_000_000,
        "local_directory": "/nonexistent",
        "services": {},
        "nanny": None,
        "pid": os.getpid(),
        "versions": {},
        "metrics": metrics,
        "extra": {},
        "stimulus_id": f"worker-connect-{now}",
        "server_id": f"Worker-{uuid.uuid4()}",
    } | more


def pickled(value) -> tuple[dict, list[bytes]]:
    """A reference to frame 1, and the frames of a pickled payload."""
    header = {"serializer": "pickle", "writeable": [], "num-sub-frames": 1}
    return {"__Serialized__": 1}, [msgpack.packb(header), pickle.dumps(value, protocol=5)]
