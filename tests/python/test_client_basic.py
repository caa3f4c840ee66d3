"""What one client does with tasks: submit, collect, restrict, cancel, retry, scatter, nest, act."""

from __future__ import annotations

import asyncio
import operator
import time
from concurrent.futures import as_completed as stdlib_as_completed

import dask
import numpy as np
import pytest
from dask import delayed
from distributed import (
    Client,
    Event,
    Reschedule,
    as_completed,
    fire_and_forget,
    get_client,
    get_worker,
    rejoin,
    secede,
    wait,
    worker_client,
)
from distributed.client import FutureCancelledError

from harness import address_of, wait_until


def inc(x, by=1):
    return x + by


def where():
    return get_worker().name


def fail(message="broken"):
    raise ValueError(message)


# --- submit, map, gather -------------------------------------------------------------------------


def test_submit_takes_kwargs_and_futures_anywhere(client):
    one = client.submit(inc, 0, by=1)
    nested = client.submit(lambda d, pair: d["a"][0] + pair[1], {"a": [one]}, (0, one))
    assert nested.result() == 2
    assert one.status == "finished" and one.type is int


def test_map_over_several_iterables_and_batches(client):
    assert client.gather(client.map(operator.add, range(20), range(20))) == [2 * i for i in range(20)]
    assert client.gather(client.map(inc, range(10), batch_size=3, by=5)) == [i + 5 for i in range(10)]
    futures = client.map(inc, client.map(inc, range(4), pure=False))
    assert client.gather(futures) == [2, 3, 4, 5]


def test_gather_keeps_the_shape_of_what_it_is_given(client):
    a, b = client.map(inc, [1, 2])
    assert client.gather({"a": a, "b": [b, {b}]}) == {"a": 2, "b": [3, {3}]}
    assert client.gather([a, client.submit(fail)], errors="skip") == [2]


@pytest.mark.parametrize("key", ["plain", ("tuple", 0), ("deep", ("x", 1.5), 2), 17, 2.5])
def test_keys_of_every_kind(client, key):
    if not isinstance(key, (str, tuple)):
        # submit insists on strings and tuples; graphs may hold more
        assert client.get({key: (inc, 1), "top": (inc, key)}, "top") == 3
        return
    future = client.submit(inc, 1, key=key)
    assert future.key == key
    assert future.result() == 2
    assert client.who_has([future])[key]


def test_equal_numbers_are_one_key(client):
    assert client.get({("x", 1): (inc, 1), ("y", 0): (inc, ("x", 1.0))}, ("y", 0)) == 3


def test_large_buffers_travel_unchanged(client):
    array = np.arange(1_500_000, dtype="float64")  # 12 MB, out of band both ways
    future = client.submit(operator.mul, array, 2, workers="alice")
    moved = client.submit(np.sum, future, workers="bob")
    assert moved.result() == array.sum() * 2
    np.testing.assert_array_equal(future.result(), array * 2)


def test_empty_and_odd_values_survive(client):
    values = [None, b"", b"\x00" * 3, "", "\ud83d".encode("utf-16", "surrogatepass"), (), {}, {1: {2.5: None}}, 2**70]
    values += [np.empty((0, 3)), np.float32(1.5), float("inf"), {("a", 1): set()}]
    for value, back in zip(values, client.gather(client.map(lambda x: x, values, pure=False))):
        np.testing.assert_equal(back, value)


def test_a_key_submitted_twice_is_computed_once(client, second):
    a = client.submit(time.time, key="once")
    b = second.submit(time.time, key="once")
    assert a.result() == b.result()


def test_thousands_of_tasks_in_a_tree(client):
    level = client.map(inc, range(1024))
    while len(level) > 1:
        level = client.map(operator.add, level[::2], level[1::2])
    assert level[0].result() == sum(range(1, 1025))


# --- compute, persist, get -----------------------------------------------------------------------


def test_compute_persist_and_get(client):
    x = delayed(inc)(1)
    y = delayed(operator.add)(x, 10)
    assert client.compute(y).result() == 12
    assert client.compute([x, y], sync=True) == [2, 12]
    assert y.compute() == 12  # the client is the default scheduler
    kept = client.persist(y)
    assert client.gather(kept.key and client.compute(kept)) == 12
    assert dask.compute(x, {"a": [y]}) == (2, {"a": [12]})
    assert client.get({"a": 1, "b": (inc, "a"), "c": (sum, ["a", "b"])}, ["c", ["b"]]) == [3, [2]]


