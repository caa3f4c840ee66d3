"""A cluster of a running appliance, as an object that notebooks show and that scales."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster

from rask.program import find_program

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop


class NotThere(RuntimeError):
    """There is no such cluster, or it cannot be had in this way; the message says why and what to do."""


class RunningCluster(Cluster):
    """A cluster that `rask up` runs. It lives on after `close`, and when the script ends.

    Scaling is asked of the appliance, by the program `rask`, with the rights of this user.
    """

    def __init__(self, name: str = "local", asynchronous: bool = False, loop: IOLoop | None = None):
        super().__init__(asynchronous=asynchronous, loop=loop, name=name)
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:
                self._loop_runner.stop()
                raise

    async def _start(self) -> None:
        if self.status != Status.created:
            return
        try:
            told = await _ask("show", self.name)
            address = told["scheduler_address"] or ""
            if not address.startswith("tcp://"):
                raise NotThere(
                    f"the cluster {self.name} is {told['status']} and takes clients by its gateway only: use "
                    f"dask_gateway.Gateway().connect({self.name!r})"
                )
            self.scheduler_comm = rpc(address)
            await super()._start()
        except BaseException:
            self.status = Status.closed
            raise

    def __await__(self) -> Generator[Any, Any, RunningCluster]:
        async def started() -> RunningCluster:
            await self._start()
            return self

        return started().__await__()

    def scale(self, n: int) -> Any:
        """Sets the number of workers."""
        return self.sync(_ask, "scale", self.name, str(n))

    def adapt(self, *_: Any, minimum: int = 0, maximum: int | None = None) -> Any:  # type: ignore[override]
        """Lets the number of workers follow the load. The appliance does it, also after this script."""
        bound = [] if maximum is None else ["--maximum", str(maximum)]
        return self.sync(_ask, "adapt", self.name, "--minimum", str(minimum), *bound)

    def close(self, timeout: float | None = None) -> Any:
        """Leaves the cluster, which goes on."""
        closed = super().close(timeout)
        if not self.asynchronous:
            self._loop_runner.stop()
        return closed

    @property
    def plan(self) -> set[object]:
        return self.observed

    @property
    def requested(self) -> set[object]:
        return self.observed


def connect(name: str = "local", asynchronous: bool = False) -> RunningCluster:
    """A cluster of the appliance that runs here, by its name.

    Raises `NotThere`.
    """
    return RunningCluster(name, asynchronous=asynchronous)


async def _ask(*words: str) -> Any:
    """What `rask cluster` says."""
    line = [find_program(), "cluster", *words, "--json"]
    done = await asyncio.to_thread(subprocess.run, line, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise NotThere(done.stderr.strip())
    return json.loads(done.stdout)
