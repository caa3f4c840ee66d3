"""Nannies of rask's own workers: restarts, plugins and functions on nannies, lifetimes."""

from __future__ import annotations

import logging
import operator
import os
import socket
import zipfile

import pytest
from distributed import Client, NannyPlugin, get_worker, wait
from distributed.diagnostics.plugin import Environ, PipInstall, UploadDirectory

from harness import Cluster, address_of, running_workers, wait_until

LATE_S = 60


@pytest.fixture(scope="module", params=["rask", "stock"])
def whole(request, work_dir):
    """Two of our workers, in one process, each with its nanny."""
    cluster = Cluster(work_dir, scheduler=request.param)
    cluster.add_worker("ours", "--engine", "rask", kind="rask", nworkers=2, nanny=True)
    yield cluster
    cluster.close()


@pytest.fixture
def client(whole):
    with Client(whole.address, timeout=LATE_S) as client:
        wait_until(lambda: running_workers(client) == ["ours-0", "ours-1"], "both workers run", LATE_S)
        yield client
    assert whole.healthy(), whole.logs()


def pids(client) -> dict[str, int]:
    return client.run(os.getpid)


def test_a_restart_gives_every_worker_a_new_process_under_its_old_name(client):
    kept = client.submit(operator.add, 1, 2, pure=False)
    wait(kept, timeout=LATE_S)
    before = pids(client)
    client.restart(timeout=LATE_S)
    assert running_workers(client) == ["ours-0", "ours-1"] and kept.status == "cancelled"
    after = pids(client)
    assert not set(before) & set(after) and not set(before.values()) & set(after.values())
    assert client.gather(client.map(operator.neg, range(10), pure=False)) == [-x for x in range(10)]


def test_one_worker_restarts_and_the_other_keeps_what_it_has(client):
    first, second = address_of(client, "ours-0"), address_of(client, "ours-1")
    kept = client.submit(operator.add, 1, 2, workers=[second], pure=False)
    wait(kept, timeout=LATE_S)
    pid = pids(client)[second]
    assert client.restart_workers([first], timeout=LATE_S) == {first: "OK"}
    assert running_workers(client) == ["ours-0", "ours-1"]
    assert first not in pids(client) and pids(client)[second] == pid and kept.result(LATE_S) == 3


def test_a_worker_that_closes_gracefully_to_restart_takes_its_values_elsewhere_first(client):
    first = address_of(client, "ours-0")
    kept = client.submit(operator.add, 1, 2, workers=[first], allow_other_workers=True, pure=False)
    wait(kept, timeout=LATE_S)

    async def close(dask_worker):
        await dask_worker.close_gracefully(restart=True)

    client.run(close, workers=[first], wait=False)
    again = lambda: running_workers(client) == ["ours-0", "ours-1"] and address_of(client, "ours-0") != first  # noqa: E731
    wait_until(again, "another worker in its place", LATE_S)
    assert kept.result(LATE_S) == 3


def test_functions_run_on_nannies_and_know_their_worker(client):
    told = client.run(lambda dask_worker: (type(dask_worker).__name__, dask_worker.name, os.getpid()), nanny=True)
    assert sorted((kind, name) for kind, name, _ in told.values()) == [("Nanny", "ours-0"), ("Nanny", "ours-1")]
    assert not {pid for *_, pid in told.values()} & set(pids(client).values())
    with pytest.raises(ZeroDivisionError):
        client.run(lambda: 1 / 0, nanny=True)


def test_a_plugin_sets_the_environment_of_the_next_worker_process(client):
    before = pids(client)
    client.register_plugin(Environ({"OWN_NANNY_TEST": 7}))
    wait_until(lambda: running_workers(client) == ["ours-0", "ours-1"], "both workers run again", LATE_S)
    assert set(client.run(lambda: os.environ.get("OWN_NANNY_TEST")).values()) == {"7"}
    assert not set(before.values()) & set(pids(client).values())


