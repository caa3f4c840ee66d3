"""What Client's public methods can be asked, one function a question; `test_like_stock` asks stock and rask."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from operator import add
from pathlib import Path

import dask
from dask import bag, delayed
from distributed import (
    Event,
    Lock,
    MultiLock,
    Queue,
    Semaphore,
    Variable,
    as_completed,
    fire_and_forget,
    futures_of,
    get_client,
    get_worker,
    wait,
    worker_client,
)
from distributed.client import CancelledError
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def many(**questions):
    """Questions of one line each."""
    for name, question in questions.items():
        assert name not in CASES, name
        question.__name__ = name
        CASES[name] = question


def inc(x):
    return x + 1


def fail(x=None):
    raise ValueError("no")


def slow(x, secs=0.3):
    time.sleep(secs)
    return x


def name_of_worker(_=None):
    return get_worker().name


class Counter:
    n = 0

    def add(self, by):
        self.n += by
        return self.n

    def bad(self):
        raise ValueError("bad")


class Hello(WorkerPlugin):
    def __init__(self, name="hello"):
        self.name = name

    def setup(self, worker):
        worker.hello = self.name

    def teardown(self, worker):
        del worker.hello


class BadHello(Hello):
    def setup(self, worker):
        raise ValueError("this plugin cannot be set up")


class OnScheduler(SchedulerPlugin):
    name = "on-scheduler"

    def __init__(self):
        self.seen = []

    def transition(self, key, start, finish, *args, **kwargs):
        self.seen.append((start, finish))


class BadOnScheduler(SchedulerPlugin):
    name = "bad-on-scheduler"

    async def start(self, scheduler):
        raise ValueError("this plugin cannot start")


def fails(function):
    """What it raised: a question may raise twice."""
    try:
        return ("returned", function())
    except Exception as error:
        return (type(error).__name__, str(error))


def kept(function):
    """What it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function()
    return out.getvalue()


