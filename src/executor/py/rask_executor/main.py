"""The process: its sockets, its threads, and the event loop of the main thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import os
import sys
import threading
from collections import defaultdict

from distributed import protocol
from distributed.core import Status
from distributed.metrics import context_meter
from distributed.versions import get_versions
from distributed.worker import Worker as StockWorker
from distributed.worker import _worker_cvar

from .control import Control, inherited
from .facade import FacadeState, Worker, of_class, settings, unfit
from .frames import unpack
from .slots import Pool, Slot, porter
from .values import Home

logger = logging.getLogger("distributed.rask")

# For threads beside others that hold the interpreter's lock: the porter waits this long for each. Unit: seconds.
SWITCH_S = 0.0005


class Main(Control):
    """The event loop of the main thread: what comes by the control socket."""

    def __init__(self, control, questions, porting, slots):
        super().__init__(control)
        self.porting = porting
        self.slots = [Slot(number, sock) for number, sock in enumerate(slots)]
        self.home = Home(questions)
        self.worker: Worker | None = None

    async def run(self) -> None:
        messages = self.messages()
        hello = unpack((await anext(messages))[0])[1]
        kind, reason = of_class(hello["worker_class"])
        if reason:
            self.out("unfit", reason)
            sys.exit(1)
        self.home.worker = self.worker = worker = kind(hello, self.home, self.out)
        pool = Pool(self.home, worker, lambda: self.out("nudge"))
        worker.executors["default"] = pool
        token = _worker_cvar.set(worker)
        with context_meter.add_callback(pool.measured):
            pool.context = contextvars.copy_context()
        _worker_cvar.reset(token)
        FacadeState.home = self.home
        await worker
        StockWorker._instances.add(worker)
        threading.Thread(target=porter, args=(self.home, self.porting, self.slots), name="rask-porter", daemon=True).start()
        for slot in self.slots:
            pool.start(slot)
        self.home.in_service = True
        head, *frames = protocol.dumps(get_versions())
        self.out("ready", settings(), worker.local_directory, head, frames=frames)
        async for head, *frames in messages:
            op, *rest = unpack(head)
            try:
                self.on(op, rest, frames)
            except Exception:
                logger.exception("the message %r of the node failed", op)

    def on(self, op, rest, frames) -> None:
        if op in ("request", "gone"):
            self.relay(self.worker, op, rest, frames)
        elif op == "registered":
            self.spawn(self.registered(unpack(rest[0])))
        elif op == "stream":
            self.spawn(self.stream(protocol.loads([rest[0], *frames])))
        elif op == "metrics":
            self.metrics(rest[0])
        elif op == "transition":
            self.worker.state._notify_plugins("transition", *rest)
        elif op == "status":
            self.worker._status = Status.lookup[rest[0]]
        elif op == "close":
            self.spawn(self.end(rest[0]))

    async def registered(self, reply: dict) -> None:
        try:
            for name, plugin in reply.get("worker-plugins", {}).items():
                await self.worker.plugin_add(name=name, plugin=plugin)
        finally:
            self.out("plugged")

    async def stream(self, message: dict) -> None:
        op = message.pop("op")
        handler = self.worker.stream_handlers.get(op)
        if handler is None:
            logger.error("The scheduler sent %r, which no plugin of this worker knows", op)
            return
        try:
            got = handler(**message)
            if inspect.isawaitable(got):
                await got
        except Exception:
            logger.exception("%r of the scheduler failed", op)

    def metrics(self, number) -> None:
        worker = self.worker
        digests, worker.digests_total_since_heartbeat = worker.digests_total_since_heartbeat, defaultdict(int)
        if spans := worker.extensions.get("spans"):
            spans.collect_digests(digests)
        squashed: defaultdict = defaultdict(int)
        for name, value in digests.items():
            if isinstance(name, tuple) and name[0] in ("execute", "p2p"):
                name = name[:1] + name[2:]
            squashed[name] += value
        beats = {name: ext.heartbeat() for name, ext in worker.extensions.items() if hasattr(ext, "heartbeat")}
        extra = {}
        for name, metric in worker.metrics.items():
            with contextlib.suppress(Exception):
                extra[name] = metric(worker)
        told = {
            "digests": dict(squashed),
            "extensions": beats,
            "extra": extra,
            "interval": worker.loop_delay(),
        }
        head, *frames = protocol.dumps(told)
        self.out("metrics", number, head, frames=frames)

    async def end(self, reason) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.worker.wind_up(reason), 4)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def main(argv: list[str]) -> None:
    control, questions, porting, *slots = inherited(argv)
    if reason := unfit():
        Control(control).out("unfit", reason)
        sys.exit(1)
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(Main(control, questions, porting, slots).run())
