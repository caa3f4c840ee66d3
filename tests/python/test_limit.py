"""What the dashboard says is limiting a cluster, with each cause brought about for real.

Owns: the line on top of every page, `overview.now.limit` of the feed.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request

import pytest
from distributed import Client
from distributed.utils_test import inc

from harness import Cluster, wait_until

DEADLINE_S = 30
LIMIT = 400_000_000


@pytest.fixture(scope="module")
def cluster(work_dir):
    with Cluster(work_dir, dashboard=True) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster.address, set_as_default=False) as client:
        yield client


def wait_for(path) -> None:
    while not os.path.exists(path):
        time.sleep(0.05)


class SlowToSend:
    """Is not sent to another worker before a file exists."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        wait_for(self.path)
        return SlowToSend, (self.path,)


def hog(path):
    held = bytearray(b"x") * int(LIMIT * 0.85)
    wait_for(path)
    return len(held)


def limit(cluster) -> dict:
    url = f"http://127.0.0.1:{cluster.identity['services']['dashboard']}/api/state?topics=overview"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["overview"]["now"]["limit"]


def until_limit(cluster, what: str, words: str) -> None:
    """Waits until this is what limits, in these words."""
    seen = []

    def look():
        now = limit(cluster)
        seen.append(f"{now['what']}: {now['text']}")
        return now["what"] == what and words in now["text"]

    try:
        wait_until(look, f"limited by {what}: {words}", DEADLINE_S, 0.05)
    except AssertionError as error:
        raise AssertionError(f"{error}; seen: {sorted(set(seen))}") from None


def test_each_cause_is_named_while_it_lasts(cluster, client, tmp_path):
    waiting = client.submit(inc, 1, pure=False)
    until_limit(cluster, "no-workers", "1 task waits, and no worker is connected: start workers")

    for name in ("ann", "ben"):
        cluster.add_worker(name, "--memory-limit", str(LIMIT))
    client.wait_for_workers(2, timeout=60)
    assert waiting.result(60) == 2
    until_limit(cluster, "client", "waits for its clients")

    many = client.map(time.sleep, [0.3] * 40, pure=False)
    until_limit(cluster, "workers", "more workers would help")
    client.cancel(many)

    no_such = client.submit(inc, 1, resources={"NOT_THERE": 1}, pure=False)
    until_limit(cluster, "restrictions", "1 task has restrictions")
    client.cancel(no_such)

    sent, freed = tmp_path / "sent", tmp_path / "freed"
    thing = client.submit(SlowToSend, str(sent), workers="ann", pure=False)
    there = client.submit(id, thing, workers="ben", pure=False)
    until_limit(cluster, "transfer", "data from other workers")
    sent.touch()
    there.result(60)

    full = client.submit(hog, str(freed), workers="ann", pure=False)
    until_limit(cluster, "memory", "1 of 2 workers are paused")
    freed.touch()
    full.result(60)

    # In a thread: a submit blocks until it is through. Again and again: reading one takes a fraction of a second.
    seen = threading.Event()

    def submit():
        while not seen.is_set():
            client.map(inc, range(20_000), pure=False)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        until_limit(cluster, "scheduler", "graph is being read")
    finally:
        seen.set()
        thread.join(60)
