"""Threads that run tasks: slots, their pool, and the porter beside them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import deque

import dask
import distributed
import msgpack
from dask.utils import key_split, typename
from distributed import Reschedule, protocol
from distributed.core import error_message
from distributed.metrics import context_meter
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.utils import thread_state as task_state
from distributed.worker import _worker_cvar

from .frames import close_all, cut_message, pickled, read_message, unpack, write_message
from .values import Home, give_memory_back, size_of

logger = logging.getLogger("distributed.rask")

READ_BYTES = 256 << 10
# Pickles up to this travel with the answer, so that others get them without asking Python.
INLINE_BYTES = 4096
# Exact types whose size is `sys.getsizeof` and whose pickles need nobody's code.
PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
# While short tasks follow one another, an answer waits no longer than this. Unit: seconds.
FLUSH_AFTER_S = 0.002
# Classes of results that a slot's socket names by number after their first use.
KINDS_MAX = 256
# What a payload of one plain pickle says of itself. Source: distributed/protocol/serialize.py.
PICKLE_HEAD = msgpack.packb(
    {
        "serializer": "pickle",
        "writeable": (),
        "split-num-sub-frames": (1,),
        "split-offsets": (0,),
        "compression": (None,),
        "num-sub-frames": 1,
    }
)


class Slot:
    """A socket, the runs that came by it and have not begun, and the answers that were not sent yet."""

    def __init__(self, number: int, sock):
        self.number, self.sock = number, sock
        self.todo: deque = deque()
        self.buffer = bytearray()
        self.reading = threading.Lock()
        self.lock = threading.Lock()
        self.done: list = []
        self.frames: list = []
        self.kinds: dict = {}

    def fill(self) -> None:
        """Waits for more to do. The interpreter's lock is free meanwhile."""
        with self.reading:
            more = self.sock.recv(READ_BYTES)
            if not more:
                raise EOFError
            self.take(more)

    def drain(self) -> None:
        """What waits in the socket while the thread is busy, for the porter to take back."""
        if not self.reading.acquire(blocking=False):
            return  # its thread waits there itself: nothing is behind a run
        try:
            with contextlib.suppress(BlockingIOError):
                while more := self.sock.recv(READ_BYTES, socket.MSG_DONTWAIT):
                    self.take(more)
        finally:
            self.reading.release()

    def take(self, more: bytes) -> None:
        self.buffer += more
        while frames := cut_message(self.buffer):
            for entry in unpack(frames[0]):
                self.todo.append((entry, frames))

    def say(self, entry: list, payload=(), cls: type | None = None) -> None:
        """Appends an answer. A payload of it takes the place of its last field, a class that of the one before."""
        with self.lock:
            if payload:
                entry[-1] = {"__Serialized__": len(self.frames) + 1}
                self.frames += payload
            if cls is not None:
                entry[-2] = self.kind(cls)
            self.done.append(entry)

    def kind(self, cls: type):
        """A class, by its number after its first use: in the order in which answers are said."""
        number = self.kinds.get(cls)
        if number is not None:
            return number
        try:
            described = protocol.pickle.dumps(cls)
        except Exception:  # a class that cannot be pickled goes by its name, as Dask's do
            described = protocol.pickle.dumps(cls.__name__)
        if len(self.kinds) < KINDS_MAX:
            self.kinds[cls] = len(self.kinds)
        return [described, typename(cls)]

    def flush(self) -> None:
        with self.lock:
            if self.done:
                done, self.done = self.done, []
                frames, self.frames = self.frames, []
                write_message(self.sock, [msgpack.packb(done), *frames])


def clean(text: str) -> str:
    """As others can read it: names of files may have what is no character."""
    return text.encode(errors="replace").decode()


def unbroken(serve):
    """For threads that others wait for: one that broke would keep them waiting, so the process ends, and its node knows."""

    @functools.wraps(serve)
    def served(*args):
        try:
            serve(*args)
        except (EOFError, ConnectionError):
            pass  # the node has gone
        except BaseException:
            logger.critical("%s broke; this worker ends", threading.current_thread().name, exc_info=True)
            sys.stderr.flush()
            os._exit(1)

    return served


