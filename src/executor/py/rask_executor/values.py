"""What this worker holds: objects here, and bytes that the node has."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
from collections.abc import MutableMapping

import msgpack
from dask.sizeof import sizeof
from distributed import Reschedule, protocol
from distributed.actor import Actor
from distributed.protocol import to_serialize
from distributed.utils import nbytes

from . import segments
from .frames import (
    CONTEXT,
    DESCRIPTORS_MAX,
    close_all,
    read_message,
    read_message_and_descriptors,
    unpack,
    write_message,
)

logger = logging.getLogger("distributed.rask")

# Sizes beyond this are believed to be this. Unit: bytes.
SIZE_MAX = 1 << 50
ONE_PAYLOAD = msgpack.packb({"__Serialized__": 1})


# glibc's; other C libraries have none.
malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_memory_back() -> None:
    """What objects in circles hold, and what the C library keeps of memory that was freed."""
    gc.collect()
    if malloc_trim is not None:
        malloc_trim(0)


def size_of(value) -> int:
    """The size of a value, as a number that others can read, whatever its class says."""
    for measure in (sizeof, sys.getsizeof):
        try:
            return min(max(int(measure(value)), 0), SIZE_MAX)
        except Exception:
            continue
    return 1


class Home:
    """The objects that this worker holds, and questions to the node about those that it has as bytes only."""

    def __init__(self, questions):
        self.values: dict = {}
        # Which order of the node a value stems from: a later order to drop an older value spares it.
        self.stamps: dict = {}
        # Values as they came, until somebody loads them.
        self.unloaded: dict = {}
        self.actors: dict = {}
        # The span and the annotations of each task that runs.
        self.running: dict = {}
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

    def ask_values(self, keys) -> None:
        """Gets the bytes of these values, as far as the node has them."""
        for in_files in (True, False):
            with self.ask_lock:
                write_message(self.questions, [msgpack.packb(("frames", keys, in_files))])
                (head, *rest), descriptors = read_message_and_descriptors(self.questions)
            try:
                stamp, found = unpack(head)
                if sum(type(place) is tuple for place in found) != len(descriptors):
                    continue  # not all could be taken: once more, without files
                left = iter(descriptors)
                for key, place in zip(keys, found):
                    if place is None:
                        continue
                    if place is False:
                        continue
                    if type(place) is tuple:
                        head, lengths, on_disk = place
                        try:
                            frames = [head, *segments.read(next(left), lengths, on_disk)]
                        except OSError as why:
                            logger.error("the file of %r cannot be read: %s", key, why)
                            self.ask("lost", [key])
                            continue
                    else:
                        at = place["__Serialized__"] - 1
                        frames = rest[at : at + 1 + unpack(rest[at])["num-sub-frames"]]
                    self.unloaded[key] = frames
                    self.stamps[key] = stamp
                return
            finally:
                close_all(descriptors)

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
            try:
                data.update(self.fetch(missing))
            except KeyError as why:  # it was lost: the scheduler has it computed anew, and then this task
                logger.warning("the input %r is not here any more", why.args[0])
                raise Reschedule from why
        return data

    def fetch(self, keys) -> dict:
        """Values that the node has as bytes. `KeyError`: it has none either."""
        with self.load_lock:
            unknown = [key for key in keys if key not in self.values and key not in self.unloaded]
            if self.in_service:
                for start in range(0, len(unknown), DESCRIPTORS_MAX):
                    self.ask_values(unknown[start : start + DESCRIPTORS_MAX])
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

    def export(self, keys, in_files) -> tuple[list, list, list]:
        """The values as payloads: where each is, frames, and descriptors of the files of large ones."""
        found: list = []
        frames: list = []
        descriptors: list = []
        for key in keys:
            try:
                payload = self.payload(key)
            except Exception as why:  # whoever asks for it is told, and does not ask again
                logger.exception("the value of %r cannot be serialised", key)
                text = f"the value of {key!r} cannot be serialised: {why!r}"
                payload = [msgpack.packb({"serializer": "error", "num-sub-frames": 1}), text.encode()]
            filed = None
            if payload and in_files and sum(map(nbytes, payload[1:])) > segments.FILE_MIN_BYTES:
                filed = segments.write(payload[1:], self.worker.local_directory)
            if filed is not None:
                descriptors.append(filed[0])
                found.append((bytes(payload[0]), filed[1]))
                self.share(key, payload[0], *filed)
            elif payload:
                found.append({"__Serialized__": len(frames) + 1})
                frames += payload
            else:
                found.append(None)
        return found, frames, descriptors

    def share(self, key, head, descriptor, lengths) -> None:
        """An array whose bytes are in a file now lies in that file, and no longer on the heap as well.

        The node counts on it for this very type; others would lose what makes them up, or copy what they are loaded from.
        """
        value, numpy = self.values.get(key), sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or not value.flags.owndata:
            return
        try:
            frames = segments.mapped(descriptor, lengths)
            if frames is not None:
                array = protocol.loads([ONE_PAYLOAD, head, *frames])
                if self.values.get(key) is value:
                    self.values[key] = array
        except Exception:  # it stays where it is, too
            logger.exception("the value of %r cannot be mapped", key)

    def spill(self, values) -> list:
        """Writes values to files, and says of each what came of it. They stay here until the node knows."""
        outcomes: list = []
        for key, path in values:
            if key not in self.values:
                outcomes.append(None)
                continue
            try:
                item = to_serialize(self.values[key])
                head, *frames = protocol.dumps([item], on_error="raise", context=CONTEXT)[1:]
                outcomes.append(("written", bytes(head), segments.spill(frames, path)))
            except OSError as why:
                outcomes.append(("full", str(why)))
            except Exception as why:
                outcomes.append(("unwilling", repr(why)))
        return outcomes

    def payload(self, key) -> list:
        """A value's sub-header and frames; empty if it is not here."""
        if key in self.unloaded:
            return self.unloaded[key]
        if key in self.actors:
            value = self.proxy(key)
        elif key in self.values:
            value = self.values[key]
        else:
            return []
        return protocol.dumps([to_serialize(value)], context=CONTEXT)[1:]


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
