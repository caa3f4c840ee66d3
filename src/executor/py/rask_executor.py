"""The Python side of one of rask's own workers: threads that run tasks, and the `Worker` that user code sees.

``python rask_executor.py CONTROL QUESTIONS PORTER SLOT...``, each the number of an open Unix socket. The other ends are
held by the *node*, the Rust process that is the Dask worker to schedulers and peers: it has the state machine, the
listener and the transfers. This process has Python objects.

* A *slot* is a thread and its socket: runs come in, answers go out.
* The *porter* is a thread that takes runs back, drops values and serialises them for others, whatever the slots do.
* *Control* is read into the event loop of the main thread, where the facade lives: a `distributed.Worker` that never
  listens and never registers. What peers ask and the node does not know comes here, and Dask's own code answers it.
* *Questions* go from here to the node and are answered at once.

On each socket travel Dask's frames (`distributed/comm/tcp.py`), the first of them msgpack. Needs the standard library
and `distributed`; Python 3.10 or newer.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # A json.py that lies in the current folder must not replace Python's.
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and sys.path[0] == here:
        del sys.path[0]
        try:
            sys.path.append(os.getcwd())
        except OSError:  # the folder was removed
            pass

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import logging
import pickle
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import MutableMapping

import dask
import distributed
import msgpack
from dask.sizeof import sizeof
from dask.utils import key_split, typename
from distributed import Reschedule, WorkerPlugin, protocol
from distributed.actor import Actor
from distributed.comm.core import Comm, CommClosedError
from distributed.core import Status, error_message
from distributed.metrics import context_meter
from distributed.protocol import to_serialize
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.utils import thread_state as task_state
from distributed.versions import get_versions
from distributed.worker import Worker as StockWorker
from distributed.worker import _worker_cvar
from distributed.worker_state_machine import PauseEvent, SecedeEvent, TaskState, UnpauseEvent, WorkerState

logger = logging.getLogger("distributed.rask")

WORD = struct.Struct("<Q")
READ_BYTES = 256 << 10
# Frames up to this are copied next to each other for one system call.
JOIN_BYTES = 64 << 10
# Pickles up to this travel with the answer, so that others get them without asking Python.
INLINE_BYTES = 4096
# Exact types whose size is `sys.getsizeof` and whose pickles need nobody's code.
PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
# While short tasks follow one another, an answer waits no longer than this. Unit: seconds.
FLUSH_AFTER_S = 0.002
# Classes of results that a slot's socket names by number after their first use.
KINDS_MAX = 256
# For threads beside others that hold the interpreter's lock: the porter waits this long for each. Unit: seconds.
SWITCH_S = 0.0005
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
ONE_PAYLOAD = msgpack.packb({"__Serialized__": 1})


# ---- frames ----------------------------------------------------------------------------------------------------------


def unpack(head):
    return msgpack.unpackb(head, use_list=False, strict_map_key=False, raw=False)


def write_message(sock, frames) -> None:
    lengths = [len(memoryview(part).cast("B")) if not isinstance(part, bytes) else len(part) for part in frames]
    out = bytearray(WORD.pack(8 + 8 * len(lengths)) + WORD.pack(len(lengths)))
    for length in lengths:
        out += WORD.pack(length)
    for part, length in zip(frames, lengths):
        if length <= JOIN_BYTES:
            out += part
        else:
            sock.sendall(out)
            sock.sendall(part)
            out = bytearray()
    if out:
        sock.sendall(out)


def read_exactly(sock, count: int) -> bytearray:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        got = sock.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got
    return data


def read_message(sock) -> list[bytearray]:
    """Frames with memory of their own, which may be written to: arrays that are loaded from them are writable."""
    (count,) = WORD.unpack_from(read_exactly(sock, 16), 8)
    lengths = struct.unpack(f"<{count}Q", read_exactly(sock, 8 * count))
    return [read_exactly(sock, length) for length in lengths]


def cut_message(buffer: bytearray) -> list[bytes] | None:
    """Takes the first message off a buffer, if it is all there."""
    if len(buffer) < 16:
        return None
    (count,) = WORD.unpack_from(buffer, 8)
    at = 16 + 8 * count
    if len(buffer) < at:
        return None
    lengths = struct.unpack_from(f"<{count}Q", buffer, 16)
    if len(buffer) < at + sum(lengths):
        return None
    frames, view = [], memoryview(buffer)
    for length in lengths:
        frames.append(bytes(view[at : at + length]))
        at += length
    view.release()
    del buffer[:at]
    return frames


def pickled(frames, place) -> object:
    """Loads a `Pickled` payload: a run spec."""
    at = place["__Pickled__"]
    head = msgpack.unpackb(frames[at])
    parts = frames[at + 1 : at + 1 + head["num-sub-frames"]]
    if parts and "compression" in head:
        parts = protocol.compression.decompress(head, parts)
    return protocol.pickle.loads(head["pickled-obj"], buffers=parts)


# ---- values ----------------------------------------------------------------------------------------------------------


class Home:
    """The objects that this worker holds, and questions to the node about those that it has as bytes only."""

    def __init__(self, questions):
        self.values: dict = {}
        # Which order of the node a value stems from: a later order to drop an older value spares it.
        self.stamps: dict = {}
        # Values as they came, until somebody loads them.
        self.unloaded: dict = {}
        self.actors: dict = {}
        self.stamp = 0
        self.questions = questions
        self.ask_lock = threading.Lock()
        self.load_lock = threading.RLock()
        self.worker = None
        # The node answers questions from the moment that the worker is ready.
        self.in_service = False

    def ask(self, *what):
        """The node answers at once: it never waits for Python meanwhile."""
        with self.ask_lock:
            write_message(self.questions, [msgpack.packb(what)])
            return read_message(self.questions)

    def asked(self, *what):
        return unpack(self.ask(*what)[0])

    def proxy(self, key):
        return Actor(type(self.actors[key]), self.worker.address, key, self.worker)

    def gather(self, keys) -> dict:
        """The inputs of a task."""
        values, data, missing = self.values, {}, []
        for key in keys:
            try:
                data[key] = values[key]
            except KeyError:
                if key in self.actors:
                    data[key] = self.proxy(key)
                else:
                    missing.append(key)
        if missing:
            data.update(self.fetch(missing))
        return data

    def fetch(self, keys) -> dict:
        """Values that the node has as bytes. `KeyError`: it has none either."""
        with self.load_lock:
            unknown = [key for key in keys if key not in self.values and key not in self.unloaded]
            if unknown and self.in_service:
                head, *rest = self.ask("frames", unknown)
                stamp, places = unpack(head)
                for key, place in zip(unknown, places):
                    if place is not None:
                        at = place["__Serialized__"] - 1
                        count = unpack(rest[at])["num-sub-frames"]
                        self.unloaded[key] = rest[at : at + 1 + count]
                        self.stamps[key] = stamp
            data = {}
            for key in keys:
                if key not in self.values:
                    if key not in self.unloaded:
                        raise KeyError(key)
                    try:
                        self.values[key] = protocol.loads([ONE_PAYLOAD, *self.unloaded[key]])
                    except Exception as why:
                        raise RuntimeError(f"the value of {key!r}, an input of this task, cannot be loaded") from why
                    del self.unloaded[key]
                data[key] = self.values[key]
            return data

    def keep(self, key, value, stamp) -> None:
        self.stamps[key] = stamp
        self.unloaded.pop(key, None)
        self.values[key] = value

    def drop(self, keys, upto) -> None:
        for key in keys:
            if self.stamps.get(key, 0) <= upto:
                self.stamps.pop(key, None)
                self.unloaded.pop(key, None)
                self.actors.pop(key, None)
                self.values.pop(key, None)

    def export(self, keys) -> list:
        """The values as payloads; nothing in the place of one that is not here."""
        places, frames = [], [None]
        for key in keys:
            if key in self.unloaded:
                places.append({"__Serialized__": len(frames)})
                frames += self.unloaded[key]
                continue
            if key in self.actors:
                value = self.proxy(key)
            elif key in self.values:
                value = self.values[key]
            else:
                places.append(None)
                continue
            _, *payload = protocol.dumps([to_serialize(value)], context={"pickle-protocol": 5})
            places.append({"__Serialized__": len(frames)})
            frames += payload
        frames[0] = places
        return frames


class Data(MutableMapping):
    """`worker.data`: what this worker holds, here or at the node. Writing to it changes what is here only."""

    def __init__(self, home: Home):
        self.home = home

    def __getitem__(self, key):
        try:
            return self.home.values[key]
        except KeyError:
            return self.home.fetch([key])[key]

    def __setitem__(self, key, value):
        self.home.keep(key, value, self.home.stamp)

    def __delitem__(self, key):
        self.home.drop([key], self.home.stamps.get(key, 0))

    def __contains__(self, key):
        return key in self.home.values or self.home.in_service and bool(self.home.asked("has", key))

    def keys_held(self):
        return self.home.asked("keys") if self.home.in_service else tuple(self.home.values)

    def __iter__(self):
        return iter(self.keys_held())

    def __len__(self):
        return len(self.keys_held())


# ---- slots -----------------------------------------------------------------------------------------------------------


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
        self.spans: dict = {}
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

    def serve(self, slot: Slot) -> None:
        me = threading.current_thread()
        pool_state.executor, pool_state.proceed = self, True
        task_state.execution_state = self.worker.execution_state
        first = 0.0
        try:
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
        except (EOFError, OSError):
            pass

    def run(self, slot: Slot, me, entry, frames) -> None:
        stamp, key, spec, span, executor, actor, _, annotations = entry
        ident = threading.get_ident()
        home, worker = self.home, self.worker
        self.stamp_of[me] = stamp
        home.stamp = max(home.stamp, stamp)
        self.spans[key] = span
        task_state.key = key
        task_state.start_time = start = time.time()
        worker.active_threads[ident] = key
        cpu = time.thread_time()
        try:
            task = pickled(frames, spec)
            data = home.gather(task.dependencies)
            start = task_state.start_time = time.time()
            if annotations and "span" in annotations:
                with dask.annotate(span=annotations["span"]):
                    value = self.call(task, data, executor)
            elif executor is None and not task.is_coro:
                value = self.context.copy().run(task, data)
            else:
                value = self.call(task, data, executor)
            stop = time.time()
            cpu = time.thread_time() - cpu
        except Reschedule:
            answer, payload, cls = ["reschedule", stamp], (), None
        except (SystemExit, KeyboardInterrupt) as why:
            # As in Dask: the worker process ends.
            logger.critical("Task %r asked this worker to exit: %r", key, why)
            os._exit(1 if why.args[:1] != (0,) else 0)
        except BaseException as why:
            answer, payload, cls = self.failure(stamp, key, why, start), (), None
        else:
            answer, payload = self.success(stamp, key, value, actor, (start, stop, cpu))
            cls = type(value)
        finally:
            worker.active_threads.pop(ident, None)
        slot = self.slot_of.get(me) or slot
        seceded = self.slot_of.get(me) is None
        slot.say(answer, payload, cls)
        self.spans.pop(key, None)
        if seceded or answer[0] != "ok":
            slot.flush()

    def call(self, task, data, executor):
        """Whatever is not a plain function in this thread. The thread waits: the task occupies its slot in Dask, too."""
        worker = self.worker
        if task.is_coro:

            async def on_loop():
                token = _worker_cvar.set(worker)
                try:
                    return await task(data)
                finally:
                    _worker_cvar.reset(token)

            return asyncio.run_coroutine_threadsafe(on_loop(), worker.loop.asyncio_loop).result()
        if executor is None or executor == "default":
            return self.context.copy().run(task, data)
        try:
            pool = worker.executors[executor]
        except KeyError:
            raise ValueError(
                f"Invalid executor {executor!r}; expected one of: {sorted(worker.executors)}"
            ) from None
        if "ThreadPoolExecutor" not in str(type(pool)):
            return pool.submit(task, data).result()
        return pool.submit(self.elsewhere, task_state.key, task_state.start_time, task, data).result()

    def elsewhere(self, key, start, task, data):
        """In a thread of another pool: it is a worker's thread, too, for this task."""
        ident = threading.get_ident()
        task_state.key, task_state.start_time = key, start
        task_state.execution_state = self.worker.execution_state
        self.worker.active_threads[ident] = key
        try:
            return self.context.copy().run(task, data)
        finally:
            self.worker.active_threads.pop(ident, None)

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
            message["exception_text"],
            message["traceback_text"],
        ]

    def success(self, stamp, key, value, actor, times):
        start, stop, cpu = times
        home, cls = self.home, type(value)
        payload = ()
        if cls in PLAIN:
            size = sys.getsizeof(value)
            if size <= INLINE_BYTES:
                payload = (PICKLE_HEAD, pickle.dumps(value, 5))
        else:
            try:
                size = sizeof(value)
            except Exception:
                size = sys.getsizeof(value, 1)
        if actor:
            home.stamps[key] = stamp
            home.actors[key] = value
            payload = ()
        else:
            home.keep(key, value, stamp)
        self.measure(key, stop - start, cpu)
        return ["ok", stamp, start, stop, threading.get_ident(), size, None, None], payload

    def measure(self, key, wall, cpu) -> None:
        span, prefix = self.spans.get(key), key_split(key)
        digest = self.worker.digest_metric
        digest(("execute", span, prefix, "thread-cpu", "seconds"), cpu)
        digest(("execute", span, prefix, "thread-noncpu", "seconds"), max(0.0, wall - cpu))

    def measured(self, label, value, unit) -> None:
        """What user code tells `context_meter`. Contexts travel with callbacks: only a task's own thread counts."""
        key = getattr(task_state, "key", None)
        if key is None or threading.get_ident() not in self.worker.active_threads:
            return
        label = label if isinstance(label, tuple) else (label,)
        self.worker.digest_metric(("execute", self.spans.get(key), key_split(key), *label, unit), value)


