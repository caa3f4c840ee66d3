"""The scheduler of a local cluster: a process `rask scheduler` that ends with this one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from rask.program import find_program
from rask.settings import SchedulerSettings

logger = logging.getLogger("distributed.scheduler")

# A scheduler that was told to end needs milliseconds; this is patience for a machine that is very busy.
_TO_END_S = 5.0


class StartFailed(RuntimeError):
    """The program `rask` did not become a scheduler; the message ends with what it said."""


@dataclass(frozen=True)
class WorkerInfo:
    """What is known here about a worker. The names are those of Dask's scheduler."""

    address: str
    name: object
    nthreads: int
    memory_limit: int
    local_directory: str
    resources: Mapping[str, float]
    nanny: str | None


class Scheduler(ProcessInterface):
    """A process `rask scheduler`, in the place where `distributed.LocalCluster` has its `Scheduler`.

    `info` gives what the cluster knows of its scheduler and workers, as `Cluster.scheduler_info`. The other parameters
    are those of `distributed.Scheduler`; see `rask.settings` for those that a process of its own cannot take.
    """

    def __init__(self, info: Callable[[], Mapping[str, Any]], silence_logs: int | str | bool | None, **options: Any):
        super().__init__()
        self._info = info
        self._settings = SchedulerSettings.of(options, silence_logs)
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=40)
        self._listener: threading.Thread | None = None

    @property
    def contact_address(self) -> str | None:
        """Where workers and clients find it."""
        return self.address

    @property
    def port(self) -> int:
        """The port of `address`."""
        return int(get_address_host_port(self.address or "")[1])

    @property
    def ip(self) -> str:
        """The host of `address`."""
        return str(get_address_host_port(self.address or "")[0])

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return None if self._process is None else self._process.pid

    @property
    def services(self) -> dict[str, int]:
        """What it serves besides, and the ports: ``{"dashboard": 8787}``."""
        return dict(self._info().get("services", {}))

    @property
    def workers(self) -> dict[str, WorkerInfo]:
        """The workers by their addresses, as the cluster was told last."""
        told = self._info()["workers"]
        return {
            address: WorkerInfo(
                address=address,
                name=worker["name"],
                nthreads=worker["nthreads"],
                memory_limit=worker["memory_limit"],
                local_directory=worker["local_directory"],
                resources=worker["resources"],
                nanny=worker["nanny"],
            )
            for address, worker in told.items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(distributed.Scheduler, name) and name not in ("tasks", "clients"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(
            f"rask's scheduler is a process of its own, and its {name!r} is not here. Ask it: client.scheduler_info(), "
            f"client.story(...), client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.{name})"
        )

    async def start(self) -> None:
        """Returns when it accepts connections.

        Raises `StartFailed`, or `rask.ProgramNotFound` if there is no program `rask`.
        """
        program = find_program()
        made = tempfile.TemporaryDirectory(prefix="rask-start-")
        with made as folder, self._settings.tls_flags() as (flags, pass_fds):
            file = Path(folder) / "scheduler.json"
            # When this process dies, whatever the cause, the kernel tells the scheduler to end.
            line = [program, "exec-child", "--parent", str(os.getpid()), "--signal", "TERM", "--", program, "scheduler"]
            line += [*self._settings.flags(), *flags, "--scheduler-file", str(file), "--python", sys.executable]
            if self._settings.preload_argv:
                line += ["--", *self._settings.preload_argv]
            self._process = subprocess.Popen(
                line,
                env=self._settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=pass_fds,
                # Ctrl-C interrupts what the script waits for, and not the cluster.
                start_new_session=True,
                text=True,
                errors="replace",
            )
            self._listener = threading.Thread(
                target=self._listen, args=(self._process,), name="rask-scheduler-log", daemon=True
            )
            self._listener.start()
            try:
                self.address = await self._address_in(file, self._process, self._listener)
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        await super().start()

    async def _address_in(self, file: Path, process: subprocess.Popen[str], listener: threading.Thread) -> str:
        """The address, once the scheduler has written it."""
        while True:
            ended = process.poll()
            try:
                return str(json.loads(file.read_text())["address"])
            except (OSError, ValueError, KeyError):
                if ended is not None:
                    listener.join(1)
                    said = "".join(self._said).strip() or "it said nothing"
                    raise StartFailed(f"rask scheduler ended as it started, exit code {ended}: {said}") from None
            await asyncio.sleep(0.005)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Passes on what the scheduler says, and tells if it ends unasked."""
        assert process.stderr is not None
        for line in process.stderr:
            self._said.append(line)
            # The cluster warns of this one in Dask's words.
            if "for the dashboard is in use" not in line:
                sys.stderr.write(line)
        code = process.wait()
        if self.status == Status.running:
            self.status = Status.failed
            logger.error("rask scheduler (process %d) ended, exit code %d", process.pid, code)

    async def close(self, *_: Any, **__: Any) -> None:
        """Waits for its end, for the cluster has told it; tells it again, and then ends it, if it does not come."""
        failed, self.status = self.status == Status.failed, Status.closing
        if (process := self._process) is not None and not failed:
            if not await _ends(process):
                process.terminate()
                if not await _ends(process):
                    process.kill()
                    process.wait()
        await super().close()


async def _ends(process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + _TO_END_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True