# ---- submit, map, gather ----
many(
    submit=lambda c: c.submit(inc, 1).result(timeout=10),
    submit_key=lambda c: c.submit(inc, 1, key="k").key,
    submit_key_tuple=lambda c: c.submit(inc, 1, key=("k", 1)).result(timeout=10),
    submit_not_callable=lambda c: c.submit(1),
    submit_key_of_a_kind_that_is_none=lambda c: c.submit(inc, 1, key=3.5),
    submit_pure_key=lambda c: c.submit(inc, 1, pure=True).key == c.submit(inc, 1, pure=True).key,
    submit_unknown_worker=lambda c: fails(
        lambda: c.submit(inc, 5, workers=["tcp://9.9.9.9:9"]).result(timeout=0.5)
    )[0],
    submit_unknown_worker_allowed=lambda c: c.submit(
        inc, 6, workers=["tcp://9.9.9.9:9"], allow_other_workers=True
    ).result(timeout=10),
    submit_named=lambda c: c.submit(name_of_worker, 1, workers="a", pure=False).result(timeout=10),
    submit_by_host=lambda c: c.submit(inc, 8, workers="127.0.0.1").result(timeout=10),
    submit_allow_other_wrong=lambda c: c.submit(inc, 1, workers=["a"], allow_other_workers=3),
    submit_allow_other_alone=lambda c: c.submit(inc, 1, allow_other_workers=True),
    submit_resources=lambda c: fails(lambda: c.submit(inc, 9, resources={"GPU": 1}).result(timeout=0.5))[0],
    submit_resources_wrong=lambda c: c.submit(inc, 10, resources="GPU"),
    submit_retries=lambda c: c.submit(fail, pure=False, retries=2).exception(timeout=10),
    submit_retries_wrong=lambda c: fails(lambda: c.submit(inc, 11, retries="x").result(timeout=2)),
    submit_priority=lambda c: c.submit(inc, 12, priority=3).result(timeout=10),
    submit_priority_wrong=lambda c: fails(lambda: c.submit(inc, 13, priority="high").result(timeout=2)),
    submit_fifo_wrong=lambda c: c.submit(inc, 13, fifo_timeout="soon"),
    submit_error=lambda c: c.submit(fail).result(timeout=10),
    submit_error_of_input=lambda c: c.submit(inc, c.submit(fail)).result(timeout=10),
    submit_of_future=lambda c: c.submit(inc, c.submit(inc, 1)).result(timeout=10),
    submit_futures_in_a_list=lambda c: c.submit(sum, c.map(inc, range(3))).result(timeout=10),
    submit_kwarg_future=lambda c: c.submit(slow, 1, secs=c.submit(inc, -1)).result(timeout=10),
    submit_lambda=lambda c: c.submit(lambda: {1, 2}).result(timeout=10),
    submit_status=lambda c: c.submit(fail).exception(timeout=10).args,
    submit_traceback=lambda c: type(c.submit(fail).traceback(timeout=10)).__name__,
    submit_type=lambda c: (lambda f: (wait(f, timeout=10), f.type, f.status, f.done(), f.cancelled())[1:])(c.submit(inc, 2)),
    submit_repr=lambda c: (lambda f: (wait(f, timeout=10), repr(f))[1])(c.submit(inc, 1, key="in-repr")),
    submit_timeout=lambda c: fails(lambda: c.submit(slow, 1, pure=False).result(timeout=0.05))[0],
    submit_exception_none=lambda c: c.submit(inc, 1).exception(timeout=10),
    submit_returns_none=lambda c: c.submit(lambda: None).result(timeout=10),
    submit_returns_exception=lambda c: c.submit(lambda: ValueError("a value")).result(timeout=10),
    submit_generator=lambda c: c.submit(lambda: (i for i in range(3))).result(timeout=10),
    submit_lock_in_argument=lambda c: fails(lambda: c.submit(inc, __import__("threading").Lock()))[0],
    submit_timeout_text=lambda c: c.submit(inc, 1).result(timeout="10 s"),
    map=lambda c: c.gather(c.map(inc, range(5))),
    map_keys=lambda c: [f.key for f in c.map(inc, [1, 2], key=["x", "y"])],
    map_key_prefix=lambda c: c.map(inc, [1], key="pre")[0].key.startswith("pre-"),
    map_keys_wrong=lambda c: c.map(inc, [1, 2], key=["x"]),
    map_two=lambda c: c.gather(c.map(add, [1, 2], [3, 4])),
    map_uneven=lambda c: c.gather(c.map(add, [1, 2, 3], [3, 4])),
    map_empty=lambda c: c.map(inc, []),
    map_batch=lambda c: c.gather(c.map(inc, range(7), batch_size=3)),
    map_not_callable=lambda c: c.map(3, [1]),
    map_queue=lambda c: c.map(inc, __import__("queue").Queue()),
    map_kwargs=lambda c: c.gather(c.map(slow, [1, 2], secs=0)),
    map_of_futures=lambda c: c.gather(c.map(inc, c.map(inc, range(3)))),
    map_workers=lambda c: set(c.gather(c.map(name_of_worker, range(3), workers=["b"], pure=False))),
    map_retries=lambda c: [f.exception(timeout=10) for f in c.map(fail, [1], retries=1)],
    gather_raise=lambda c: c.gather([c.submit(inc, 1), c.submit(fail)]),
    gather_skip=lambda c: c.gather([c.submit(inc, 1), c.submit(fail)], errors="skip"),
    gather_wrong=lambda c: c.gather([c.submit(fail)], errors="other"),
    gather_nested=lambda c: c.gather({"a": [c.submit(inc, 1)], "b": (1, c.submit(inc, 2))}),
    gather_direct=lambda c: c.gather(c.map(inc, range(3)), direct=True),
    gather_plain=lambda c: c.gather([1, "x", None]),
    gather_none=lambda c: c.gather([]),
    gather_iterator=lambda c: c.gather(iter([1])),
    gather_other=lambda c: c.gather(5),
)


@case
def gather_cancelled(c):
    f = c.submit(slow, 1, 5, pure=False)
    f.cancel(reason="because", msg="a message")
    return f.status, f.cancelled(), fails(lambda: c.gather(f)), fails(lambda: f.result(timeout=2))


@case
def cancel_running(c):
    f = c.submit(slow, 1, 0.2, pure=False, key="to-cancel")
    g = c.submit(inc, f, key="after-cancel")
    c.cancel([f])
    return fails(lambda: g.result(timeout=3)), f.status


@case
def cancel_of_others(c):
    return c.cancel([]), fails(lambda: c.cancel(5)), fails(lambda: c.cancel("text"))


@case
def cancel_done(c):
    f = c.submit(inc, 1, pure=False)
    wait(f, timeout=10)
    c.cancel(f, force=True)
    return f.status, fails(lambda: f.result(timeout=2))


@case
def retry_failed(c):
    f = c.submit(fail, pure=False)
    wait(f, timeout=10)
    return c.retry([f]), fails(lambda: f.result(timeout=10))