# Dask leaves its own frames out of what users see of an exception; these are in the place of its own.
for function in (Pool.run, Pool.call, Pool.elsewhere):
    function.__code__ = function.__code__.replace(co_filename=distributed.worker.__file__)


def porter(home: Home, sock, slots: list[Slot]) -> None:
    with contextlib.suppress(EOFError, OSError):
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
                number, keys = rest
                places, *frames = home.export(keys)
                write_message(sock, [msgpack.packb((number, places)), *frames])


# ---- the facade ------------------------------------------------------------------------------------------------------


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
        context = {"pickle-protocol": 5}
        head, *frames = protocol.dumps(msg, serializers=serializers, on_error=on_error, context=context)
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


class FacadeState(WorkerState):
    """What user code reads of the state machine: asked for when it is read. Writing to it changes nothing."""

    home: Home | None = None

    def _tasks(self):
        if self.home is None or not self.home.in_service:
            return {}
        tasks = {}
        for key, state, size in self.home.asked("tasks"):
            tasks[key] = task = TaskState(key)
            task.state, task.nbytes = state, size
        return tasks

    def _number(self, name):
        return self.home.asked("number", name) if self.home is not None and self.home.in_service else 0

    tasks = property(_tasks, lambda self, value: None)
    nbytes = property(lambda self: self._number("nbytes"), lambda self, value: None)
    executing_count = property(lambda self: self._number("executing"))


