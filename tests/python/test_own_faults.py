"""What tasks can do to the process that runs them: rask's own workers survive it, or end and come back in words.

One cluster for all of it: a worker that is hurt, with a nanny's care, and one beside it that must not notice.
"""

from __future__ import annotations

import operator
import os
import signal
import time

import numpy as np
import psutil
import pytest
from distributed import Client, Event, wait
from distributed.scheduler import KilledWorker

from harness import Cluster, wait_until

LATE_S = 60


class Hurt:
    """The cluster, a client, and the worker that tests do harm to."""

    def __init__(self, cluster: Cluster, client: Client):
        self.cluster, self.client = cluster, client
        self.node = cluster.workers["hurt"]
        self.began_at = self.address()

    def do(self, function, *args, on: str = "hurt"):
        return self.client.submit(function, *args, workers=[on], pure=False)

    def executor(self) -> psutil.Process:
        """The Python process of the worker."""
        python = lambda: [p for p in self.node.children() if p.ppid() == self.node.pid]  # noqa: E731
        [child] = wait_until(python, "the worker's Python process", LATE_S)
        return child

    def address(self) -> str | None:
        """Where the worker is now, if it is."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return next((address for address, worker in workers.items() if worker["name"] == "hurt"), None)

    def comes_back(self, before: psutil.Process):
        wait_until(lambda: not before.is_running(), "the process ended", LATE_S)
        there = lambda: (now := self.address()) is not None and now != self.began_at  # noqa: E731
        wait_until(there, "the worker came back under another address", LATE_S)
        assert self.do(operator.add, 1, 2).result(LATE_S) == 3
        assert self.executor().pid != before.pid


@pytest.fixture(scope="module")
def ward(work_dir):
    cluster = Cluster(work_dir, scheduler="rask", env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"})
    cluster.add_worker("hurt", "--engine", "rask", kind="rask", nthreads=2, nanny=True)
    cluster.add_worker("beside", "--engine", "rask", kind="rask")
    yield cluster
    cluster.close()


@pytest.fixture
def hurt(ward):
    with Client(ward.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        kept = client.submit(operator.mul, 6, 7, workers=["beside"], pure=False)
        wait(kept, timeout=LATE_S)
        yield Hurt(ward, client)
        # Whatever happened, the other worker and what it holds did not notice.
        assert kept.result(LATE_S) == 42
    assert ward.healthy(), ward.logs()


def descriptors_of_sockets() -> list[int]:
    sockets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                sockets.append(int(name))
        except OSError:  # the listing's own
            pass
    return sockets


def test_a_task_that_writes_into_the_workers_sockets_ends_that_worker_only(hurt):
    before = hurt.executor()

    def scribble():
        for descriptor in descriptors_of_sockets():
            try:
                os.write(descriptor, b"\xff" * 4096)
            except OSError:
                pass
        time.sleep(60)

    lost = hurt.do(scribble)
    hurt.comes_back(before)
    lost.cancel()
    assert "its executor sent" in hurt.node.output() and "cannot be read" in hurt.node.output()


def test_a_task_that_closes_the_workers_sockets_ends_that_worker_only(hurt):
    before = hurt.executor()

    def close_all():
        for descriptor in descriptors_of_sockets():
            os.close(descriptor)
        time.sleep(60)

    lost = hurt.do(close_all)
    hurt.comes_back(before)
    lost.cancel()


def test_a_segmentation_fault_is_a_killed_worker_whose_key_is_named(hurt):
    before = hurt.executor()
    lost = hurt.client.submit(os.kill, before.pid, signal.SIGSEGV, workers=["hurt"], key="crash", retries=0)
    hurt.comes_back(before)
    said = wait_until(lambda: [line for line in hurt.node.output().splitlines() if "SIGSEGV" in line], "the cause")
    assert "crash" in said[0], said
    lost.cancel()


def test_values_and_heartbeats_go_on_while_a_task_holds_the_interpreter(hurt, tmp_path):
    small = hurt.do(operator.add, 20, 1)
    wait(small, timeout=LATE_S)

    def hold(name, until):
        Event(name).set()
        while not os.path.exists(until):
            sum(range(10**7))  # C code that does not let go of the interpreter before it ends

    name = f"held-{time.time()}"
    held = hurt.do(hold, name, str(tmp_path / "enough"))
    assert Event(name).wait(timeout=LATE_S)
    begun = time.monotonic()
    assert hurt.client.gather(small) == 21
    taken = time.monotonic() - begun
    print(f"a small value came after {taken:.3f} s beside a task that held the interpreter")
    info = lambda: hurt.client.scheduler_info(n_workers=-1)["workers"]  # noqa: E731
    seen = lambda: next(w["last_seen"] for w in info().values() if w["name"] == "hurt")  # noqa: E731
    first = seen()
    wait_until(lambda: seen() > first, "a heartbeat", LATE_S)
    assert not held.done()
    (tmp_path / "enough").touch()
    held.result(LATE_S)


def test_a_child_that_a_task_forked_does_not_keep_its_worker(hurt):
    before = hurt.executor()

    def fork() -> int:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return child

    child = psutil.Process(hurt.do(fork).result(LATE_S))
    try:
        before.kill()
        hurt.comes_back(before)
    finally:
        if child.is_running():
            child.kill()


def test_what_a_task_writes_to_its_standard_output_is_in_the_workers_log(hurt):
    line = f"straight to the descriptor {time.time()}"
    assert hurt.do(os.write, 1, f"{line}\n".encode()).result(LATE_S) == len(line) + 1
    wait_until(lambda: line in hurt.node.output(), "the line", LATE_S)


def test_signal_handlers_of_tasks_do_not_keep_a_worker_from_its_end(hurt):
    before = hurt.executor()

    def ignore_everything(dask_worker):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)

    hurt.client.run(ignore_everything, workers=[hurt.address()])
    hurt.client.restart_workers([hurt.address()], timeout=LATE_S)
    hurt.comes_back(before)


class Rude:
    def __sizeof__(self):
        raise RuntimeError("not telling")


class Endless:
    """Says that it is larger than any number on the wire."""

    def __sizeof__(self):
        return 2**62

    def __reduce__(self):
        return (Endless, ())


def test_a_value_that_does_not_tell_its_size_is_a_value(hurt):
    value = hurt.do(Rude)
    assert hurt.do(lambda v: type(v).__name__, value).result(LATE_S) == "Rude"


def test_a_value_that_lies_about_its_size_is_believed_and_stays_reachable(hurt):
    value = hurt.do(Endless)
    with pytest.raises(MemoryError, match="worth of input dependencies"):  # as Dask's scheduler refuses it
        hurt.do(lambda v: 1, value).result(LATE_S)
    assert type(value.result(LATE_S)).__name__ == "Endless"


def test_values_go_round_that_no_pickle_holds(hurt):
    """A value that does not pickle fails whoever wants it elsewhere, and stays usable where it is."""
    lock = hurt.do(lambda: __import__("threading").Lock())
    assert hurt.do(lambda held: held.locked(), lock).result(LATE_S) is False
    with pytest.raises(TypeError, match="pickle"):
        lock.result(LATE_S)


def test_a_key_that_kills_its_worker_is_given_up_and_named(hurt):
    before = hurt.executor()
    with pytest.raises(KilledWorker, match="fatal"):
        hurt.client.submit(os._exit, 7, workers=["hurt"], key="fatal").result(2 * LATE_S)
    hurt.comes_back(before)


def test_an_array_that_fills_the_workers_memory_is_its_tasks_error(hurt):
    with pytest.raises(MemoryError):
        hurt.do(np.empty, 2**50).result(LATE_S)
