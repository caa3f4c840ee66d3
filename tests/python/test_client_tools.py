"""What a client can ask about the cluster, and what it can make the cluster carry for it."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings

import pytest
from dask import delayed
from distributed import (
    Client,
    Event,
    get_task_stream,
    get_worker,
    performance_report,
    print as dask_print,
    progress,
    wait,
    warn as dask_warn,
)
from distributed.client import futures_of
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

from distributed.protocol import to_serialize

from harness import address_of, wait_until


def inc(x):
    return x + 1


def block(name):
    return Event(name).wait(timeout=30)


def rpc(client, op, /, **kw):
    return client.sync(getattr(client.scheduler, op), **kw)


# --- who, what, where ----------------------------------------------------------------------------


def test_where_data_is_and_how_big(client):
    alice, bob = address_of(client, "alice"), address_of(client, "bob")
    x = client.submit(bytes, 1000, workers="alice", key="x-1")
    y = client.submit(len, x, workers="bob", key=("y", 2))
    wait(y)
    who, what = client.who_has([x, y]), client.has_what()
    assert set(who["x-1"]) == {alice, bob} and who[("y", 2)] == (bob,)
    assert set(what[bob]) == {"x-1", ("y", 2)} and set(what[alice]) == {"x-1"}
    sizes = client.nbytes(summary=False)
    assert 1000 <= sizes["x-1"] < 1200 and sizes[("y", 2)] == sys.getsizeof(1000)
    assert set(client.nbytes()) == {"x", "y"}
    assert client.ncores() == client.nthreads([alice, bob]) == {alice: 2, bob: 2}
    assert rpc(client, "who_has", keys=["never heard of"]) == {"never heard of": ()}


def test_what_runs_now(client):
    futures = [client.submit(block, "runs-now", workers="alice", pure=False, key=f"blk-{i}") for i in range(3)]
    wait_until(lambda: sum(map(len, client.processing().values())) == 3, "three tasks are processing")
    alice = address_of(client, "alice")
    assert set(client.processing()[alice]) == {"blk-0", "blk-1", "blk-2"}
    stack = lambda: client.call_stack(keys=["blk-0"]).get(alice, {}).get("blk-0", ())
    wait_until(lambda: any("wait" in line for line in stack()), "the call stack shows where it waits")
    assert futures[0].key in client.call_stack()[alice]
    Event("runs-now").set()
    wait(futures)
    Event("runs-now").clear()


def test_scheduler_info_and_identity(client, cluster):
    info = client.scheduler_info(n_workers=-1)
    assert info["type"] == "Scheduler" and info["address"] == cluster.address
    workers = {w["name"]: w for w in info["workers"].values()}
    assert set(workers) == {"alice", "bob"}
    assert workers["alice"]["resources"] == {"GOLD": 1} and workers["bob"]["nthreads"] == 2
    assert workers["bob"]["memory_limit"] == 2 * 2**30 and workers["bob"]["nanny"].startswith("tcp://")
    metrics = lambda: [w["metrics"] for w in rpc(client, "identity", n_workers=-1)["workers"].values()]
    wait_until(lambda: all("memory" in m for m in metrics()), "metrics of heartbeats")
    assert info["n_workers"] == 2 and info["total_threads"] == 4
    assert len(rpc(client, "identity", n_workers=1)["workers"]) == 1
    assert "Client" in repr(client) and "threads=4" in repr(client)
    assert client._repr_html_()


def test_versions_match_without_a_warning(client, cluster):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions = client.get_versions(check=True)
        Client(cluster.address, set_as_default=False).close()
    scheduler = versions["scheduler"]["packages"]
    for package in ("python", "dask", "distributed", "msgpack", "cloudpickle", "tornado", "toolz", "numpy", "pandas", "lz4"):
        assert scheduler[package] == versions["client"]["packages"][package]
    assert len(versions["workers"]) == 2
    assert client.get_versions(packages=["pyarrow"])["scheduler"]["packages"]["pyarrow"]


# --- running things ------------------------------------------------------------------------------


def test_run_on_workers_and_nannies(client):
    def who(dask_worker, n=1):
        return dask_worker.name * n

    assert sorted(client.run(who, n=2).values()) == ["alicealice", "bobbob"]
    bob = address_of(client, "bob")
    assert client.run(who, workers=[bob]) == {bob: "bob"}
    assert len(client.run(lambda dask_worker: dask_worker.process.pid, nanny=True)) == 2
    with pytest.raises(ZeroDivisionError):
        client.run(lambda: 1 / 0)
    errors = client.run(lambda: 1 / 0, on_error="return")
    assert len(errors) == 2 and all(isinstance(e, ZeroDivisionError) for e in errors.values())
    assert client.run(lambda: 1 / 0, on_error="ignore") == {}

    async def later(dask_worker):
        return dask_worker.name

    assert sorted(client.run(later).values()) == ["alice", "bob"]


def test_run_on_scheduler(client):
    assert client.run_on_scheduler(inc, 1) == 2
    future = client.submit(inc, 1, key="seen-by-scheduler")
    wait(future)

    def look(dask_scheduler):
        return sorted(ws.name for ws in dask_scheduler.workers.values()), "seen-by-scheduler" in dask_scheduler.tasks

    assert client.run_on_scheduler(look) == (["alice", "bob"], True)
    with pytest.raises(ValueError, match="on purpose"):
        client.run_on_scheduler(lambda: (_ for _ in ()).throw(ValueError("on purpose")))


def test_upload_file_reaches_workers_and_scheduler(client, tmp_path):
    path = tmp_path / "uploaded_by_test.py"
    path.write_text("def f():\n    return 123\n")
    client.upload_file(str(path))

    def use():
        import uploaded_by_test

        return uploaded_by_test.f()

    assert client.gather([client.submit(use, pure=False, workers=w) for w in ("alice", "bob")]) == [123] * 2


# --- state carried for clients -------------------------------------------------------------------


def test_published_datasets(client, second):
    x = client.persist(delayed(inc)(10))
    client.publish_dataset(x, name="numbers")
    client.publish_dataset(pair=[client.submit(inc, 1), 5])
    assert set(second.list_datasets()) == {"numbers", "pair"}
    del x
    assert second.compute(second.get_dataset("numbers")).result() == 11
    future, five = second.datasets["pair"]
    assert five == 5 and future.result(timeout=10) == 2
    with pytest.raises(KeyError):
        second.publish_dataset(1, name="pair")
    second.publish_dataset(1, name="pair", override=True)
    assert client.get_dataset("pair") == 1
    with pytest.raises(KeyError):
        client.get_dataset("nothing")
    assert client.get_dataset("nothing", default=7) == 7
    for name in list(client.list_datasets()):
        client.unpublish_dataset(name)
    assert client.list_datasets() == ()


def test_datasets_of_older_clients(client, second):
    """Method: the requests of clients before distributed 2026.6, which name one dataset each and ask for the barrier alone."""
    x = client.persist(delayed(inc)(20))
    keys = [future.key for future in futures_of(x)]
    client._send_to_scheduler({"op": "publish_flush_batched_send", "uid": "said-before"})
    for name in ("old", "other"):
        assert rpc(client, "publish_wait_flush", uid="said-before") is None
        rpc(client, "publish_put", keys=keys, name=name, data=to_serialize(x), override=False, client=client.id)
    with pytest.raises(KeyError):
        rpc(client, "publish_put", keys=keys, name="old", data=to_serialize(x), override=False, client=client.id)
    del x
    found = rpc(second, "publish_get", name="old", client=second.id)
    assert list(found["keys"]) == keys and second.compute(found["data"]).result(timeout=10) == 21
    assert rpc(second, "publish_get", name="nothing", client=second.id) is None
    for name in ("old", "other"):
        rpc(client, "publish_delete", name=name)
    assert client.list_datasets() == ()


def test_metadata(client, second):
    client.set_metadata("test-x", 1)
    client.set_metadata(["test-y", "deep", "er"], {"a": 1})
    assert second.get_metadata("test-x") == 1 and second.get_metadata(["test-y", "deep"]) == {"er": {"a": 1}}
    assert client.get_metadata("nope", default="d") == "d" and client.get_metadata(["test-y", "nope"], default=None) is None
    with pytest.raises(KeyError):
        client.get_metadata("nope")


def test_events_are_logged_and_pushed(client, second):
    got = []
    second.subscribe_topic("news", got.append)
    wait_until(lambda: client.log_event("news", {"n": 1}) or got, "the subscriber hears", period=0.1)
    client.submit(lambda: get_worker().log_event("news", {"from": "task"}), pure=False).result()
    wait_until(lambda: any(msg.get("from") == "task" for _, msg in got), "an event of a task arrives")
    from_task = next(msg for _, msg in got if msg.get("from") == "task")
    assert from_task["worker"] in client.ncores()
    assert [msg for _, msg in client.get_events("news")][0] == {"n": 1}
    second.unsubscribe_topic("news")
    assert "news" in client.get_events()


def test_print_and_warn_reach_the_client(client, capsys):
    def speak():
        dask_print("hello from", 7, sep="|")
        dask_warn("careful now", UserWarning)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(speak, pure=False).result()
        wait_until(lambda: any("careful" in str(w.message) for w in caught), "the warning arrives")
    assert "hello from|7" in capsys.readouterr().out


def test_logs_of_scheduler_and_workers(client):
    def shout():
        logging.getLogger("distributed.worker").warning("a line from a worker")

    client.submit(shout, pure=False).result()
    assert any("a line from a worker" in text for logs in client.get_worker_logs().values() for _, text in logs)
    assert all(len(entry) == 2 for entry in client.get_scheduler_logs(n=5))


# --- looking back --------------------------------------------------------------------------------


def test_task_stream(client):
    with get_task_stream(client=client) as stream:
        wait(client.map(inc, range(5), pure=False, key="streamed"))
    records = [r for r in stream.data if str(r["key"]).startswith("('streamed'") or "streamed" in str(r["key"])]
    assert len(records) == 5
    for record in records:
        assert record["status"] == "OK" and record["worker"] in client.ncores() and record["typename"] == "int"
        assert any(s["action"] == "compute" and s["stop"] >= s["start"] for s in record["startstops"])
    assert client.get_task_stream(count=1)
    with get_task_stream(client=client) as stream:
        failing = client.submit(lambda: 1 / 0, pure=False)
        wait(failing)
    # By its key: the clocks of a busy machine are not sharp enough to keep the others out.
    (failed,) = [r for r in stream.data if r["key"] == failing.key]
    assert failed["status"] == "error" and failed["startstops"]
    assert failed["thread"] and all(record["thread"] for record in records)


def test_performance_report(client, tmp_path):
    path = tmp_path / "report.html"
    with performance_report(filename=path):
        wait(client.map(inc, range(5), pure=False))
    html = path.read_text()
    assert "<html" in html.lower() and "performance_report(filename=path)" in html  # the code that ran


def test_progress_bar(client, capsys):
    futures = client.map(inc, range(20), pure=False)
    progress(futures, notebook=False)
    wait_until(lambda: "100%" in capsys.readouterr().out or all(f.done() for f in futures), "the bar is full")
    assert client.gather(futures) == list(range(1, 21))


def test_progress_feed_counts_down(client):
    from distributed.diagnostics.progressbar import TextProgressBar

    futures = client.map(inc, range(10), pure=False)
    bar = TextProgressBar(futures, scheduler=client.scheduler.address, start=False, loop=client.loop)
    client.sync(bar.listen)
    assert bar.status == "finished" and bar._last_response["all"] == 10 and bar._last_response["remaining"] == 0


def test_profile(client):
    def burn():
        end = time.time() + 0.3
        while time.time() < end:
            math.sqrt(2)

    wait(client.map(lambda _: burn(), range(2), pure=False))
    wait_until(lambda: client.profile()["count"] > 0, "the profile has samples")
    tree = client.profile()
    assert set(tree) >= {"description", "children", "count", "identifier"}


def test_stories(client):
    future = client.submit(inc, 1, key="storied")
    wait(future)
    story = client.story("storied")
    moves = [line[2:4] for line in story if line[0] == "scheduler" and line[1] == "storied"]
    assert ("released", "waiting") in moves and ("processing", "memory") in moves
    assert any(line[0] in client.ncores() for line in story)  # the worker tells its side
    scheduler_only = rpc(client, "get_story", keys_or_stimuli={"storied"})
    assert [(r[1], r[2]) for r in scheduler_only][-1] == ("processing", "memory")


def test_dump_of_the_cluster_state(client, tmp_path):
    future = client.submit(inc, 1, key="dumped")
    wait(future)
    client.dump_cluster_state(tmp_path / "dump", format="yaml", exclude=("events",))
    import yaml

    state = yaml.safe_load((tmp_path / "dump.yaml").read_text())
    assert set(state) >= {"scheduler", "workers", "versions"}
    assert "dumped" in state["scheduler"]["tasks"] and len(state["workers"]) == 2
    assert state["scheduler"]["tasks"]["dumped"]["state"] == "memory"


def test_dump_to_a_url_is_written_by_the_scheduler(client, tmp_path):
    from distributed.cluster_dump import load_cluster_dump

    client.dump_cluster_state(f"file://{tmp_path}/by-scheduler")
    assert set(load_cluster_dump(f"{tmp_path}/by-scheduler.msgpack.gz")) == {"scheduler", "workers", "versions"}


def test_recreate_locally(client):
    x = client.submit(inc, 1)
    y = client.submit(lambda a, b: a / b, x, 0)
    wait(y)
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally(y)
    z = client.submit(lambda a: a * 10, x)
    assert client.recreate_task_locally(z) == 20


def test_task_metadata_collection(client):
    from distributed import get_task_metadata

    def note():
        get_worker().execution_state and get_worker()
        return 1

    with get_task_metadata() as collected:
        future = client.submit(note, key="noted")
        wait(future)
    assert collected.state == {"noted": "memory"} and "noted" in collected.metadata


def test_memory_sampler(client):
    from distributed.diagnostics import MemorySampler

    sampler = MemorySampler()
    with sampler.sample("run", measure="process", interval=0.1):
        wait(client.submit(time.sleep, 0.3, pure=False))
    assert len(sampler.samples["run"]) >= 2 and all(bytes_ > 0 for _, bytes_ in sampler.samples["run"])


def test_spans_travel_with_tasks(client):
    from distributed import span

    with span("outer"), span("inner"):
        future = client.submit(lambda: get_worker().state.tasks["spanned"].annotations["span"]["name"], key="spanned")
    assert tuple(future.result()) == ("outer", "inner")


def test_asking_the_scheduler_for_odd_things_is_answered(client):
    assert rpc(client, "get_task_status", keys=["no such key"]) == {"no such key": None}
    assert rpc(client, "has_what", workers=["tcp://1.2.3.4:5"]) in ({"tcp://1.2.3.4:5": ()}, {})
    assert isinstance(rpc(client, "adaptive_target"), int)
    assert rpc(client, "workers_to_close", n=1)
    assert rpc(client, "amm_handler", method="running") is True
    assert client.amm.running() is True


# --- moving data ---------------------------------------------------------------------------------


def test_replicate_and_rebalance(client):
    client.amm.stop()  # it would undo the copies
    try:
        future = client.submit(inc, 1, workers="alice")
        wait(future)
        client.replicate(future, n=2)
        assert len(client.who_has([future])[future.key]) == 2
        client.replicate(future, n=1)
        wait_until(lambda: len(client.who_has([future])[future.key]) == 1, "the spare copy is dropped")
        client.rebalance()
        assert future.result() == 2
    finally:
        client.amm.start()


def test_spare_replicas_are_removed_by_the_memory_manager(client):
    future = client.submit(bytes, 10_000, workers="alice")
    used = client.submit(len, future, workers="bob")
    wait(used)
    assert len(client.who_has([future])[future.key]) == 2
    client.amm.run_once()
    wait_until(lambda: len(client.who_has([future])[future.key]) == 1, "one replica is left", 10)
    assert len(future.result()) == 10_000


# --- plugins -------------------------------------------------------------------------------------


class WorkerMark(WorkerPlugin):
    name = "worker-mark"

    def __init__(self, mark):
        self.mark = mark

    def setup(self, worker):
        worker.test_mark = self.mark

    def teardown(self, worker):
        worker.test_mark = None


class NannyMark(NannyPlugin):
    name = "nanny-mark"

    def setup(self, nanny):
        nanny.test_mark = 5

    def teardown(self, nanny):
        nanny.test_mark = None


class SchedulerCounter(SchedulerPlugin):
    name = "scheduler-counter"

    def __init__(self):
        self.finished = 0

    def transition(self, key, start, finish, *args, **kwargs):
        self.finished += start == "processing" and finish == "memory"


def test_worker_plugins(client):
    read = lambda: set(client.run(lambda dask_worker: getattr(dask_worker, "test_mark", None)).values())
    client.register_plugin(WorkerMark(1))
    assert read() == {1}
    client.register_plugin(WorkerMark(2))
    assert read() == {2}
    client.unregister_worker_plugin("worker-mark")
    assert read() == {None}
    with pytest.raises(ValueError):
        client.unregister_worker_plugin("worker-mark")


def test_nanny_plugins(client):
    read = lambda: set(client.run(lambda dask_worker: getattr(dask_worker, "test_mark", None), nanny=True).values())
    client.register_plugin(NannyMark())
    assert read() == {5}
    client.unregister_worker_plugin("nanny-mark", nanny=True)
    assert read() == {None}


def test_scheduler_plugins_run_or_are_refused(client):
    """One whose hooks would not run must not be accepted silently."""
    try:
        client.register_plugin(SchedulerCounter())
    except Exception as e:
        assert "plugin" in str(e).lower()
        return
    wait(client.map(inc, range(5), pure=False))
    count = lambda: client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["scheduler-counter"].finished)
    wait_until(lambda: count() == 5, "the plugin saw five tasks finish", 5)
    client.unregister_scheduler_plugin("scheduler-counter")


def test_forward_logging(client, caplog):
    client.forward_logging("test.forwarded", level=logging.INFO)
    client.submit(lambda: logging.getLogger("test.forwarded").warning("from afar"), pure=False).result()
    wait_until(lambda: "from afar" in caplog.text, "the record arrives")
    client.unforward_logging("test.forwarded")
