"""What functions that run on the scheduler see of it and can do there, and feeds spoken to directly."""

from __future__ import annotations

import asyncio

import cloudpickle
import pytest
from distributed import Client, Queue, Variable, wait
from distributed.core import connect
from distributed.diagnostics.eventstream import eventstream
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin
from distributed.diagnostics.progress_stream import progress_stream
from distributed.worker import dumps_function

from harness import Cluster, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def module_cluster(work_dir):
    with Cluster(work_dir) as cluster:
        cluster.add_worker("a")
        yield cluster


@pytest.fixture
def client(module_cluster):
    with Client(module_cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        yield client


def inc(x):
    return x + 1


async def until(comm, condition):
    """The next message of a feed that meets the condition."""
    while True:
        message = await asyncio.wait_for(comm.read(), 20)
        if condition(message):
            return message


# --- feeds ---------------------------------------------------------------------------------------


def test_progress_stream_counts_tasks_by_prefix_and_state(client, module_cluster):
    async def watch():
        comm = await progress_stream(module_cluster.address, 0.02)
        await until(comm, lambda counts: True)
        futures = client.map(inc, range(3))
        await wait(futures)
        counts = await until(comm, lambda counts: counts["memory"].get("inc") == 3)
        assert (counts["all"]["inc"], counts["nbytes"]["inc"]) == (3, 84)
        await client.cancel(futures)
        counts = await until(comm, lambda counts: "inc" not in counts["all"])
        assert not counts["memory"].get("inc") and "inc" not in counts["nbytes"]
        await comm.close()

    client.sync(watch)


def test_eventstream_tells_of_each_run_what_dask_tells(client, module_cluster):
    fields = {"key", "worker", "startstops", "type", "typename", "nbytes", "metadata", "status", "thread", "stimulus_id"}

    async def watch():
        comm = await eventstream(module_cluster.address, 0.02)
        assert await until(comm, lambda events: True) == ()
        future = client.submit(inc, 1, key="told")
        await wait(future)
        (event,) = await until(comm, lambda events: events)
        assert set(event) == fields and event["key"] == "told" and event["status"] == "OK"
        assert event["startstops"][0]["action"] == "compute"
        await comm.close()

    client.sync(watch)
    left = lambda: client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins))
    wait_until(lambda: "EventStream" not in left(), "the feed's plugin went with it")


@pytest.mark.parametrize("part", ["setup", "function"])
def test_a_feed_that_fails_tells_why_and_the_connection_goes_on(client, module_cluster, part):
    async def watch():
        comm = await connect(module_cluster.address)
        functions = {"function": lambda *_: 1, part: lambda *_: 1 // 0}
        await comm.write({"op": "feed", "interval": "10 ms", **{k: dumps_function(f) for k, f in functions.items()}})
        message = await asyncio.wait_for(comm.read(), 20)
        assert message["status"] == "uncaught-error" and "ZeroDivisionError" in message["exception_text"]
        await comm.write({"op": "ncores"})
        assert len(await asyncio.wait_for(comm.read(), 20)) == 1
        await comm.close()

    client.sync(watch)


# --- operations of a library's own ---------------------------------------------------------------


def install(dask_scheduler):
    """As libraries do it: an extension with requests and items of streams of its own."""

    class Extension:
        def __init__(self, scheduler):
            self.scheduler, self.count, self.items, self.event = scheduler, 0, [], asyncio.Event()
            requests = {"my_add": self.add, "my_wait": self.wait, "my_set": self.set, "my_fail": self.fail}
            scheduler.handlers.update(requests)
            scheduler.stream_handlers["my-item"] = self.item
            scheduler.extensions["mine"] = self

        def add(self, comm, by):
            self.count += by
            return {"count": self.count, "workers": len(self.scheduler.workers)}

        async def wait(self):
            await self.event.wait()
            return "set"

        async def set(self, comm=None):
            self.event.set()

        def fail(self):
            raise KeyError("as it should")

        def item(self, client=None, value=None):
            self.items.append((client, value))

    assert "get_task_status" in dask_scheduler.handlers and "my_add" not in dask_scheduler.handlers
    Extension(dask_scheduler)


def test_functions_may_add_requests_and_stream_items_to_the_scheduler(client):
    client.run_on_scheduler(install)
    assert client.sync(client.scheduler.my_add, by=3) == {"count": 3, "workers": 1}
    assert client.sync(client.scheduler.my_add, by=4) == {"count": 7, "workers": 1}
    with pytest.raises(KeyError, match="as it should"):
        client.sync(client.scheduler.my_fail)

    async def one_waits_for_the_other():
        waiting = asyncio.ensure_future(client.scheduler.my_wait())
        await client.scheduler.my_set()
        return await asyncio.wait_for(waiting, 20)

    assert client.sync(one_waits_for_the_other) == "set"
    client._send_to_scheduler({"op": "my-item", "value": 7})
    items = lambda: client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.extensions["mine"].items)
    wait_until(lambda: items() == [(client.id, 7)], "the item arrived")


