"""Other users of the same machine: what they get from the ports of what rask starts, which is nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from distributed import Client, get_client, get_worker, worker_client

import lan as lans
from appliance import Appliance
from harness import Cluster, rask_bin, scheduler_kind, wait_until
from lan import Head, Lan
from rawdask import HELLO, Raw, encode

# Another user, for real. The interpreter must be one that this user can read, which an environment of root's is not.
PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
AS_ANOTHER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(PYTHON), "-I", "-c"]

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="what rask starts"),
    pytest.mark.skipif(os.getuid() != 0 or not PYTHON or not shutil.which("setpriv"), reason="needs root and setpriv"),
]

# Standard input: {"ports": [...], "says": [base64, ...]}. Prints what each port answered to each, as {port: [text, ...]}.
STRANGER = """
import base64, json, os, socket, sys
assert os.getuid() == 65534
asked = json.load(sys.stdin)
told = {}
for host, port in asked["ports"]:
    for said in asked["says"]:
        got = b""
        try:
            with socket.create_connection((host, port), timeout=5) as s:
                s.sendall(base64.b64decode(said))
                s.settimeout(2)
                while part := s.recv(65536):
                    got += part
        except OSError as error:
            pass
        told.setdefault(f"{host}:{port}", []).append(got[:200].decode("latin-1"))
print(json.dumps(told))
"""


def stranger(ports, says: list[bytes]) -> dict[str, list[str]]:
    asked = json.dumps({"ports": ports, "says": [b64encode(said).decode() for said in says]})
    ended = subprocess.run([*AS_ANOTHER, STRANGER], input=asked, capture_output=True, text=True, timeout=150, cwd="/")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def family(folder: Path) -> list[psutil.Process]:
    """Every process that was started with this state folder: clusters' processes outlive their parents."""
    mine = f"RASK_STATE_DIR={folder / 'state'}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            if mine in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            pass
    return found


def with_children(proc) -> list[psutil.Process]:
    return [psutil.Process(proc.pid), *proc.children()]