class Pool:
    """The threads of the slots. To Dask's `secede` and `rejoin` it is their thread pool."""

    def __init__(self, home: Home, worker, nudge):
        self.home, self.worker, self.nudge = home, worker, nudge
        self._threads: set = set()
        self._rejoin_lock, self._rejoin_list = threading.Lock(), []
        self._counter = itertools.count()
        self._max_workers = worker.state.nthreads
        self.slot_of: dict = {}
        self.stamp_of: dict = {}
        self.context = None

    def start(self, slot: Slot) -> None:
        name = f"Dask-Default-Threads-{os.getpid()}-{next(self._counter)}"
        thread = threading.Thread(target=self.serve, args=(slot,), name=name, daemon=True)
        self._threads.add(thread)
        self.slot_of[thread] = slot
        thread.start()

    def _adjust_thread_count(self) -> None:
        """Called by a thread that secedes: its slot goes to another thread, and the node hears of it in order."""
        me = threading.current_thread()
        slot = self.slot_of.pop(me)
        slot.say(["seceded", self.stamp_of[me], time.time() - task_state.start_time])
        slot.flush()
        self.start(slot)

    def submit(self, fn, *args, **kwargs):
        """For `rejoin`, which wants an idle thread to wake up, and for whoever uses `worker.executor`."""
        from concurrent.futures import Future

        if getattr(fn, "__module__", "") == "distributed.threadpoolexecutor":
            self.nudge()
            return None
        future: Future = Future()

        def run():
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as why:
                future.set_exception(why)

        threading.Thread(target=run, daemon=True).start()
        return future

    def shutdown(self, wait=True, **kwargs) -> None:
        pass  # the process ends

    def hand_over(self, slot: Slot) -> bool:
        """Gives the slot to a thread that wants to rejoin, if there is one."""
        with self._rejoin_lock:
            if not self._rejoin_list:
                return False
            thread, event = self._rejoin_list.pop()
            me = threading.current_thread()
            self._threads.discard(me)
            self.slot_of.pop(me, None)
            self._threads.add(thread)
            self.slot_of[thread] = slot
            slot.say(["rejoined", self.stamp_of[thread]])
            slot.flush()
            event.set()
            return True

    @unbroken
    def serve(self, slot: Slot) -> None:
        me = threading.current_thread()
        pool_state.executor, pool_state.proceed = self, True
        task_state.execution_state = self.worker.execution_state
        first = 0.0
        while True:
            if self._rejoin_list and self.hand_over(slot):
                return
            try:
                entry, frames = slot.todo.popleft()
            except IndexError:
                slot.flush()
                slot.fill()
                first = time.time()
                continue
            if entry[6] and slot.done:  # nobody knows how long this one takes
                slot.flush()
            self.run(slot, me, entry, frames)
            slot = self.slot_of.get(me)
            if slot is None:  # it seceded, and ends with its task
                return
            if time.time() - first > FLUSH_AFTER_S:
                slot.flush()
                first = time.time()

    def run(self, slot: Slot, me, entry, frames) -> None:
        stamp, key, spec, span, executor, actor, _, annotations = entry
        ident = threading.get_ident()
        home, worker = self.home, self.worker
        self.stamp_of[me] = stamp
        home.stamp = max(home.stamp, stamp)
        home.running[key] = (span, annotations)
        task_state.key = key
        task_state.metered = metered = []
        task_state.start_time = start = time.time()
        worker.active_threads[ident] = key
        worker.a_run_begins()
        began = time.thread_time()
        try:
            task = pickled(frames, spec)
            data = home.gather(task.dependencies)
            start = task_state.start_time = time.time()
            if annotations is None and not task.is_coro:
                value, cpu = self.context.copy().run(task, data), None
            else:
                value, cpu = self.call(task, data, executor, metered, annotations or {})
            stop = time.time()
            if cpu is None:
                cpu = time.thread_time() - began
        except Reschedule:
            self.measure(key, span, metered, "cancelled", time.time() - start)
            answer, payload, cls = ["reschedule", stamp], (), None
        except (SystemExit, KeyboardInterrupt) as why:
            # As in Dask: the worker process ends.
            logger.critical("Task %r asked this worker to exit: %r", key, why)
            os._exit(1 if why.args[:1] != (0,) else 0)
        except BaseException as why:
            self.measure(key, span, metered, "failed", time.time() - start)
            answer, payload, cls = self.failure(stamp, key, why, start), (), None
        else:
            self.measure(key, span, metered, None, stop - start, cpu)
            answer, payload = self.success(stamp, key, value, actor, start, stop)
            cls = type(value)
        finally:
            worker.active_threads.pop(ident, None)
            task_state.metered = None
        slot = self.slot_of.get(me) or slot
        seceded = self.slot_of.get(me) is None
        slot.say(answer, payload, cls)
        home.running.pop(key, None)
        if seceded or answer[0] != "ok":
            slot.flush()

    def call(self, task, data, executor, metered, annotations):
        """Whatever is not a plain function in this thread. The thread waits: the task occupies its slot in Dask, too.
        With the value comes the processor time, if this thread did not spend it."""
        worker, span = self.worker, annotations.get("span")
        if task.is_coro:
            work = on_loop(worker, span, task, data, metered)
            return asyncio.run_coroutine_threadsafe(work, worker.loop.asyncio_loop).result(), 0.0
        within = task if span is None else functools.partial(in_span, span, task)
        if executor is None or executor == "default":
            return self.context.copy().run(within, data), None
        try:
            pool = worker.executors[executor]
        except KeyError:
            raise ValueError(
                f"Invalid executor {executor!r}; expected one of: {sorted(worker.executors)}"
            ) from None
        if "ThreadPoolExecutor" not in str(type(pool)):
            return pool.submit(task, data).result(), 0.0
        return pool.submit(self.elsewhere, task_state.key, task_state.start_time, within, data, metered).result()

    def elsewhere(self, key, start, task, data, metered):
        """In a thread of another pool: it is a worker's thread, too, for this task."""
        ident = threading.get_ident()
        task_state.key, task_state.start_time, task_state.metered = key, start, metered
        task_state.execution_state = self.worker.execution_state
        self.worker.active_threads[ident] = key
        self.worker.a_run_begins()
        began = time.thread_time()
        try:
            return self.context.copy().run(task, data), time.thread_time() - began
        finally:
            self.worker.active_threads.pop(ident, None)
            task_state.metered = None

    def failure(self, stamp, key, why, start):
        message = error_message(why)
        traceback = message["traceback"]
        logger.error("Compute Failed\nKey: %s\nException: %s\nTraceback: %s", key, message["exception_text"], message["traceback_text"])
        return [
            "erred",
            stamp,
            start,
            time.time(),
            threading.get_ident(),
            bytes(message["exception"].data),
            None if traceback is None else bytes(traceback.data),
            clean(message["exception_text"]),
            clean(message["traceback_text"]),
        ]

    def success(self, stamp, key, value, actor, start, stop):
        home, cls = self.home, type(value)
        payload = ()
        if cls in PLAIN:
            size = sys.getsizeof(value)
            if size <= INLINE_BYTES:
                payload = (PICKLE_HEAD, pickle.dumps(value, 5))
        else:
            size = size_of(value)
        if actor:
            home.stamps[key] = stamp
            home.actors[key] = value
            payload = ()
        else:
            home.keep(key, value, stamp)
        return ["ok", stamp, start, stop, threading.get_ident(), size, None, None], payload

    def measure(self, key, span, metered, coarse, wall, cpu=0.0) -> None:
        """Where the time went. What the task metered itself is not counted twice; of one without a value only how long
        it took is told, as `coarse`. Source: distributed/worker.py, `_run_task_simple`; distributed/metrics.py."""
        prefix, digest = key_split(key), self.worker.digest_metric
        own = 0.0
        for label, value, unit in metered:
            if unit == "seconds":
                if coarse:
                    continue
                own += value
            label = label if isinstance(label, tuple) else (label,)
            digest(("execute", span, prefix, *label, unit), value)
        if coarse:
            return digest(("execute", span, prefix, coarse, "seconds"), wall)
        cpu = max(0.0, cpu - own)
        digest(("execute", span, prefix, "thread-cpu", "seconds"), cpu)
        digest(("execute", span, prefix, "thread-noncpu", "seconds"), max(0.0, wall - cpu - own))

    def measured(self, *what) -> None:
        """What user code tells `context_meter`. Contexts travel with callbacks: only a task's own thread counts."""
        metered = getattr(task_state, "metered", None)
        if metered is not None:
            metered.append(what)


