"""Rask's own workers (`rask worker --engine rask`): to schedulers, clients, peers and user code they are Dask's workers.

Each test runs on Dask's scheduler and on rask's, with our workers alone and mixed with a stock one.
"""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import time
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
import pytest
from distributed import (
    Client,
    Event,
    Lock,
    Queue,
    Reschedule,
    Semaphore,
    Variable,
    WorkerPlugin,
    as_completed,
    get_client,
    get_worker,
    rejoin,
    secede,
    span,
    wait,
    worker_client,
)
from distributed import print as dask_print
from distributed import warn as dask_warn
from distributed.metrics import context_meter
from distributed.scheduler import KilledWorker

from harness import Cluster, wait_until

LATE_S = 60


class Mix:
    """A cluster, its client, and addresses by name."""

    def __init__(self, cluster: Cluster, client: Client):
        self.cluster, self.client = cluster, client

    def address(self, name: str) -> str:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        found = [address for address, worker in workers.items() if worker["name"] == name]
        assert found, f"{name} is gone:\n{self.cluster.logs()}"
        return found[0]

    def on(self, name: str, function, *args, **kwargs):
        return self.client.submit(function, *args, workers=[self.address(name)], pure=False, **kwargs)

    def other(self) -> str:
        """A worker besides `ours`: a stock one if there is one."""
        return "stock" if "stock" in self.cluster.workers else "ours-2"


def make(work_dir, scheduler: str, mixed: bool) -> Cluster:
    cluster = Cluster(work_dir, scheduler=scheduler)
    cluster.add_worker("ours", "--engine", "rask", "--resources", "GOLD=2", nthreads=2, kind="rask")
    if mixed:
        cluster.add_worker("stock", nthreads=2, kind="stock")
    else:
        cluster.add_worker("ours-2", "--engine", "rask", nthreads=2, kind="rask")
    return cluster


@pytest.fixture(scope="module", params=["rask-alone", "rask-mixed", "stock-alone", "stock-mixed"])
def whole(request, work_dir):
    scheduler, mix = request.param.split("-")
    cluster = make(work_dir, scheduler, mix == "mixed")
    yield cluster
    cluster.close()