@case
def as_completed_results(c):
    fs = c.map(inc, range(4))
    return (
        sorted(f.result() for f in as_completed(fs)),
        sorted(r for _, r in as_completed(fs, with_results=True)),
        sorted(len(b) > 0 for b in as_completed(fs).batches())[:1],
        fails(lambda: list(as_completed([c.submit(fail)], with_results=True)))[1],
        list(as_completed([])),
        fails(lambda: next(as_completed([]))),
    )


@case
def wait_kinds(c):
    fs = [c.submit(slow, i, pure=False) for i in (1, 2)]
    first = wait(fs, return_when="FIRST_COMPLETED", timeout=10)
    return (
        len(first.done) >= 1,
        fails(lambda: wait(c.submit(slow, 2, 1, pure=False), timeout=0.1)),
        fails(lambda: wait(fs, return_when="SOMETIME", timeout=10)),
        fails(lambda: wait(fs, 1, 2, 3)),
        [len(part) for part in wait(fs, timeout=10)],
    )


@case
def futures_and_release(c):
    f = c.submit(inc, 1, key="to-release", pure=False)
    wait(f, timeout=10)
    again = c.futures.get("to-release")
    f.release()
    return again is not None, [g.key for g in futures_of([c.submit(inc, 1, key="of")])]


@case
def callbacks(c):
    got = Queue("got")
    f = c.submit(inc, 1, pure=False)
    f.add_done_callback(lambda f: got.put(f.status))
    return got.get(timeout=10), got.close()


# ---- data ----
many(
    scatter_list=lambda c: c.gather(c.scatter([1, 2])),
    scatter_dict=lambda c: {k: f.result() for k, f in c.scatter({"x": 1, "y": 2}).items()},
    scatter_tuple=lambda c: type(c.scatter((1, 2))).__name__,
    scatter_set=lambda c: type(c.scatter({1, 2})).__name__,
    scatter_one=lambda c: c.scatter(5).result(),
    scatter_none=lambda c: c.scatter(None).result(),
    scatter_range=lambda c: c.gather(c.scatter(range(3))),
    scatter_empty=lambda c: c.scatter([]),
    scatter_empty_dict=lambda c: c.scatter({}),
    scatter_hash=lambda c: [c.scatter("x").key == c.scatter("x").key, c.scatter("x", hash=False).key == c.scatter("x").key],
    scatter_worker=lambda c: c.who_has(c.scatter(7, workers=["b"], hash=False)),
    scatter_worker_wrong=lambda c: c.scatter(7, workers="nobody"),
    scatter_worker_wrong_in_list=lambda c: c.scatter(7, workers=["nobody"]),
    scatter_worker_number=lambda c: c.scatter(7, workers=[17]),
    scatter_worker_away=lambda c: c.scatter(7, workers=["tcp://127.0.0.1:9"], timeout=0.5),
    scatter_broadcast=lambda c: sorted(map(len, c.who_has(c.scatter([8], broadcast=True, hash=False)).values())),
    scatter_broadcast_number=lambda c: sorted(map(len, c.who_has(c.scatter([9], broadcast=2, hash=False)).values())),
    scatter_direct=lambda c: c.scatter(10, direct=True).result(),
    scatter_iterator=lambda c: c.scatter(iter([1])),
    scatter_lock=lambda c: fails(lambda: c.scatter(__import__("threading").Lock()))[0],
    scatter_error=lambda c: c.scatter(ValueError("a value")).result(),
)


@case
def who_has_and_more(c):
    f = c.submit(inc, 1, key="held", workers="a", pure=False)
    g = c.submit(fail, key="erred", pure=False)
    wait([f, g], timeout=10)
    return (
        c.who_has(f),
        c.who_has([f, g]),
        c.who_has([]),
        fails(lambda: c.who_has(["nobody-knows"])),
        fails(lambda: c.who_has(3)),
        ["held" in keys for keys in c.has_what([worker(c, "a")]).values()],
        fails(lambda: c.has_what("nobody")),
        fails(lambda: c.has_what(["nobody"])),
        fails(lambda: c.has_what(["tcp://127.0.0.1:9"])),
        fails(lambda: c.has_what(3)),
        c.nbytes(keys=["held"], summary=False),
        c.nbytes(keys=["held"]),
        fails(lambda: c.nbytes(keys=["nobody-knows"])),
        c.nthreads(),
        c.ncores("a"),
        fails(lambda: c.nthreads("nobody")),
        c.nthreads(["tcp://127.0.0.1:9"]),
        c.processing(),
        c.processing("a"),
        fails(lambda: c.processing("nobody")),
        fails(lambda: c.processing(["tcp://127.0.0.1:9"])),
        c.call_stack(),
        c.call_stack([f]),
        fails(lambda: c.call_stack(keys=["nobody-knows"])),
        str(c.who_has(f)),
    )


