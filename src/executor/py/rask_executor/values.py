"""What this worker holds: objects here, and bytes that the node has."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping

import msgpack
from distributed import protocol
from distributed.actor import Actor
from distributed.protocol import to_serialize

from .frames import read_message, unpack, write_message

ONE_PAYLOAD = msgpack.packb({"__Serialized__": 1})


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