def test_compute_of_a_persisted_collection_uses_what_is_there(client):
    x = client.persist(delayed(time.time)())
    first = client.compute(x).result()
    assert client.compute(delayed(lambda t: t)(x)).result() == first


def test_sync_get_raises_the_task_error(client):
    with pytest.raises(ZeroDivisionError):
        client.get({"x": (operator.truediv, 1, 0)}, "x")


async def test_async_client(aclient):
    future = aclient.submit(inc, 1)
    assert await future == 2
    assert await aclient.gather(aclient.map(inc, range(5))) == [1, 2, 3, 4, 5]
    assert await aclient.compute(delayed(inc)(5)) == 6
    seen = [result async for _, result in as_completed(aclient.map(inc, range(3)), with_results=True)]
    assert sorted(seen) == [1, 2, 3]
    with pytest.raises(ValueError, match="later"):
        await aclient.submit(fail, "later")


def test_executor_interface(client):
    with client.get_executor(pure=False) as pool:
        assert list(pool.map(inc, range(3))) == [1, 2, 3]
        assert {f.result() for f in stdlib_as_completed([pool.submit(inc, i) for i in range(3)])} == {1, 2, 3}


# --- errors --------------------------------------------------------------------------------------


def test_exceptions_arrive_with_the_remote_traceback(client):
    def outer():
        return fail("deep inside")

    future = client.submit(outer)
    with pytest.raises(ValueError, match="deep inside") as info:
        future.result()
    assert [entry.name for entry in info.traceback][-2:] == ["outer", "fail"]
    assert future.status == "error" and isinstance(future.exception(), ValueError)
    assert future.traceback() is not None


def test_an_error_reaches_everything_that_depends_on_it(client):
    bad = client.submit(fail, "root")
    late = client.submit(inc, client.submit(inc, bad))
    with pytest.raises(ValueError, match="root"):
        late.result()
    after = client.submit(inc, bad)  # submitted after the failure is known
    with pytest.raises(ValueError, match="root"):
        after.result()


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__("two arguments needed")

    def __reduce__(self):
        return (Unpicklable, ())


def test_exceptions_that_do_not_travel_still_arrive_as_errors(client):
    def raise_it():
        raise Unpicklable(1, 2)

    with pytest.raises(Exception):
        client.submit(raise_it).result(timeout=20)


def test_results_that_do_not_pickle_are_errors_when_fetched(client):
    import threading

    future = client.submit(threading.Lock)
    wait(future)
    with pytest.raises(TypeError):
        future.result()


def test_retries_are_used_up_and_no_more(client):
    def flaky(counter, good_at):
        attempts = get_worker().__dict__.setdefault("attempts_of_tests", {})
        n = attempts[counter] = attempts.get(counter, 0) + 1
        if n < good_at:
            raise RuntimeError(f"attempt {n}")
        return n

    kw = dict(workers="alice", pure=False)
    assert client.submit(flaky, "c1", 3, retries=2, **kw).result() == 3
    with pytest.raises(RuntimeError, match="attempt 2"):
        client.submit(flaky, "c2", 5, retries=1, **kw).result()
    with dask.annotate(retries=2, workers="alice"):
        assert client.compute(delayed(flaky)("c3", 3), optimize_graph=False).result() == 3


def test_retry_runs_a_failed_graph_again(client):
    gate = Event("retry-gate")

    def needs_gate():
        if not Event("retry-gate").is_set():
            raise RuntimeError("closed")
        return 5

    root = client.submit(needs_gate, pure=False)
    top = client.submit(inc, root)
    wait(top)
    assert top.status == "error"
    gate.set()
    client.retry([top])
    assert top.result() == 6
    gate.clear()


def test_reschedule_moves_a_task_on(client):
    def once(name):
        if not Event(name).is_set():
            Event(name).set()
            raise Reschedule()
        return "second run"

    assert client.submit(once, "resched", pure=False).result() == "second run"
    Event("resched").clear()


# --- where and in which order --------------------------------------------------------------------


