"""Other machines in trouble: cuts, wrong clocks, full disks, no memory. What could be kept is kept, and words say why.

As in `test_peers.py`, machines are network namespaces. `RASK_TEST_LONG=1` makes the long cut one of five minutes.
"""

from __future__ import annotations

import glob
import json
import os
import sys
import time

import pytest

import lan as lans
from harness import Proc, rask_bin, wait_until
from lan import Head, Machine
from test_peers import SPAN, lan  # noqa: F401

pytestmark = [
    pytest.mark.skipif(lans.why_not() is not None, reason=f"NO TEST OF PEERS IN TROUBLE: {lans.why_not()}"),
    pytest.mark.timeout(int(os.environ.get("RASK_TEST_LONG", "0")) * 360 + 240),
]

LONG_CUT_S = 300 if os.environ.get("RASK_TEST_LONG") == "1" else 13
FAKETIME = sorted(glob.glob("/usr/lib/*/faketime/libfaketime.so.1"))


def workers(head: Head) -> dict[str, dict]:
    done = head.machine.call("curl", "-s", "--max-time", "5", "http://127.0.0.1:8787/json/identity.json")
    try:
        return json.loads(done.stdout)["workers"]
    except (ValueError, KeyError):
        return {}


def at(head: Head, machine: Machine) -> dict[str, str]:
    """Addresses of the workers on a machine, with their status."""
    return {address: w["status"] for address, w in workers(head).items() if f"//{machine.address}:" in address}


def one_worker(head: Head, machine: Machine) -> str:
    def there():
        return next((address for address, status in at(head, machine).items() if status == "running"), None)

    return wait_until(there, f"a worker on {machine.name}", 60, 0.1)


def says(proc: Proc, word: str, timeout: float = 60) -> str:
    def said():
        if word in proc.output():
            return proc.output()
        assert proc.alive(), proc.output()
        return None

    return wait_until(said, f"{proc.name} says {word}", timeout)


def scheduler_log(head: Head) -> str:
    return (head.machine.state / "clusters" / "local" / "logs" / "scheduler.log").read_text()


# argv: the address of a worker; a file that says when to go on.
HOLD = """
import random, sys, time
from pathlib import Path
from distributed import Client

def slow(i):
    time.sleep(1)
    return i

if __name__ == "__main__":
    there, go = sys.argv[1], Path(sys.argv[2])
    with Client("tcp://127.0.0.1:8786", timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
        kept = client.scatter({"only": "there"}, workers=[there])
        once = client.submit(random.random, workers=[there], pure=False)
        value = once.result()
        busy = client.map(slow, range(12), pure=False)
        print("READY", flush=True)
        while not go.exists():
            time.sleep(0.1)
        assert client.gather(kept) == {"only": "there"}, "scattered data"
        assert client.gather(once) == value, "a result was computed again"
        assert client.gather(busy) == list(range(12))
        print("KEPT", flush=True)
"""


def test_a_short_cut_costs_no_data_and_no_worker_and_the_work_goes_on_elsewhere(lan):
    """Goal: a machine that is silent for 5 s is out of use meanwhile (after how long is printed); all that it holds is there after them."""
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    head.join(one, "--name", "one", "--cores", "1")
    worker, go = one_worker(head, one), net["head"].dir / "go"
    script = net["head"].start("hold", sys.executable, "-c", HOLD, worker, str(go))
    says(script, "READY")
    one.cut()
    cut = time.monotonic()
    wait_until(lambda: at(head, one) == {worker: "paused"}, "its worker gets no tasks", 9, 0.1)
    noticed = time.monotonic() - cut
    assert "tasks that it had go to others" in scheduler_log(head)
    assert head.peers()["one"]["state"] == "late"
    time.sleep(max(0, cut + 5 - time.monotonic()))
    one.mend()
    mended = time.monotonic()
    wait_until(lambda: at(head, one) == {worker: "running"}, "the same worker is back", 20, 0.1)
    print(f"out of use {noticed:.1f} s after the cut, in use again {time.monotonic() - mended:.1f} s after its end")
    go.touch()
    assert script.wait(60) == 0, script.output()


