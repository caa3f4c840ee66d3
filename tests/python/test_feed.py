"""The live feed and the JSON of a scheduler's pages, against real computations.

Owns: what viewers see equals what the scheduler says; slow viewers, reconnects and many viewers; Dask's routes.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import psutil
import pytest
from distributed import Client
from distributed.utils_test import inc

from harness import Cluster, wait_until

DEADLINE_S = 20


@pytest.fixture(scope="module")
def cluster(work_dir):
    with Cluster(work_dir, dashboard=True) as cluster:
        cluster.add_worker("ann", nthreads=2)
        cluster.add_worker("ben", "--resources", "GOLD=1", nthreads=2)
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster.address, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def base(cluster) -> tuple[str, int]:
    return "127.0.0.1", cluster.identity["services"]["dashboard"]


def get(base, path: str, **headers):
    """Status, headers and body."""
    request = urllib.request.Request(f"http://{base[0]}:{base[1]}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def get_json(base, path: str):
    status, _, body = get(base, path)
    assert status == 200, (path, status, body[:500])
    return json.loads(body)


def apply_change(rows: dict, change: dict) -> dict:
    """The rule of the contract, as the page has it."""
    if "full" in change:
        return change["full"]
    rows = {id: row for id, row in rows.items() if id not in change.get("del", [])}
    for id, row in change.get("put", {}).items():
        rows[id] = {**rows.get(id, {}), **row}
    return rows


def read_block(frame: bytes) -> dict:
    kind, version, flags, _, n, first, following, px = struct.unpack_from("<BBBBIIId", frame)
    assert (kind, version) == (2, 1)
    at, columns = 24, {}
    for name, code in [("start", "d"), ("duration", "f"), ("id", "I"), ("lane", "H"), ("prefix", "H"), ("count", "H"), ("action", "B")]:
        columns[name] = struct.unpack_from(f"<{n}{code}", frame, at)
        at += n * struct.calcsize(f"<{code}")
    assert at == len(frame)
    return {"flags": flags, "n": n, "first": first, "next": following, "px": px, **columns}


class Viewer:
    """A page: a WebSocket by hand, so that it can stop reading."""

    def __init__(self, base, want: dict, path: str = "/feed", receive_buffer: int | None = None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(base)
        self.sock.settimeout(DEADLINE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {base[0]}:{base[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.file = self.sock.makefile("rb")
        status = self.file.readline()
        assert b"101" in status, status
        while self.file.readline().strip():
            pass
        self.topics: dict[str, dict] = {}
        self.blocks: list[dict] = []
        self.seq, self.epoch, self.messages, self.bytes = 0, None, [], 0
        self.want(want)

    def want(self, want: dict):
        payload = json.dumps({"v": 1, **want}).encode()
        mask = b"\0\0\0\0"
        head = bytes([0x81, 0x80 | len(payload)]) if len(payload) < 126 else bytes([0x81, 0x80 | 126]) + struct.pack(">H", len(payload))
        self.sock.sendall(head + mask + payload)

    def read(self) -> dict | None:
        """One message; pings are passed over."""
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                return None
            size = head[1] & 0x7F
            if size >= 126:
                size = struct.unpack(">H", self.file.read(2))[0] if size == 126 else struct.unpack(">Q", self.file.read(8))[0]
            payload = self.file.read(size)
            self.bytes += size
            if head[0] & 0x0F == 2:
                break
        if payload[0] == 2:
            block = read_block(payload)
            if block["flags"] & 1:
                self.blocks = []
            self.blocks.append(block)
            return {"block": block}
        message = json.loads(payload[1:])
        self.seq, self.epoch = message.get("seq", self.seq), message.get("epoch", self.epoch)
        for name, change in message["topics"].items():
            self.topics[name] = apply_change(self.topics.get(name, {}), change)
        self.messages.append(message)
        return message

    def until(self, condition, what: str, timeout: float = DEADLINE_S):
        deadline = time.monotonic() + timeout
        while not (value := condition(self)):
            assert time.monotonic() < deadline, f"not within {timeout} s: {what}: {str(self.topics)[:2000]}"
            assert self.read() is not None, f"the feed ended while waiting for {what}"
        return value

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def now_row(viewer: Viewer) -> dict:
    return viewer.topics.get("overview", {}).get("now", {})


def test_what_viewers_see_is_what_the_scheduler_says(cluster, client, base):
    with Viewer(base, {"want": ["overview", "workers", "prefixes", "groups", "memory_by_key"]}) as viewer:
        futures = client.map(inc, range(100), key="seen")
        client.gather(futures)
        viewer.until(lambda v: v.topics.get("prefixes", {}).get("seen", {}).get("memory") == 100, "100 results in memory")
        viewer.until(lambda v: now_row(v).get("memory", 0) >= 100, "the overview counts them")
        assert set(viewer.topics["workers"]) == set(client.scheduler_info()["workers"])
        counts = get_json(base, "/json/counts.json")
        now = now_row(viewer)
        assert (now["workers"], now["threads"]) == (2, 4) == (counts["workers"], counts["cores"])
        assert now["limit"]["what"] in {"client", "nothing"} and now["limit"]["text"]
        viewer.until(lambda v: v.topics.get("memory_by_key", {}).get("seen", {}).get("keys") == 100, "memory by key")
        viewer.until(lambda v: any(g["prefix"] == "seen" for g in v.topics.get("groups", {}).values()), "the group")
        del futures
        viewer.until(lambda v: v.topics["prefixes"].get("seen", {}).get("memory", 0) == 0, "released again")
        viewer.until(lambda v: "seen" not in v.topics["memory_by_key"], "no memory by a key that is gone")
        # Most messages are changes: a row that did not change is not sent again.
        assert all("full" not in m["topics"].get("workers", {}) for m in viewer.messages[5:])


def test_every_topic_is_served(cluster, client, base):
    topics = (
        "overview workers prefixes groups memory_by_key compute_by_key time_by_action system workers_series events "
        "stealing bandwidth fine exceptions shuffle coordination clients graph logs lanes names"
    ).split()
    future = client.submit(inc, 1, key="one")
    future.result()
    with Viewer(base, {"want": [*topics, "nonsense"]}) as viewer:
        viewer.until(lambda v: set(topics) <= set(v.topics), "all topics")
        assert [m["unknown"] for m in viewer.messages if "unknown" in m] == [["nonsense"]]
        viewer.until(lambda v: any(n.get("k") == "one" for n in v.topics["graph"].values()), "the task in the graph")
        assert viewer.topics["graph"]["meta"]["mode"] == "tasks"
        assert client.id in viewer.topics["clients"]
        viewer.until(lambda v: v.topics["system"], "a sample of the system")
        assert "compute" in viewer.topics["time_by_action"]
        viewer.until(lambda v: any(r["context"] == "execute" for r in v.topics["fine"].values()), "fine metrics")


def test_the_stream_shows_every_run(cluster, client, base):
    with Viewer(base, {"want": ["stream"], "stream": {"span": 1}}) as viewer:
        viewer.until(lambda v: v.blocks, "the first block")
        assert viewer.blocks[0]["flags"] & 1
        before = viewer.blocks[-1]["next"]
        client.gather(client.map(lambda x: x, range(200), key="run"))

        def seen(v):
            names = {int(id): row["name"] for id, row in v.topics["names"].items()}
            runs = [p for b in v.blocks for p, i, a in zip(b["prefix"], b["id"], b["action"]) if i >= before and a == 0]
            return sum(names.get(p) == "run" for p in runs) == 200

        viewer.until(seen, "200 runs")
        lanes = viewer.topics["lanes"]
        assert {row["worker"] for row in lanes.values()} <= set(client.scheduler_info()["workers"])
        first = next(i for b in viewer.blocks for i in b["id"] if i >= before)
        rect = get_json(base, f"/api/rect?id={first}")
        assert rect["worker"] in client.scheduler_info()["workers"] and rect["stop"] >= rect["start"]
    status, _, frame = get(base, f"/api/stream?from={time.time() - 60}&to={time.time() + 1}&prefix=run")
    assert status == 200 and sum(read_block(frame)["count"]) >= 200
    # A screen of a few pixels needs few rectangles, and none is lost from the count.
    _, _, frame = get(base, f"/api/stream?from={time.time() - 60}&to={time.time() + 1}&prefix=run&px=10")
    thin = read_block(frame)
    assert thin["n"] < 50 and thin["flags"] & 2 and sum(thin["count"]) >= 200


def test_a_viewer_that_comes_back_gets_what_it_missed(cluster, client, base):
    want = {"want": ["workers", "prefixes"]}
    with Viewer(base, want) as viewer:
        viewer.until(lambda v: v.topics.get("workers"), "the workers")
        seq, epoch, rows = viewer.seq, viewer.epoch, dict(viewer.topics)
    client.submit(inc, 5, key="while-away").result()
    with Viewer(base, {**want, "since": seq, "epoch": epoch}) as back:
        back.topics = rows
        back.until(lambda v: "while-away" in v.topics["prefixes"] or "while" in v.topics["prefixes"], "what was missed")
        assert all("full" not in change for m in back.messages for change in m["topics"].values())
    with Viewer(base, {**want, "since": seq, "epoch": "another"}) as stranger:
        stranger.until(lambda v: v.topics.get("workers"), "the workers")
        assert "full" in next(m["topics"]["workers"] for m in stranger.messages if "workers" in m["topics"])


def test_a_viewer_that_stops_reading_costs_nothing_and_catches_up(cluster, client, base):
    want = {"want": ["overview", "workers", "prefixes", "graph", "stream"], "every": 100}
    with Viewer(base, want, receive_buffer=4096) as slow, Viewer(base, {"want": ["overview"]}) as fast:
        futures = []
        # Enough news to fill every buffer on the way to somebody who does not read.
        deadline = time.monotonic() + 12
        while time.monotonic() < deadline:
            futures.append(client.map(inc, range(len(futures) * 400, len(futures) * 400 + 400), pure=False))
            client.gather(futures[-1])
        fast.until(lambda v: now_row(v).get("memory", 0) >= 400 * len(futures), "the others are served")
        memory = psutil.Process(cluster.proc.pid).memory_info().rss
        assert memory < 400 << 20
        done = now_row(fast)["done_total"]
        slow.until(lambda v: now_row(v).get("done_total", 0) >= done, "it catches up", timeout=60)


def test_twenty_viewers_are_cheap(cluster, client, base):
    viewers = [Viewer(base, {"want": ["overview", "workers", "prefixes", "stream"], "stream": {"px": 0.05}}) for _ in range(20)]
    process = psutil.Process(cluster.proc.pid)
    try:
        client.gather(client.map(inc, range(500), pure=False))
        done = now_done = get_json(base, "/api/state?topics=overview")["overview"]["now"]["done_total"]
        for viewer in viewers:
            viewer.until(lambda v: now_row(v).get("done_total", 0) >= now_done, "all see it")
            assert now_row(viewer)["viewers"] == 20
        fds = process.num_fds()
    finally:
        for viewer in viewers:
            viewer.close()
    wait_until(lambda: process.num_fds() <= fds - 20, "their connections are closed")
    wait_until(
        lambda: get_json(base, "/api/state?topics=overview")["overview"]["now"]["viewers"] == 0, "they are forgotten"
    )
    assert done


def test_fallbacks_without_websockets(cluster, client, base):
    q = urllib.parse.quote(json.dumps({"want": ["overview", "stream"]}))
    polled = get_json(base, f"/feed/poll?q={q}")["messages"]
    topics = {name for m in polled if "json" in m for name in m["json"]["topics"]}
    assert "overview" in topics and any("stream" in m for m in polled)
    connection = http.client.HTTPConnection(*base, timeout=DEADLINE_S)
    connection.request("GET", f"/feed/events?q={q}")
    answer = connection.getresponse()
    assert answer.getheader("content-type").startswith("text/event-stream")
    lines = [answer.readline() for _ in range(2)]
    assert any(line.startswith(b"event: json") for line in lines)
    connection.close()
    assert get(base, "/feed/poll?q=nonsense")[0] == 400


def test_pages_of_other_origins_may_not_watch(base):
    connection = http.client.HTTPConnection(*base, timeout=DEADLINE_S)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "http://evil.example"}
    connection.request("GET", "/feed", headers=upgrade)
    assert connection.getresponse().status == 403
    connection.close()


def test_pages_of_other_sites_may_not_measure_the_hardware(base):
    """A GET needs no permission, so a page that may not read the answer could keep disks and links busy."""
    status, _, body = get(base, "/api/hardware", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    assert status == 403 and b"another site" in body


def explain(base, key) -> dict:
    return get_json(base, f"/api/task?key={urllib.parse.quote(str(key))}")


def test_a_task_page_says_why(cluster, client, base):
    from distributed import Event

    gate = Event("gate", client=client)

    def wait_for(x):
        Event("gate").wait()
        return x

    def fail(x):
        raise ZeroDivisionError(x)

    waited = [client.submit(wait_for, n, key=f"gated-{n}", workers=["ann"]) for n in range(3)]
    after = client.submit(sum, waited, key="after")
    nowhere = client.submit(inc, 1, key="nowhere", resources={"SILVER": 1})
    failed = client.submit(fail, 1, key="failed")
    below = client.submit(inc, failed, key="below")
    wait_until(lambda: failed.status == below.status == "error", "the failure")
    story = explain(base, "after")
    assert story["state"] == "waiting" and story["waits_for_total"] == 3
    assert "waits for 3 of its 3" in story["why"]["text"]
    wait_until(lambda: explain(base, "nowhere")["state"] == "no-worker", "no worker may run it")
    assert "SILVER" in json.dumps(explain(base, "nowhere")["why"])
    wait_until(lambda: "runs on" in explain(base, "gated-0")["why"]["text"], "seen running")
    told = explain(base, "failed")
    assert told["state"] == "erred" and "ZeroDivisionError" in told["exception"]["text"]
    assert any("fail" in line for line in told["exception"]["traceback"])
    assert told["runs"] and not all(run["ok"] for run in told["runs"])
    assert "failed" in explain(base, "below")["why"]["text"]
    with Viewer(base, {"want": ["exceptions", "overview"]}) as viewer:
        cause = viewer.until(lambda v: [c for c in v.topics.get("exceptions", {}).values() if "failed" in c["keys"]], "the cause")
        assert cause[0]["type"] == "ZeroDivisionError" and cause[0]["count"] >= 1
        viewer.until(lambda v: "failed" in (now_row(v).get("problem") or {}).get("text", ""), "the problem by name")
    gate.set()
    assert after.result() == 3
    done = explain(base, "after")
    assert done["state"] == "memory" and done["where"] and done["runs"][-1]["ok"]
    assert [line["finish"] for line in done["story"]][-1] == "memory"
    assert get(base, "/api/task?key=unheard-of")[0] == 404
    worker = next(iter(client.scheduler_info()["workers"]))
    page = get_json(base, f"/api/worker?address={urllib.parse.quote(worker)}")
    assert page["metrics"]["cpu"] >= 0 and "processing" in page
    assert get_json(base, "/api/find?q=gated")["tasks_total"] == 3
    assert get_json(base, "/api/tasks?state=erred")["total"] >= 2
    del nowhere


def frames_named(tree: dict, name: str) -> list[dict]:
    below = [frame for child in tree["children"] for frame in frames_named(child, name)]
    return [tree, *below] if tree["name"] == name else below


def test_workers_are_asked_for_profiles_logs_and_stacks(cluster, client, base):
    def spin():
        end = time.time() + 1.5
        while time.time() < end:
            sum(range(1000))

    client.submit(spin, key="spin").result()
    tree = wait_until(lambda: (t := get_json(base, "/api/profile"))["value"] and t, "a profile", timeout=30)
    assert "spin" in json.dumps(tree) and tree["seconds_per_sample"] > 0
    # Nearly all of its time is its own: workers count that at its caller, the page must not.
    own = get_json(base, "/api/profile?prefix=spin")
    assert sum(frame["value"] for frame in frames_named(own, "spin")) * tree["seconds_per_sample"] > 0.5
    worker = next(iter(client.scheduler_info()["workers"]))
    assert get_json(base, f"/api/workers/logs?address={urllib.parse.quote(worker)}")["lines"]
    assert get_json(base, "/api/callstack") == {}
    trace = get_json(base, "/api/trace.json")
    assert any(event.get("args", {}).get("key") == "spin" for event in trace["traceEvents"])


def test_routes_that_dasks_tools_know(cluster, client, base):
    plots = get_json(base, "/individual-plots.json")
    assert plots["Individual Task Stream"] == "/individual-task-stream"
    for path in [*plots.values(), "/status", "/workers", "/tasks", "/system", "/profile", "/graph", "/groups", "/info/main/workers.html"]:
        status, headers, body = get(base, path)
        assert status == 200 and headers["content-type"].startswith("text/html"), path
        # Strangers may show plots, which have no buttons, and nothing else.
        who = "*" if path.startswith("/individual-") else "'self'"
        assert f"frame-ancestors {who};" in headers["content-security-policy"], path
        assert b"<html" in body
    status, headers, _ = get(base, "/status")
    assert get(base, "/status", **{"If-None-Match": headers["etag"]})[0] == 304
    assert get(base, "/health")[2] == b"ok"
    assert get_json(base, "/api/v1/get_workers")["num_workers"] == 2
    assert "workers" in get_json(base, "/api/v1/adaptive_target") and "idle_since" in get_json(base, "/api/v1/check_idle")
    assert len(get_json(base, "/sitemap.json")["paths"]) > 40
    metrics = get(base, "/metrics")[2].decode()
    assert "dask_scheduler_workers" in metrics
    assert get(base, "/no-such-page")[0] == 404


def rask(cluster, base, *args: str) -> str:
    """The command line's answer about this cluster."""
    from harness import rask_bin

    line = [rask_bin(), *args, "--url", f"http://{base[0]}:{base[1]}/status"]
    done = subprocess.run(line, env=cluster.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_terminal_says_the_same(cluster, client, base):
    client.submit(inc, 41, key="told").result()
    future = client.submit(inc, 1, key="stays")
    future.result()
    explained = rask(cluster, base, "explain", "stays")
    assert explained.startswith("stays is memory.\nIt is done and in memory.") and "compute" in explained
    text = rask(cluster, base, "top", "--once")
    assert "workers 2" in text and "ann" in text and "stays" in text
    from harness import rask_bin

    unknown = [rask_bin(), "explain", "unheard-of", "--url", f"http://{base[0]}:{base[1]}"]
    done = subprocess.run(unknown, env=cluster.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "knows no task unheard-of" in done.stderr


def test_computations_follow_one_another(cluster, client, base):
    with Viewer(base, {"want": ["computations"]}) as viewer:
        client.gather(client.map(inc, range(20), key="first"))

        def complete(v):
            return [c for c in v.topics.get("computations", {}).values() if c["tasks"] >= 20 and c["stop"] and c["done"] >= 20]

        done = viewer.until(complete, "a complete computation")[-1]
        assert done["stop"] >= done["start"] and done["groups"]


def test_a_performance_report_holds_its_data(cluster, client, base, tmp_path):
    from distributed import performance_report

    path = tmp_path / "report.html"

    async def work():
        async with Client(cluster.address, asynchronous=True) as client:
            async with performance_report(str(path)):
                await client.gather(client.map(inc, range(30), key="reported"))

    asyncio.run(work())
    text = path.read_text()
    assert "<html" in text and "reported" in text
    assert "http://" not in text.split("rask-data")[0] or "src=\"http" not in text
    if 'id="rask-data"' in text:
        data = text.split('id="rask-data" type="application/json">', 1)[1].split("</script>", 1)[0]
        data = json.loads(data)
        assert data["topics"]["prefixes"]["reported"]["done"] >= 30
        block = read_block(base64.b64decode(data["stream"]))
        assert sum(block["count"]) >= 30


def test_pages_are_served_on_a_private_socket(work_dir):
    folder = work_dir / "named"
    folder.mkdir()
    path = folder / "http.sock"
    with Cluster(work_dir, args=("--http-socket", str(path))):
        wait_until(path.exists, "the socket")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        sock.sendall(b"GET /api/where HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = sock.makefile("rb").read().decode()
        sock.close()
        where = json.loads(answer.split("\r\n\r\n", 1)[1])
        assert (where["kind"], where["name"], where["actions"]) == ("cluster", "named", True)
    assert not path.exists()


def test_the_appliance_leads_to_the_pages_of_its_clusters(tmp_path):
    from test_up import Home

    home = Home(tmp_path)
    try:
        up = home.up()
        host, port = up.http.removeprefix("http://").split(":")
        front = (host, int(port))
        assert get_json(front, "/api/where")["kind"] == "appliance"
        where = get_json(front, "/clusters/local/api/where")
        assert (where["kind"], where["name"]) == ("cluster", "local")
        with Client(up.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=40)  # it is up with the first
            assert client.submit(inc, 1, key="through-the-door").result() == 2
            with Viewer(front, {"want": ["overview", "prefixes", "stream"]}, path="/clusters/local/feed") as viewer:
                viewer.until(lambda v: now_row(v).get("done_total", 0) >= 1 and v.blocks, "the feed through the proxy")
            assert get_json(front, "/clusters/local/api/find?q=through")["prefixes"]
        # Dask's own addresses mean the cluster `local`, wherever they are asked for.
        status, headers, _ = get(front, "/status")
        assert status == 200 and headers["content-type"].startswith("text/html")
        assert get_json(front, "/individual-plots.json")["Individual Progress"] == "/individual-progress"
        assert get_json(front, "/json/counts.json")["workers"] == 2
        assert get(front, "/clusters/local")[0] == 200
        assert get(front, "/clusters/nobody/status")[0] == 404
        top = home.run("top", "--once")
        assert top.returncode == 0 and "workers 2" in top.stdout, top.stderr
    finally:
        for proc in home.procs:
            proc.stop()