def test_workers_by_name_address_and_list(client):
    bob = address_of(client, "bob")
    assert client.gather(client.map(lambda i: get_worker().name, range(6), workers="bob", pure=False)) == ["bob"] * 6
    assert client.submit(where, workers=bob, pure=False).result() == "bob"
    assert client.submit(where, workers=["alice"], pure=False).result() == "alice"
    assert client.submit(where, workers={"alice", "nobody"}, pure=False).result() == "alice"


def test_impossible_workers_wait_and_loose_ones_do_not(client):
    stuck = client.submit(inc, 1, workers="nobody", pure=False)
    loose = client.submit(inc, 1, workers="nobody", allow_other_workers=True, pure=False)
    assert loose.result() == 2
    assert client.run_on_scheduler is not None and stuck.status == "pending"
    assert client.sync(client.scheduler.get_task_status, keys=[stuck.key]) == {stuck.key: "no-worker"}


def test_resources_limit_where_and_how_many(client):
    def busy():
        t0 = time.time()
        time.sleep(0.1)
        return get_worker().name, t0, time.time()

    futures = [client.submit(busy, resources={"GOLD": 1}, pure=False) for _ in range(3)]
    runs = sorted(client.gather(futures), key=lambda run: run[1])
    assert {name for name, _, _ in runs} == {"alice"}
    assert all(a[2] <= b[1] + 1e-3 for a, b in zip(runs, runs[1:]))  # one at a time
    none = client.submit(inc, 1, resources={"SILVER": 1}, pure=False)
    with dask.annotate(resources={"GOLD": 1}):
        x = delayed(where)()
    assert client.compute(x, optimize_graph=False).result() == "alice"
    assert none.status == "pending"


def test_annotations_reach_the_worker_and_are_obeyed(client):
    with dask.annotate(workers="bob", mine={"a": 1}):
        x = delayed(where)(dask_key_name="annotated")
    future = client.compute(x, optimize_graph=False)
    assert future.result() == "bob"
    with dask.annotate(workers=lambda key: "alice" if key.endswith("0") else "bob"):
        xs = [delayed(where)(dask_key_name=f"each-{i}") for i in range(2)]
    assert client.gather(client.compute(xs, optimize_graph=False)) == ["alice", "bob"]

    def seen(dask_key="seeing"):
        return dict(get_worker().state.tasks[dask_key].annotations)

    with dask.annotate(workers="bob", mine={"a": 1}):
        got = client.submit(seen, key="seeing").result()
    assert got["mine"] == {"a": 1} and list(got["workers"]) == ["bob"]


def test_high_priority_goes_first(client):
    started, gate = Event("prio-started"), Event("prio-gate")

    def block():
        Event("prio-started").set()
        Event("prio-gate").wait(timeout=30)

    def now():
        time.sleep(0.01)  # rask's own workers hand shorter ones to their threads ahead, a few at a time
        return time.time()

    kw = dict(workers="bob", pure=False)
    blockers = [client.submit(block, **kw) for _ in range(2)]
    started.wait(timeout=10)
    low = [client.submit(now, priority=-10, **kw) for _ in range(3)]
    normal = [client.submit(now, **kw) for _ in range(3)]
    high = [client.submit(now, priority=10, **kw) for _ in range(3)]
    # The gate opens over another connection than the tasks came by: wait until they are all there.
    bob = [address_of(client, "bob")]
    ready = lambda: sum(client.run(lambda dask_worker: len(dask_worker.state.ready), workers=bob).values())
    wait_until(lambda: ready() == 9, "all nine wait at the worker")
    gate.set()
    wait(blockers)
    firsts = [min(client.gather(group)) for group in (high, normal, low)]
    lasts = [max(client.gather(group)) for group in (high, normal, low)]
    # Two threads: the ends of neighbours may touch, but no more.
    assert firsts == sorted(firsts) and lasts == sorted(lasts) and lasts[0] <= firsts[2]
    started.clear(), gate.clear()


# --- letting go ----------------------------------------------------------------------------------