def in_span(span, task, data):
    """The span is for tasks that this one submits, and for `dask.get_annotations` in it."""
    with dask.annotate(span=span):
        return task(data)


async def on_loop(worker, span, task, data, metered):
    token = _worker_cvar.set(worker)
    annotated = contextlib.nullcontext() if span is None else dask.annotate(span=span)
    try:
        with context_meter.add_callback(lambda *what: metered.append(what)), annotated:
            return await task(data)
    finally:
        _worker_cvar.reset(token)


# Dask leaves its own frames out of what users see of an exception; these are in the place of its own.
for function in (Pool.run, Pool.call, Pool.elsewhere, in_span, on_loop):
    function.__code__ = function.__code__.replace(co_filename=distributed.worker.__file__)


@unbroken
def porter(home: Home, sock, slots: list[Slot]) -> None:
    while True:
        op, *rest = unpack(read_message(sock)[0])
        if op == "drop":
            home.drop(*rest)
        elif op == "recall":
            slot, taken = slots[rest[0]], []
            slot.drain()
            while slot.todo:
                try:
                    taken.append(slot.todo.pop()[0][0])
                except IndexError:
                    break
            slot.say(["recalled", taken[::-1]])
            slot.flush()
        elif op == "export":
            number, keys, in_files = rest
            found, frames, descriptors = home.export(keys, in_files)
            try:
                write_message(sock, [msgpack.packb(("exported", number, found)), *frames], descriptors)
            finally:
                close_all(descriptors)
        elif op == "trim":
            give_memory_back()
        elif op == "spill":
            number, values = rest
            write_message(sock, [msgpack.packb(("spilled", number, home.spill(values)))])
