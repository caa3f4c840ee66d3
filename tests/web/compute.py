"""A computation for the dashboard to show: results held, tasks that failed, one that cannot run. Waits to be stopped."""

import sys
import time

from distributed import Client, Lock, Variable, wait


def inc(x):
    return x + 1


def slow(x):
    time.sleep(0.05)
    return bytes(10_000) + bytes(x)


def divide(x):
    return 1 / x


def length(parts):
    return sum(map(len, parts))


if __name__ == "__main__":
    client = Client(sys.argv[1])
    held = client.map(inc, range(300))
    parts = client.map(slow, range(60))
    total = client.submit(length, parts)
    failed = client.map(divide, [0, 0, 0], pure=False)
    stuck = client.submit(inc, 1, resources={"GPU": 1}, pure=False, key="stuck-task")
    wait([*held, total, *failed])
    Lock("a lock").acquire()
    Variable("a variable").set(42)
    client.log_event("test", "an event")
    print("ready", flush=True)
    sys.stdin.read()