class Worker(StockWorker):
    """Says and hears everything through the node."""

    def __init__(self, hello: dict, home: Home, out):
        self.home, self.out, self.in_service = home, out, False
        super().__init__(
            hello["scheduler"],
            nthreads=hello["nthreads"],
            name=hello["name"],
            memory_limit=hello["memory_limit"],
            contact_address=hello["address"],
            local_directory=hello["local_directory"],
            resources=hello["resources"],
            preload=hello["preload"],
            preload_argv=hello["preload_argv"],
            dashboard=False,
            data=Data(home),
            WorkerStateClass=FacadeState,
        )
        self.id = hello["id"]
        self.state.address = hello["address"]
        self.state.actors = home.actors
        for name in ("heartbeat", "keep-alive", "find-missing", "memory_monitor"):
            self.periodic_callbacks.pop(name, None)

    address = property(lambda self: self.contact_address)
    address_safe = property(lambda self: self.contact_address)

    async def start_unsafe(self):
        await self.rpc.start()
        self.ip = self.contact_address.split("://")[-1].rsplit(":", 1)[0]
        await self.preloads.start()
        self._status = Status.running  # not the property: the node tells the scheduler
        self.start_periodic_callbacks()
        self.in_service = True
        return self

    def batched_send(self, msg):
        """Up the stream to the scheduler: `log-event`, and whatever plugins say."""
        if self.in_service:
            head, *frames = protocol.dumps(msg, context={"pickle-protocol": 5})
            self.out("send", head, frames=frames)

    def _send_worker_status_change(self, stimulus_id):
        if self.in_service:
            self.out("status", self._status.name)

    def handle_stimulus(self, *stims):
        for stim in stims:
            if not isinstance(stim, (PauseEvent, SecedeEvent, UnpauseEvent)):  # the node knows of these already
                logger.warning("%s was given to the worker's state, which rask keeps elsewhere: no effect", type(stim).__name__)

    async def set_resources(self, **resources):
        self.state.total_resources.update(resources)
        self.out("resources", dict(resources))
        await self.scheduler.set_resources(resources=self.state.total_resources, worker=self.contact_address)

    def tell_subscription(self):
        wanted = any(
            isinstance(plugin, WorkerPlugin) and type(plugin).transition is not WorkerPlugin.transition
            for plugin in self.plugins.values()
        )
        self.out("subscribed", wanted)

    async def plugin_add(self, plugin, name=None, catch_errors=True):
        reply = await super().plugin_add(plugin, name, catch_errors)
        self.tell_subscription()
        return reply

    async def plugin_remove(self, name):
        reply = await super().plugin_remove(name)
        self.tell_subscription()
        return reply

    def update_data(self, data, stimulus_id=None, **kwargs):
        """Values that come to be here without a run: scattered in a task, or gathered for the scheduler."""
        sizes = {}
        for key, value in data.items():
            self.home.keep(key, value, self.home.stamp)
            sizes[key] = sizeof(value)
        # Answered when the node knows them: others may ask for them as soon as the scheduler does.
        self.home.asked("held", [(key, size) for key, size in sizes.items()])
        return {"nbytes": sizes, "status": "OK"}

    async def close(self, timeout=30, executor_wait=True, nanny=True, reason="worker-close"):
        self.out("close", reason)  # the node closes, and then ends this process
        return "OK"

    async def wind_up(self, reason):
        """The node has left the cluster."""
        self.in_service = False
        self._status = Status.running  # Dask's own way through its states
        await super().close(timeout=2, executor_wait=False, nanny=False, reason=reason)


