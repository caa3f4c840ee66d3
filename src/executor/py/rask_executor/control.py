"""The control socket, and connections of peers that the node passes on by it. The same for a worker and a nanny."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading

import msgpack
from distributed import protocol
from distributed.comm.core import Comm, CommClosedError
from distributed.security import Security

from .frames import CONTEXT, read_message, write_message


class Relayed(Comm):
    """A peer's connection at the node. Only what the node does not answer itself comes here."""

    def __init__(self, number, peer, local, out):
        super().__init__()
        self.number, self.peer, self.local, self.out = number, peer, local, out
        self.inbox: asyncio.Queue = asyncio.Queue()
        self.gone = False

    async def read(self, deserializers=None):
        frames = await self.inbox.get()
        if frames is None:
            self.gone = True
            raise CommClosedError("closed by peer")
        return protocol.loads(frames, deserialize=True, deserializers=deserializers)

    async def write(self, msg, serializers=None, on_error="message"):
        if self.gone:
            raise CommClosedError("closed")
        head, *frames = protocol.dumps(msg, serializers=serializers, on_error=on_error, context=CONTEXT)
        self.out("answer", self.number, head, frames=frames)
        return sum(map(len, frames)) + len(head)

    async def close(self):
        self.abort()

    def abort(self):
        if not self.gone:
            self.gone = True
            self.out("hangup", self.number)

    def closed(self):
        return self.gone

    peer_address = property(lambda self: self.peer)
    local_address = property(lambda self: self.local)


class Control:
    """What goes out by the control socket, and what comes."""

    def __init__(self, control):
        self.control = control
        self.lock = threading.Lock()
        self.comms: dict = {}
        self.background: set = set()

    def out(self, *what, frames=()) -> None:
        with self.lock, contextlib.suppress(OSError):
            write_message(self.control, [msgpack.packb(what, default=protocol.core.msgpack_encode_default), *frames])

    async def messages(self):
        """Read by a thread of its own: asyncio would make the socket non-blocking for those who write, too."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()

        def read():
            with contextlib.suppress(EOFError, OSError, RuntimeError):
                while True:
                    loop.call_soon_threadsafe(queue.put_nowait, read_message(self.control))
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, None)

        threading.Thread(target=read, name="rask-control", daemon=True).start()
        while (message := await queue.get()) is not None:
            yield message

    def relay(self, server, op, rest, frames) -> None:
        """A peer's message, or the end of its connection, for Dask's own server."""
        if op == "gone":
            if comm := self.comms.pop(rest[0], None):
                comm.inbox.put_nowait(None)
            return
        number, peer, head = rest
        if number not in self.comms:
            self.comms[number] = Relayed(number, peer, server.address, self.out)
            server.handle_comm(self.comms[number])
        self.comms[number].inbox.put_nowait([head, *frames])

    def spawn(self, coroutine) -> None:
        """asyncio itself keeps weak references only."""
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


def inherited(numbers: list[str]) -> list[socket.socket]:
    """The sockets that this process was started with."""
    sockets = [socket.socket(fileno=int(number)) for number in numbers]
    for sock in sockets:
        sock.set_inheritable(False)
    # A child that a task forks must not hold our sockets open.
    os.register_at_fork(after_in_child=lambda: [sock.close() for sock in sockets])
    return sockets


def security(given: dict) -> Security:
    """For connections from here: Dask's settings, and what was given in place of them."""
    made = Security(**given)
    # A client in a task is this worker to others, if nothing says who else.
    if made.tls_client_cert is None:
        made.tls_client_cert, made.tls_client_key = made.tls_worker_cert, made.tls_worker_key
    return made
