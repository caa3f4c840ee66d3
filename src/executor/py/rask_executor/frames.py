"""Dask's frames on the sockets between this process and its node."""

from __future__ import annotations

import struct

import msgpack
from distributed import protocol

WORD = struct.Struct("<Q")
# Frames up to this are copied next to each other for one system call.
JOIN_BYTES = 64 << 10


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
