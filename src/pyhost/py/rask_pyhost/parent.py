"""The ties to the parent process. They come before all else, so this needs no more than Python's own modules."""

from __future__ import annotations

import os
import sys


def take_pipes() -> tuple[int, int]:
    """Move the pipes to the parent out of reach: user code prints and reads while it is being unpickled."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone, even while it hangs. Linux only."""
    parent = int(os.environ.pop("RASK_PYHOST_PARENT", "0"))
    if not parent or not sys.platform.startswith("linux"):
        return
    try:
        import ctypes
        import signal

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    except Exception as error:  # a libc without prctl: the end of the pipe still ends us
        print(f"rask pyhost: cannot follow its parent: {error}", file=sys.stderr)
    if os.getppid() != parent:
        os._exit(0)
