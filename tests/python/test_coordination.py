"""Locks, events, semaphores, queues and variables: their state lives in the scheduler."""

from __future__ import annotations

import asyncio
import time

import pytest
from distributed import Event, Lock, MultiLock, Queue, Semaphore, Variable, get_worker, wait

from harness import wait_until


def inc(x):
    return x + 1


def in_critical_section(lock_name, seconds):
    with Lock(lock_name):
        start = time.time()
        time.sleep(seconds)
        return start, time.time()


def overlaps(runs):
    runs = sorted(runs)
    return [(a, b) for a, b in zip(runs, runs[1:]) if b[0] < a[1] - 1e-3]


# --- locks ---------------------------------------------------------------------------------------


def test_a_lock_lets_one_in_at_a_time(client):
    runs = client.gather(client.map(lambda _: in_critical_section("one", 0.03), range(8), pure=False))
    assert overlaps(runs) == []


def test_lock_timeouts_and_locked(client):
    mine, theirs = Lock("pair"), Lock("pair")
    assert mine.acquire() and theirs.locked()
    assert not theirs.acquire(blocking=False)
    t0 = time.monotonic()
    assert not theirs.acquire(timeout=0.2)
    assert 0.15 < time.monotonic() - t0 < 5
    mine.release()
    assert theirs.acquire(timeout="5 s") and not mine.acquire(timeout=0)
    theirs.release()
    with pytest.raises(RuntimeError):
        theirs.release()
    assert not mine.locked()


async def test_a_waiting_lock_does_not_block_the_connection(aclient):
    async with Lock("busy"):
        blocked = asyncio.ensure_future(Lock("busy").acquire())
        assert await aclient.submit(inc, 1) == 2
        assert not blocked.done()
    assert await asyncio.wait_for(blocked, 5)
    # a lease belongs to the lock object that got it; a fresh one cannot give it back


def test_multilock_takes_all_or_some(client):
    with MultiLock(["m-x", "m-y"]):
        assert not MultiLock(["m-y", "m-z"]).acquire(timeout=0.1)
        z = MultiLock(["m-z"])
        assert z.acquire(timeout=5)
        some = MultiLock(["m-x", "m-w"])
        assert some.acquire(timeout=5, num_locks=1)
        some.release(), z.release()
    again = MultiLock(["m-y", "m-z"])
    assert again.acquire(timeout=5)
    again.release()

    def work(names):
        with MultiLock(names):
            start = time.time()
            time.sleep(0.02)
            return start, time.time()

    runs = client.gather(client.map(work, [["a", "b"], ["b", "a"], ["a"], ["b", "a"]], pure=False))
    assert overlaps(runs) == []


# --- events --------------------------------------------------------------------------------------


def test_events_between_client_and_tasks(client):
    event = Event("go")
    assert not event.is_set() and not event.wait(timeout=0.1)
    waiters = client.map(lambda _: Event("go").wait(timeout=20), range(4), pure=False)
    wait_until(lambda: sum(map(len, client.processing().values())) == 4, "four tasks wait")
    event.set()
    assert client.gather(waiters) == [True] * 4 and event.is_set() and event.wait()
    event.clear()
    assert not event.is_set()


# --- semaphores ----------------------------------------------------------------------------------


def test_a_semaphore_bounds_how_many_run(client):
    sem = Semaphore(max_leases=2, name="two")

    def work(_, sem):
        with sem:
            start = time.time()
            time.sleep(0.05)
            return start, time.time()

    runs = client.gather(client.map(work, range(8), sem=sem, pure=False))
    for start, _ in runs:
        assert sum(a <= start + 1e-3 < b - 1e-3 for a, b in runs) <= 2
    assert sem.get_value() == 0
    sem.close()


