"""Other machines: they join with a token, keep their link, and are known for what they are.

Every test runs real processes in network namespaces that it makes itself (`lan.py`). Where that is not allowed all of
them are skipped, and say why.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import lan as lans
from harness import wait_until
from lan import Head, Lan

pytestmark = [
    pytest.mark.skipif(lans.why_not() is not None, reason=f"NO TEST OF PEERS: {lans.why_not()}"),
    # Several machines' Pythons start on one: some of these take a minute.
    pytest.mark.timeout(240),
]


@pytest.fixture
def lan(work_dir, request):
    made = []

    def make(*names: str) -> Lan:
        made.append(Lan(work_dir, *names))
        return made[-1]

    yield make
    report = request.node.stash.get(REPORT, None)
    for one in made:
        if report is not None and report.failed:
            report.sections.append(("machines", one.logs()))
        one.close()


REPORT = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.stash[REPORT] = outcome.get_result()


def join_post(machine, url: str, body: bytes) -> int:
    """A POST to the join door with anything in it; returns the status."""
    script = """
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=10)
connection.request("POST", "/api/rask/v1/peers/join", body=sys.argv[2], headers={"Content-Type": "application/json"})
print(connection.getresponse().status)
"""
    done = machine.python(script, url.removeprefix("https://"), body.decode())
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_machine_joins_keeps_its_link_through_restarts_and_is_removed(lan):
    """Goal: one pasted line is all; restarts of either side heal by themselves; a removed machine stays out."""
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    one = net["one"]
    joining = time.monotonic()
    proc = head.join(one, "--name", "one", token=head.token)
    peer = head.wait_for("one", "up")
    print(f"joined after {time.monotonic() - joining:.2f} s")
    facts = peer["facts"]
    assert facts["cores"] >= 1 and facts["memory_bytes"] > 1 << 20 and facts["python"].startswith("3.")
    assert peer["address"] == one.address and abs(peer["clock_skew_ms"]) < 5000
    kept = one.state / "peer" / "peer.json"
    assert kept.stat().st_mode & 0o777 == 0o600 and one.state.joinpath("peer").stat().st_mode & 0o777 == 0o700
    # The token was for one machine.
    again = one.ask("join", head.url, "--token", head.token, "--state-dir", str(one.dir / "other"))
    assert again.returncode == 1 and "was used already" in again.stderr, again.stderr

    # The peer's process is killed and started again: no token is needed.
    proc.kill()
    head.wait_for("one", "late")
    proc = one.rask("join")
    head.wait_for("one", "up")

    # The head is killed and started again: the peer comes back by itself.
    head.proc.kill()
    head.start()
    head.wait_for("one", "up")
    assert proc.alive()

    assert head.machine.ask("peer", "remove", "one").returncode == 0
    assert proc.wait() == 0
    assert "no member any more" in proc.output() and not kept.exists()
    assert head.peers() == {}


def test_wrong_tokens_are_refused_with_the_reason(lan):
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    one = net["one"]

    def refused(*args: str) -> str:
        done = one.ask("join", *args)
        assert done.returncode != 0, done.stdout
        return done.stderr

    token = head.new_token()
    assert "not whole" in refused(head.url, "--token", token[:-3])
    assert "no join token" in refused(head.url, "--token", "secret")
    wrong = token[:-8] + ("0" * 8 if token[-8:] != "0" * 8 else "1" * 8)
    assert "not known here" in refused(head.url, "--token", wrong)
    ident = token.split("::")[1].split(":")[0]
    revoked = head.machine.ask("token", "revoke", ident)
    assert revoked.returncode == 0, revoked.stderr
    assert "revoked" in refused(head.url, "--token", token)
    short = head.new_token("--ttl", "1s")
    wait_until(lambda: "expired" in head.machine.ask("token", "list").stdout, "the token expires")
    assert "has expired" in refused(head.url, "--token", short)
    # A join token is no client's: the managed part of the API is not reachable with it, over TLS or not.
    script = """