def test_a_long_cut_costs_no_result_and_the_machine_comes_back_by_itself(lan):
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    joined = head.join(one, "--name", "one", "--cores", "1")
    worker, go = one_worker(head, one), net["head"].dir / "go"
    script = net["head"].start("hold", sys.executable, "-c", HOLD.replace('"only": "there"', "1: 2").replace(
        "client.scatter({1: 2}, workers=[there])", "client.submit(dict, [(1, 2)], workers=[there], allow_other_workers=True)"
    ).replace('{1: 2}, "scattered', '{1: 2}, "computed').replace("== value", ">= 0").replace(
        "workers=[there], pure", "workers=[there], allow_other_workers=True, pure"), worker, str(go))
    says(script, "READY")
    one.cut()
    cut = time.monotonic()
    wait_until(lambda: not at(head, one), "its worker is given up", 15, 0.1)
    print(f"given up {time.monotonic() - cut:.1f} s after the cut")
    # All that was there is had again without it.
    go.touch()
    assert script.wait(60) == 0, script.output()
    time.sleep(max(0, cut + LONG_CUT_S - time.monotonic()))
    assert head.peers()["one"]["state"] == "gone"
    one.mend()
    mended = time.monotonic()
    one_worker(head, one)
    print(f"a worker there {time.monotonic() - mended:.1f} s after the cut's end")
    assert joined.alive() and len(at(head, one)) == 1


# argv: two addresses of workers. The second needs what only the first has.
ACROSS = """
import sys, time
from distributed import Client

if __name__ == "__main__":
    first, second = sys.argv[1:]
    with Client("tcp://127.0.0.1:8786", timeout=30) as client:
        client.wait_for_workers(3, timeout=60)
        big = client.scatter(b"x" * 100_000, workers=[first])
        began = time.monotonic()
        assert client.submit(len, big, workers=[second], pure=False).result(timeout=90) == 100_000
        print(f"fetched by a way around in {time.monotonic() - began:.1f} s")
"""


def test_two_machines_that_do_not_reach_each_other_still_work_together(lan):
    """Goal: only the cable between two machines is cut: what one has reaches the other through a third.

    Method: Dask's patience with a connection is 3 s instead of 30 s.
    """
    net = lan("head", "one", "two")
    head = Head(net["head"], *SPAN)
    for name in ("one", "two"):
        hurry = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
        head.join(net[name], "--name", name, "--cores", "1", env=hurry)
    first, second = (one_worker(head, net[name]) for name in ("one", "two"))
    net["one"].cut(net["two"])
    done = head.machine.python(ACROSS, first, second, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip())
    assert set(at(head, net["one"]) | at(head, net["two"])) == {first, second}, "both are members all the time"


def test_work_goes_on_while_the_head_is_away(lan):
    """Goal: its process is killed and started again 12 s later; workers elsewhere, and their results, never notice."""
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    head.join(one, "--name", "one", "--cores", "1")
    worker, go = one_worker(head, one), net["head"].dir / "go"
    script = net["head"].start("hold", sys.executable, "-c", HOLD, worker, str(go))
    says(script, "READY")
    head.proc.kill()
    time.sleep(12)
    head.start()
    head.wait_for("one", "up")
    go.touch()
    assert script.wait(60) == 0, script.output()
    assert at(head, one) == {worker: "running"}