def test_plugins_are_set_up_and_torn_down(client, tmp_path):
    class Writes(NannyPlugin):
        name = "writes"

        def __init__(self, folder):
            self.folder = folder

        def setup(self, nanny):
            (self.folder / f"setup-{nanny.name}").touch()

        def teardown(self, nanny):
            (self.folder / f"teardown-{nanny.name}").touch()

    client.register_plugin(Writes(tmp_path))
    client.unregister_worker_plugin("writes", nanny=True)
    names = [f"{what}-ours-{number}" for what in ("setup", "teardown") for number in range(2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_what_workers_log_is_forwarded_to_clients(client, caplog):
    client.forward_logging("of_tasks")
    client.submit(lambda: logging.getLogger("of_tasks").warning("said by a task"), pure=False).result(LATE_S)
    wait_until(lambda: "said by a task" in caplog.messages, "the client's logger has it", LATE_S)
    client.unforward_logging("of_tasks")


# ---- lives of their own ----------------------------------------------------------------------------------------------


@pytest.fixture
def alone(work_dir):
    """A cluster for one test, which it may break."""
    cluster = Cluster(work_dir)
    yield cluster
    cluster.close()


def test_a_plugin_from_before_is_set_up_before_the_first_worker_and_later_ones_restart_it(alone, tmp_path):
    folder = tmp_path / "uploaded"
    folder.mkdir()
    (folder / "for_nannies.py").write_text("x = 5\n")
    with Client(alone.address, timeout=LATE_S) as client:
        client.register_plugin(Environ({"OWN_NANNY_TEST": 8}))
        alone.add_worker("7", "--engine", "rask", kind="rask", nanny=True)
        client.wait_for_workers(1, timeout=LATE_S)
        told = client.submit(lambda: (os.environ.get("OWN_NANNY_TEST"), os.environ["PYTHONHASHSEED"], get_worker().name))
        assert told.result(LATE_S) == ("8", "6640", 7)
        # One nanny: two on one machine unpack into one folder at the same time, with Dask's workers too.
        client.register_plugin(UploadDirectory(str(folder), restart_workers=True, update_path=True))
        wait_until(lambda: running_workers(client) == [7], "the worker runs again", LATE_S)
        assert client.submit(lambda: __import__("for_nannies").x, pure=False).result(LATE_S) == 5


def wheel(folder, name: str):
    """A package with one module, whose `x` is 6."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        about = f"{name}-1.0.dist-info"
        file.writestr(f"{name}.py", "x = 6\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


def test_packages_are_installed_by_workers_and_by_their_nannies(alone, tmp_path):
    installed = tmp_path / "installed"
    installed.mkdir()
    alone.env["PYTHONPATH"] += f"{os.pathsep}{installed}"
    alone.add_worker("ours", "--engine", "rask", kind="rask", nanny=True)
    options = ["--no-index", "--no-deps", "--target", str(installed)]
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        pids = []
        for name, restart in (("of_workers", False), ("of_nannies", True)):
            pids += client.run(os.getpid).values()
            client.register_plugin(PipInstall([str(wheel(tmp_path, name))], options, restart_workers=restart))
            wait_until(lambda: running_workers(client) == ["ours"], "the worker runs", LATE_S)
            assert client.submit(lambda name: __import__(name).x, name).result(LATE_S) == 6
        pids += client.run(os.getpid).values()
    assert pids[0] == pids[1] != pids[2], "only the one that restarts workers did"


def test_modules_are_loaded_beside_the_nanny_and_torn_down(alone, tmp_path):
    (tmp_path / "beside_nannies.py").write_text(
        "import pathlib, sys\n"
        "def dask_setup(nanny):\n"
        "    nanny.env['OWN_NANNY_TEST'] = '10'\n"
        "def dask_teardown(nanny):\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'torn-{{nanny.name}}').touch()\n"
    )
    alone.env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    by_flag = alone.add_worker("flag", "--engine", "rask", "--preload-nanny", "beside_nannies", kind="rask", nanny=True)
    alone.env["DASK_DISTRIBUTED__NANNY__PRELOAD"] = "['beside_nannies']"
    alone.add_worker("settings", "--engine", "rask", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        assert set(client.run(lambda: os.environ.get("OWN_NANNY_TEST")).values()) == {"10"}
        assert by_flag.stop() == 0
        assert (tmp_path / "torn-flag").exists() and not (tmp_path / "torn-settings").exists()
    del alone.workers["flag"]


def test_a_worker_whose_lifetime_is_over_leaves_or_another_takes_its_place(alone):
    leaves = alone.add_worker("leaves", "--engine", "rask", "--lifetime", "2s", kind="rask", nanny=True)
    flags = ("--lifetime", "3s", "--lifetime-stagger", "1s", "--lifetime-restart")
    alone.add_worker("returns", "--engine", "rask", *flags, kind="rask", nanny=True)
    seen = set()
    with Client(alone.address, timeout=LATE_S) as client:

        def twice():
            seen.update(client.run(os.getpid, on_error="ignore").values() if "returns" in running_workers(client) else ())
            return leaves.popen.poll() is not None and len(seen) > 3

        wait_until(twice, "several workers, one after another", LATE_S)
    assert leaves.wait(LATE_S) == 0, leaves.output()
    del alone.workers["leaves"]


def test_a_retired_worker_stays_away_although_it_has_a_nanny(alone):
    ours = alone.add_worker("ours", "--engine", "rask", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        client.retire_workers([address_of(client, "ours")])
        assert ours.wait(LATE_S) == 0, ours.output()
    alone.workers.clear()


def test_a_nanny_that_is_told_to_end_ends_its_worker_for_good(alone):
    ours = alone.add_worker("ours", "--engine", "rask", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)
        [nanny] = [worker["nanny"] for worker in client.scheduler_info()["workers"].values()]

        async def terminate(address):
            return await client.rpc(address).terminate(reason="enough")

        client.sync(terminate, nanny)
        assert ours.wait(LATE_S) == 0, ours.output()
    alone.workers.clear()


def test_a_nanny_survives_its_python_and_the_next_one_knows_what_was_set(alone):
    alone.add_worker("ours", "--engine", "rask", kind="rask", nanny=True)
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(1, timeout=LATE_S)

        def change(dask_worker):
            dask_worker.env["OWN_NANNY_TEST"] = "9"
            return os.getpid()

        [pid] = client.run(change, nanny=True).values()
        with pytest.raises(Exception, match="(?i)closed|connection"):
            client.run(os._exit, 3, nanny=True)
        [again] = client.run(os.getpid, nanny=True).values()
        assert again != pid
        client.restart(timeout=LATE_S)
        assert set(client.run(lambda: os.environ.get("OWN_NANNY_TEST")).values()) == {"9"}


def test_it_listens_where_it_is_told_and_announces_what_it_is_told(alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = ("--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", f"tcp://localhost:{port}")
    alone.add_worker("told", "--engine", "rask", *listen, kind="rask")
    alone.add_worker("named", "--engine", "rask", "--interface", "lo", "--death-timeout", "60 s", kind="rask")
    with Client(alone.address, timeout=LATE_S) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        # As a stock worker's, the name is resolved by the scheduler.
        assert address_of(client, "told").endswith(f":{port}") and address_of(client, "named").startswith("tcp://127.0.0.1:")
        far = client.submit(operator.add, 1, 2, workers=[address_of(client, "told")], pure=False)
        assert client.submit(operator.neg, far, workers=[address_of(client, "named")]).result(LATE_S) == -3


def test_without_a_scheduler_it_gives_up_when_it_is_told_to(alone):
    alone.proc.kill()
    late = alone.add_worker("late", "--engine", "rask", "--death-timeout", "1 s", kind="rask", nanny=True)
    assert late.wait(LATE_S) != 0 and "no scheduler answers" in late.output()
    alone.workers.clear()
