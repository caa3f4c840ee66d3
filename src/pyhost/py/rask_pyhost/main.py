"""The process: it reads requests and answers them, one at a time."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading

from distributed.core import error_message
from distributed.protocol.core import dumps, loads

from . import calls, comparing, graphs, operations, plugins, vouching
from .scheduler import SchedulerView, settle
from .wire import Known, read_frames, write_frames

MODULES = (graphs, vouching, comparing, calls, plugins, operations)
NAMES = {name: value for module in MODULES for name, value in vars(module).items()}
OPS = {name.removeprefix("op_"): value for name, value in NAMES.items() if name.startswith("op_")}


class Host:
    """One process: the scheduler as its users see it, and the answering of requests."""

    def __init__(self):
        self.scheduler = SchedulerView()
        self.background: set = set()
        self.feeds: dict = {}
        self.feed_count = 0
        self.waiting: dict = {}
        self.waiting_count = 0
        self.preloads = None

    def keep(self, task):
        """A task nobody refers to may be collected before it ends."""
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def told(self, **result):
        """A result, with what the call asked the real scheduler to do and the files it uploaded."""
        files, self.scheduler.__dict__["files"] = self.scheduler.files, {}
        result["actions"] = self.scheduler.take_actions()
        result["files"] = [{"filename": name, "data": data, "load": load} for name, (data, load) in files.items()]
        return result

    async def answer(self, frames) -> list:
        number = serializers = None
        try:
            request = loads(frames, deserialize=False)
            number = request["id"]
            serializers = request["body"].get("serializers")  # what the asker can read, if not everything
            op = OPS.get(request["op"])
            if op is None:
                raise NotImplementedError(f"pyhost has no operation {request['op']!r}")
            result = await settle(op(self, request["body"]))
            return dumps({"id": number, "ok": True, "result": result}, serializers=serializers)
        except Known as error:
            return refusal(number, error.cause, error.kind)
        except Exception as error:
            return refusal(number, error, "raised", serializers)
        except BaseException as error:
            # Sent as it is, SystemExit would end the client.
            return refusal(number, RuntimeError(f"code sent to the scheduler raised {error!r}"), "exit")


def refusal(number, error, kind, serializers=None) -> list:
    told = error_message(error)
    told.pop("status", None)
    return dumps({"id": number, "ok": False, "kind": kind, **told}, serializers=serializers)


async def serve(requests, answers) -> None:
    """Answers until the parent closes the pipe. A thread reads, so that its end is noticed while user code hangs."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue = asyncio.Queue()
    host = Host()
    host.scheduler.__dict__["loop"] = loop

    def read():
        try:
            while True:
                loop.call_soon_threadsafe(inbox.put_nowait, read_frames(requests))
        except BaseException:
            sys.stderr.flush()
            os._exit(0)

    threading.Thread(target=read, name="rask-requests", daemon=True).start()
    while True:
        frames = await inbox.get()
        write_frames(answers, await host.answer(frames))
        del frames


def main(requests: int, answers: int) -> None:
    # An interrupt at the terminal reaches the whole group; our parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(io.open(requests, "rb"), io.open(answers, "wb")))