import http.client, ssl, sys
connection = http.client.HTTPSConnection(sys.argv[1], context=ssl._create_unverified_context(), timeout=10)
connection.request("GET", "/api/rask/v1/peers", headers={"Authorization": "Bearer " + sys.argv[2]})
print(connection.getresponse().status)
"""
    done = one.python(script, head.url.removeprefix("https://"), head.new_token())
    assert int(done.stdout) in (401, 403, 404), done.stdout + done.stderr
    assert head.peers() == {}


def test_plain_http_from_another_machine_is_told_to_use_tls(lan):
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    done = net["one"].call("curl", "-s", "-i", "--max-time", "5", head.url.replace("https", "http") + "/health")
    assert done.stdout.startswith("HTTP/1.1 426") and "https://" in done.stdout, done
    # Dask without TLS: closed without a byte.
    script = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 8787), 5)
connection.sendall(bytes(16))
connection.settimeout(5)
try:
    print(connection.recv(9))
except ConnectionResetError:
    print(b"")
"""
    done = net["one"].python(script, net["head"].address)
    assert done.stdout.strip() == "b''", done
    # On the head itself plain HTTP works as before.
    done = net["head"].call("curl", "-s", "--max-time", "5", "http://127.0.0.1:8787/health")
    assert done.stdout == "ok", done


def test_nothing_is_sent_to_a_man_in_the_middle(lan):
    """Goal: whoever has another authority gets a handshake and not one byte of the token."""
    net = lan("head", "one", "evil")
    head = Head(net["head"], "--no-local-cluster")
    Head(net["evil"], "--no-local-cluster")
    token = head.new_token()
    done = net["one"].ask("join", f"https://{net['evil'].address}:8787", "--token", token)
    assert done.returncode == 1 and "is not the head that made the token" in done.stderr, done.stderr
    assert "nothing was sent" in done.stderr
    # The token is still good: nobody saw it.
    proc = net["one"].rask("join", head.url, "--token", token, "--name", "one")
    head.wait_for("one", "up")
    assert proc.alive()


GUESSING_S = 600 if os.environ.get("RASK_TEST_LONG") == "1" else 8


@pytest.mark.timeout(120 + GUESSING_S)
def test_guessing_tokens_is_slowed_down_and_harms_nobody_else(lan):
    """Goal: 100 000 tries are answered cheaply, few are looked at, and another machine joins meanwhile.

    `RASK_TEST_LONG=1`: all of them, instead of those of 8 s.
    """
    net = lan("head", "one", "guesser")
    head = Head(net["head"], "--no-local-cluster")
    script = """
import http.client, json, ssl, sys, time, collections
context = ssl._create_unverified_context()
seen, tries, until = collections.Counter(), 0, time.monotonic() + float(sys.argv[3])
connection = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=10)
while tries < 100_000 and time.monotonic() < until:
    token = sys.argv[2][:-40] + f"{tries:040x}"
    body = json.dumps({"token": token, "name": "x", "csr": sys.argv[4], "version": "0"})
    connection.request("POST", "/api/rask/v1/peers/join", body=body, headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    seen[answer.status] += 1
    tries += 1
print(json.dumps(seen))
"""
    csr = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x"],
        capture_output=True, text=True,
    ).stdout
    assert "CERTIFICATE REQUEST" in csr
    token = head.new_token()
    guessing = net["guesser"].start("guess", sys.executable, "-c", script, head.url.removeprefix("https://"), token, str(GUESSING_S), csr)
    head.join(net["one"], "--name", "one", token=token)
    head.wait_for("one", "up")
    assert guessing.wait(GUESSING_S + 20) == 0, guessing.output()
    seen = {int(status): count for status, count in json.loads(guessing.output()).items()}
    print("answers by status:", seen)
    looked_at = 30 + GUESSING_S // 2
    assert set(seen) == {403, 429} and seen[403] <= looked_at and seen[429] > 100, seen


def test_two_machines_with_one_name_are_told_apart(lan):
    net = lan("head", "one", "two")
    head = Head(net["head"], "--no-local-cluster")
    head.join(net["one"], "--name", "node")
    head.wait_for("node", "up")
    second = head.join(net["two"], "--name", "node")
    head.wait_for("node-2", "up")
    assert "the name node is taken" in second.output()


