"""The `Nanny` that plugins and functions of clients see. It starts nothing: the node restarts the worker.

``python FOLDER nanny CONTROL QUESTIONS PORTER``. What plugins do to `nanny.env` and to the path of modules is told to the
node, which gives it to the next worker process.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from types import SimpleNamespace

from distributed.core import Status
from distributed.nanny import Nanny as StockNanny

from .control import Control, inherited, security
from .frames import unpack
from .values import Home

logger = logging.getLogger("distributed.rask")


class Nanny(StockNanny):
    """Asks the node, which listens at its address, to do what it would do."""

    def __init__(self, hello: dict, home: Home):
        self.contact, self.home = hello["address"], home
        super().__init__(
            hello["scheduler"],
            nthreads=hello["nthreads"],
            name=hello["name"],
            memory_limit=hello["memory_limit"],
            local_directory=hello["local_directory"],
            resources=hello["resources"],
            security=security(hello["security"]),
            preload_nanny=hello["preload"],
            preload_nanny_argv=hello["preload_argv"],
        )
        self.periodic_callbacks.clear()
        self.path_before = set(sys.path)
        self.told = self.environ()
        # Plugins that are there from the beginning need no restart: the worker starts after them.
        self.has_worker = False

    @property
    def process(self):
        """The worker's process, as far as others look at it. None: it is not up."""
        worker = self.home.asked("worker")
        if worker is None:
            return None
        address, pid = worker
        return SimpleNamespace(pid=pid, worker_address=address, status=Status.running, is_alive=lambda: True)

    @process.setter
    def process(self, value):
        pass  # Dask's, which starts none here

    address = property(lambda self: self.contact)
    address_safe = property(lambda self: self.contact)

    async def start_unsafe(self):
        await self.rpc.start()
        await self.preloads.start()
        self._status = Status.running
        return self

    def environ(self):
        return dict(self.env), [folder for folder in sys.path if folder not in self.path_before]

    def tell_environ(self) -> None:
        if (now := self.environ()) != self.told:
            self.told = now
            # Answered when the node knows: the next worker process has it.
            self.home.asked("environ", *now)

    async def node(self, op: str, **kwargs):
        self.tell_environ()
        return await getattr(self.rpc(self.contact), op)(**kwargs)

    async def kill(self, timeout=5, reason="nanny-kill"):
        await self.node("kill", timeout=timeout, reason=reason)

    async def restart(self, timeout=30, reason="nanny-restart"):
        if not self.has_worker:
            return "OK"
        return await self.node("restart", timeout=timeout, reason=reason)

    async def instantiate(self):
        return Status.running

    async def close(self, timeout=5, reason="nanny-close"):
        return await self.node("terminate", reason=reason)

    async def wind_up(self):
        """The last worker is gone."""
        for plugin in list(self.plugins.values()):
            if hasattr(plugin, "teardown"):
                ended = plugin.teardown(self)
                if inspect.isawaitable(ended):
                    await ended
        await self.preloads.teardown()

    async def close_gracefully(self, reason="nanny-close-gracefully"):
        await self.node("close_gracefully", reason=reason)


class Main(Control):
    """The event loop: what comes by the control socket."""

    def __init__(self, control, questions):
        super().__init__(control)
        self.home = Home(questions)
        self.nanny: Nanny | None = None

    def out(self, *what, frames=()) -> None:
        if what[0] == "answer":  # it may have changed something
            self.nanny.tell_environ()
        super().out(*what, frames=frames)

    async def run(self) -> None:
        messages = self.messages()
        hello = unpack((await anext(messages))[0])[1]
        self.nanny = nanny = Nanny(hello, self.home)
        await nanny
        for name, plugin in (hello["plugins"] or {}).items():
            await nanny.plugin_add(plugin=plugin, name=name)
        nanny.tell_environ()
        nanny.has_worker = True
        self.out("plugged")
        async for head, *frames in messages:
            op, *rest = unpack(head)
            try:
                if op in ("request", "gone"):
                    self.relay(nanny, op, rest, frames)
                elif op == "close":
                    self.spawn(self.end())
            except Exception:
                logger.exception("the message %r of the node failed", op)


    async def end(self) -> None:
        try:
            await asyncio.wait_for(self.nanny.wind_up(), 2)
        except Exception:
            logger.exception("plugins of the nanny were not torn down")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


# What is replaced here, with parameters that it counts on.
REPLACED = {"kill": (), "restart": (), "instantiate": (), "start_unsafe": (), "close": (), "plugin_add": ("plugin", "name")}


def main(argv: list[str]) -> None:
    for name, parameters in REPLACED.items():
        there = getattr(StockNanny, name, None)
        if there is None or any(parameter not in inspect.signature(there).parameters for parameter in parameters):
            sys.exit(f"nannies of rask's own workers do not fit this version of distributed: Nanny.{name} is not as expected")
    control, questions, _ = inherited(argv)
    asyncio.run(Main(control, questions).run())