# --- plugins and the view ------------------------------------------------------------------------


def test_a_plugin_that_a_function_adds_is_told_what_happens(client):
    class Counting(SchedulerPlugin):
        name = "counting"

        def __init__(self):
            self.moves, self.fields = [], set()

        def transition(self, key, start, finish, *args, **kwargs):
            if key == "counted":
                self.moves.append((start, finish))
                self.fields |= set(kwargs)

    def seen():
        return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["counting"].moves)

    client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.add_plugin(Counting()))
    assert client.submit(inc, 1, key="counted").result(timeout=20) == 2
    wait_until(lambda: ("memory", "forgotten") in seen(), "the plugin was told")
    assert seen()[:3] == [("released", "waiting"), ("waiting", "processing"), ("processing", "memory")]
    fields = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["counting"].fields)
    assert {"stimulus_id", "worker", "startstops", "nbytes", "typename", "type", "thread"} <= fields
    client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.remove_plugin("counting"))
    with pytest.raises(ValueError, match="Could not find plugin"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.remove_plugin("counting"))


def test_functions_ask_the_scheduler_as_its_own_methods_are_asked(client):
    future = client.submit(inc, 1, key="kept-1")
    wait(future)

    def ask(dask_scheduler):
        s = dask_scheduler
        assert s.get_task_status(keys=["kept-1", "none"]) == {"kept-1": "memory", "none": None}
        assert len(s.get_who_has(["kept-1"])["kept-1"]) == 1 and list(s.get_ncores().values()) == [1]
        assert s.get_events("all") and s.events["all"] and len(s.identity()["workers"]) == 1
        assert s.tasks["kept-1"].prefix.name == "kept" and s.task_groups["kept"].states["memory"] == 1
        assert len(s.workers_to_close(n=1)) == s.adaptive_target() == len(s.idle) == len(s.running) == 1
        assert s.computations and s.total_memory > 0 and "a" in s.aliases
        (worker,) = s.workers.values()
        return worker.memory.process

    assert client.run_on_scheduler(ask) > 0

    async def wait_for_answers(dask_scheduler):
        answers = await dask_scheduler.broadcast(msg={"op": "identity"})
        plugin = cloudpickle.dumps(NannyPlugin())
        await dask_scheduler.register_nanny_plugin(comm=None, plugin=plugin, name="of a function", idempotent=False)
        return len(answers)

    assert client.run_on_scheduler(wait_for_answers) == 1


def test_functions_see_what_extensions_hold_and_what_work_cost(client):
    Variable("vee", client=client).set(1)
    Queue("queue", client=client).put(1)

    def look(dask_scheduler):
        held = dask_scheduler.extensions
        return "vee" in held["variables"].variables, "other" in held["variables"].variables, list(held["queues"].queues)

    wait_until(lambda: client.run_on_scheduler(look) == (True, False, ["queue"]), "both are there")
    wait(client.submit(inc, 1))
    cost = lambda: client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.cumulative_worker_metrics))
    wait_until(lambda: ("execute", "inc", "executor", "seconds") in cost(), "heartbeats told of the run")


def test_what_is_not_offered_says_so(client):
    with pytest.raises(AttributeError, match="rask does not offer 'bandwidth_workers'"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.bandwidth_workers)