def test_a_short_cut_costs_nothing_and_a_long_one_heals(lan):
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    proc = head.join(net["one"], "--name", "one")
    head.wait_for("one", "up")
    net["one"].cut()
    cut = time.monotonic()
    head.wait_for("one", "late", timeout=9)
    noticed = time.monotonic() - cut
    time.sleep(max(0, cut + 5 - time.monotonic()))
    net["one"].mend()
    head.wait_for("one", "up", timeout=10)
    assert "broke" not in proc.output(), "the link itself outlives a cut of 5 s"
    net["one"].cut()
    head.wait_for("one", "gone", timeout=15)
    net["one"].mend()
    mended = time.monotonic()
    head.wait_for("one", "up", timeout=30)
    print(f"a silent peer was late after {noticed:.1f} s; after a long cut it was back in {time.monotonic() - mended:.1f} s")


def test_certificates_are_renewed_in_time_and_after_a_long_absence(lan):
    """Method: certificates that live 6 s."""
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster", env={"RASK_PEERS__CERTIFICATE_LIFE": "6s"})
    one = net["one"]
    proc = head.join(one, "--name", "one")
    head.wait_for("one", "up")
    wait_until(lambda: "certificate renewed" in proc.output(), "it is renewed while linked", 20)
    proc.stop()
    old = json.loads((one.state / "peer" / "peer.json").read_text())["cert"]
    wait_until(
        lambda: subprocess.run(["openssl", "x509", "-noout", "-checkend", "0"], input=old, text=True, capture_output=True).returncode == 1,
        "its certificate expires", 15, 0.3,
    )
    proc = one.rask("join")
    head.wait_for("one", "up")
    assert "a new certificate, after a time without the head" in proc.output()


SPAN = ["--span-peers", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "512MiB"]

# Prints one JSON line. `where`: which machine each of 40 tasks ran on, by the address of its worker.
WHERE = """
import collections, json, socket, sys, time
from distributed import Client, get_worker

def where(i):
    time.sleep(0.05)
    return get_worker().address

if __name__ == "__main__":
    with Client("tcp://127.0.0.1:8786", timeout=30) as client:
        client.wait_for_workers(int(sys.argv[1]), timeout=60)
        began = time.monotonic()
        seen = collections.Counter(client.gather(client.map(where, range(40), pure=False)))
        print(json.dumps({address.split("//")[1].split(":")[0]: count for address, count in seen.items()}))
"""


def test_local_spans_machines_and_survives_the_loss_of_one(lan):
    """Goal: a machine that joins computes at once; one that loses its power costs no result; one that comes back joins again."""
    net = lan("head", "one", "two")
    head = Head(net["head"], *SPAN)
    joining = time.monotonic()
    one = head.join(net["one"], "--name", "one", "--cores", "1")

    def counts() -> dict:
        done = head.machine.call("curl", "-s", "http://127.0.0.1:8787/json/identity.json")
        try:
            workers = json.loads(done.stdout)["workers"]
        except (ValueError, KeyError):
            return {}
        return {address: worker["status"] for address, worker in workers.items()}

    def workers_at(machine) -> list[str]:
        return [address for address in counts() if f"//{machine.address}:" in address]

    wait_until(lambda: workers_at(net["one"]), "a worker on the peer", 60, 0.1)
    print(f"from join to a worker on the peer: {time.monotonic() - joining:.1f} s")
    done = head.machine.python(WHERE, "2")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {net["head"].address, net["one"].address}, done.stdout
    keys = list((net["one"].state / "peer" / "clusters" / "local").glob("tls.*"))
    assert len(keys) == 2 and all(path.stat().st_mode & 0o777 == 0o600 for path in keys)

    # The head's appliance is killed and started anew: the peer's workers are the same as before.
    before = sorted(counts())
    head.proc.kill()
    head.start()
    head.wait_for("one", "up")
    wait_until(lambda: sorted(counts()) == before, "the same workers", 15)
    assert "not wanted here" not in one.output()

    # Power is cut in the middle of work.
    two = head.join(net["two"], "--name", "two", "--cores", "1")
    wait_until(lambda: workers_at(net["two"]), "a worker on the second peer", 60, 0.1)
    script = WHERE.replace("time.sleep(0.05)", "time.sleep(0.5)").replace("range(40)", "range(60)")
    busy = net["head"].start("busy", sys.executable, "-c", script, "3")
    wait_until(lambda: counts() and busy.alive(), "work", 10)
    time.sleep(3)
    net["two"].die()
    died = time.monotonic()
    wait_until(lambda: not workers_at(net["two"]), "its workers are gone", 20, 0.1)
    print(f"a machine that lost its power: its workers were gone after {time.monotonic() - died:.1f} s")
    assert busy.wait(60) == 0, busy.output()
    assert two.wait() != 0
    net["two"].mend()
    net["two"].rask("join", "--cores", "1")
    wait_until(lambda: workers_at(net["two"]), "it computes again", 60, 0.1)

    # One leaves for good: first its data moves.
    done = net["one"].ask("leave")
    assert done.returncode == 0, done.stderr
    assert one.wait(15) == 0
    wait_until(lambda: not workers_at(net["one"]), "no worker there")
    assert "one" not in head.peers()
    assert not list((net["one"].state / "peer" / "clusters" / "local").glob("tls.*"))


