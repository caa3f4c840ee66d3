"""Runs a program on poorer ground: `python confined.py [--no-memfd] [--open-files N] [--mount FOLDER:SIZE] PROGRAM ...`.

Nothing in the program knows of it: system calls fail as they do on such a machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
CLONE_NEWNS = 0x20000
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}


def forbid_memfd() -> None:
    """`memfd_create` fails as on a kernel that does not have it, for all that is started from here."""
    number = MEMFD_CREATE[platform.machine()]
    fail = 0x00050000 | errno.ENOSYS
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (0x20, 0, 0, 0),  # load the number of the call
            (0x15, 0, 1, number),  # another one: skip the next line
            (0x06, 0, 0, fail),
            (0x06, 0, 0, 0x7FFF0000),  # let it pass
        )
    )
    filter_ = ctypes.create_string_buffer(program, len(program))
    whole = struct.pack("@HP", len(program) // 8, ctypes.addressof(filter_))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, whole, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


def mount_small(folder: str, size: str) -> None:
    """A file system of its own in this place, for this process and its children; needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]):
        subprocess.run(command, check=True)


def main(argv: list[str]) -> None:
    while argv[0].startswith("--"):
        what, *argv = argv
        if what == "--open-files":
            most, *argv = argv
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(most), int(most)))
        elif what == "--mount":
            place, *argv = argv
            mount_small(*place.split(":"))
        elif what == "--no-memfd":
            forbid_memfd()
        else:
            sys.exit(f"unknown: {what}")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
