"""What goes through the pipes: frames, and the values in them."""

from __future__ import annotations

import copyreg
import io
import operator
import pickle
import struct

import cloudpickle
import msgpack
from dask._task_spec import Task
from distributed.protocol import pickle as protocol_pickle
from distributed.protocol.compression import decompress
from distributed.protocol.serialize import Pickled, Serialized, ToPickle, merge_and_deserialize
from distributed.utils import ensure_memoryview

__name__ = "__main__"  # What is defined here travels whole: see `__init__.py`.


def read_exactly(file, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError
    return data


def read_frames(file) -> list[bytes]:
    """One message. The total length that comes first says nothing we need."""
    _, count = struct.unpack("<QQ", read_exactly(file, 16))
    lengths = struct.unpack(f"<{count}Q", read_exactly(file, 8 * count))
    return [read_exactly(file, length) for length in lengths]


def write_frames(file, frames) -> None:
    frames = [ensure_memoryview(frame) for frame in frames]
    lengths = [frame.nbytes for frame in frames]
    total = 8 + 8 * len(frames) + sum(lengths)
    file.write(struct.pack(f"<QQ{len(frames)}Q", total, len(frames), *lengths))
    for frame in frames:
        file.write(frame)
    file.flush()




class Known(Exception):
    """An error with a kind of its own; the cause is what the user is told."""

    def __init__(self, kind: str, cause: BaseException):
        super().__init__(kind)
        self.kind = kind
        self.cause = cause


STATE = operator.attrgetter(*Task.get_all_slots())


class NodePickler(pickle.Pickler):
    """Asks tasks for their state in one call, where their own way is one for each of ten attributes."""

    def reducer_override(self, obj):
        return (copyreg.__newobj__, (Task,), STATE(obj)) if type(obj) is Task else NotImplemented


class WholePickler(cloudpickle.Pickler):
    """The same for what has to travel whole, as functions of ``__main__``."""

    def reducer_override(self, obj):
        if type(obj) is Task:
            return copyreg.__newobj__, (Task,), STATE(obj)
        return super().reducer_override(obj)


def pickled(value) -> Pickled:
    """A payload whose pickle and buffers can be read without Python: never compressed."""
    for pickler in (NodePickler, WholePickler):
        body, buffers = io.BytesIO(), []
        try:
            pickler(body, protocol=5, buffer_callback=buffers.append).dump(value)
        except Exception:
            continue
        if pickler is WholePickler or b"__main__" not in body.getvalue():
            break
    else:
        buffers = []
        body = io.BytesIO(protocol_pickle.dumps(value, buffer_callback=buffers.append))
    frames = [ensure_memoryview(buffer) for buffer in buffers]
    return Pickled({"pickled-obj": body.getvalue(), "compression": [None] * len(frames)}, frames)


def plain(value):
    """The value if msgpack can say it, else its pickle."""
    if isinstance(value, (set, frozenset)):
        value = list(value)
    try:
        msgpack.packb(value, use_bin_type=True)
        return value
    except Exception:
        return ToPickle(value)


def payload(serialized: Serialized):
    """What a payload holds, whatever way it was packed."""
    header, frames = serialized.header, serialized.frames
    if "compression" in header:
        frames = decompress(header, frames)
    if "pickled-obj" in header:
        return protocol_pickle.loads(header["pickled-obj"], buffers=frames)
    return merge_and_deserialize(header, frames)
