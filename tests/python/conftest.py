"""Fixtures: one cluster of two workers for the whole session, a fresh client per test."""

from __future__ import annotations

import cloudpickle
import pytest
from distributed import Client

import harness
from harness import Cluster, running_workers, wait_until


def pytest_configure(config):
    try:
        kind = harness.scheduler_kind()
        program = harness.rask_bin() if kind == "rask" else "dask scheduler"
    except RuntimeError as e:
        raise pytest.UsageError(str(e)) from None
    config.stash[HEADER] = f"scheduler under test: {kind} ({program})"


def pytest_report_header(config):
    return config.stash[HEADER]


HEADER = pytest.StashKey()


# Files whose tests take longest. Begun first, they do not keep everybody waiting at the end.
LONGEST_FIRST = ["test_peers_faults", "test_fleet", "test_cluster", "test_peers", "test_run", "test_up", "test_gateway"]


def pytest_collection_modifyitems(items):
    place = {name: at for at, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def work_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("rask")


class Pool:
    """The session's cluster; made anew when a test broke it, so that one crash fails one test."""

    def __init__(self, work_dir):
        self.work_dir = work_dir
        self.cluster = None

    def get(self) -> Cluster:
        if self.cluster is None or not self.cluster.healthy():
            self.close()
            self.cluster = cluster = Cluster(self.work_dir)
            cluster.add_worker("alice", "--resources", "GOLD=1", nthreads=2, nanny=True)
            cluster.add_worker("bob", nthreads=2, nanny=True)
            with Client(cluster.address, timeout=30, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=60)
        return self.cluster

    def close(self):
        if self.cluster is not None:
            self.cluster.close()
            self.cluster = None


@pytest.fixture(scope="session")
def pool(work_dir):
    pool = Pool(work_dir)
    yield pool
    pool.close()


@pytest.fixture(scope="module", autouse=True)
def by_value(request):
    """Functions of the test modules travel as a notebook's would: by value, since workers cannot import them."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture
def cluster(pool, request):
    """The session's cluster, in order: two running workers before the test, no task left after it."""
    cluster = pool.get()
    request.node.stash[CLUSTER] = cluster
    yield cluster
    if request.node.stash.get(FAILED, False):
        return pool.close()  # what it left running would fail the next ones
    if not cluster.healthy():
        pytest.fail("a process of the session's cluster died during this test")
    with Client(cluster.address, timeout=30, set_as_default=False) as client:
        # A task that nobody wants any more must be forgotten; anything else is a leak.
        try:
            wait_until(lambda: client.who_has() == {}, "the scheduler holds no task", 10)
            wait_until(lambda: running_workers(client) == ["alice", "bob"], "both workers run", 30)
        except AssertionError:
            left, workers = client.who_has(), running_workers(client)
            pool.close()
            pytest.fail(f"the cluster was left dirty: tasks {left}, running workers {workers}")


@pytest.fixture
def client(cluster):
    with Client(cluster.address, timeout=30) as client:
        yield client


@pytest.fixture
async def aclient(cluster):
    async with Client(cluster.address, timeout=30, asynchronous=True) as client:
        yield client


@pytest.fixture
def second(cluster, client):
    """Another client of the same cluster."""
    with Client(cluster.address, timeout=30, set_as_default=False) as other:
        yield other


@pytest.fixture
def start_cluster(work_dir, request):
    """Starts clusters of the test's own; they are closed after it."""
    mine = []

    def start(**options) -> Cluster:
        cluster = Cluster(work_dir, **options)
        mine.append(cluster)
        request.node.stash[CLUSTER] = cluster
        return cluster

    yield start
    for cluster in mine:
        cluster.close()


CLUSTER = pytest.StashKey()
FAILED = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    cluster = item.stash.get(CLUSTER, None)
    if report.failed:
        item.stash[FAILED] = True
    if report.failed and cluster is not None:
        report.sections.append(("cluster logs", cluster.logs()))