@case
def call_stack_running(c):
    f = c.submit(slow, 1, 1, key="on-stack", pure=False)
    while not c.processing().get(worker(c, "a")) and not c.processing().get(worker(c, "b")):
        time.sleep(0.02)
    time.sleep(0.2)
    stacks = c.call_stack(f)
    f.result(timeout=10)
    return [list(stack) for stack in stacks.values()], c.call_stack(f)


@case
def replicate_and_rebalance(c):
    f = c.submit(inc, 1, key="copied", workers="a", pure=False)
    g = c.submit(fail, key="erred-2", pure=False)
    wait([f, g], timeout=10)
    return (
        c.replicate(f),
        sorted(map(len, c.who_has(f).values())),
        c.replicate(f, n=1),
        sorted(map(len, c.who_has(f).values())),
        fails(lambda: c.replicate(f, n=0)),
        fails(lambda: c.replicate(f, n=-1)),
        fails(lambda: c.replicate(f, n=9)),
        fails(lambda: c.replicate([])),
        fails(lambda: c.replicate(g)),
        fails(lambda: c.replicate(f, workers=["tcp://127.0.0.1:9"])),
        fails(lambda: c.replicate(f, workers=["nobody"])),
        fails(lambda: c.replicate(f, workers=[worker(c, "b")], n=1)),
        fails(lambda: c.replicate(f, strange=1)),
        fails(lambda: c.rebalance()),
        fails(lambda: c.rebalance([f])),
        fails(lambda: c.rebalance([])),
        fails(lambda: c.rebalance([g])),
        fails(lambda: c.rebalance(workers=["tcp://127.0.0.1:9"])),
        fails(lambda: c.rebalance(workers=[worker(c, "a")])),
        fails(lambda: c.rebalance(strange=1)),
    )


@case
def datasets(c):
    f = c.submit(inc, 1, key="published", pure=False)
    wait(f, timeout=10)
    c.publish_dataset(one=f)
    c.publish_dataset([f, f], name="two")
    c.publish_dataset(5, name=("a", 1))
    asked = (
        sorted(map(str, c.list_datasets())),
        c.get_dataset("one").result(),
        [g.result() for g in c.get_dataset("two")],
        c.get_dataset(("a", 1)),
        fails(lambda: c.get_dataset("none")),
        c.get_dataset("none", default=3),
        fails(lambda: c.publish_dataset(one=f)),
        c.publish_dataset(one=f, override=True),
        fails(lambda: c.publish_dataset(f)),
        fails(lambda: c.publish_dataset(f, f, name="x")),
        fails(lambda: c.publish_dataset(f, name="x", y=f)),
        fails(lambda: c.publish_dataset()),
        sorted(map(str, c.datasets)),
        "one" in c.datasets,
        len(c.datasets),
        fails(lambda: c.datasets["none"]),
        fails(lambda: c.unpublish_dataset("none")),
        c.unpublish_dataset("one"),
        c.unpublish_dataset("two"),
        c.unpublish_dataset(("a", 1)),
        c.list_datasets(),
    )
    c.datasets["three"] = 3
    mapping = c.datasets["three"], c.datasets.pop("three", None)
    return asked, mapping, c.list_datasets()


