"""Every field of every operation that Dask's scheduler has, with values that nobody should send.

The operations and their fields are read from the Dask that is installed. Afterwards the scheduler serves as before, and
nothing in it panicked. `RASK_HOSTILE_SEED` gives another order and other partners of the hostile values.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
from collections import deque

import pytest
from distributed import Client, Scheduler

from harness import wait_until
from rawdask import Raw, RawClient, worker_registration

pytestmark = pytest.mark.timeout(180)

SEED = int(os.environ.get("RASK_HOSTILE_SEED", "0"))


def nested(depth, wrap):
    value = None
    for _ in range(depth):
        value = wrap(value)
    return value


HOSTILE = [None, True, 0, -1, 2**63 - 1, 2**64 - 1, -(2**63), 1e308, -0.0, float("nan"), float("inf"), -float("inf")]
HOSTILE += ["", "x" * 70_000, "\x00\x1b[2J\u202e", "1e999 s", b"", b"\x80\x05.", [], {}, [None], [[]], ["k"] * 500]
HOSTILE += [nested(60, lambda inner: [inner]), nested(60, lambda inner: {"a": inner}), {1: 2}, {"k": None}]
HOSTILE += [{"k": -1}, {"k": float("nan")}, {"k": ["tcp://127.0.0.1:1"]}, {"__Set__": True, "as-list": [float("nan")]}]
HOSTILE += [{"op": "identity"}, ["k", float("nan"), -1, None, b"k"]]
# A frame that is not there: the message is none, so the connection ends and what follows on it is not read.
ENDS_CONNECTION = {"__Serialized__": 7}

# What a field usually holds, for the fields beside the hostile one. Others are left out now and then.
USUAL = {
    "address": "tcp://127.0.0.1:9",
    "client": "c",
    "data": "d",
    "key": "k",
    "keys": ["k"],
    "lease_id": "lease",
    "max_leases": 1,
    "msg": {"op": "identity"},
    "name": "n",
    "nbytes": {"k": 1},
    "run_id": 1,
    "status": "running",
    "timeout": 0.01,
    "topic": "t",
    "url": "/nonexistent/dump",
    "who_has": {"k": ["tcp://127.0.0.1:9"]},
    "worker": "tcp://127.0.0.1:9",
    "workers": ["tcp://127.0.0.1:9"],
}
# They end the scheduler or the stream, as they should.
ENDS = {"terminate", "close-client", "close-stream"}


async def tables():
    async with Scheduler(dashboard=False, port=0, host="127.0.0.1") as scheduler:
        return [{op: fields(function) for op, function in table.items() if op not in ENDS}
                for table in (scheduler.handlers, scheduler.stream_handlers)]  # fmt: skip


def fields(function):
    """Names of what an operation is sent; of what it takes without naming it, what workers are known to send."""
    names = list(inspect.signature(function).parameters)
    if "kwargs" in names:
        names += ["metrics", "executing", "extensions", "startstops", "run_id", "exception", "traceback", "thread"]
    return list(dict.fromkeys(name for name in names if name not in ("comm", "args", "kwargs")))


def cases(rng, table):
    """Each hostile value in each field of each operation, once."""
    for op, names in table.items():
        for name in names:
            for value in [*HOSTILE, ENDS_CONNECTION]:
                usual = {other: USUAL[other] for other in names if other in USUAL and rng.random() < 0.8}
                yield {"op": op, **usual, name: value}


def send(open_one, rng, table, together, encoded):
    """Sends all cases, some on each connection. Connections stay open for a while, so that requests that wait do."""
    todo = list(cases(rng, table))
    rng.shuffle(todo)
    ends = [case for case in todo if ENDS_CONNECTION in case.values()]
    others = [case for case in todo if ENDS_CONNECTION not in case.values()]
    batches = [[case] for case in ends] + [others[at : at + together] for at in range(0, len(others), together)]
    open_ones: deque = deque()
    for batch in batches:
        raw = open_one()
        open_ones.append(raw)
        encoded(raw, batch)
        if len(open_ones) > 50:
            open_ones.popleft().close()
    for raw in open_ones:
        raw.close()
    return len(todo)


def requests(hostport, rng, table):
    def one_by_one(raw, batch):
        for request in batch:
            raw.send({"reply": True, **request})

    return send(lambda: Raw(hostport), rng, table, 4, one_by_one)


def streams(open_stream, rng, table):
    return send(open_stream, rng, table, 40, lambda raw, batch: raw.send(batch))


def graphs(client, rng):
    """What belongs to a graph, around a graph that is none but in this."""
    send, sent = client._send_to_scheduler, 0
    names = ["keys", "internal_priority", "submitting_task", "fifo_timeout", "actors", "code", "annotations"]
    names += ["span_metadata", "stimulus_id", "expr_ser"]
    for name in names:
        for value in HOSTILE:
            client._send_to_scheduler = lambda message: send({**message, name: value})
            client.submit(abs, 1, pure=False).release()
            sent += 1
    client._send_to_scheduler = send
    return sent


def test_no_field_of_any_operation_breaks_the_scheduler(start_cluster, capsys):
    rng = random.Random(SEED)
    cluster = start_cluster()
    handlers, stream_handlers = asyncio.run(tables())
    numbers = iter(range(10, 60_000))

    def worker():
        raw = Raw(cluster.hostport)
        at = next(numbers)
        raw.send(worker_registration(f"raw-{at}", f"tcp://127.0.0.1:{at}"))
        raw.receive()
        return raw

    sent = requests(cluster.hostport, rng, handlers)
    sent += streams(lambda: RawClient(cluster.hostport), rng, stream_handlers)
    sent += streams(worker, rng, stream_handlers)
    with Client(cluster.address, timeout=30) as client:
        sent += graphs(client, rng)
    with capsys.disabled():
        print(f" {sent} hostile messages", end="")
    assert cluster.proc.alive() and "panicked" not in cluster.proc.output(), cluster.proc.output()[-3000:]
    # Plugins that cannot be loaded stop new workers, as they do with stock.
    with Raw(cluster.hostport) as raw:
        for name in [name for name in [*HOSTILE, "n"] if isinstance(name, str)]:
            for kind in ("worker", "nanny"):
                raw.ask(f"unregister_{kind}_plugin", name=name)
    cluster.add_worker("a")
    with Client(cluster.address, timeout=30) as client:
        wait_until(lambda: "a" in [worker["name"] for worker in client.scheduler_info(-1)["workers"].values()], "a")
        assert client.submit(sum, [1, 2], workers=["a"], pure=False).result(timeout=30) == 3
