"""What a peer must not be able to break. Every test ends with the cluster computing for another client."""

from __future__ import annotations

import os
import pickle
import random
import struct
import subprocess
import sys
import time

import dask
import msgpack
import pytest
from dask import delayed
from distributed import Client, wait

from harness import running_workers, scheduler_kind, wait_until
from rawdask import HELLO, Raw, RawClient, encode, frames, pickled, worker_registration

RASK = scheduler_kind() == "rask"
rask_only = pytest.mark.skipif(not RASK, reason="stock does not survive or answer this")


def inc(x):
    return x + 1


@pytest.fixture(autouse=True)
def undisturbed(client):
    """Before and after: the same client computes on both workers."""
    yield
    assert client.submit(inc, random.random(), pure=False).result(timeout=15)
    assert running_workers(client) == ["alice", "bob"]


@pytest.fixture
def connect(cluster):
    mine = []

    def connect(cls=Raw, **kw):
        mine.append(cls(cluster.hostport, **kw))
        return mine[-1]

    yield connect
    for raw in mine:
        raw.close()


def refused(raw: Raw, cluster):
    """Rask closes the connection and names the peer in one line of its log; stock may do either or neither."""
    if RASK:
        assert raw.closed()
        named = lambda: [line for line in cluster.proc.output().splitlines() if f":{raw.port}" in line]
        wait_until(named, "the log names the peer", 5)


# --- before the handshake ------------------------------------------------------------------------

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "ones": b"\xff" * 4096,
    "no frames": struct.pack("<QQ", 8, 0),
    "not msgpack": frames([b"\xc1\xc1\xc1"]),
    "not a map": encode("hello"),
    "wrong types": encode({"compression": 5, "python": "three", "pickle-protocol": "new"}),
    "nothing in it": encode({}),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_instead_of_a_handshake(cluster, connect, data):
    raw = connect(hello=None)
    raw.send_bytes(data)
    if data is not GARBAGE["http"]:  # which may be answered as HTTP
        refused(raw, cluster)


def test_silence_blocks_nobody(client, connect):
    silent = [connect(hello=None) for _ in range(20)]
    half = [connect() for _ in range(20)]
    assert client.gather(client.map(inc, range(20), pure=False)) == list(range(1, 21))
    assert half[0].ask("identity", n_workers=0)["type"] == "Scheduler"
    del silent


def test_a_handshake_and_a_request_byte_by_byte(connect):
    raw = connect(hello=None)
    for byte in encode(HELLO) + encode({"op": "identity", "n_workers": 0, "reply": True}):
        raw.send_bytes(bytes([byte]))
    assert raw.receive()["pickle-protocol"] >= 4
    assert raw.receive()["type"] == "Scheduler"


# --- frames --------------------------------------------------------------------------------------

TOO_MUCH = {
    "total": struct.pack("<QQQ", 2**63, 1, 2**63) + b"x" * 100,
    "number of frames": struct.pack("<QQ", 100, 2**63) + b"x" * 100,
    "number of frames, all bits": struct.pack("<QQ", 100, 2**64 - 1) + b"x" * 100,
    "length of a frame": struct.pack("<QQQ", 50, 1, 2**63) + b"x" * 100,
    "sum of lengths wraps": struct.pack("<QQQQQ", 50, 3, 2**63, 2**63, 2) + b"x" * 100,
}


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH)
def test_lengths_that_nobody_can_hold(cluster, connect, data):
    if not RASK and "frames" in next(k for k, v in TOO_MUCH.items() if v is data):
        pytest.skip("stock asks the operating system for that much")
    raw = connect()
    raw.send_bytes(data)
    refused(raw, cluster)


def test_messages_cut_at_every_place(cluster, connect):
    whole = encode({"op": "identity", "reply": True, "n_workers": 0})
    for at in (1, 7, 8, 15, 16, 20, 24, 25, len(whole) - 1):
        raw = connect()
        raw.send_bytes(whole[:at])
        raw.close()


def test_a_million_frames(connect):
    raw = connect()
    body = msgpack.packb({"op": "identity", "reply": True, "n_workers": 0})
    n = 1_000_000
    try:
        raw.send_bytes(struct.pack("<QQQ", 0, n, len(body)) + bytes(8 * (n - 1)) + body)
        assert raw.receive()["type"] == "Scheduler"  # legal, if costly
    except (EOFError, ConnectionError):
        pass  # over a limit