def test_a_machine_with_another_python_is_refused_with_the_difference(lan):
    """Goal: the head says why no worker comes, and nothing is started with the wrong packages.

    Method: the peer's Python is an environment whose dask says to be of another version, and there is no network to
    fetch the right one from.
    """
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(one.dir / "env")], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    site = next((one.dir / "env" / "lib").glob("python3.*")) / "site-packages"
    for package in ("dask", "distributed"):
        (site / package).mkdir()
        (site / package / "__init__.py").touch()
        info = site / f"{package}-2025.9.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2025.9.0\n")
    env = {"VIRTUAL_ENV": str(one.dir / "env"), "PIP_RETRIES": "0", "PIP_TIMEOUT": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    head.join(one, "--name", "one", "--python", str(one.dir / "env"), env=env)

    def failed():
        groups = head.peers().get("one", {}).get("groups", [])
        return groups and groups[0]["phase"] == "failed" and groups[0]["note"]

    note = wait_until(failed, "the group says why it cannot be", 60, 0.3)
    assert "is not like the head's (" in note and "is missing" in note and "could not be made" in note, note
    assert "one: cluster local" in head.machine.ask("peers").stdout


def test_heads_are_found_without_an_address_and_machines_are_deployed_to_by_ssh(lan, tmp_path):
    """Method: mDNS over the namespaces' switch; an `ssh` that enters the namespace of the host that is named."""
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    found = net["one"].ask("join", "--state-dir", str(net["one"].dir / "other"))
    assert head.url in found.stdout and "key " in found.stdout, (found.stdout, found.stderr)
    pin = head.token.split("::")[0].removeprefix("rj1")
    assert ":".join(pin[i : i + 2] for i in range(0, 64, 2)) in found.stdout

    shim = tmp_path / "bin"
    shim.mkdir()
    one = net["one"]
    (shim / "ssh").write_text(f"""#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
[ "$1" = one ] || {{ echo "Could not resolve hostname $1" >&2; exit 255; }}
exec env HOME={one.dir} RASK_STATE_DIR={one.state} nsenter --net=/var/run/netns/{one.ns} sh -c "$2"
""")
    (shim / "ssh").chmod(0o755)
    env = {"PATH": f"{shim}:{head.machine.env['PATH']}"}
    done = head.machine.ask("deploy", "--ssh", "one", "nowhere", env=env, timeout=90)
    assert done.returncode == 1, done
    assert "one: Joined" in done.stdout and "nowhere: FAILED: Could not resolve hostname nowhere" in done.stdout, done
    name = next(iter(head.peers()))
    head.wait_for(name, "up")
    assert (one.dir / ".local/share/rask/deploy/rask").exists()
    done = head.machine.ask("deploy", "--ssh", "one", "--remove", env=env, timeout=90)
    assert done.returncode == 0, done
    assert not (one.dir / ".local/share/rask/deploy").exists()
    assert head.peers() == {}


def test_a_cluster_is_placed_on_named_hosts_and_its_logs_come_from_there(lan):
    """Goal: the option `hosts` is obeyed, unknown names are refused with the known ones, logs come from all machines;
    and the routes about machines are behind the checks that all others are behind, and described.
    """
    net = lan("head", "one", "two")
    head = Head(net["head"], "--no-local-cluster")
    for name in ("one", "two"):
        head.join(net[name], "--name", name, "--cores", "2")
        head.wait_for(name, "up")
    ask = head.machine.ask
    refused = ask("cluster", "create", "--name", "bad", "hosts=one,three")
    assert refused.returncode != 0 and "no machine called three has joined; there are: head, one, two" in refused.stderr, refused
    size = ["worker_cores=1", "worker_memory=0.5"]
    made = ask("cluster", "create", "--name", "there", "--workers", "2", *size, "hosts=two", "env.SAID=on the head", "engine=stock")
    assert made.returncode == 0, made

    def workers():
        shown = json.loads(ask("cluster", "show", "there", "--json").stdout)
        return shown["workers"] == 2 and shown

    wait_until(workers, "two workers", 60, 0.3)
    placed = {name: [group for group in peer["groups"] if group["workers"]] for name, peer in head.peers().items()}
    assert not placed["one"] and len(placed["two"][0]["workers"]) == 2, placed
    pid = placed["two"][0]["workers"][0]["pid"]
    assert b"SAID=on the head\0" in Path(f"/proc/{pid}/environ").read_bytes()
    # The end of a worker over there is told here.
    victim = next(p for p in psutil.Process(pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline()))
    victim.kill()
    wait_until(lambda: "a worker died: there-two-" in head.proc.output(), "the head tells", 30)
    wait_until(workers, "two workers again", 60, 0.3)
    # Scaled beyond what fits there, the rest waits: nothing goes elsewhere.
    assert ask("cluster", "scale", "there", "3").returncode == 0
    wait_until(lambda: "2 of 3; no room for 1 more" in ask("cluster", "show", "there").stdout, "it says that one waits", 20, 0.3)
    time.sleep(1)
    assert len(head.peers()["two"]["groups"][0]["workers"]) == 2 and not head.peers()["one"]["placed"]
    assert not list((net["head"].state / "clusters" / "there" / "logs").glob("worker-*"))
    logs = ask("cluster", "logs", "there").stdout
    assert "[there-two-0] " in logs and "[scheduler] " in logs, logs
    assert "Registered to" in ask("cluster", "logs", "there", "--worker", "there-two-1").stdout

    base = "http://127.0.0.1:8787/api/rask/v1"
    follow = head.machine.start("follow", "curl", "-sN", "--max-time", "90", f"{base}/clusters/there/logs?follow=1&tail=1")
    wait_until(follow.output, "the last line so far", 10)
    assert ask("cluster", "scale", "there", "1").returncode == 0
    wait_until(lambda: re.search(r"\[there-two-\d\] .*INFO - (Nanny asking|Stopping worker|Closing Nanny|End worker)", follow.output()), "its last words, as they come", 60)
    assert "Registered to" not in follow.output(), "only one line of what was"
    follow.stop()
    call = lambda *args: head.machine.call("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", *args).stdout
    assert call(f"{base}/peers") == "200"
    assert call(f"{base}/peers", "-H", "Host: evil.example") in ("400", "403", "421")
    assert call("-X", "POST", f"{base}/peers/one/drain", "-H", "Origin: https://evil.example") == "403"
    assert head.peers()["one"]["state"] == "up"
    paths = json.loads(head.machine.call("curl", "-s", f"{base}/openapi.json").stdout)["paths"]
    assert {"get", "delete"} == set(paths["/api/rask/v1/peers/{name}"]) and "/api/rask/v1/join-tokens" in paths
