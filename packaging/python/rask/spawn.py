"""Nannies whose workers do not import the script, and live on when it is interrupted.

Multiprocessing starts a process with the main module imported anew, so that what was pickled by reference is found there.
A script without ``if __name__ == "__main__"`` then runs a second time, in the worker. Dask's workers need nothing of it,
since what users send is pickled by value.
"""

from __future__ import annotations

import io
import os
import signal
from multiprocessing import popen_spawn_posix, process, resource_tracker, spawn, util
from multiprocessing.context import SpawnProcess, set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle
from distributed import nanny
from distributed.nanny import Nanny, WorkerProcess
from distributed.process import AsyncProcess

from rask import ports


class ByValue(cloudpickle.CloudPickler):
    """Pickles what belongs to the main module by value, and pipes, queues and locks as a starting process needs them."""

    dispatch_table = cloudpickle.CloudPickler.dispatch_table.new_child(ForkingPickler._extra_reducers)


class Popen(popen_spawn_posix.Popen):
    """Starts a process as `multiprocessing` does, without the main module.

    Source: CPython, `multiprocessing/popen_spawn_posix.py`; the steps are the same in 3.10 to 3.13.
    """

    def _launch(self, process_obj: process.BaseProcess) -> None:
        tracker = resource_tracker.getfd()
        self._fds.append(tracker)
        message = self._message(process_obj)
        theirs: list[int] = []
        ours: list[int] = []
        try:
            sentinel, child_end = os.pipe()
            ours.append(sentinel)
            theirs.append(child_end)
            child_start, start = os.pipe()
            ours.append(start)
            theirs.append(child_start)
            line = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_start)
            self._fds.extend(theirs)
            self.pid = util.spawnv_passfds(spawn.get_executable(), line, self._fds)
            self.sentinel = sentinel
            with open(start, "wb", closefd=False) as pipe:
                pipe.write(message)
        finally:
            self.finalizer = util.Finalize(self, util.close_fds, ours)
            for fd in theirs:
                os.close(fd)

    def _message(self, process_obj: process.BaseProcess) -> memoryview:
        """What the new process reads: how to prepare itself, and what to run."""
        prepare = spawn.get_preparation_data(process_obj.name)
        prepare.pop("init_main_from_name", None)
        prepare.pop("init_main_from_path", None)
        # It was set on the instance, for this start alone.
        vars(process_obj).pop("_Popen", None)
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            ForkingPickler(buffer).dump(prepare)
            ByValue(buffer).dump(process_obj)
        finally:
            set_spawning_popen(None)
        return buffer.getbuffer()


class ScriptlessProcess(WorkerProcess):
    """Dask's process of a worker, started without the main module, deaf to Ctrl-C and to other users.

    `process` is assigned once for each start, before it. That is the one place where the start can be changed.
    """

    _process: AsyncProcess | None = None

    @property
    def process(self) -> AsyncProcess | None:
        return self._process

    @process.setter
    def process(self, started: AsyncProcess | None) -> None:
        inner = getattr(started, "_process", None)
        # With another `distributed.worker.multiprocessing-method` than spawn, the user has chosen.
        if isinstance(inner, SpawnProcess):
            inner._Popen = Popen
        self._process = started

    @classmethod
    def _run(cls, *args: Any, **kwargs: Any) -> None:
        # Ctrl-C goes to every process of the terminal, and interrupts what the script waits for: not what workers run.
        # A handler, so that programs which tasks start do not inherit it, as they would a signal that is ignored.
        signal.signal(signal.SIGINT, _pass_over)
        ports.guard_process()
        super()._run(*args, **kwargs)


def _pass_over(*_: object) -> None:
    """A signal's handler that does nothing."""


class Scriptless:
    """Mixed into a class of nannies: their workers do not import the script."""

    _worker_process: WorkerProcess | None = None

    @property
    def process(self) -> WorkerProcess | None:
        return self._worker_process

    @process.setter
    def process(self, made: WorkerProcess | None) -> None:
        if type(made) is nanny.WorkerProcess:
            made.__class__ = ScriptlessProcess
        self._worker_process = made


def scriptless(kind: type[Nanny]) -> type[Nanny]:
    """A class of nannies like `kind`, whose workers do not import the script."""
    return kind if issubclass(kind, Scriptless) else ports.asking(kind, Scriptless)