def test_semaphore_values_limits_and_errors(client):
    sem = Semaphore(max_leases=2, name="values")
    assert sem.acquire() and sem.acquire() and sem.get_value() == 2
    assert not sem.acquire(timeout=0.1)
    assert sem.release() and sem.acquire(timeout=1)
    sem.release(), sem.release()
    assert sem.get_value() == 0
    with pytest.raises(ValueError):
        Semaphore(max_leases=3, name="values").register()
    sem.close()
    with pytest.raises(RuntimeError):
        sem.acquire(timeout=1)


def test_a_semaphore_keeps_its_leases_while_refreshed(client):
    sem = Semaphore(max_leases=1, name="refreshed")
    assert sem.acquire()
    assert client.submit(lambda s: s.acquire(timeout=0.3), sem, pure=False).result() is False
    sem.release()
    sem.close()


# --- queues --------------------------------------------------------------------------------------


def test_a_queue_of_plain_values_keeps_order_and_bounds(client, second):
    q, other = Queue("plain", client=client, maxsize=2), Queue("plain", client=second)
    q.put(1)
    q.put({"b": (None,)})  # a list would come back as a tuple
    assert other.qsize() == 2
    with pytest.raises(asyncio.TimeoutError):
        other.put(3, timeout=0.1)
    assert [other.get(), other.get()] == [1, {"b": (None,)}]
    with pytest.raises(asyncio.TimeoutError):
        q.get(timeout=0.1)
    for i in range(2):
        q.put(i)
    assert q.get(batch=True) == [0, 1]
    q.put(5)
    assert q.get(batch=1) == [5]
    q.close()


def test_a_queue_carries_futures_and_keeps_them_alive(client, second):
    q = Queue("futures", client=client)
    future = client.submit(inc, 1, key="in-queue")
    q.put(future)
    future.release()
    got = Queue("futures", client=second).get(timeout=10)
    assert got.key == "in-queue" and got.result(timeout=10) == 2
    bad = client.submit(lambda: 1 / 0, pure=False)
    q.put(bad)
    with pytest.raises(ZeroDivisionError):
        Queue("futures", client=second).get(timeout=10).result(timeout=10)
    q.close()


def test_a_blocked_put_goes_on_when_there_is_room(client):
    q = Queue("room", maxsize=1)

    def produce(q):
        for i in range(4):
            q.put(i, timeout=20)
        return "done"

    producer = client.submit(produce, q, pure=False)
    assert [q.get(timeout=10) for _ in range(4)] == [0, 1, 2, 3]
    assert producer.result() == "done"
    q.close()


# --- variables -----------------------------------------------------------------------------------


def test_variables_hold_values(client, second):
    v, other = Variable("value", client=client), Variable("value", client=second)
    with pytest.raises(asyncio.TimeoutError):
        other.get(timeout=0.1)
    v.set(1)
    assert other.get() == 1
    v.set({"a": (1, None)})
    assert other.get(timeout="5 s") == {"a": (1, None)}
    v.delete()
    with pytest.raises(asyncio.TimeoutError):
        v.get(timeout=0.1)


def test_variables_hold_futures_until_replaced_or_deleted(client, second):
    v = Variable("future", client=client)
    future = client.submit(inc, 10, key="in-variable")
    v.set(future)
    future.release()
    got = Variable("future", client=second).get(timeout=10)
    assert got.result(timeout=10) == 11
    v.set(0)
    got.release()
    wait_until(lambda: "in-variable" not in client.who_has(), "the replaced future is forgotten")
    v.delete()


def test_a_variable_set_by_a_task(client):
    v = Variable("by-task")

    def publish():
        Variable("by-task").set(get_worker().name)

    wait(client.submit(publish, workers="bob", pure=False))
    assert v.get(timeout=10) == "bob"
    v.delete()


def test_names_may_be_tuples(client):
    queue, variable = Queue(("queue", 1)), Variable(("variable", 2))
    queue.put(client.submit(inc, 1, pure=False))
    assert queue.get(timeout=10).result() == 2
    variable.set(client.submit(inc, 2, pure=False))
    assert variable.get(timeout=10).result() == 3
    queue.close()  # what these hold is only released when the scheduler understands their names
    variable.delete()