@pytest.fixture
def mix(whole):
    with Client(whole.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        yield Mix(whole, client)
    assert whole.healthy(), whole.logs()


# ---- tasks and values ------------------------------------------------------------------------------------------------


def test_submit_map_gather_and_a_tree_of_dependencies(mix):
    xs = mix.client.map(lambda x: x + 1, range(100), pure=False)
    assert mix.client.gather(xs) == list(range(1, 101))
    while len(xs) > 1:
        xs = [mix.client.submit(operator.add, a, b) for a, b in zip(xs[::2], xs[1::2])] + (xs[-1:] if len(xs) % 2 else [])
    assert xs[0].result(LATE_S) == sum(range(1, 101))


def test_values_travel_between_workers_in_both_directions(mix):
    small, big = mix.on("ours", operator.add, 20, 1), mix.on("ours", np.arange, 400_000)
    assert mix.on(mix.other(), operator.mul, small, 2).result(LATE_S) == 42
    assert mix.on(mix.other(), np.sum, big).result(LATE_S) == 400_000 * 399_999 // 2
    theirs = mix.on(mix.other(), np.ones, 300_000)

    def change(array):
        array += 1  # a task's own copy: writable, as from a stock worker
        return array.sum()

    assert mix.on("ours", change, theirs).result(LATE_S) == 600_000
    assert mix.on("ours", len, mix.on(mix.other(), lambda: {"a": [1, 2], "b": None})).result(LATE_S) == 2


def test_scatter_broadcast_replicate_and_direct_gather(mix):
    [x] = mix.client.scatter([{"a": np.arange(7)}], workers=[mix.address("ours")], hash=False)
    assert mix.on("ours", lambda d: int(d["a"].sum()), x).result(LATE_S) == 21
    assert mix.on(mix.other(), lambda d: int(d["a"].sum()), x).result(LATE_S) == 21
    y = mix.client.scatter(5, broadcast=True, hash=False)
    assert mix.client.gather([mix.on(name, operator.neg, y) for name in ("ours", mix.other())]) == [-5, -5]
    z = mix.on(mix.other(), np.ones, 10)
    wait(z)
    mix.client.replicate([z], workers=[mix.address("ours")])
    assert mix.address("ours") in mix.client.who_has([z])[z.key]
    assert mix.client.gather(z, direct=True).sum() == 10


def test_an_error_comes_with_its_traceback_and_passes_through_dependents(mix):
    def fails(x):
        return 1 / x

    async def fails_later():
        await asyncio.sleep(0)
        return fails(0)

    with span("bad"):
        bads = [mix.on("ours", fails, 0), mix.on("ours", fails_later)]
    for bad in [*bads, mix.on("ours", fails, 0)]:
        with pytest.raises(ZeroDivisionError) as raised:
            mix.client.submit(operator.add, bad, 1).result(LATE_S)
        names = [frame.name for frame in raised.traceback]
        assert "fails" in names and not any("rask_executor" in str(frame.path) for frame in raised.traceback)

    class Odd(Exception):
        def __reduce__(self):
            raise TypeError("not to be pickled")

    def odd():
        raise Odd("odd one")

    with pytest.raises(Exception, match="odd one"):
        mix.on("ours", odd).result(LATE_S)


def test_a_value_that_does_not_pickle_stays_usable_where_it_is(mix):
    lock = mix.on("ours", lambda: __import__("threading").Lock())
    assert mix.on("ours", lambda held: held.acquire(False), lock).result(LATE_S) is True
    with pytest.raises(TypeError):
        lock.result(LATE_S)


def test_cancelled_and_released_tasks_leave_nothing_behind(mix):
    running = [mix.on("ours", time.sleep, 0.5) for _ in range(4)]
    waiting = mix.client.map(lambda x, y: x, range(50), y=running[0], workers=[mix.address("ours")], pure=False)
    mix.client.cancel([*running, *waiting])
    del running, waiting
    assert mix.on("ours", operator.add, 1, 1).result(LATE_S) == 2
    held = lambda: mix.client.run(lambda dask_worker: len(dask_worker.data))  # noqa: E731
    wait_until(lambda: set(held().values()) == {0}, "no value is held", LATE_S)


def test_work_is_stolen_from_a_busy_worker(mix):
    def slow(x):
        time.sleep(0.05)
        return get_worker().name

    root = mix.on("ours", lambda: 1)
    wait(root)
    names = mix.client.gather([mix.client.submit(slow, root, pure=False) for _ in range(60)])
    assert set(names) == {"ours", mix.other()}


def test_collections_compute_the_same(mix):
    x = da.arange(10_000, chunks=500).reshape((100, 100))
    assert (x + x.T).sum().compute() == 2 * sum(range(10_000))
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        frame = pd.DataFrame({"a": np.arange(2000) % 17, "b": np.arange(2000)})
        got = dd.from_pandas(frame, npartitions=8).groupby("a").b.sum(split_out=3).compute().sort_index()
        pd.testing.assert_series_equal(got, frame.groupby("a").b.sum().sort_index(), check_names=False)
        shuffled = dd.from_pandas(frame, npartitions=6).shuffle("a").compute()
    assert sorted(shuffled.b) == list(range(2000))


# ---- what user code sees ---------------------------------------------------------------------------------------------


def test_user_code_sees_a_worker(mix):
    def look():
        worker = get_worker()
        return worker.name, worker.address, worker.state.nthreads, type(worker).__name__, worker.status.name, worker.get_current_task()

    future = mix.on("ours", look)
    assert future.result(LATE_S) == ("ours", mix.address("ours"), 2, "Worker", "running", future.key)
    held = mix.on("ours", operator.add, 40, 1)
    wait(held)

    def data(key):
        worker = get_worker()
        return worker.data[key], key in worker.data, worker.state.tasks[key].state

    assert mix.on("ours", data, held.key).result(LATE_S) == (41, True, "memory")


def test_clients_in_tasks_secede_and_rejoin(mix):
    def nested():
        client = get_client()
        futures = client.map(lambda x: x * 2, range(8), pure=False)
        secede()
        total = sum(client.gather(futures))
        rejoin()
        return total, client.gather(client.scatter([1, 2, 3], direct=True, hash=False))

    assert mix.client.gather([mix.on("ours", nested) for _ in range(5)]) == [(56, [1, 2, 3])] * 5

    def with_client(x):
        with worker_client() as client:
            return client.submit(operator.add, x, 1, pure=False).result()

    assert mix.client.gather([mix.on("ours", with_client, x) for x in range(6)]) == [1, 2, 3, 4, 5, 6]


def test_a_seceded_task_frees_its_thread(mix):
    def long(name):
        secede()
        Event(name).wait(timeout=60)
        return "long"

    name = f"go-{os.getpid()}-{time.time()}"
    longs = [mix.on("ours", long, name) for _ in range(3)]
    shorts = [mix.on("ours", operator.neg, x) for x in range(6)]
    assert mix.client.gather(shorts) == [-x for x in range(6)]  # although three tasks run on two threads
    Event(name).set()
    assert mix.client.gather(longs) == ["long"] * 3


def test_coordination_in_tasks(mix):
    name = f"c-{time.time()}"

    def step(x):
        with Lock(name), Semaphore(2, f"{name}-semaphore"):
            Queue(name).put(x)
            Variable(name).set(x)
        return sorted(f.result() for f in as_completed(get_client().map(operator.neg, range(3), pure=False)))

    assert mix.on("ours", step, 7).result(LATE_S) == [-2, -1, 0]
    assert (Queue(name, client=mix.client).get(timeout=LATE_S), Variable(name, client=mix.client).get()) == (7, 7)


def test_reschedule_retries_and_async_tasks(mix):
    def again():
        worker = get_worker()
        worker.tries = getattr(worker, "tries", 0) + 1
        if worker.tries % 3:
            raise Reschedule
        return True

    assert mix.on("ours", again).result(LATE_S)

    def flaky():
        worker = get_worker()
        worker.flaky = getattr(worker, "flaky", 0) + 1
        if worker.flaky % 3:
            raise ValueError(worker.flaky)
        return True

    assert mix.on("ours", flaky, retries=5).result(LATE_S)

    async def on_loop(x):
        await asyncio.sleep(0.01)
        return x + 1, get_worker().name

    assert mix.on("ours", on_loop, 1).result(LATE_S) == (2, "ours")


def test_annotated_executors_and_resources(mix):
    with dask.annotate(executor="offload"):
        assert mix.on("ours", lambda: get_worker().name).result(LATE_S) == "ours"
    with dask.annotate(executor="nope"):
        with pytest.raises(ValueError, match="Invalid executor"):
            mix.on("ours", operator.neg, 1).result(LATE_S)
    golden = [mix.client.submit(operator.neg, x, resources={"GOLD": 1}, pure=False) for x in range(4)]
    assert mix.client.gather(golden) == [0, -1, -2, -3]


def test_events_and_metrics_of_user_code_reach_the_scheduler(mix):
    topic = f"t-{time.time()}"

    mix.on("ours", lambda: get_worker().log_event(topic, {"a": 1})).result(LATE_S)
    wait_until(lambda: mix.client.get_events(topic), "the event", LATE_S)
    assert mix.client.get_events(topic)[0][1]["a"] == 1
    metrics = lambda: mix.client.scheduler_info(n_workers=-1)["workers"][mix.address("ours")]["metrics"]  # noqa: E731
    wait_until(lambda: metrics()["memory"] > 1 << 20 and metrics()["num_fds"] > 3, "a heartbeat", LATE_S)


def test_what_tasks_meter_and_their_spans_reach_the_scheduler(mix):
    prefix = f"meters{time.time_ns()}"

    def metered():
        context_meter.digest_metric("apples", 3, "count")
        with context_meter.meter("cooking"):
            time.sleep(0.2)
        return dask.get_annotations()["span"]["name"], get_worker().state.tasks[f"{prefix}-1"].annotations["span"]["ids"][-1]

    async def on_loop():
        context_meter.digest_metric("apples", 4, "count")

    def fails():
        context_meter.digest_metric("apples", 5, "count")
        context_meter.digest_metric("cooking", 60, "seconds")
        raise ValueError

    with span("kitchen") as kitchen:
        assert mix.on("ours", metered, key=f"{prefix}-1").result(LATE_S) == (("kitchen",), kitchen)
    mix.on("ours", on_loop, key=f"{prefix}-2").result(LATE_S)
    mix.on("ours", fails, key=f"{prefix}-3").exception(LATE_S)
    told = lambda: mix.client.run_on_scheduler(lambda dask_scheduler: dict(dask_scheduler.cumulative_worker_metrics))  # noqa: E731
    wait_until(lambda: told().get(("execute", prefix, "apples", "count")) == 12, "all that was counted", LATE_S)
    seconds = lambda label: told()["execute", prefix, label, "seconds"]  # noqa: E731
    # What a task metered itself is not told as anything else; of one that fails only the time that it took.
    assert 0.2 <= seconds("cooking") < 60 and seconds("thread-noncpu") < 0.1 and 0 < seconds("failed") < 60
    counted = mix.client.run(lambda dask_worker: list(dask_worker.digests_total), workers=[mix.address("ours")])
    by_span = kitchen if mix.cluster.kind == "stock" else None  # rask's scheduler keeps no books by span
    assert ("execute", by_span, prefix, "apples", "count") in counted[mix.address("ours")]


def test_prints_and_warnings_of_tasks_reach_the_client(mix, capsys):
    def says():
        dask_print("hello from", 7, sep="|")
        dask_warn("careful now")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mix.on("ours", says).result(LATE_S)
        wait_until(lambda: any(str(one.message) == "careful now" for one in caught), "the warning", LATE_S)
    wait_until(lambda: "hello from|7" in capsys.readouterr().out, "what was printed", LATE_S)


def test_profiles_show_user_code_again_after_a_rest(mix):
    def spins(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(100))

    ours = [mix.address("ours")]
    samples = lambda: mix.client.profile(key="spins", workers=ours)["count"]  # noqa: E731
    mix.on("ours", spins, 0.3).result(LATE_S)
    first = wait_until(samples, "the first run is in the profile", LATE_S)
    # Meanwhile nobody looks at its threads.
    looks = lambda: mix.client.run(lambda dask_worker: dask_worker.looking, workers=ours)[ours[0]]  # noqa: E731
    wait_until(lambda: not looks(), "the worker rests", LATE_S)
    mix.on("ours", spins, 0.3).result(LATE_S)
    wait_until(lambda: samples() > first, "the second run is in it, too", LATE_S)
    interval = lambda: mix.client.scheduler_info(n_workers=-1)["workers"][ours[0]]["metrics"]["event_loop_interval"]  # noqa: E731
    assert 0.01 < interval(), "a rested event loop is on time by Dask's measure"


# ---- what the node passes on -----------------------------------------------------------------------------------------


def test_run_plugins_uploads_and_introspection(mix, tmp_path):
    assert mix.client.run(lambda dask_worker: dask_worker.name)[mix.address("ours")] == "ours"

    async def coroutine(dask_worker):
        await asyncio.sleep(0)
        return dask_worker.name

    assert mix.client.run(coroutine)[mix.address("ours")] == "ours"

    class Marks(WorkerPlugin):
        name = "marks"

        def setup(self, worker):
            worker.mark, worker.moves = 7, []
            self.worker = worker

        def transition(self, key, start, finish, **kwargs):
            self.worker.moves.append((str(key), finish))

        def teardown(self, worker):
            worker.mark = 8

    mix.client.register_plugin(Marks())
    first = mix.on("ours", lambda: get_worker().mark)
    assert first.result(LATE_S) == 7
    moved = lambda: (first.key, "memory") in mix.on("ours", lambda: get_worker().moves).result(LATE_S)  # noqa: E731
    wait_until(moved, "the plugin was told of the move", LATE_S)
    mix.client.unregister_worker_plugin("marks")
    assert mix.on("ours", lambda: get_worker().mark).result(LATE_S) == 8

    module = tmp_path / f"mod{os.getpid()}.py"
    module.write_text("x = 5\n")
    mix.client.upload_file(str(module))
    assert mix.on("ours", lambda name: __import__(name).x, module.stem).result(LATE_S) == 5
    versions = mix.client.get_versions(check=True)["workers"]
    assert versions[mix.address("ours")]["packages"]["distributed"]
    mix.client.get_worker_logs()
    running = mix.on("ours", lambda name: Event(name).wait(timeout=60), module.stem)
    wait_until(lambda: running.key in str(mix.client.processing()), "the task was given to its worker", LATE_S)
    wait_until(lambda: running.key in str(mix.client.call_stack(keys=[running.key])), "a call stack", LATE_S)
    Event(module.stem).set()
    assert running.result(LATE_S)


def test_actors_from_clients_and_tasks(mix):
    class Counter:
        n = 0

        def add(self, k=1):
            self.n += k
            return self.n

        async def later(self, k):
            await asyncio.sleep(0.01)
            return self.add(k)

    counter = mix.on("ours", Counter, actor=True).result(LATE_S)
    assert counter.add().result() == 1 and counter.n == 1
    assert mix.on("ours", lambda c: c.add(2).result(), counter).result(LATE_S) == 3
    assert mix.on(mix.other(), lambda c: c.add(3).result(), counter).result(LATE_S) == 6
    assert counter.later(4).result() == 10
    assert mix.on("ours", lambda c: c.later(5).result(), counter).result(LATE_S) == 15


def test_shuffles_from_peer_to_peer(mix):
    frame = pd.DataFrame({"a": np.arange(1000) % 31, "b": np.arange(1000)})
    with dask.config.set({"dataframe.shuffle.method": "p2p", "array.rechunk.method": "p2p"}):
        assert sorted(dd.from_pandas(frame, npartitions=6).shuffle("a").compute().b) == list(range(1000))
        x = da.from_array(np.arange(40_000).reshape(200, 200), chunks=(200, 20))
        assert (x.rechunk((20, 200)).compute() == np.arange(40_000).reshape(200, 200)).all()


# ---- lives of their own ----------------------------------------------------------------------------------------------


def executor_of(proc) -> psutil.Process:
    [child] = wait_until(lambda: proc.children(), "the Python process", LATE_S)
    return child


@pytest.fixture
def alone(work_dir):
    """A cluster for one test, which it may break."""
    cluster = Cluster(work_dir)
    yield cluster
    cluster.close()


def test_a_task_that_kills_its_process_is_a_killed_worker_and_the_worker_comes_back(alone):
    ours = alone.add_worker("ours", "--engine", "rask", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        first = executor_of(ours)
        with pytest.raises(KilledWorker):
            client.submit(os._exit, 3).result(LATE_S * 2)
        client.wait_for_workers(1, timeout=LATE_S)
        assert client.submit(operator.add, 1, 2, pure=False).result(LATE_S) == 3
        assert not first.is_running() and "exit code 3" in ours.output()


def test_no_python_is_left_when_the_node_dies_or_is_told_to_stop(alone):
    ours = alone.add_worker("ours", "--engine", "rask", kind="rask")
    executor = executor_of(ours)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        ours.kill()
        wait_until(lambda: not executor.is_running(), "the executor ended with its node", LATE_S)
        again = alone.add_worker("again", "--engine", "rask", kind="rask")
        wait_until(lambda: len(client.scheduler_info()["workers"]) == 1, "one worker", LATE_S)
        client.wait_for_workers(1, timeout=LATE_S)
        executor = executor_of(again)
        again.popen.send_signal(signal.SIGTERM)
        assert again.wait(LATE_S) == 0
        wait_until(lambda: not executor.is_running(), "the executor ended", LATE_S)
    alone.workers.clear()


def test_a_worker_that_uses_too_much_memory_pauses_and_goes_on(alone):
    ours = alone.add_worker("ours", "--engine", "rask", "--memory-limit", "400MiB", kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        big = client.submit(lambda: np.ones(int(0.84 * 400 * 2**20 - psutil.Process().memory_info().rss) // 8), pure=False)
        wait(big, timeout=LATE_S)
        status = lambda: [w["status"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]  # noqa: E731
        wait_until(lambda: status() == ["paused"], "the worker pauses", LATE_S)
        later = client.submit(operator.add, 1, 1, pure=False)
        big.release()
        assert later.result(LATE_S) == 2
    assert "paused" in ours.output()


def test_a_worker_that_passes_its_memory_is_ended_by_its_nanny_and_comes_back(alone):
    ours = alone.add_worker("ours", "--engine", "rask", "--memory-limit", "400MiB", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        [pid] = client.run(os.getpid).values()
        with pytest.raises(KilledWorker):
            client.submit(lambda: (np.ones(500 << 17), time.sleep(600)), pure=False).result(LATE_S * 2)
        events = client.get_events("worker-restart-memory")
        assert events[0][1]["pid"] == pid and events[0][1]["rss"] > 0.95 * 400 * 2**20
        wait_until(lambda: pid not in client.run(os.getpid, on_error="ignore").values(), "another process", LATE_S)
        assert client.submit(operator.add, 1, 2, pure=False).result(LATE_S) == 3
    before, _ = ours.output().split(f"(pid={pid}) exceeded 95% memory budget. Restarting...", 1)
    assert "worker paused" in before


MODULE = """
import click

@click.command()
@click.option("--word")
def dask_setup(worker, word):
    worker.word = word

def dask_teardown(worker):
    print("torn down:", worker.word)
"""


def test_preloads_are_set_up_with_their_arguments_and_torn_down(alone, tmp_path):
    module = tmp_path / "preloaded.py"
    module.write_text(MODULE)
    text = "async def dask_setup(worker):\n    worker.by_text = worker.name"
    given = ("--preload", str(module), "--preload", text, "--", "--word", "hello")
    ours = alone.add_worker("ours", "--engine", "rask", *given, kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        look = lambda: (get_worker().word, get_worker().by_text, __import__("preloaded").__name__)  # noqa: E731
        assert client.submit(look).result(LATE_S) == ("hello", "ours", "preloaded")
        client.retire_workers([Mix(alone, client).address("ours")])
        assert ours.wait(LATE_S) == 0
    assert "torn down: hello" in ours.output()
    del alone.workers["ours"]


def test_limits_of_memory_set_at_run_time_count_and_without_a_nanny_nothing_ends_it(alone):
    def limit(dask_worker, **limits):
        for name, value in limits.items():
            setattr(dask_worker.memory_manager, name, value)
        return os.getpid()

    alone.add_worker("ours", "--engine", "rask", "--memory-limit", "400MiB", kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        before = client.run(limit, memory_target_fraction=False, memory_spill_fraction=False)
        big = client.submit(lambda: np.ones(int(1.05 * 400 * 2**20 - psutil.Process().memory_info().rss) // 8), pure=False)
        wait(big, timeout=LATE_S)
        worker = lambda: next(iter(client.scheduler_info(n_workers=-1)["workers"].values()))  # noqa: E731
        wait_until(lambda: worker()["status"] == "paused", "the worker pauses", LATE_S)
        later = client.submit(operator.add, 1, 1, pure=False)
        assert client.run(limit, memory_limit=2 << 30) == before
        assert later.result(LATE_S) == 2 and big.status == "finished"
        assert worker()["metrics"]["spilled_bytes"] == {"memory": 0, "disk": 0}


CLASSES = """
from distributed import Worker

class Greets(Worker):
    def __init__(self, *args, greeting="hello", **kwargs):
        super().__init__(*args, **kwargs)
        self.greeting = greeting
        self.handlers["greet"] = self.greet

    async def greet(self, name):
        return f"{self.greeting}, {name}"

class Fetches(Worker):
    async def gather_dep(self, *args, **kwargs):
        return await super().gather_dep(*args, **kwargs)
"""


def test_tasks_see_a_class_of_ones_own_and_dasks_worker_runs_where_it_replaces_too_much(alone, tmp_path):
    (tmp_path / "classes_of_workers.py").write_text(CLASSES)
    alone.env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    for name, kind in (("greets", "Greets"), ("fetches", "Fetches")):
        alone.add_worker(name, "--engine", "rask", "--worker-class", f"classes_of_workers.{kind}", kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        mix = Mix(alone, client)
        see = lambda: (type(get_worker()).__name__, get_worker().greeting)  # noqa: E731
        assert mix.on("greets", see).result(LATE_S) == ("Greets", "hello")
        assert client.sync(client.rpc(mix.address("greets")).greet, name="you") == "hello, you"
        assert mix.on("fetches", lambda: type(get_worker()).__name__).result(LATE_S) == "Fetches"
    assert "replaces gather_dep; Dask's run instead" in alone.workers["fetches"].output()


def test_a_worker_leaves_when_it_is_retired(alone):
    ours = alone.add_worker("ours", "--engine", "rask", kind="rask")
    alone.add_worker("stays", "--engine", "rask", kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        address = Mix(alone, client).address("ours")
        kept = client.submit(operator.add, 2, 3, workers=[address], pure=False)
        wait(kept, timeout=LATE_S)
        client.retire_workers([address])
        assert ours.wait(LATE_S) == 0
        assert kept.result(LATE_S) == 5
    del alone.workers["ours"]


def test_what_it_does_not_do_is_said_with_what_to_do(alone):
    refused = alone.add_worker("x", "--engine", "rask", "--protocol", "ucx", kind="rask")
    assert refused.wait(LATE_S) == 2
    assert "--protocol ucx" in refused.output() and "--engine stock" in refused.output()
    alone.workers.clear()
