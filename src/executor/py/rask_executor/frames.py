"""Dask's frames on the sockets between this process and its node, and descriptors beside them."""

from __future__ import annotations

import array
import os
import socket
import struct

import msgpack
from distributed import protocol
from distributed.utils import ensure_memoryview

WORD = struct.Struct("<Q")
# Frames up to this are copied next to each other for one system call.
JOIN_BYTES = 64 << 10
# Most descriptors with one message; the same number stands in `socket.rs`.
DESCRIPTORS_MAX = 64
DESCRIPTOR_BYTES = array.array("i").itemsize
# For what others will read: not compressed, as who reads it need not have what that takes, and files are mapped as they are.
CONTEXT = {"pickle-protocol": 5, "compression": None}


def unpack(head):
    return msgpack.unpackb(head, use_list=False, strict_map_key=False, raw=False)


def write_message(sock, frames, descriptors=()) -> None:
    """Descriptors travel with the first byte."""
    frames = [part if isinstance(part, bytes) else ensure_memoryview(part) for part in frames]
    lengths = list(map(len, frames))
    out = bytearray(WORD.pack(8 + 8 * len(lengths)) + WORD.pack(len(lengths)))
    for length in lengths:
        out += WORD.pack(length)
    if descriptors:
        sent = socket.send_fds(sock, [out], descriptors)
        del out[:sent]
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
    return read_frames(sock, read_exactly(sock, 16))


def read_frames(sock, start) -> list[bytearray]:
    (count,) = WORD.unpack_from(start, 8)
    lengths = struct.unpack(f"<{count}Q", read_exactly(sock, 8 * count))
    return [read_exactly(sock, length) for length in lengths]


def read_message_and_descriptors(sock):
    """As `read_message`, and what came with it: fewer descriptors than were sent, if this process has too many."""
    room = socket.CMSG_SPACE(DESCRIPTORS_MAX * DESCRIPTOR_BYTES)
    start, beside, _, _ = sock.recvmsg(16, room, socket.MSG_CMSG_CLOEXEC)
    if not start:
        raise EOFError
    descriptors = array.array("i")
    for level, kind, data in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % DESCRIPTOR_BYTES])
    try:
        return read_frames(sock, start + read_exactly(sock, 16 - len(start))), list(descriptors)
    except BaseException:
        close_all(descriptors)
        raise


def close_all(descriptors) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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