# ---- functions elsewhere ----
many(
    run=lambda c: c.run(lambda: 1),
    run_args=lambda c: sorted(c.run(lambda a, b=2: a + b, 1, b=3).values()),
    run_on_one=lambda c: c.run(lambda dask_worker: dask_worker.name, workers=["a"]),
    run_on_unknown=lambda c: fails(lambda: c.run(lambda: 1, workers=["nobody"])),
    run_raises=lambda c: c.run(fail),
    run_return=lambda c: sorted(map(repr, c.run(fail, on_error="return").values())),
    run_ignore=lambda c: c.run(fail, on_error="ignore"),
    run_on_error_wrong=lambda c: c.run(fail, on_error="perhaps"),
    run_no_wait=lambda c: c.run(lambda: 1, wait=False),
    run_nanny=lambda c: c.run(lambda: 1, nanny=True),
    run_not_callable=lambda c: c.run(3),
    run_on_scheduler=lambda c: c.run_on_scheduler(lambda: 1),
    run_on_scheduler_args=lambda c: c.run_on_scheduler(lambda a, b: a + b, 1, b=2),
    run_on_scheduler_raises=lambda c: c.run_on_scheduler(fail),
    run_on_scheduler_not_callable=lambda c: c.run_on_scheduler(3),
    run_on_scheduler_wait=lambda c: c.run_on_scheduler(lambda: 1, wait=False),
    run_on_scheduler_workers=lambda c: sorted(
        c.run_on_scheduler(lambda dask_scheduler: [w.name for w in dask_scheduler.workers.values()])
    ),
    run_on_scheduler_counts=lambda c: c.run_on_scheduler(
        lambda dask_scheduler: (dask_scheduler.total_nthreads, dask_scheduler.status.name)
    ),
    run_on_scheduler_things=lambda c: c.run_on_scheduler(
        lambda dask_scheduler: (
            type(dask_scheduler.transition_log).__name__,
            type(dask_scheduler.transition_counter).__name__,
            sorted(dask_scheduler.stream_comms) == sorted(dask_scheduler.workers),
            len(dask_scheduler.client_comms),
            len(dask_scheduler.idle),
            len(dask_scheduler.running),
            sorted(dask_scheduler.host_info),
            dask_scheduler.is_idle,
            dask_scheduler.unrunnable,
            len(dask_scheduler.queued),
        )
    ),
    run_on_scheduler_async=lambda c: c.run_on_scheduler(sleeps),
    get_graph=lambda c: c.get({"x": (inc, 1), "y": (inc, "x")}, "y"),
    get_several=lambda c: c.get({"x": (inc, 1), "y": (inc, "x")}, ["y", "x"]),
    get_unknown_key=lambda c: fails(lambda: c.get({"x": (inc, 1)}, "z"))[0],
    get_async=lambda c: c.get({"x": (inc, 1)}, "x", sync=False).result(timeout=10),
    get_cycle=lambda c: fails(lambda: c.get({"x": (inc, "y"), "y": (inc, "x")}, "x"))[0],
    compute=lambda c: c.compute(delayed(inc)(1)).result(timeout=10),
    compute_sync=lambda c: c.compute([delayed(inc)(1), 5], sync=True),
    compute_plain=lambda c: c.compute(5),
    compute_error=lambda c: c.compute(delayed(fail)(), sync=True),
    compute_workers=lambda c: c.compute(delayed(name_of_worker)(), workers="a").result(timeout=10),
    compute_priority=lambda c: c.compute(delayed(inc)(4), priority=2, retries=1).result(timeout=10),
    compute_strange=lambda c: fails(lambda: c.compute(delayed(inc)(1), strange=1))[0],
    persist=lambda c: c.persist(delayed(inc)(1)).compute(),
    persist_plain=lambda c: fails(lambda: c.persist(5))[0],
    persist_list=lambda c: [d.compute() for d in c.persist([delayed(inc)(1), delayed(inc)(2)])],
    bag=lambda c: bag.from_sequence(range(6), npartitions=3).map(inc).sum().compute(),
    annotated=lambda c: annotated(workers="b"),
    annotated_wrong=lambda c: fails(lambda: annotated(retries="x")),
    executor=lambda c: list(c.get_executor().map(inc, range(3))),
    executor_error=lambda c: c.get_executor(pure=False).submit(fail).exception(timeout=10),
    executor_strange=lambda c: c.get_executor(strange=1),
    actor=lambda c: actor_calls(c),
    tasks_in_tasks=lambda c: c.submit(inside, pure=False).result(timeout=20),
    worker_clients=lambda c: c.submit(inside_worker_client, pure=False).result(timeout=20),
    fire=lambda c: (fire_and_forget(c.submit(inc, 1, key="fired")), fails(lambda: fire_and_forget(3))[0]),
)


async def sleeps(dask_scheduler):
    import asyncio

    await asyncio.sleep(0.01)
    return "slept"


def annotated(**annotations):
    with dask.annotate(**annotations):
        return delayed(name_of_worker)().compute(optimize_graph=False)


def actor_calls(c):
    actor = c.submit(Counter, actor=True).result(timeout=10)
    return (
        actor.add(2).result(timeout=10),
        actor.n,
        fails(lambda: actor.bad().result(timeout=10)),
        fails(lambda: actor.nothing),
        repr(actor).split(",")[0],
        c.submit(lambda a: a.add(1).result(), actor, pure=False).result(timeout=10),
    )


def inside():
    client = get_client()
    return client.gather(client.map(inc, range(3)))