def ports_of(processes) -> dict[tuple[str, int], int]:
    """Where they listen, and which process."""
    found = {}
    for process in processes:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        found |= {(c.laddr.ip, c.laddr.port): process.pid for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def inc(x):
    return x + 1


def nested(x):
    with worker_client() as client:
        return client.submit(inc, x).result() + get_client().submit(inc, x).result()


def big(i):
    return bytes(1_000_000) + bytes([i])


def test_no_port_of_the_appliance_answers_another_user(work_dir, tmp_path):
    tmp_path.chmod(0o777)
    with Appliance(work_dir / "strangers", local=True) as appliance:
        address = appliance.up["scheduler"]
        with Client(address, timeout=60) as client, Client(address, timeout=60, direct_to_workers=True) as direct:
            client.wait_for_workers(2, timeout=60)
            workers = client.scheduler_info(n_workers=-1)["workers"]
            ports = ports_of(family(appliance.folder))
            listen = {int(at.rpartition(":")[2]) for address, worker in workers.items() for at in (address, worker["nanny"])}
            assert len(listen) == 4 and listen <= {port for _, port in ports}, "a worker and its nanny listen"

            mark = tmp_path / "ran"
            run = {"op": "run", "function": pickle.dumps(mark.touch), "args": pickle.dumps(()), "reply": True}
            says = [
                encode(HELLO) + encode({"op": "identity", "reply": True}),
                encode(HELLO) + encode(run),
                b"GET /info/main/workers.html HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ]
            # The method is sound: said by the owner, it works.
            host, port = next(iter(client.run(os.getpid))).removeprefix("tcp://").split(":")
            assert ask_as_owner((host, int(port)), run) and mark.exists()
            mark.unlink()

            told = stranger(sorted(ports), says)
            assert len(told) == len(ports)
            assert {at: said for at, said in told.items() if any(said)} == {}
            assert not mark.exists()

            # A worker that its nanny started anew asks as well.
            victim = client.submit(lambda: get_worker().name, pure=False).result()
            pid = client.run(os.getpid, workers=[victim_address(client, victim)]).popitem()[1]
            psutil.Process(pid).kill()
            # The killed one may still be listed when it is asked.
            pids = lambda: set(client.run(os.getpid, on_error="ignore").values())
            wait_until(lambda: pid not in (now := pids()) and len(now) == 2, "its nanny starts another", 60)
            anew = {at: of for at, of in ports_of(family(appliance.folder)).items() if at not in ports}
            assert anew
            assert not any(any(said) for said in stranger(sorted(anew), says).values())

            # The owner notices nothing: through the scheduler, past it, from tasks, and between workers.
            assert client.submit(inc, 1).result() == 2
            data = direct.scatter(list(range(20)), direct=True)
            assert direct.gather(direct.map(inc, data), direct=True) == list(range(1, 21))
            assert client.submit(nested, 1).result() == 4
            names = [w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]
            here, there = client.submit(big, 1, workers=names[0]), client.submit(big, 2, workers=names[1])
            both = lambda a, b: (get_worker().name, len(a) + len(b))
            for name in names:
                # One of the two lies on the other worker.
                assert client.submit(both, here, there, workers=name, pure=False).result() == (name, 2_000_002)


@pytest.mark.parametrize("processes", [True, False])
def test_no_port_of_a_scripts_own_cluster_answers_another_user(tmp_path, monkeypatch, processes):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("RASK_BIN", rask_bin())
    here = psutil.Process()
    listening = lambda: ports_of([here, *here.children(recursive=True)])
    before = listening()
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": processes, "dashboard_address": "127.0.0.1:0"}
    # Not at the top: workers import this file, and the package is not on their path.
    import rask

    with rask.LocalCluster(**options) as cluster:
        with cluster.get_client() as client:
            ports = {at: pid for at, pid in listening().items() if at not in before}
            # The scheduler and its pages; a worker and its page; its nanny.
            assert len(ports) == (5 if processes else 4), ports
            mark = tmp_path / "ran"
            run = {"op": "run", "function": pickle.dumps(mark.touch), "args": pickle.dumps(()), "reply": True}
            says = [encode(HELLO) + encode({"op": "identity", "reply": True}), encode(HELLO) + encode(run), PAGE]
            host, port = cluster.workers[0].address.removeprefix("tcp://").split(":")
            assert ask_as_owner((host, int(port)), run) and mark.exists()
            mark.unlink()
            told = stranger(sorted(ports), says)
            assert {at: said for at, said in told.items() if any(said)} == {}
            assert not mark.exists()
            assert client.submit(inc, 1).result() == 2


PAGE = b"GET /workers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def page_port(cluster) -> tuple[str, int]:
    return "127.0.0.1", cluster.identity["services"]["dashboard"]


def test_a_scheduler_on_loopback_answers_its_owner_only(start_cluster):
    """`rask scheduler` by itself: the port of clients and workers, and the port of its pages, whose buttons stop work."""
    cluster = start_cluster(worker="rask", dashboard=True)
    cluster.add_worker("a", nthreads=1, nanny=True)
    ports = [cluster.hostport, page_port(cluster)]
    says = [encode(HELLO) + encode({"op": "identity", "reply": True}), PAGE]
    told = stranger(ports, says)
    assert len(told) == 2 and not any(any(said) for said in told.values())
    # Whoever looks into the log reads who it was; however often they try, it is a line.
    assert "it belongs to another user (id 65534), who is not in security.allow_users" in cluster.proc.output()
    assert cluster.proc.output().count("connection refused") <= 2
    assert not any(any(said) for said in stranger(ports * 5, says[:1]).values())
    assert cluster.proc.output().count("connection refused") <= 2

    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(nested, 1).result() == 4
    with urlopen(f"http://127.0.0.1:{page_port(cluster)[1]}/workers", timeout=30) as page:
        assert page.status == 200


def test_a_scheduler_for_any_user_answers_them(start_cluster):
    cluster = start_cluster(args=("--any-user",), dashboard=True)
    hello, page = stranger([cluster.hostport, page_port(cluster)], [encode(HELLO), PAGE]).values()
    assert hello[0] and "200 OK" in page[1]


def test_users_that_are_allowed_get_answers_from_a_scheduler(start_cluster):
    cluster = start_cluster(env={"RASK_SECURITY__ALLOW_USERS": "[65534]"}, dashboard=True)
    hello, page = stranger([cluster.hostport, page_port(cluster)], [encode(HELLO), PAGE]).values()
    assert hello[0] and "200 OK" in page[1]


# Arguments: host, port, how many. Says so when that many were opened, and holds on to them until its input ends.
CROWD = """
import socket, sys
held = []
for _ in range(int(sys.argv[3])):
    try:
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20))
    except OSError:
        pass
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("port", ["appliance", "scheduler"])
def test_silent_connections_of_another_user_cost_the_owner_nothing(work_dir, start_cluster, port):
    """They are more than all connections that there may be, and stay open until they are told to go."""
    if port == "appliance":
        with Appliance(work_dir / "crowd", "[limits]\nconnections = 40\nhandshake = '100s'\n") as appliance:
            at, log = appliance.hostport, appliance.proc.output
            crowded(at, log, lambda: appliance.ask("GET", "/health", timeout=20).status == 200)
    else:
        cluster = start_cluster(env={"RASK_LIMITS__CONNECTIONS": "40", "RASK_LIMITS__HANDSHAKE": "100s"})
        crowded(cluster.hostport, cluster.proc.output, lambda: ask_as_owner(cluster.hostport, {"op": "identity", "reply": True}))


# Argument: host and port. Says so if there is an answer over TLS, whatever it is.
ANSWERS = """
import http.client, ssl, sys
connection = http.client.HTTPSConnection(sys.argv[1], timeout=20, context=ssl._create_unverified_context())
connection.request("GET", "/health")
print("HTTP" if connection.getresponse().status < 500 else "a failure")
"""


@pytest.mark.skipif(lans.why_not() is not None, reason=f"NO TEST OF A NETWORK'S ADDRESS: {lans.why_not()}")
def test_another_user_is_known_by_an_address_of_the_network_too(work_dir):
    lan = Lan(work_dir, "head")
    try:
        machine = lan["head"]
        head = Head(machine, "--no-local-cluster", env={"RASK_LIMITS__CONNECTIONS": "40", "RASK_LIMITS__HANDSHAKE": "100s"})
        answers = lambda: machine.python(ANSWERS, f"{machine.address}:8787").stdout == "HTTP\n"
        crowded((machine.address, 8787), head.proc.output, answers, machine.inside)
    finally:
        lan.close()


def crowded(at, log, answers, inside=list):
    line = inside([*AS_ANOTHER, CROWD, at[0], str(at[1]), "400"])
    crowd = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert all(answers() for _ in range(20)), "while they come"
        assert crowd.stdout.readline() == "open\n"
        assert all(answers() for _ in range(20)), "while they stay"
        assert log().count("connection refused") == 1
    finally:
        crowd.stdin.close()
        crowd.wait(20)


def ask_as_owner(at: tuple[str, int], message) -> bool:
    with Raw(at) as peer:
        peer.send(message)
        return bool(peer.receive())


def victim_address(client, name: str) -> str:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return next(address for address, worker in workers.items() if worker["name"] == name)


def test_workers_beside_a_scheduler_on_loopback_answer_their_owner_only(start_cluster):
    """`rask worker` by itself, whose listeners are on every interface: other users and other machines get nothing."""
    cluster = start_cluster(worker="rask")
    cluster.add_worker("a", nthreads=1, nanny=True)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        ports = ports_of(with_children(cluster.workers["a"]))
        assert len(ports) >= 2, "a worker and its nanny"
        says = [encode(HELLO) + encode({"op": "identity", "reply": True})]
        told = stranger([("127.0.0.1", port) for _, port in ports], says)
        assert not any(any(said) for said in told.values())
        assert client.submit(inc, 1).result() == 2
        assert "it belongs to another user (id 65534)" in cluster.workers["a"].output()


def test_users_that_are_allowed_get_answers_from_workers(work_dir):
    with Cluster(work_dir, worker="rask", env={"RASK_SECURITY__ALLOW_USERS": "[65534]"}) as cluster:
        cluster.add_worker("a", nthreads=1, nanny=True)
        with Client(cluster.address, timeout=30) as client:
            client.wait_for_workers(1, timeout=60)
            ports = ports_of(with_children(cluster.workers["a"]))
            told = stranger([("127.0.0.1", port) for _, port in ports], [encode(HELLO)])
            assert sum(any(said) for said in told.values()) >= 2
