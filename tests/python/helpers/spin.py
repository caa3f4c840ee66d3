"""Makes the main thread of a process spin for ever, as a bug would."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

ATTACH, DETACH, GETREGS, SETREGS, POKETEXT = 16, 17, 12, 13, 4
AT_ENTRY, WALL = 9, 0x40000000
# Of `struct user_regs_struct`: 27 words.
ORIG_RAX, RIP = 15, 16

possible = platform.machine() == "x86_64"


def spin(pid: int):
    """Its next instruction is a jump to itself. That stands where the program began, which no thread runs again."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(request: int, address=None, data=None):
        if libc.ptrace(request, pid, address, data) == -1:
            raise OSError(ctypes.get_errno(), f"ptrace {request}")

    with open(f"/proc/{pid}/auxv", "rb") as file:
        entry = dict(struct.iter_unpack("=QQ", file.read()))[AT_ENTRY]
    ptrace(ATTACH)
    os.waitpid(pid, WALL)
    registers = (ctypes.c_uint64 * 27)()
    ptrace(GETREGS, None, ctypes.addressof(registers))
    ptrace(POKETEXT, entry, 0xFEEB)
    registers[RIP] = entry
    # It is in no system call that could be begun again.
    registers[ORIG_RAX] = 2**64 - 1
    ptrace(SETREGS, None, ctypes.addressof(registers))
    ptrace(DETACH)