def inside_worker_client():
    with worker_client() as client:
        return client.submit(inc, 4).result()


# ---- information ----
def worker(c, name):
    return next(a for a, w in c.scheduler_info()["workers"].items() if w["name"] == name)


many(
    scheduler_info=lambda c: sorted(c.scheduler_info()),
    scheduler_info_one=lambda c: len(c.scheduler_info(n_workers=1)["workers"]),
    scheduler_info_none=lambda c: len(c.scheduler_info(n_workers=0)["workers"]),
    scheduler_info_worker=lambda c: sorted(next(iter(c.scheduler_info()["workers"].values()))),
    scheduler_info_metrics=lambda c: sorted(next(iter(c.scheduler_info()["workers"].values()))["metrics"]),
    scheduler_info_counts=lambda c: {k: v for k, v in c.scheduler_info().items() if k in ("type", "total_threads")},
    versions=lambda c: sorted(c.get_versions()),
    versions_scheduler=lambda c: {k: sorted(v) for k, v in c.get_versions()["scheduler"].items()},
    versions_check=lambda c: type(c.get_versions(check=True)).__name__,
    versions_packages=lambda c: c.get_versions(packages=["toolz"])["scheduler"]["packages"]["toolz"] is not None,
    versions_packages_wrong=lambda c: fails(lambda: c.get_versions(packages=["no_such_package"])["scheduler"]["packages"]["no_such_package"]),
    metadata=lambda c: (
        c.set_metadata("x", 1),
        c.get_metadata("x"),
        c.set_metadata(["y", "z"], {"a": [1, 2]}),
        c.get_metadata(["y"]),
        c.get_metadata(["y", "z", "a"]),
        fails(lambda: c.get_metadata("none")),
        fails(lambda: c.get_metadata(["y", "none"])),
        c.get_metadata("none", default=4),
        c.get_metadata(["none", "none"], default=None),
        fails(lambda: c.set_metadata([], 1)),
        fails(lambda: c.set_metadata(["x", "inside"], 1))[0],
        fails(lambda: c.get_metadata([])) and True,
    ),
    events=lambda c: (
        c.log_event("topic", {"a": 1}),
        c.log_event(["topic", "other"], "text"),
        [message for _, message in c.get_events("topic")],
        [message for _, message in c.get_events("other")],
        c.get_events("none"),
        fails(lambda: c.log_event(3, 4)),
    ),
    logs=lambda c: (
        type(c.get_scheduler_logs()).__name__,
        len(c.get_scheduler_logs(n=1)),
        len(c.get_scheduler_logs(n=0)) > 1,
        {len(line) for line in c.get_scheduler_logs()},
        sorted({level for level, _ in c.get_scheduler_logs()} - {"WARNING", "ERROR"}),
        len(c.get_worker_logs()),
        {len(logs) for logs in c.get_worker_logs(n=1).values()},
        fails(lambda: c.get_worker_logs(workers=["nobody"])),
        fails(lambda: c.get_worker_logs(workers="a")),
        c.get_worker_logs(nanny=True),
    ),
    profile=lambda c: (
        sorted(c.profile()),
        sorted(c.profile(scheduler=True)),
        sorted(c.profile(server=True)),
        type(c.profile(key="inc")).__name__,
        fails(lambda: c.profile(workers=["nobody"])),
        fails(lambda: c.profile(start="x"))[0],
        len(c.profile(merge_workers=False)),
    ),
    task_stream=lambda c: task_stream(c),
    story=lambda c: story(c),
    dump=lambda c: dump(c),
    amm=lambda c: (c.amm.running(), c.amm.stop(), c.amm.running(), c.amm.run_once(), c.amm.start(), c.amm.running()),
    links=lambda c: (type(c.dashboard_link).__name__, c.status, c.asynchronous, repr(c).split(" ")[0:3:2]),
    html=lambda c: ("Scheduler" in c._repr_html_(), "Workers" in c._repr_html_()),
    wait_for_workers=lambda c: (
        c.wait_for_workers(2),
        fails(lambda: c.wait_for_workers(9, timeout=0.2)),
        fails(lambda: c.wait_for_workers(0)),
        fails(lambda: c.wait_for_workers("x")),
    ),
    current=lambda c: current(c),
    scheduler_file=lambda c: scheduler_file(c),
)


def current(c):
    with c.as_current():
        return get_client() is c, type(c).current() is c


def scheduler_file(c):
    import json
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        c.write_scheduler_file(f"{folder}/s.json")
        return sorted(json.loads(Path(f"{folder}/s.json").read_text()))


