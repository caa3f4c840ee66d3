"""Workers that come, go, die and hang; schedulers that end; every pairing of stock and rask."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import numpy as np
import pytest
from distributed import Client, Event, Queue, Variable, as_completed, get_worker, wait
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from harness import Proc, address_of, clean_env, rask_bin, running_workers, scheduler_kind, wait_until

pytestmark = pytest.mark.timeout(90)

CFG = "DASK_DISTRIBUTED__SCHEDULER__"


def inc(x):
    return x + 1


def slow_inc(x, delay=0.02):
    time.sleep(delay)
    return x + 1


def where(_=None):
    return get_worker().name


def die(*_):
    os._exit(7)


def pid_of(client, name):
    return client.run(os.getpid, workers=[address_of(client, name)]).popitem()[1]


@pytest.fixture
def connect(request):
    """Clients of clusters that a test starts itself."""
    mine = []

    def connect(cluster, **options) -> Client:
        client = Client(cluster.address, timeout=30, **options)
        mine.append(client)
        return client

    yield connect
    for client in mine:
        client.close(timeout=5)


# --- pairings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", ["stock", "rask"])
@pytest.mark.parametrize("scheduler", ["stock", "rask"])
def test_every_pairing_computes(start_cluster, connect, scheduler, worker):
    if scheduler_kind() == "stock" and "rask" in (scheduler, worker):
        pytest.skip("no rask in this run")
    cluster = start_cluster(scheduler=scheduler)
    cluster.add_worker("w", "--resources", "GPU=2", nthreads=2, kind=worker, nanny=True)
    client = connect(cluster)
    client.wait_for_workers(1, timeout=40)
    assert client.submit(sum, client.map(inc, range(50)), resources={"GPU": 1}).result() == sum(range(1, 51))
    assert list(client.ncores().values()) == [2]
    old = pid_of(client, running_workers(client)[0])
    client.restart(timeout=40)
    assert client.submit(inc, 1).result() == 2 and pid_of(client, running_workers(client)[0]) != old


# --- joining and leaving -------------------------------------------------------------------------


def test_work_that_waits_starts_when_a_worker_joins(start_cluster, connect):
    cluster = start_cluster()
    client = connect(cluster)
    early = client.map(inc, range(20))
    assert rpc_states(client, early) == {"queued"} or rpc_states(client, early) <= {"queued", "no-worker"}
    cluster.add_worker("first")
    assert client.gather(early) == list(range(1, 21))
    pinned = client.submit(where, workers="second", pure=False)
    cluster.add_worker("second")
    assert pinned.result(timeout=40) == "second"
    cluster.workers.pop("second").stop()
    wait_until(lambda: running_workers(client) == ["first"], "the worker that left is gone")
    assert client.submit(inc, 100).result() == 101


def rpc_states(client, futures):
    return set(client.sync(client.scheduler.get_task_status, keys=[f.key for f in futures]).values()) - {None}


def test_retiring_a_worker_loses_nothing(start_cluster, connect):
    cluster = start_cluster()
    a, b = cluster.add_worker("a"), cluster.add_worker("b")
    client = connect(cluster)
    client.wait_for_workers(2, timeout=40)
    data = [client.submit(np.arange, 1000 + i, workers="a", key=f"d-{i}") for i in range(20)]
    scattered = client.scatter(b"not computable again", workers=["a"], hash=False)
    wait([*data, scattered])
    address = address_of(client, "a")
    retired = client.retire_workers([address])
    assert list(retired) == [address]
    assert a.wait() == 0 and b.alive()
    assert client.gather(scattered) == b"not computable again"
    assert [len(x) for x in client.gather(data)] == [1000 + i for i in range(20)]
    assert running_workers(client) == ["b"] and client.retire_workers([address]) == {}
    story = client.story("d-3")
    assert sum(line[2:4] == ("processing", "memory") for line in story if line[0] == "scheduler") == 1  # moved, not redone


def test_retiring_under_load(start_cluster, connect):
    cluster = start_cluster()
    for name in "abc":
        cluster.add_worker(name)
    client = connect(cluster)
    client.wait_for_workers(3, timeout=40)
    xs = client.map(slow_inc, range(150), key="load")
    ys = client.map(slow_inc, xs, delay=0)
    total = client.submit(sum, ys)
    wait(xs[:20])
    assert len(client.retire_workers(names=["a", "b"])) == 2
    assert total.result(timeout=60) == sum(range(2, 152))
    assert running_workers(client) == ["c"]


def test_a_name_that_is_taken_is_refused(start_cluster, connect):
    cluster = start_cluster()
    cluster.add_worker("same")
    client = connect(cluster)
    client.wait_for_workers(1, timeout=40)
    again = cluster.add_worker("same-2", "--name", "same")
    assert again.wait(40) != 0 and "name taken" in again.output()
    assert running_workers(client) == ["same"] and client.submit(inc, 1).result() == 2


# --- restart -------------------------------------------------------------------------------------


def test_restart_gives_fresh_workers_and_cancels_everything(cluster, client, second):
    held = client.map(inc, range(10))
    wait(held)
    blocked = client.submit(time.sleep, 60, pure=False)
    other = second.submit(inc, 1, key="of-another")
    wait(other)
    before = client.run(os.getpid)
    client.restart(timeout=40)
    assert held[0].status == "cancelled" and blocked.status == "cancelled"
    wait_until(other.cancelled, "the other client's futures are gone too")
    after = client.run(os.getpid)
    assert len(after) == 2 and not set(before.values()) & set(after.values())
    assert client.gather(client.map(inc, range(10))) == list(range(1, 11))


def test_restart_of_chosen_workers(cluster, client):
    alice, bob = address_of(client, "alice"), address_of(client, "bob")
    bobs = pid_of(client, "bob")
    kept = client.submit(inc, 1, workers="bob")
    wait(kept)
    assert client.restart_workers([alice], timeout=40) == {alice: "OK"}
    wait_until(lambda: running_workers(client) == ["alice", "bob"], "both run", 30)
    assert pid_of(client, "bob") == bobs and kept.result() == 2 and address_of(client, "bob") == bob


# --- death ---------------------------------------------------------------------------------------


def test_a_killed_worker_costs_a_recompute_and_nothing_else(start_cluster, connect):
    cluster = start_cluster()
    a, _ = cluster.add_worker("a"), cluster.add_worker("b")
    client = connect(cluster)
    client.wait_for_workers(2, timeout=40)
    x = client.submit(lambda: (get_worker().name, 5), workers="a", allow_other_workers=True, pure=False)
    lost = client.scatter("only copy", workers=["a"], hash=False)
    assert x.result() == ("a", 5)
    a.kill()
    wait_until(lambda: x.status == "finished" and running_workers(client) == ["b"], "recomputed", 30)
    assert x.result(timeout=30) == ("b", 5)
    wait_until(lambda: lost.cancelled(), "scattered data is lost with its only holder")


def test_killed_worker_error_names_the_task(start_cluster, connect):
    cluster = start_cluster(env={CFG + "ALLOWED_FAILURES": 0})
    cluster.add_worker("w", nanny=True)
    client = connect(cluster)
    client.wait_for_workers(1, timeout=40)
    deadly = client.submit(die, key="deadly")
    after = client.submit(inc, deadly)
    with pytest.raises(KilledWorker, match="deadly") as info:
        deadly.result(timeout=40)
    assert info.value.task == "deadly" and info.value.allowed_failures == 0 and info.value.last_worker.name == "w"
    with pytest.raises(KilledWorker):
        after.result(timeout=40)
    Variable("failed", client=client).set(deadly)
    Queue("failed", client=client).put(deadly)
    with Client(cluster.address, set_as_default=False) as other:
        for passed_on in (Variable("failed", client=other).get(timeout=20), Queue("failed", client=other).get(timeout=20)):
            with pytest.raises(KilledWorker, match="deadly"):
                passed_on.result(timeout=20)
    assert client.submit(inc, 1).result(timeout=40) == 2  # the nanny brought it back


def test_a_deadly_task_is_given_up_after_allowed_failures(start_cluster, connect):
    cluster = start_cluster(env={CFG + "ALLOWED_FAILURES": 1})
    cluster.add_worker("w", nanny=True)
    client = connect(cluster)
    client.wait_for_workers(1, timeout=40)
    with Client(cluster.address, set_as_default=False) as other:
        runs = []
        other.subscribe_topic("ran", runs.append)

        def note_and_die():
            get_worker().log_event("ran", 1)
            time.sleep(0.2)
            os._exit(1)

        with pytest.raises(KilledWorker):
            client.submit(note_and_die).result(timeout=60)
        assert len(other.get_events("ran")) == 2


def reference(n):
    """The graph of the load test, computed without Dask."""
    level = [((i * 7919) % 1000) / 10 for i in range(n)]
    layers = [level]
    for depth in range(3):
        level = [level[i] + 2 * level[(i + 1) % n] - level[(i * 3 + depth) % n] for i in range(n)]
        layers.append(level)
    return [sum(level) for level in layers]


def test_kill_9_under_load_changes_no_result(start_cluster, connect):
    cluster = start_cluster(env={CFG + "ALLOWED_FAILURES": 100})
    for name in ("a", "b"):
        cluster.add_worker(name, nanny=True, nthreads=2)
    client = connect(cluster)
    client.wait_for_workers(2, timeout=40)

    def leaf(i):
        time.sleep(0.004)
        return ((i * 7919) % 1000) / 10

    def mix(a, b, c):
        time.sleep(0.004)
        return a + 2 * b - c

    n = 120
    level = client.map(leaf, range(n), pure=False)
    sums = [client.submit(sum, level)]
    for depth in range(3):
        level = [client.submit(mix, level[i], level[(i + 1) % n], level[(i * 3 + depth) % n], pure=False) for i in range(n)]
        sums.append(client.submit(sum, level))
    kills = 0
    for future in as_completed(sums[:3]):
        victim = running_workers(client)
        if victim:
            os.kill(pid_of(client, victim[kills % len(victim)]), signal.SIGKILL)
            kills += 1
    assert client.gather(sums) == reference(n)
    assert kills >= 2


def test_a_shuffle_starts_over_when_a_participant_is_killed(start_cluster, connect):
    dd, pd = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    cluster = start_cluster(env={CFG + "ALLOWED_FAILURES": 100})
    for name in ("a", "b", "c"):
        cluster.add_worker(name, nanny=True)
    client = connect(cluster)
    client.wait_for_workers(3, timeout=60)
    right = pd.DataFrame({"id": range(0, 6_000, 3), "y": np.arange(2_000) % 89})

    def slow(part):
        time.sleep(0.15)
        return part

    def shuffles(dask_worker):
        return [run.id for run in dask_worker.plugins["shuffle"].shuffle_runs._active_runs.values()]

    def active() -> set:
        return {shuffle for ids in client.run(shuffles, on_error="ignore").values() for shuffle in ids}

    for kills in range(3):
        before = active()
        left = pd.DataFrame({"id": range(6_000), "x": np.arange(6_000) % (97 + kills)})
        parts = dd.from_pandas(left, npartitions=12).map_partitions(slow, meta=left)
        merged = parts.merge(dd.from_pandas(right, npartitions=5), on="id", shuffle_method="p2p")
        future = client.compute(merged.x.sum() + merged.map_partitions(slow, meta=merged._meta).y.sum())
        # a run lasts from its first transfer to its last output: no poll can miss it, as it can a short task
        wait_until(lambda: active() - before, "the shuffle is under way", 30, 0.02)
        time.sleep(0.3 * kills)  # once early, once in the middle, once late
        victims = running_workers(client)
        os.kill(pid_of(client, victims[kills % len(victims)]), signal.SIGKILL)
        expected = left.merge(right, on="id")
        assert future.result(timeout=90) == expected.x.sum() + expected.y.sum()
        wait_until(lambda: len(running_workers(client)) == 3, "the nanny brought it back", 60)


def test_a_silent_worker_is_dropped_after_its_time_to_live(start_cluster, connect):
    cluster = start_cluster(env={CFG + "WORKER_TTL": "1s"})  # at least ten heartbeats: 5 s
    cluster.add_worker("quick")
    stopped = cluster.add_worker("stopped")
    client = connect(cluster)
    client.wait_for_workers(2, timeout=40)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: running_workers(client) == ["quick"], "the silent worker is dropped", 25, 0.2)
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
    finally:
        os.kill(stopped.pid, signal.SIGCONT)


# --- ends ----------------------------------------------------------------------------------------


def test_idle_timeout_ends_the_scheduler_and_its_workers(start_cluster, connect):
    cluster = start_cluster(args=("--idle-timeout", "1500 ms"))
    client = connect(cluster)
    waiting = client.submit(slow_inc, 1, delay=2.5)  # work that waits or runs is not idleness
    worker = cluster.add_worker("w")
    assert waiting.result(timeout=40) == 2
    client.close()
    assert cluster.proc.wait(20) == 0 and worker.wait(20) == 0
    assert not cluster.file.exists()


def test_shutdown_ends_the_scheduler_and_its_workers(start_cluster, connect):
    cluster = start_cluster(args=("--pid-file", "sched.pid"))
    worker = cluster.add_worker("w", nanny=True)
    client = connect(cluster)
    client.wait_for_workers(1, timeout=40)
    assert (cluster.dir / "sched.pid").read_text().strip() == str(cluster.proc.pid)
    client.shutdown()
    assert cluster.proc.wait(20) == 0 and worker.wait(20) == 0
    assert not (cluster.dir / "sched.pid").exists()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_scheduler_cleanly(start_cluster, sig):
    cluster = start_cluster(dashboard=True)
    identity = json.loads(cluster.file.read_text())
    assert identity["type"] == "Scheduler" and identity["workers"] == {} and identity["services"]["dashboard"] > 0
    worker = cluster.add_worker("w")
    wait_until(lambda: "registered" in worker.output().lower(), "the worker has registered", 30)
    cluster.proc.popen.send_signal(sig)
    assert cluster.proc.wait(20) in (0, -sig, 128 + sig)
    assert worker.wait(20) == 0
    assert "Scheduler at:" in cluster.proc.output() and not cluster.file.exists()


@pytest.mark.parametrize("name, error", [("nobody", NoValidWorkerError), (None, NoWorkerError)])
def test_no_workers_timeout(start_cluster, connect, name, error):
    cluster = start_cluster(env={CFG + "NO_WORKERS_TIMEOUT": "1s"})
    client = connect(cluster)
    if name:
        cluster.add_worker("w")
        client.wait_for_workers(1, timeout=40)
    with pytest.raises(error):
        client.submit(inc, 1, workers=name).result(timeout=30)


# --- placing -------------------------------------------------------------------------------------


def test_idle_workers_steal(cluster, client):
    wait(client.submit(slow_inc, -1, delay=0.05))  # its duration is now known
    futures = client.map(slow_inc, range(60), delay=0.05, workers="alice", allow_other_workers=True, pure=False)
    wait(futures)
    holders = {w for who in client.who_has(futures).values() for w in who}
    assert len(holders) == 2


def test_tasks_go_where_their_data_is(cluster, client):
    big = {name: client.submit(bytes, 5_000_000, workers=name, pure=False) for name in ("alice", "bob")}
    wait(list(big.values()))
    for name, data in big.items():
        assert client.submit(lambda b: get_worker().name, data, pure=False).result() == name


def test_root_tasks_are_held_back(cluster, client):
    """Worker saturation 1.1: a two-thread worker gets no more than three root tasks at once."""
    gate = Event("rootish-gate")

    def held_back(_):  # a name of its own: a prefix that is known to be short is supplied ahead
        return Event("rootish-gate").wait(timeout=30)

    futures = client.map(held_back, range(40), pure=False)
    states = lambda: client.sync(client.scheduler.get_task_status, keys=[f.key for f in futures]).values()
    wait_until(lambda: list(states()).count("queued") == 34, "34 of 40 are queued", 10)
    assert list(states()).count("processing") == 6
    gate.set()
    wait(futures)
    gate.clear()


def test_adaptive_target_follows_the_load(cluster, client):
    assert client.sync(client.scheduler.adaptive_target) <= 2
    wait(client.submit(slow_inc, -2, delay=0.3, pure=False))
    futures = client.map(slow_inc, range(400), delay=0.3, pure=False)
    target = lambda: client.sync(client.scheduler.adaptive_target, target_duration="5s")
    wait_until(lambda: target() >= 4, "more workers are wanted")
    client.cancel(futures)


@pytest.mark.timeout(120)
def test_adaptive_scales_a_cluster_object(start_cluster):
    """Adaptive drives a SpecCluster whose scheduler is the one under test."""
    from distributed.deploy.spec import ProcessInterface, SpecCluster

    cluster = start_cluster()

    class Remote:
        """The scheduler as a SpecCluster wants it: something with an address that it can await and close."""

        address, external_address, status = cluster.address, None, None

        def __init__(self, **kwargs):
            from distributed.core import Status

            self.status = Status.running

        def __await__(self):
            async def start():
                return self

            return start().__await__()

        async def close(self):
            pass

    class Process(ProcessInterface):
        def __init__(self, scheduler, name, **kwargs):
            super().__init__(scheduler=scheduler, name=name)
            self.name = name

        async def start(self):
            self.proc = cluster.add_worker(self.name)
            await super().start()

        async def close(self):
            cluster.workers.pop(self.name, None)
            await asyncio.to_thread(self.proc.stop)
            await super().close()

    class Cluster(SpecCluster):
        def _new_worker_name(self, worker_number):
            return f"adapted-{worker_number}"  # workers say their names as strings

    with Cluster(scheduler={"cls": Remote}, worker={"cls": Process}, shutdown_scheduler=False) as spec:
        with Client(spec, timeout=30) as client:
            spec.adapt(minimum=0, maximum=2, interval="200 ms", wait_count=3, target_duration="500 ms")
            futures = client.map(slow_inc, range(40), delay=0.05, pure=False)
            assert client.gather(futures) == list(range(1, 41))
            assert cluster.workers
            del futures
            wait_until(lambda: not cluster.workers, "idle workers are taken away", 30)


def test_preloaded_modules_see_the_scheduler(start_cluster, work_dir):
    module = work_dir / "preloaded_by_test.py"
    module.write_text(
        "import click\n"
        "from distributed.diagnostics.plugin import SchedulerPlugin\n"
        "class Count(SchedulerPlugin):\n"
        "    name = 'count'\n"
        "    seen = 0\n"
        "    def add_client(self, scheduler=None, client=None):\n"
        "        self.seen += 1\n"
        "@click.command()\n"
        "@click.argument('word')\n"
        "def dask_setup(scheduler, word):\n"
        "    scheduler.log_event('preloaded', {'at': scheduler.address, 'word': word})\n"
        "    scheduler.add_plugin(Count())\n"
    )
    cluster = start_cluster(args=("--preload", str(module), "--", "hello"))
    with Client(cluster.address, timeout=30) as client:
        assert [msg for _, msg in client.get_events("preloaded")] == [
            {"at": cluster.address, "word": "hello"}
        ]
        seen = lambda: client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["count"].seen)
        wait_until(lambda: seen() == 1, "the plugin heard of the client")
        if scheduler_kind() == "rask":  # it keeps users' code in a process that may die without it
            with pytest.raises(Exception, match="ended"):
                client.run_on_scheduler(os._exit, 3)
            assert seen() == 0  # preloaded again


NOT_THERE = ["scheduler.bandwidth_workers", "scheduler.get_ncores()"]  # the second not before the scheduler has started


@pytest.mark.parametrize(
    "setup", ["import no_such_module_at_all", *(f"def dask_setup(scheduler):\n    {code}" for code in NOT_THERE)]
)
def test_a_preload_that_cannot_work_is_refused_at_the_start(work_dir, setup):
    if scheduler_kind() != "rask":
        pytest.skip("a scheduler in Python has everything")
    module = work_dir / "refused_by_test.py"
    module.write_text(setup + "\n")
    argv = [rask_bin(), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--preload", str(module)]
    proc = Proc("refused", argv, clean_env(work_dir), work_dir)
    assert proc.wait(30) == 2
    assert "cannot preload" in proc.output() and "--preload" in proc.output()
