"""Frames in files: a memfd, which lives in memory and has no name, or an unlinked file where the system has none.

A value that is large is written once; whoever wants it on this machine maps it, and gets memory that is its own as soon
as it writes to it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import tempfile

from distributed.utils import ensure_memoryview

# Values from this size on are put in files. The same number stands in `payload.rs`.
FILE_MIN_BYTES = 256 << 10
# Frames begin at multiples of this, so that arrays lie as their type wants it. The same number stands in `payload.rs`.
ALIGN = 64


def places(lengths):
    """The offset of each frame, and where the last one ends."""
    offsets, end = [], 0
    for length in lengths:
        offsets.append(-(-end // ALIGN) * ALIGN)
        end = offsets[-1] + length
    return offsets, end


def write(frames, folder) -> tuple[int, list[int]] | None:
    """Puts frames in a file: its descriptor, and their lengths. Nothing, if there is no descriptor or no place left."""
    views = list(map(ensure_memoryview, frames))
    lengths = [view.nbytes for view in views]
    offsets, end = places(lengths)
    try:
        descriptor = create(end, folder)
    except OSError:
        return None
    try:
        write_to(descriptor, views, offsets)
        try:
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        except OSError:
            pass  # not a memfd
        return descriptor, lengths
    except OSError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise


def write_to(descriptor: int, views, offsets) -> None:
    for view, offset in zip(views, offsets):
        done = 0
        while done < view.nbytes:
            done += os.pwrite(descriptor, view[done:], offset + done)


def spill(frames, path: str) -> list[int]:
    """Puts frames in a new file with this name. `OSError`: it cannot be written, and is not there."""
    views = list(map(ensure_memoryview, frames))
    lengths = [view.nbytes for view in views]
    offsets, end = places(lengths)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, end)
        write_to(descriptor, views, offsets)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return lengths


def create(length: int, folder: str) -> int:
    try:
        descriptor = os.memfd_create("rask-value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # too old a system, or somebody forbids it
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            # A full disk is noticed here.
            os.posix_fallocate(file.fileno(), 0, length)
            return os.dup(file.fileno())
    os.ftruncate(descriptor, length)
    return descriptor


def read(descriptor: int, lengths, on_disk=False) -> list:
    """The frames of a file, as memory that is private to this process and may be written to. What is on a disk is not
    mapped: an error there would be a signal that ends the process.
    """
    if not on_disk and (frames := mapped(descriptor, lengths)) is not None:
        return frames
    offsets, end = places(lengths)
    view, done = memoryview(bytearray(end)), 0
    while done < end:
        got = os.preadv(descriptor, [view[done:]], done)
        if not got:
            raise OSError("a value's file is shorter than its frames")
        done += got
    return [view[offset : offset + length] for offset, length in zip(offsets, lengths)]


def mapped(descriptor: int, lengths) -> list | None:
    """The frames of a file, mapped. Nothing, if descriptors or mappings are scarce."""
    # Python keeps a descriptor for each mapping, and the lowest free number is given out first: this one says how many
    # are in use.
    if descriptor >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
        return None
    offsets, end = places(lengths)
    try:
        view = memoryview(mmap.mmap(descriptor, end, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    except OSError:  # too many mappings
        return None
    return [view[offset : offset + length] for offset, length in zip(offsets, lengths)]