# What the facade replaces, with parameters that it counts on. Names of Dask's that are not public may go any day.
REPLACED = {
    "start_unsafe": (),
    "batched_send": ("msg",),
    "_send_worker_status_change": ("stimulus_id",),
    "handle_stimulus": ("stims",),
    "update_data": ("data",),
    "plugin_add": ("plugin", "name", "catch_errors"),
    "plugin_remove": ("name",),
    "digest_metric": ("name", "value"),
    "handle_comm": ("comm",),
}


def check_dask() -> None:
    for name, parameters in REPLACED.items():
        there = getattr(StockWorker, name, None)
        known = () if there is None else inspect.signature(there).parameters
        if there is None or any(parameter not in known for parameter in parameters):
            sys.exit(
                f"rask's own workers do not fit distributed {distributed.__version__}: Worker.{name} is not as expected. "
                "Use --engine stock, or another version of distributed."
            )


def settings() -> dict:
    """Dask's configuration, as far as it is the node's business."""
    get = dask.config.get

    def fraction(name):
        value = get(name, False)
        return float(value) if value not in (False, None) else 0.0

    def count(name):
        value = get(name, 0)
        return int(value) if value not in (False, None) else 0

    from dask.utils import parse_bytes, parse_timedelta

    return {
        "incoming": count("distributed.worker.connections.incoming"),
        "outgoing": count("distributed.worker.connections.outgoing"),
        "message_bytes": parse_bytes(get("distributed.worker.transfer.message-bytes-limit", "50MB")),
        "default_size": parse_bytes(get("distributed.scheduler.default-data-size", "1kiB")),
        "transfer": fraction("distributed.worker.memory.transfer"),
        "pause": fraction("distributed.worker.memory.pause"),
        "terminate": fraction("distributed.worker.memory.terminate"),
        "connect_s": parse_timedelta(get("distributed.comm.timeouts.connect", "30s"), "s"),
    }