def task_stream(c):
    from distributed import get_task_stream

    with get_task_stream(client=c) as stream:
        wait(c.map(inc, [100, 101], key=["ts-1", "ts-2"]), timeout=10)
    return (
        sorted({tuple(sorted(one)) for one in stream.data}),
        sorted(one["key"] for one in stream.data),
        {one["status"] for one in stream.data},
        {tuple(sorted(part)) for one in stream.data for part in one["startstops"]},
        len(c.get_task_stream(count=1)),
        c.get_task_stream(start=time.time() + 100),
        fails(lambda: c.get_task_stream(start="soon"))[0],
    )


def story(c):
    f = c.submit(inc, 1, key="told", pure=False)
    wait(f, timeout=10)
    told = c.story("told")
    ours = [t for t in told if t[0] == "scheduler" or len(t) == 5]
    return (
        sorted({type(t).__name__ for t in told}),
        [t[:3] if t[0] == "told" else t[1:4] for t in ours][:4],
        fails(lambda: c.story("nothing-of-it")),
        fails(lambda: c.story()),
        fails(lambda: c.story("told", on_error="perhaps")),
    )


def dump(c):
    import tempfile

    f = c.submit(inc, 1, key="dumped", pure=False)
    wait(f, timeout=10)
    import msgpack
    import gzip

    with tempfile.TemporaryDirectory() as folder:
        c.dump_cluster_state(f"{folder}/d")
        state = msgpack.unpackb(gzip.open(f"{folder}/d.msgpack.gz").read(), strict_map_key=False)
        wrong = fails(lambda: c.dump_cluster_state(f"{folder}/e", format="xml"))
        c.dump_cluster_state(f"{folder}/f", exclude=("tasks",), format="yaml")
        files = sorted(p.name for p in Path(folder).iterdir())
    scheduler = state["scheduler"]
    return (
        sorted(state),
        sorted(scheduler),
        sorted(scheduler["tasks"]["dumped"]),
        sorted(next(iter(scheduler["workers"].values()))),
        sorted(next(iter(scheduler["clients"].values()))),
        sorted(next(iter(state["workers"].values()))),
        files,
        wrong,
    )


# ---- plugins, logging, files ----
@case
def worker_plugins(c):
    return (
        c.register_plugin(Hello(), name="hello"),
        sorted(c.run(lambda dask_worker: dask_worker.hello).values()),
        c.register_plugin(Hello("again"), name="hello"),
        c.register_plugin(Hello("idle")),
        c.unregister_worker_plugin("hello"),
        fails(lambda: c.unregister_worker_plugin("hello")),
        fails(lambda: c.unregister_worker_plugin("none")),
        fails(lambda: c.register_plugin(3)),
        fails(lambda: c.register_plugin(BadHello(), name="bad")),
        fails(lambda: c.unregister_worker_plugin("bad")) and True,
        fails(lambda: c.unregister_worker_plugin("idle")),
        fails(lambda: c.unregister_worker_plugin("none", nanny=True)),
    )


@case
def scheduler_plugins(c):
    return (
        c.register_plugin(OnScheduler()),
        fails(lambda: c.register_plugin(OnScheduler())),
        c.run_on_scheduler(lambda dask_scheduler: "on-scheduler" in dask_scheduler.plugins),
        c.unregister_scheduler_plugin("on-scheduler"),
        fails(lambda: c.unregister_scheduler_plugin("on-scheduler")),
        fails(lambda: c.register_plugin(BadOnScheduler())),
    )


@case
def nanny_plugins(c):
    class Quiet(NannyPlugin):
        name = "quiet"

    return c.register_plugin(Quiet()), c.unregister_worker_plugin("quiet", nanny=True)


@case
def callbacks_of_workers(c):
    return c.register_worker_callbacks(setup=lambda: None)


@case
def upload(c):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "uploaded_here.py"
        path.write_text("def f():\n    return 'from a file'\n")
        uploaded = c.upload_file(str(path))
        missing = fails(lambda: c.upload_file(str(path) + "-not"))[0]
        bad = Path(folder) / "uploaded_bad.py"
        bad.write_text("1 // 0\n")
        broken = fails(lambda: c.upload_file(str(bad)))
    result = c.submit(lambda: __import__("uploaded_here").f(), pure=False).result(timeout=10)
    return uploaded, missing, broken, result