def test_cancel_stops_what_has_not_started(client):
    gate = Event("cancel-gate")

    def block():
        Event("cancel-gate").wait(timeout=30)

    running = [client.submit(block, pure=False) for _ in range(4)]
    waiting = client.submit(inc, running[0])
    client.cancel([waiting, *running], reason="because", msg="test says so")
    assert waiting.cancelled() and running[0].status == "cancelled"
    with pytest.raises(FutureCancelledError, match="because|test says so"):
        waiting.result()
    gate.set()
    assert client.submit(inc, 3).result() == 4
    gate.clear()


def test_cancel_spares_what_another_client_wants_unless_forced(client, second):
    gate = Event("spare-gate")

    def block(_):
        Event("spare-gate").wait(timeout=30)
        return 7

    mine = client.submit(block, 0, key="shared")
    theirs = second.submit(block, 0, key="shared")
    # As in Dask, who submits a key while somebody else cancels it may hear of that cancel.
    wait([second.submit(inc, 0)])
    wait_until(lambda: client.processing() and any("shared" in v for v in client.processing().values()), "it runs")
    client.cancel(mine)
    gate.set()
    assert theirs.result(timeout=20) == 7
    forced = client.submit(inc, 1, key="forced")
    other = second.submit(inc, 1, key="forced")
    wait([forced])
    client.cancel(forced, force=True)
    wait_until(other.cancelled, "the other client hears of the forced cancel")
    gate.clear()


def test_released_results_are_forgotten(client):
    future = client.submit(inc, 1, key="short-lived")
    wait(future)
    assert "short-lived" in client.who_has()
    future.release()
    wait_until(lambda: "short-lived" not in client.who_has(), "the scheduler forgets it")
    wait_until(lambda: not any(client.has_what().values()), "the workers free it")


def test_dependencies_are_kept_until_their_dependents_are_done(client):
    gate = Event("dep-gate")
    x = client.submit(inc, 1, key="dep-x")
    y = client.submit(lambda x: Event("dep-gate").wait(timeout=30) and x, x, key="dep-y")
    x.release()
    del x
    gate.set()
    assert y.result() == 2
    holders = lambda: [k for keys in client.has_what().values() for k in keys]
    wait_until(lambda: "dep-x" not in holders(), "the dependency's value is freed")
    assert "dep-x" in client.who_has()  # not forgotten: it is needed if dep-y is lost
    gate.clear()


def test_fire_and_forget_runs_without_a_future(client):
    def leave_trace():
        Event("forgotten-ran").set()

    fire_and_forget(client.submit(leave_trace, pure=False))
    assert Event("forgotten-ran").wait(timeout=10)
    Event("forgotten-ran").clear()


# --- waiting -------------------------------------------------------------------------------------


def test_wait_in_its_variants(client):
    gate = Event("wait-gate")
    slow = client.submit(lambda: Event("wait-gate").wait(timeout=30), pure=False)
    quick = client.submit(inc, 1)
    done, pending = wait([slow, quick], return_when="FIRST_COMPLETED", timeout=10)
    assert done == {quick} and pending == {slow}
    with pytest.raises(asyncio.TimeoutError):
        wait(slow, timeout=0.1)
    with pytest.raises(asyncio.TimeoutError):
        slow.result(timeout=0.1)
    gate.set()
    assert wait([slow, client.submit(fail)]).not_done == set()
    gate.clear()


def test_as_completed_yields_each_once_and_takes_more(client):
    ac = as_completed(client.map(inc, range(5)), with_results=True)
    seen, grown = [], False
    for _, result in ac:
        seen.append(result)
        if not grown:
            ac.add(client.submit(inc, 100))
            grown = True
    assert sorted(seen) == [1, 2, 3, 4, 5, 101]
    batches = as_completed(client.map(inc, range(20, 25)), with_results=True).batches()
    assert sorted(r for batch in batches for _, r in batch) == [21, 22, 23, 24, 25]
    with pytest.raises(ValueError):
        list(as_completed([client.submit(fail, "ac")], with_results=True))


def test_done_callbacks(client):
    calls = []
    for future in (client.submit(inc, 1), client.submit(fail)):
        future.add_done_callback(lambda f: calls.append(f.status))
    wait_until(lambda: len(calls) == 2, "both callbacks ran")
    assert sorted(calls) == ["error", "finished"]