class Main:
    """The event loop of the main thread: what comes by the control socket."""

    def __init__(self, control, questions, porting, slots):
        self.control, self.porting = control, porting
        self.slots = [Slot(number, sock) for number, sock in enumerate(slots)]
        self.home = Home(questions)
        self.lock = threading.Lock()
        self.comms: dict = {}
        self.background: set = set()
        self.worker: Worker | None = None

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

    async def run(self) -> None:
        messages = self.messages()
        hello = unpack((await anext(messages))[0])[1]
        self.home.worker = self.worker = worker = Worker(hello, self.home, self.out)
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
        if op == "request":
            number, peer, head = rest
            if number not in self.comms:
                self.comms[number] = Relayed(number, peer, self.worker.address, self.out)
                self.worker.handle_comm(self.comms[number])
            self.comms[number].inbox.put_nowait([head, *frames])
        elif op == "gone":
            if comm := self.comms.pop(rest[0], None):
                comm.inbox.put_nowait(None)
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

    def spawn(self, coroutine) -> None:
        """asyncio itself keeps weak references only."""
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

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
            "interval": worker._tick_interval_observed,
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
    check_dask()
    sockets = [socket.socket(fileno=int(number)) for number in argv]
    for sock in sockets:
        sock.set_inheritable(False)
    # A child that a task forks must not hold our sockets open.
    os.register_at_fork(after_in_child=lambda: [sock.close() for sock in sockets])
    sys.setswitchinterval(SWITCH_S)
    control, questions, porting, *slots = sockets
    asyncio.run(Main(control, questions, porting, slots).run())


if __name__ == "__main__":
    main(sys.argv[1:])