def test_orphan_and_empty_frames_are_ignored(connect):
    raw = connect()
    raw.send({"op": "identity", "reply": True, "n_workers": 0}, b"", b"nobody points here", b"")
    assert raw.receive()["type"] == "Scheduler"


DEEP = {
    "arrays": b"\x91" * 200_000 + b"\xc0",
    "maps": b"\x81\xa1x" * 200_000 + b"\xc0",
    "huge array": b"\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge string": b"\xdb\xff\xff\xff\xff",
    "cut": msgpack.packb({"op": "identity", "reply": True})[:-1],
    "trailing": msgpack.packb({"op": "identity", "reply": True}) + b"\x01",
    "bad utf-8": b"\x82\xa2op\xa2\xff\xfe\xa5reply\xc3",
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
def test_msgpack_that_is_none(cluster, connect, body):
    raw = connect()
    raw.send_bytes(frames([body]))
    refused(raw, cluster)


@pytest.mark.parametrize("reference", [{"__Serialized__": 7}, {"__Serialized__": -1}, {"__Serialized__": "x"}, {"__Pickled__": 99}])
def test_references_to_frames_that_are_not_there(connect, reference):
    raw = connect()
    raw.send({"op": "scatter", "reply": True, "data": {"k": reference}, "client": "c", "workers": None, "broadcast": False, "timeout": 2})
    try:
        answer = raw.receive()
        assert answer is None or answer.get("status") in ("error", "uncaught-error")
    except (EOFError, ConnectionError):
        pass


# --- requests ------------------------------------------------------------------------------------


def test_unknown_operations_get_nil_and_the_connection_stays(connect):
    raw = connect()
    assert raw.ask("no-such-operation", x=1) is None
    raw.send({"op": "no-such-operation", "reply": False})
    raw.send({"op": "identity", "n_workers": 0, "reply": True, 5: None, ("a", 1): 2.5})
    answer = raw.receive()
    assert answer is None or answer.get("type") == "Scheduler" or "error" in answer["status"]


WRONG = [5, "text", None, True, 2.5, b"bytes", [], {}, [5], [None], {"op": 5}, {"op": None}, {"op": ["identity"]}, {"reply": True}]


@pytest.mark.parametrize("message", WRONG, ids=repr)
def test_messages_that_are_no_requests(connect, message):
    raw = connect()
    raw.send(message)
    raw.send({"op": "identity", "n_workers": 0, "reply": True})
    try:
        for _ in range(2):
            answer = raw.receive()
            assert answer is None or isinstance(answer, (dict, tuple))
            if isinstance(answer, dict) and answer.get("type") == "Scheduler":
                break
    except (EOFError, ConnectionError):
        pass


FIELDS = [
    ("gather", {"keys": 5}),
    ("gather", {}),
    ("who_has", {"keys": {"a": 1}}),
    ("scatter", {"data": "x", "workers": 5, "client": None, "broadcast": "all"}),
    ("update_data", {"who_has": [1, 2], "nbytes": None}),
    ("register-worker", {"address": 5}),
    ("register_nanny", {"address": None}),
    ("heartbeat_worker", {"address": ["x"], "now": "yesterday", "metrics": 5}),
    ("semaphore_acquire", {"name": None, "timeout": "never", "lease_id": {}}),
    ("queue_get", {"name": {"a": 1}, "timeout": "soon"}),
    ("variable_get", {"timeout": []}),
    ("event_wait", {"name": "x", "timeout": "x"}),
    ("retire_workers", {"workers": 7}),
    ("restart_workers", {"workers": 7.5}),
    ("broadcast", {"msg": "not a message"}),
    ("proxy", {"msg": {"op": "x"}, "worker": 5}),
    ("set_metadata", {"keys": 5}),
    ("get_metadata", {"keys": [[[]]]}),
    ("log_event", {"topic": None}),
    ("replicate", {"keys": ["nothing"], "n": "two"}),
    ("get_runspec", {"key": "nothing"}),
    ("run_function", {"function": b"not a pickle", "args": b"", "kwargs": b""}),
    ("register_worker_plugin", {"plugin": 5, "name": None}),
    ("adaptive_target", {"target_duration": "often"}),
    ("workers_to_close", {"n": "many"}),
    ("shuffle_get", {"id": "nothing", "worker": "nobody"}),
    ("publish_get", {"names": 5}),
    ("get_task_stream", {"start": "then"}),
    ("retry", {"keys": "x", "client": None}),
]


@pytest.mark.parametrize("op, fields", FIELDS, ids=[f"{op}-{i}" for i, (op, _) in enumerate(FIELDS)])
def test_fields_of_wrong_types_are_answered(connect, op, fields):
    raw = connect(timeout=20)
    try:
        raw.ask(op, **fields)  # an error, nil or an empty answer: but an answer
    except (EOFError, ConnectionError):
        pass  # or the end of this connection


STREAM = [
    {"op": "update-graph"},
    {"op": "update-graph", "graph_header": {}, "graph_frames": [], "keys": ["x"]},
    {"op": "update-graph", "expr_ser": 5, "keys": "x", "internal_priority": [], "annotations": None},
    {"op": "client-releases-keys", "keys": 5, "client": None},
    {"op": "client-desires-keys", "keys": {"a": 1}, "client": [1]},
    {"op": "cancel-keys", "keys": None, "force": "maybe"},
    {"op": "report-key"},
    {"op": "variable_delete", "name": {}},
    {"op": "queue-future-release"},
    {"op": "heartbeat-client", "extra": 1},
    {"op": "no-such-op"},
    {"no": "op"},
    5,
    ["list"],
]


def test_rubbish_on_a_client_stream(client, connect):
    for message in STREAM:
        raw = connect(RawClient)
        raw.send([message])
        raw.send([{"op": "heartbeat-client"}])
    held = client.submit(inc, 1, key="held-while-rubbish")
    assert held.result(timeout=15) == 2


def test_releases_of_unknown_and_foreign_keys(client, connect):
    future = client.submit(inc, 1, key="not-yours")
    wait(future)
    raw = connect(RawClient)
    raw.send([{"op": "client-releases-keys", "keys": ["unknown", "not-yours", ("t", 1)], "client": raw.name}])
    raw.send([{"op": "cancel-keys", "keys": ["not-yours", "unknown"], "force": False, "client": raw.name, "reason": "r", "msg": "m"}])
    raw.send([{"op": "report-key", "key": "unknown"}])
    while True:  # the answer to the last shows that all were handled
        messages = raw.receive()
        if any(m["op"] == "cancelled-keys" and "unknown" in m["keys"] for m in messages):
            break
    assert future.status == "finished" and future.result() == 2


# --- graphs --------------------------------------------------------------------------------------


def send_graph(raw, value, keys, **more):
    reference, payload = pickled(value)
    fields = {"internal_priority": None, "submitting_task": None, "fifo_timeout": "60s", "actors": False, "code": (), "annotations": {}, "span_metadata": {}}
    raw.send([{"op": "update-graph", "expr_ser": reference, "keys": {"__Set__": True, "as-list": keys}, **fields, **more}], *payload)


def erred_keys(raw) -> set:
    seen: set = set()
    for message in raw.receive():
        if message["op"] == "task-erred":
            seen.add(message["key"])
        elif message["op"] == "cancelled-keys":
            seen.update(message["keys"])
    return seen


@pytest.mark.parametrize("value", [5, "x", {"a": 1}, object(), ValueError], ids=lambda value: type(value).__name__)
def test_a_graph_that_is_no_graph_fails_its_keys(connect, value):
    if value == {"a": 1}:
        pytest.skip("an empty collection is tolerated: recreate_* sends one")
    raw = connect(RawClient)
    send_graph(raw, object if type(value) is object else value, ["bad-graph"])
    wait_until(lambda: "bad-graph" in erred_keys(raw), "its key is reported as failed", 15)


def test_a_graph_that_is_no_pickle_fails_its_keys(connect):
    raw = connect(RawClient)
    for i, body in enumerate([b"", b"\x80\x05", b"garbage", b"\x80\x05" + b"(" * 100_000, b"\x80\x05\x95" + b"\xff" * 8]):
        reference, (header, _) = pickled(None)
        raw.send(
            [{"op": "update-graph", "expr_ser": reference, "keys": {"__Set__": True, "as-list": [f"no-pickle-{i}"]},
              "internal_priority": None, "submitting_task": None, "fifo_timeout": "60s", "actors": False, "code": (),
              "annotations": {}, "span_metadata": {}}], header, body,
        )  # fmt: skip
        wait_until(lambda: f"no-pickle-{i}" in erred_keys(raw), "its key is reported as failed", 15)


class Trap:
    """Unpickles by calling something: `delayed` graphs are opened in Python, so it is called where the graph is opened."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args

    def __dask_tokenize__(self):
        return random.random()


def raise_on_load(text):
    raise RuntimeError(text)


def trapped(call, *args):
    # Two tasks, so that no shortcut for single calls applies.
    return delayed(lambda a, b: (a, b))(Trap(call, *args), delayed(inc)(random.random()))


def fresh_graph(client, timeout=40):
    """A graph that must be opened in Python computes."""
    x = random.random()
    return client.compute(delayed(inc)(delayed(inc)(x))).result(timeout=timeout) == x + 2


def test_a_graph_that_raises_when_opened(client):
    with pytest.raises(Exception, match="(?i)on purpose|deserializ"):
        client.compute(trapped(raise_on_load, "on purpose")).result(timeout=30)
    assert fresh_graph(client)


@pytest.mark.parametrize("call, args", [(print, ("noise " * 1000,)), (os.write, (1, b"\x00\xff noise\n" * 1000))], ids=["print", "write"])
def test_a_graph_that_prints_when_opened(client, call, args):
    client.compute(trapped(call, *args)).result(timeout=30)
    assert fresh_graph(client)


@rask_only
@pytest.mark.parametrize("call, args", [(os._exit, (3,)), (os.abort, ()), (sys.exit, (1,))], ids=["exit", "abort", "sys.exit"])
def test_a_graph_that_kills_the_process_that_opens_it(client, second, call, args):
    bad = second.compute(trapped(call, *args))
    with pytest.raises(Exception):
        bad.result(timeout=40)
    assert bad.status in ("error", "cancelled") and fresh_graph(client)


@rask_only
def test_a_graph_that_hangs_when_opened(client, cluster):
    with Client(cluster.address, set_as_default=False, timeout=10) as other:
        hanging = other.compute(trapped(time.sleep, 3600))
        t0 = time.monotonic()
        assert client.submit(inc, 1, pure=False).result(timeout=10) == 2
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        assert time.monotonic() - t0 < 5 and hanging.status == "pending"
        # Another client's graph is opened although one hangs.
        assert fresh_graph(client, timeout=50)
    assert fresh_graph(client)


def test_graphs_with_huge_keys_and_many_keys(client):
    key = "k" * 100_000
    assert client.submit(inc, 1, key=key).result() == 2
    graph = {f"wide-{i}": (inc, i) for i in range(2000)} | {"top": (sum, [f"wide-{i}" for i in range(2000)])}
    assert client.get(graph, "top") == sum(range(1, 2001))


def test_missing_dependencies_cancel_the_graph(client):
    from dask._task_spec import Task, TaskRef

    future = client.get({"x": Task("x", inc, TaskRef("nowhere"))}, ["x"], sync=False)[0]
    wait_until(lambda: future.status in ("cancelled", "error"), "a graph with a hole is refused")


# --- clients -------------------------------------------------------------------------------------

DOOMED = """
import os, sys, time
from distributed import Client
client = Client(sys.argv[1])
def slow(x):
    import time
    time.sleep(0.05)
    return x
first = client.map(slow, range(500), key="doomed")
second = client.map(slow, first, key="doomed-too")
first[0].result()
print("busy", flush=True)
time.sleep(60)
"""


def test_a_client_that_dies_amid_its_graph_leaves_nothing(cluster, client):
    doomed = subprocess.Popen([sys.executable, "-c", DOOMED, cluster.address], stdout=subprocess.PIPE, text=True, env=cluster.env)
    try:
        assert doomed.stdout.readline() == "busy\n"
    finally:
        doomed.kill()
        doomed.wait()
    wait_until(lambda: client.who_has() == {}, "its tasks are forgotten", 20)


def test_a_client_that_never_reads(cluster, client, connect):
    raw = connect(RawClient)
    raw.send([{"op": "subscribe-topic", "topic": "flood", "client": raw.name}])
    wait_until(lambda: client.log_event("flood", {"n": 0}) or len(client.get_events("flood")) > 3, "events flow", period=0.01)
    asking = connect()
    asking.sock.settimeout(2)
    try:
        for _ in range(20_000):
            asking.send({"op": "identity", "reply": True, "n_workers": -1})
    except OSError:
        pass  # it stopped listening to one that does not read: good
    text = "x" * 1_000_000
    for _ in range(60):
        client.log_event("flood", text)
    t0 = time.monotonic()
    assert client.gather(client.map(inc, range(50), pure=False)) == list(range(1, 51))
    assert time.monotonic() - t0 < 10


def test_a_client_that_registers_twice_and_again(connect):
    raw = connect(RawClient)
    raw.send([{"op": "register-client", "client": raw.name, "reply": False, "versions": {}}])
    again = connect()
    again.send({"op": "register-client", "client": raw.name, "reply": False, "versions": {}})
    again.receive()
    raw.close()


# --- workers -------------------------------------------------------------------------------------


def register(raw, name, address):
    raw.send(worker_registration(name, address))
    return raw.receive()


def test_a_second_worker_of_the_same_name_is_refused(connect):
    raw = connect()
    answer = register(raw, "alice", "tcp://127.0.0.1:1")
    assert answer["status"] == "error" and "alice" in answer["message"]


@rask_only
def test_a_second_worker_of_the_same_address_is_refused(client, connect):
    raw = connect()
    answer = register(raw, "impostor", next(iter(client.ncores())))
    assert answer["status"] == "error" and answer["message"]


def test_heartbeats_of_unknown_workers_are_told_so(connect):
    answer = connect().ask("heartbeat_worker", address="tcp://127.0.0.1:1", now=time.time(), metrics={}, executing={}, extensions={})
    assert answer == {"status": "missing"}


RUBBISH = [
    {"op": "task-finished", "key": "unknown", "run_id": 3, "nbytes": 1, "type": b"", "typename": "x", "metadata": {}, "thread": 1, "startstops": (), "status": "OK", "stimulus_id": "s"},
    {"op": "task-finished", "key": "unknown"},
    {"op": "task-erred", "key": ("a", 1), "run_id": "x", "exception": 5, "traceback": None, "stimulus_id": "s"},
    {"op": "add-keys", "keys": ["unknown", 5, ("x",)], "stimulus_id": "s"},
    {"op": "release-worker-data", "key": "unknown", "stimulus_id": "s"},
    {"op": "long-running", "key": "unknown", "run_id": 1, "compute_duration": "long", "stimulus_id": "s"},
    {"op": "reschedule", "key": "unknown", "stimulus_id": "s"},
    {"op": "steal-response", "key": "unknown", "state": "ready", "stimulus_id": "s"},
    {"op": "missing-data", "key": "unknown", "errant_worker": "nobody", "stimulus_id": "s"},
    {"op": "worker-status-change", "worker": "tcp://127.0.0.1:1", "status": "dancing", "stimulus_id": "s"},
    {"op": "log-event", "topic": 5, "msg": None},
    {"op": "no-such-op"},
    7,
]


def test_rubbish_on_a_worker_stream(client, connect):
    for i, message in enumerate(RUBBISH):
        raw = connect()
        # never "running": no task is sent to it
        answer = worker_registration(f"rubbish-{i}", f"tcp://127.0.0.1:{i + 1}") | {"status": "paused"}
        raw.send(answer)
        assert raw.receive()["status"] == "OK"
        raw.send([message])
        assert client.submit(inc, i, pure=False).result(timeout=15) == i + 1
        raw.close()
    wait_until(lambda: len(client.ncores()) == 2, "the rubbish workers are gone")


def test_a_worker_that_takes_tasks_and_dies(client, connect):
    raw = connect()
    raw.send(worker_registration("brief", "tcp://127.0.0.1:1"))
    assert raw.receive()["status"] == "OK"
    futures = client.map(inc, range(50), pure=False)
    raw.close()
    assert client.gather(futures) == list(range(1, 51))


def test_pickle_is_never_opened_for_reading_a_message(cluster, connect, tmp_path):
    """A pickle in a field that the scheduler itself reads must not run in the scheduler's process."""
    mark = tmp_path / "opened"
    body = pickle.dumps(Trap(os.system, f"touch {mark}"))
    raw = connect()
    header = msgpack.packb({"pickled-obj": body, "compression": [], "num-sub-frames": 0})
    raw.send({"op": "set_metadata", "reply": True, "keys": ["trap"], "value": {"__Pickled__": 1}}, header)
    raw.receive()
    if RASK:
        assert not mark.exists()