@pytest.mark.skipif(not FAKETIME, reason="NO TEST OF WRONG CLOCKS: libfaketime is not installed (package faketime)")
def test_a_wrong_clock_is_named(lan):
    net = lan("head", "one")
    head = Head(net["head"], "--no-local-cluster")
    one = net["one"]

    def clock(shift: str) -> dict:
        return {"LD_PRELOAD": FAKETIME[0], "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    for shift, words in (("-20y", "is not valid yet"), ("+40y", "has expired")):
        done = one.ask("join", head.url, "--token", head.token, env=clock(shift))
        assert done.returncode == 1, done
        assert words in done.stderr and "set this machine's clock, which says" in done.stderr, done.stderr
    # Little enough to join, too much to be left so; the token was not used up.
    proc = head.join(one, "--name", "one", token=head.token, env=clock("+600"))
    peer = head.wait_for("one", "up")
    assert 590_000 < peer["clock_skew_ms"] < 640_000
    assert "s ahead of the head's" in says(proc, "clock is")
    assert "one: its clock is off by" in head.machine.ask("peers").stdout


def mounted(machine: Machine, mount: str, *args: str, env: dict | None = None) -> Proc:
    """`rask` with something mounted for it alone: `ip netns exec` makes a mount namespace of its own."""
    script = f'{mount} && exec "$@"'
    return machine.start("join", "sh", "-c", script, "sh", rask_bin(), *args, env=env)


def test_a_full_disk_is_named_where_people_look(lan):
    """Method: the peer has no Python of its own, so it must make one, and 16 MB of disk."""
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    one.state.mkdir()
    mount = f"mount -t tmpfs -o size=16m none {one.state}"
    bare = {"VIRTUAL_ENV": "", "PYTHONPATH": "", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    mounted(one, mount, "join", head.url, "--token", head.token, "--name", "one", env=bare)

    def failed():
        groups = head.peers().get("one", {}).get("groups", [])
        return groups and groups[0]["phase"] == "failed" and groups[0]["note"]

    note = wait_until(failed, "the group says why it cannot be", 60, 0.3)
    assert "MB are free on the disk of" in note and "make room" in note, note
    listed = head.machine.ask("peers").stdout
    assert "one: cluster local: failed: " in listed and "make room" in listed, listed


def test_a_machine_without_free_memory_gets_no_workers_and_that_is_said(lan):
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    text = open("/proc/meminfo").read().splitlines()
    full = ["MemAvailable:       1024 kB" if line.startswith("MemAvailable") else line for line in text]
    (one.dir / "meminfo").write_text("\n".join(full) + "\n")
    mount = f"mount --bind {one.dir}/meminfo /proc/meminfo"
    mounted(one, mount, "join", head.url, "--token", head.token, "--name", "one")
    peer = head.wait_for("one", "up")
    assert peer["facts"]["memory_free_bytes"] == 1 << 20
    time.sleep(3)
    assert not at(head, one) and not head.peers()["one"]["placed"]
    assert "one: nothing more is placed there: only 1 MiB of its memory is free" in head.machine.ask("peers").stdout


def test_a_machine_is_drained_used_again_and_removed(lan):
    """Goal: data moves before its workers go; a drained machine stays empty through its restart until it is resumed."""
    net = lan("head", "one")
    head = Head(net["head"], *SPAN)
    one = net["one"]
    proc = head.join(one, "--name", "one", "--cores", "1")
    worker, go = one_worker(head, one), net["head"].dir / "go"
    script = net["head"].start("hold", sys.executable, "-c", HOLD.replace("range(12)", "range(2)"), worker, str(go))
    says(script, "READY")
    assert head.machine.ask("peer", "drain", "one").returncode == 0
    head.wait_for("one", "drained", timeout=40)
    assert not at(head, one)
    go.touch()
    assert script.wait(60) == 0, script.output()
    proc.stop()
    proc = one.rask("join", "--cores", "1")
    time.sleep(3)
    assert head.peers()["one"]["state"] == "drained" and not at(head, one)
    assert head.machine.ask("peer", "resume", "one").returncode == 0
    one_worker(head, one)
    assert head.machine.ask("peer", "remove", "one").returncode == 0
    assert proc.wait() == 0 and "no member any more" in proc.output()
    wait_until(lambda: not at(head, one), "its worker is gone", 20)