# --- scatter -------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [False, True])
def test_scatter_of_everything(client, direct):
    a = client.scatter(5, direct=direct)
    many = client.scatter([1, 2, 3], direct=direct)
    named = client.scatter({"scattered-x": 10, ("scattered", 1): 20}, direct=direct)
    assert client.submit(sum, [a, *many]).result() == 11
    assert client.gather(named, direct=direct) == {"scattered-x": 10, ("scattered", 1): 20}
    on_bob = client.scatter(b"x" * 100, workers=["bob"], hash=False, direct=direct)
    wait(on_bob)
    assert client.who_has([on_bob])[on_bob.key] == (address_of(client, "bob"),)
    assert client.scatter(5).key == a.key and client.scatter(5, hash=False).key != a.key


def test_scatter_broadcast_reaches_every_worker(client):
    data = np.arange(1000)
    future = client.scatter(data, broadcast=True)
    assert len(client.who_has([future])[future.key]) == 2
    assert client.gather([client.submit(np.sum, future, workers=w) for w in ("alice", "bob")]) == [499500] * 2


def test_scatter_of_large_data_comes_back_whole(client):
    data = np.random.default_rng(0).bytes(20_000_000)
    future = client.scatter(data)
    assert client.gather(future) == data


def test_lost_scattered_data_cancels_its_future(client):
    data = client.scatter("gone", workers="bob", hash=False)
    with pytest.raises(FutureCancelledError):
        client.cancel(data)
        data.result(timeout=10)


# --- inside tasks --------------------------------------------------------------------------------


def fib(n):
    if n < 2:
        return n
    client = get_client()
    a, b = client.submit(fib, n - 1), client.submit(fib, n - 2)
    secede()
    a, b = client.gather([a, b])
    rejoin()
    return a + b


def test_tasks_submit_tasks(client):
    assert client.submit(fib, 7).result() == 13


def test_worker_client(client):
    def outer(n):
        with worker_client() as inner:
            return sum(inner.gather(inner.map(inc, range(n), pure=False)))

    assert client.gather(client.map(outer, [3, 4], pure=False)) == [6, 10]


def test_delayed_compute_inside_a_task(client):
    def outer():
        return dask.compute(delayed(inc)(1), delayed(inc)(2))

    assert client.submit(outer, pure=False).result() == (2, 3)


# --- actors --------------------------------------------------------------------------------------


class Counter:
    n = 0  # so that the proxy knows it is no method

    def __init__(self, n=0):
        self.n = n

    def add(self, by):
        self.n += by
        return self.n

    def boom(self):
        raise KeyError("actor")


def test_actors(client):
    counter = client.submit(Counter, 10, actor=True).result()
    assert [counter.add(i).result() for i in range(3)] == [10, 11, 13]
    assert counter.n == 13
    with pytest.raises(KeyError, match="actor"):
        counter.boom().result()
    # used from a task, wherever it runs
    use = [client.submit(lambda c: c.add(1).result(), counter, workers=w, pure=False) for w in ("alice", "bob")]
    assert sorted(client.gather(use)) == [14, 15]


# --- two clients, lost connections ---------------------------------------------------------------


def test_a_key_in_memory_is_handed_to_a_second_client(client, second):
    future = client.submit(inc, 1, key="by-key")
    wait(future)
    again = second.submit(fail, key="by-key")  # in memory already: not run
    assert again.result(timeout=10) == 2
    future.release()
    assert second.submit(inc, again).result() == 3  # still wanted by the second


def test_a_client_that_leaves_takes_its_tasks_along(client, cluster):
    with Client(cluster.address, set_as_default=False) as other:
        held = other.submit(inc, 5, key="leaves")
        wait(held)
        assert "leaves" in client.who_has()
    wait_until(lambda: "leaves" not in client.who_has(), "tasks of a closed client are forgotten")


def test_a_client_reconnects_after_a_lost_connection(client):
    future = client.submit(inc, 1, key="before-loss")
    wait(future)
    client.loop.add_callback(client.scheduler_comm.comm.abort)
    wait_until(lambda: future.status == "cancelled", "futures die with the connection")

    def back():
        try:
            return client.submit(inc, 10, pure=False).result(timeout=5) == 11
        except (OSError, FutureCancelledError, asyncio.TimeoutError):
            return False

    wait_until(back, "the client works again", 20)
