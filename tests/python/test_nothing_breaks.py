"""What is allowed and rare, and ends as on a stock scheduler: no future waits for ever, no worker is lost."""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from decimal import Decimal
from fractions import Fraction

import dask
import pytest
from dask._task_spec import TaskRef
from distributed import Client, get_worker, wait
from distributed.scheduler import KilledWorker

from harness import running_workers, wait_until
from rawdask import Raw, worker_registration

pytestmark = pytest.mark.timeout(120)


def inc(x):
    return x + 1


def where(_=None):
    return get_worker().name


class Counter:
    def __init__(self):
        self.n = 0

    def add(self, by):
        self.n += by
        return self.n


class Handle(TaskRef):
    """A reference of a user's own, which pickles as itself."""

    def __init__(self, label, key, more):
        super().__init__(key)
        self.label, self.more = label, more

    def __reduce__(self):
        return Handle, (self.label, self.key, self.more)


# --- retry ---------------------------------------------------------------------------------------


def test_retry_of_what_did_not_fail_computes_it_again(client):
    done = client.submit(inc, 1, pure=False)
    top = client.submit(inc, done, pure=False)
    failed = client.submit(lambda x: 1 // 0, done, pure=False)
    wait([top, failed])
    done.retry()
    assert (done.result(timeout=20), top.result(timeout=20)) == (2, 3)
    client.retry([failed, top, done])
    assert (done.result(timeout=20), top.result(timeout=20)) == (2, 3)
    with pytest.raises(ZeroDivisionError):
        failed.result(timeout=20)
    running = client.submit(time.sleep, 0.3, pure=False)
    running.retry()
    assert running.result(timeout=20) is None


def test_retry_of_a_failure_whose_input_nobody_holds(client):
    root = client.submit(lambda: 1 // 0, pure=False)
    top = client.submit(inc, root, pure=False)
    del root
    wait(top)
    top.retry()
    with pytest.raises(ZeroDivisionError):
        top.result(timeout=20)


def test_retry_of_what_cannot_be_made_again_says_so(client):
    scattered = client.scatter(5, hash=False)
    scattered.retry()
    with pytest.raises(Exception, match="cancelled"):
        scattered.result(timeout=20)
    actor = client.submit(Counter, actor=True)
    wait(actor)
    actor.retry()
    with pytest.raises(RuntimeError, match="Worker holding Actor was lost"):
        actor.result(timeout=20)


# --- annotations ---------------------------------------------------------------------------------


def test_numbers_of_any_class_are_numbers_in_annotations(client):
    np = pytest.importorskip("numpy")
    numbers = [np.int64(2), np.float32(0.5), Fraction(1, 2), Decimal("1.5")]
    for number in numbers:
        with dask.annotate(priority=number, resources={"GOLD": type(number)(1)}):
            assert client.compute(dask.delayed(where)(), optimize_graph=False).result(timeout=20) == "alice"
        with dask.annotate(priority=lambda key, number=number: number):
            assert client.compute(dask.delayed(inc)(1), optimize_graph=False).result(timeout=20) == 2
        assert client.submit(inc, 1, priority=number, pure=False).result(timeout=20) == 2
    with dask.annotate(retries=np.int64(1)):
        assert client.compute(dask.delayed(inc)(1), optimize_graph=False).result(timeout=20) == 2


# --- memory --------------------------------------------------------------------------------------


def test_rebalance_moves_data_by_its_settings(start_cluster):
    rebalance = "DASK_DISTRIBUTED__WORKER__MEMORY__REBALANCE__"
    eager = {"MEASURE": "managed", "SENDER_MIN": 0, "SENDER_RECIPIENT_GAP": 0}
    cluster = start_cluster(env={rebalance + name: value for name, value in eager.items()})
    for name in ("a", "b", "c"):
        cluster.add_worker(name)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(3, timeout=60)
        a, b, c = (address_of_name(client, name) for name in "abc")
        futures = client.scatter([bytes(1000 + n) for n in range(8)], workers=[a], hash=False)
        wait(futures)
        # named keys go to named workers, and nothing else moves
        client.rebalance(futures[:4], workers=[a, b])
        held = {address: len(keys) for address, keys in client.has_what().items()}
        assert (held[a], held[b], held[c]) == (4, 4, 0)
        client.rebalance()
        held = {address: len(keys) for address, keys in client.has_what().items()}
        assert held[c] >= 1 and sum(held.values()) == 8
        assert client.gather(futures) == [bytes(1000 + n) for n in range(8)]


@pytest.mark.parametrize(
    "setting",
    [
        {"DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "None", "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "None"},
        {"DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__POLICIES": "[{'class': 'mine.Policy', 'rate': 3}]"},
    ],
)
def test_settings_that_dask_takes_do_not_stop_the_scheduler(start_cluster, setting):
    cluster = start_cluster(env=setting)
    cluster.add_worker("a")
    with Client(cluster.address, timeout=30) as client:
        assert client.submit(inc, 1).result(timeout=30) == 2
    assert ("mine.Policy" in cluster.proc.output()) == any("POLICIES" in name for name in setting)


# --- references ----------------------------------------------------------------------------------


def test_an_actors_handle_is_an_item_of_a_map(client):
    actor = client.submit(Counter, actor=True).result()
    use = lambda counter, by: counter.add(by).result()
    assert sorted(client.gather(client.map(use, [actor, actor], [1, 2], pure=False)))[-1] == 3
    assert client.gather(client.map(lambda both: both[0].add(1).result(), [[actor]], pure=False)) == [4]
    assert client.gather(client.map(lambda x, counter: counter.add(x).result(), [1], counter=actor, pure=False)) == [5]


def test_a_reference_of_a_users_own_class_is_an_item_of_a_map(client):
    future = client.submit(inc, 1, pure=False)
    for _ in range(2):  # once when its class is new, once when it is known
        handles = [Handle("mine", future.key, "more")]
        assert client.gather(client.map(inc, handles, pure=False)) == [3]
        assert client.gather(client.map(sum, [handles], pure=False)) == [2]


# --- workers -------------------------------------------------------------------------------------


def test_a_worker_named_by_a_number_can_be_chosen_by_it(start_cluster):
    cluster = start_cluster()
    for name in ("3", "other"):
        cluster.add_worker(name)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
        number = next(name for name in running_workers_raw(client) if name != "other")
        assert number == 3
        for workers in (3, [3], [3, 3]):
            kw = dict(workers=workers, pure=False)
            assert client.submit(where, **kw).result(timeout=20) == 3
            assert set(client.gather(client.map(where, range(4), **kw))) == {3}
        assert client.submit(where, workers=3, allow_other_workers=True, pure=False).result(timeout=20) == 3
        with dask.annotate(workers=[3]):
            assert client.submit(where, pure=False).result(timeout=20) == 3
        data = client.scatter([1, 2], workers=[3], hash=False)
        held = client.has_what()
        assert {address for address, keys in held.items() if keys} == {address_of_name(client, 3)}
        assert len(client.retire_workers(names=[3])) == 1
        assert client.gather(data) == [1, 2]
        assert running_workers_raw(client) == ["other"]


def running_workers_raw(client) -> list:
    return [worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]


def address_of_name(client, name) -> str:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return next(address for address, worker in workers.items() if worker["name"] == name)


def test_a_worker_that_retires_itself_to_restart_comes_back(start_cluster):
    cluster = start_cluster()
    cluster.add_worker("stays", nanny=True)
    cluster.add_worker("goes", nanny=True)
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
        pid = lambda: pids(client).get("goes")
        before = pid()
        results = client.map(inc, range(20))
        wait(results)

        def retire(dask_worker):
            restart = lambda: dask_worker.close_gracefully(restart=True)  # as at the end of its --lifetime
            dask_worker.loop.call_later(0.2, restart)

        client.run(retire, workers=[address_of_name(client, "goes")])
        wait_until(lambda: pid() not in (None, before), "the worker is back in a new process", 60)
        assert client.gather(results) == list(range(1, 21))
        wait_until(lambda: running_workers(client) == ["goes", "stays"], "both run", 30)


def pids(client) -> dict:
    workers = client.run(lambda dask_worker: (dask_worker.name, os.getpid()), on_error="ignore")
    return dict(workers.values())


@pytest.mark.parametrize("said", ["when it registers", "later"])
def test_a_worker_that_is_closed_and_hangs_up_is_gone(start_cluster, said):
    cluster = start_cluster()
    with Client(cluster.address, timeout=30) as client, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = "tcp://127.0.0.1:%d" % silent.getsockname()[1]
        worker = Raw(cluster.hostport)
        status = "closed" if said == "when it registers" else "running"
        worker.send(worker_registration("closing", address, status=status))
        assert worker.receive()["status"] == "OK"
        future = client.submit(where, pure=False)
        if said == "later":
            wait_until(lambda: client.processing()[address], "the task is on it", 20)
            worker.send([{"op": "worker-status-change", "status": "closed", "stimulus_id": "test"}])
            wait_until(lambda: status_of(client, address) == "closed", "it says so", 20)
        worker.sock.close()
        wait_until(lambda: client.ncores() == {}, "it is gone", 20)
        # its name is free again, and its task runs there
        cluster.add_worker("closing")
        assert future.result(timeout=60) == "closing"


def status_of(client, address) -> str:
    return client.scheduler_info(n_workers=-1)["workers"][address]["status"]


def test_a_shuffle_that_kills_its_worker_is_told_on_its_topic(start_cluster):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    cluster = start_cluster(env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": 0})
    for name in ("a", "b"):
        cluster.add_worker(name, nanny=True)

    def deadly(part, partition_info=None):
        if partition_info and partition_info["number"] == 5:
            time.sleep(1)
            os._exit(7)
        return part

    with Client(cluster.address, timeout=30) as client:
        told = lambda: [event for _, event in client.get_events("p2p") if event.get("action") == "p2p-failed"]
        for rows in range(60, 65):
            client.wait_for_workers(2, timeout=60)
            frame = dd.from_pandas(pd.DataFrame({"x": range(rows), "y": range(rows)}), npartitions=6)
            shuffled = frame.shuffle("x", shuffle_method="p2p").map_partitions(deadly, meta=frame._meta)
            with pytest.raises(KilledWorker):
                client.compute(shuffled.sum()).result(timeout=60)
            # A shuffle whose last output was done before its worker died did not fail: then once more.
            if told():
                break
        assert told()


# --- pages ---------------------------------------------------------------------------------------


def test_a_slash_at_the_end_of_a_page_leads_to_the_page(start_cluster):
    cluster = start_cluster(dashboard=True)
    host, _ = cluster.hostport
    base = f"http://{host}:{cluster.identity['services']['dashboard']}"
    assert urllib.request.urlopen(f"{base}/health/", timeout=20).read() == b"ok"
    for page in ("status", "workers", "individual-task-stream", "json/counts.json"):
        answer = requested(f"{base}/{page}/?theme=dark")
        assert answer == f"{base}/{page}?theme=dark"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{base}/no-such-page/", timeout=20)


def test_metrics_have_the_series_of_a_stock_event_loop(start_cluster):
    cluster = start_cluster(dashboard=True)
    host, _ = cluster.hostport
    url = f"http://{host}:{cluster.identity['services']['dashboard']}/metrics"
    with Client(cluster.address, timeout=30):
        lines = urllib.request.urlopen(url, timeout=20).read().decode().splitlines()
    series = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(series["dask_scheduler_tick_count_total"]) > 0
    assert 0 <= float(series["dask_scheduler_tick_duration_maximum_seconds"]) < 60
    assert float(series["dask_scheduler_last_time_total"]) > 1e9
    assert float(series["dask_scheduler_gc_collection_seconds_total"]) == 0


def requested(url) -> str:
    """The address that was asked for in the end, whatever was there."""
    try:
        return urllib.request.urlopen(url, timeout=20).geturl()
    except urllib.error.HTTPError as error:
        return error.geturl()


# --- words and shapes that code matches ----------------------------------------------------------


def test_retire_workers_refuses_arguments_in_the_words_of_dask(client):
    with pytest.raises(TypeError, match="names and workers are mutually exclusive"):
        client.retire_workers(workers=["tcp://127.0.0.1:9"], names=["alice"])
    with pytest.raises(TypeError, match=r"Parameters for workers_to_close.* names and workers: \{'n': 1\}"):
        client.retire_workers(workers=["tcp://127.0.0.1:9"], n=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        client.retire_workers(nonsense=1)
    assert client.retire_workers(workers=[]) == client.retire_workers(names=["nobody"]) == {}


def test_workers_that_are_not_there_are_named_by_the_error_of_dask(client):
    nobody = "tcp://127.0.0.1:9"
    unreachable = f"Timed out trying to connect to {nobody}"
    ask = {"msg": {"op": "identity"}, "workers": [nobody]}
    for call in (
        lambda: client.run(inc, 1, workers=[nobody]),
        lambda: client.sync(client.scheduler.broadcast, **ask),
        lambda: client.sync(client.scheduler.proxy, worker=nobody, msg={"op": "identity"}),
        lambda: client.get_worker_logs(workers=[nobody]),
    ):
        with pytest.raises(OSError, match=unreachable):
            call()
    answer = client.sync(client.scheduler.broadcast, **ask, on_error="return")[nobody]
    assert isinstance(answer, OSError) and unreachable in str(answer)
    with pytest.raises(KeyError, match="no such key"):
        client.sync(client.scheduler.call_stack, keys=["no such key"])


@pytest.mark.parametrize("readable", [["dask", "msgpack"], ["msgpack"]])
def test_a_client_that_reads_no_pickle_gets_results_and_errors(cluster, readable):
    def fail():
        return 1 // 0

    with Client(cluster.address, timeout=30, serializers=readable, deserializers=readable) as client:
        assert client.submit(inc, 1, pure=False).result(timeout=20) == 2
        assert client.run_on_scheduler(lambda: 5) == 5
        assert set(client.run(inc, 1).values()) == {2}
        for call in (
            lambda: client.submit(fail, pure=False).result(timeout=20),
            lambda: client.run_on_scheduler(fail),
            lambda: client.run(fail),
        ):
            with pytest.raises(ZeroDivisionError):
                call()
        with pytest.raises(TypeError, match="mutually exclusive"):
            client.retire_workers(workers=["tcp://127.0.0.1:9"], names=["alice"])


def test_stories_name_what_was_recommended(client):
    low = client.submit(inc, 1, key="story-low")
    top = client.submit(inc, low, key="story-top")
    assert top.result(timeout=20) == 3
    story = client.sync(client.scheduler.get_story, keys_or_stimuli=["story-low", "story-top"])
    moves = {line[:3]: line[3] for line in story}
    assert moves["story-low", "released", "waiting"] == {"story-low": "processing"}
    assert moves["story-low", "waiting", "processing"] == {}
    assert moves["story-low", "processing", "memory"] in ({}, {"story-top": "processing"})
    assert all(line[4].split("-")[-1] and line[5] > 0 for line in story)


def test_events_name_what_set_them_off(start_cluster):
    cluster = start_cluster()
    cluster.add_worker("a")
    with Client(cluster.address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        (address,) = client.retire_workers(names=["a"])
        told = {event["action"]: event for _, event in client.get_events("all")}
        assert told["retire-workers"]["retired"] == (address,) and told["retire-workers"]["stimulus_id"]
        assert told["remove-worker"]["stimulus_id"] and told["remove-worker"]["expected"]
        own = {event["action"]: event for _, event in client.get_events(address)}
        assert own["worker-status-change"]["stimulus_id"] and own["retired"]["stimulus_id"]


def test_logs_of_the_scheduler_tell_what_those_of_dask_do(client):
    future = client.submit(time.sleep, 60, key="to-cancel", pure=False)
    future.cancel()
    told = lambda: [line for _, line in client.get_scheduler_logs()]
    wait_until(lambda: any("Scheduler cancels key to-cancel.  Force=False" in line for line in told()), "it is logged")
    lines = "\n".join(told())
    assert f"distributed.scheduler - INFO - Client {client.id} requests to cancel 1 keys" in lines
    assert f"Receive client connection: {client.id}" in lines and "Register worker addr: tcp://" in lines


def test_dumps_hold_what_those_of_dask_hold(client, tmp_path):
    from distributed.cluster_dump import DumpArtefact

    future = client.submit(inc, 1, key="dumped")
    wait(future)
    client.dump_cluster_state(str(tmp_path / "dump"), exclude=["run_spec", "config"])
    dump = DumpArtefact.from_url(str(tmp_path / "dump.msgpack.gz"))
    task = dump["scheduler"]["tasks"]["dumped"]
    assert (task["state"], task["group_key"]) == ("memory", "dumped") and "run_spec" not in task
    assert dump["scheduler"]["task_groups"]["dumped"]["states"]["memory"] == 1
    assert dump["scheduler"]["status"] == "running" and dump["scheduler"]["memory"]["managed"] >= 28
    assert all("config" not in worker for worker in dump["workers"].values())
    dump.to_yamls(root_dir=tmp_path / "yamls")
    parts = ["events", "extensions", "general", "task_groups", "tasks", "transition_log", "workers"]
    assert sorted(path.stem for path in (tmp_path / "yamls" / "scheduler").iterdir()) == parts


def test_pickle_cannot_be_switched_off_as_in_dask(work_dir):
    from harness import Cluster

    with pytest.raises(AssertionError, match="(?s)ended while starting.*Pickling can no longer be disabled"):
        Cluster(work_dir, env={"DASK_DISTRIBUTED__SCHEDULER__PICKLE": "False"}).close()


def test_a_name_of_a_megabyte_makes_no_long_line_of_the_log(start_cluster):
    cluster = start_cluster()
    with Client(cluster.address, name="n" * 1_000_000, timeout=30) as client:
        told = [text for _, text in client.get_scheduler_logs()]
    assert any("Receive client connection: Client-nnn" in text for text in told)
    wait_until(lambda: "Client-nnn" in cluster.proc.output(), "the scheduler's log tells of the client")
    lines = cluster.proc.output().splitlines()
    assert max(map(len, lines)) < 20_000 and max(map(len, told)) < 20_000
