"""What the benches share: CPU and memory of other processes, medians, a table."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python/helpers"))

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """CPU seconds a live process has used, all threads; nanosecond clock, not jiffies."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def cpu_of_family(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of its children, ended ones that it has waited for included."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        ended = times.children_user + times.children_system
        return cpu_of(pid), ended + sum(cpu_of(c.pid) for c in process.children(recursive=True))
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def pss_of(pid: int) -> int:
    """Resident bytes of one process; what it shares with others counts in parts."""
    return psutil.Process(pid).memory_full_info().pss


def rss_of(pid: int) -> int:
    """Resident bytes of one process."""
    return psutil.Process(pid).memory_info().rss


def settle(pid: int, quiet: float = 0.2, limit: float = 10) -> None:
    """Waits until a process uses no CPU to speak of."""
    deadline = time.monotonic() + limit
    before = cpu_of(pid)
    while time.monotonic() < deadline:
        time.sleep(quiet)
        now = cpu_of(pid)
        if now - before < quiet * 0.06:
            return
        before = now


def median(values) -> float:
    return statistics.median(values)


def table(rows: list[list], heads: list[str]) -> str:
    def text(cell):
        return (f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:.0f}") if isinstance(cell, float) else str(cell)

    cells = [heads, *([text(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)