@case
def topics(c):
    got = []
    c.subscribe_topic("heard", lambda event: got.append(event[1]))
    c.log_event("heard", 1)
    c.run(lambda dask_worker: dask_worker.log_event("heard", 2), workers=["a"])
    deadline = time.monotonic() + 5
    while len(got) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return got, c.unsubscribe_topic("heard"), fails(lambda: c.unsubscribe_topic("never"))


@case
def forward_logging(c):
    import logging

    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append((record.levelname, record.getMessage()))
    logging.getLogger("said").addHandler(handler)
    c.forward_logging("said", level=logging.INFO)
    c.run(lambda: __import__("logging").getLogger("said").warning("spoken"), workers=["a"])
    deadline = time.monotonic() + 5
    while not heard and time.monotonic() < deadline:
        time.sleep(0.02)
    c.unforward_logging("said")
    logging.getLogger("said").removeHandler(handler)
    return heard


@case
def printing(c):
    from distributed import print as say
    from distributed import warn

    def speak():
        say("printed", 1)
        warn("warned")

    def listen():
        c.submit(speak, pure=False).result(timeout=10)
        time.sleep(0.3)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        printed = kept(listen)
    return printed, [str(w.message) for w in caught if "warned" in str(w.message)]


# ---- locks, queues and their like ----
@case
def queues(c):
    q = Queue("q", maxsize=2)
    f = c.submit(inc, 1, pure=False)
    q.put(f)
    q.put({"a": 1})
    return (
        q.qsize(),
        fails(lambda: q.put(3, timeout=0.1)),
        q.get(timeout=5).result(timeout=5),
        q.get(),
        fails(lambda: q.get(timeout=0.1)),
        fails(lambda: q.get(batch=True)),
        q.put(1),
        q.get(batch=1),
        fails(lambda: q.get(timeout="1 ms")),
        q.close(),
    )


@case
def variables(c):
    v = Variable("v")
    got = [fails(lambda: v.get(timeout=0.1)), v.set(1), v.get(), v.set(c.submit(inc, 1)), v.get().result(timeout=5)]
    f = c.submit(fail, pure=False)
    v.set(f)
    return got, fails(lambda: v.get().result(timeout=5)), v.delete(), fails(lambda: Variable("w").get(timeout="0.1 s"))


@case
def locks(c):
    lock, other = Lock("l"), Lock("l")
    return (
        lock.acquire(),
        lock.locked(),
        other.acquire(timeout=0.1),
        other.acquire(blocking=False),
        fails(lambda: other.acquire(blocking=False, timeout=1)),
        lock.release(),
        fails(lock.release),
        other.acquire(timeout=1),
        other.release(),
    )


@case
def semaphores(c):
    s = Semaphore(2, "s")
    return (
        s.acquire(),
        s.acquire(),
        s.acquire(timeout=0.1),
        s.get_value(),
        s.release(),
        s.get_value(),
        s.release(),
        fails(lambda: s.release()),
        fails(lambda: Semaphore(3, "s")),
        s.close(),
        fails(lambda: s.acquire(timeout=0.2)),
        fails(lambda: s.get_value()),
    )


@case
def events_between_tasks(c):
    e = Event("e")
    return e.is_set(), fails(lambda: e.wait(timeout=0.1)), e.set(), e.wait(timeout=5), e.is_set(), e.clear(), e.is_set()


@case
def multi_locks(c):
    a, b = MultiLock(names=["x", "y"]), MultiLock(names=["y", "z"])
    return a.acquire(), b.acquire(timeout=0.1), a.release(), b.acquire(timeout=1), b.release(), fails(lambda: b.release())


# ---- workers; these come last, for the workers go ----
LAST = {}


def last(function):
    LAST[function.__name__] = function
    return function


@last
def restart_without_nannies(c):
    return fails(lambda: c.restart_workers(["nobody"])), fails(lambda: c.restart_workers([worker(c, "b")]))[0]


@last
def retire(c):
    return (
        fails(lambda: c.retire_workers(workers=["tcp://127.0.0.1:9"])),
        fails(lambda: c.retire_workers(names=["nobody"])),
        fails(lambda: c.retire_workers(workers=["x"], names=["y"])),
        fails(lambda: c.retire_workers(strange=1)),
        c.retire_workers(workers=[]),
    )


@last
def closed(c):
    f = c.submit(inc, 1)
    c.close()
    return (
        c.status,
        f.status,
        fails(lambda: c.submit(inc, 2)),
        fails(lambda: c.gather(f)),
        fails(lambda: f.result(timeout=1)),
        fails(lambda: c.who_has()),
        fails(lambda: c.run(inc, 1)),
        CancelledError.__name__,
    )
