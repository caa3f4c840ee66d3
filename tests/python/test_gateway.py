"""The unmodified dask-gateway client against `rask up`: every flow, users, limits, failures."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import dask
import pytest

pytest.importorskip("dask_gateway")

from dask_gateway import BasicAuth, Gateway, GatewayCluster, JupyterHubAuth  # noqa: E402
from dask_gateway.client import ClusterStatus, GatewayClusterError  # noqa: E402
from distributed import Client  # noqa: E402

from appliance import Appliance, Hub  # noqa: E402
from harness import rask_bin, scheduler_kind, wait_until  # noqa: E402

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own gateway"),
]


def inc(x):
    return x + 1


@pytest.fixture(scope="module")
def appliance(work_dir):
    with Appliance(work_dir / "gateway") as appliance:
        yield appliance


@pytest.fixture
def gateway(appliance):
    with Gateway(appliance.address) as gateway:
        yield gateway
        for report in gateway.list_clusters():
            gateway.stop_cluster(report.name)


def test_versions_and_options_are_what_the_client_reads(gateway):
    versions = gateway.get_versions()
    assert versions["server"]["version"] == "2026.3.0" and versions["server"]["rask"]
    options = gateway.cluster_options()
    assert set(options) >= {"worker_cores", "worker_memory", "conda_env", "python", "env", "environment", "nthreads"}
    assert isinstance(options.worker_cores, int) and isinstance(options.worker_memory, float)
    options.worker_cores = 1
    options.env = {"A": "b"}
    with pytest.raises(TypeError):
        options.worker_cores = "many"
    with pytest.raises(ValueError, match="worker_cores must be >= 1"):
        options.worker_cores = 0


def test_a_cluster_from_options_computes_scales_and_ends(appliance, gateway):
    options = gateway.cluster_options()
    options.worker_cores = 1
    with gateway.new_cluster(options) as cluster:
        assert cluster.status == "running"
        assert cluster.dashboard_link == f"{appliance.address}/clusters/{cluster.name}/status"
        assert cluster.scheduler_address == f"gateway://{appliance.address.split('//')[1]}/{cluster.name}"
        cluster.scale(2)
        with cluster.get_client() as client:
            client.wait_for_workers(2, timeout=60)
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
            wait_until(lambda: len(cluster.scheduler_info["workers"]) == 2, "the cluster object sees its workers")
            assert client.dashboard_link == cluster.dashboard_link
            cluster.scale(1)
            wait_until(lambda: len(cluster.scheduler_info["workers"]) == 1, "one worker is left", 30)
            assert client.submit(inc, 1).result(timeout=30) == 2
        [report] = gateway.list_clusters()
        assert (report.name, report.status, report.stop_time) == (cluster.name, ClusterStatus.RUNNING, None)
        assert report.options["worker_cores"] == 1
    assert cluster.name not in [report.name for report in gateway.list_clusters()]
    ended = wait_until(lambda: (r := gateway.get_cluster(cluster.name)).stop_time and r, "it ends", 30)
    assert ended.status == ClusterStatus.STOPPED
    past = appliance.ask("GET", f"/api/rask/v1/history?cluster={cluster.name}").json()["computations"]
    assert sum(one["body"]["done"] for one in past) == 11 and all(one["stop_time"] for one in past), past


def test_certificates_satisfy_the_strictness_of_newer_pythons(appliance, gateway):
    """Python 3.13 checks certificates by X.509's letter unless told otherwise; older ones can be asked to."""
    with gateway.new_cluster() as cluster:
        context = cluster.security.get_connection_args("client")["ssl_context"]
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        assert context.verify_mode == ssl.CERT_REQUIRED
        with socket.create_connection(appliance.hostport, timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=f"daskgateway-{cluster.name}") as secured:
                assert secured.version() == "TLSv1.3" and secured.getpeercert()


def test_the_keywords_of_a_notebook_reach_the_workers(gateway):
    env = {"SEEN_BY_WORKERS": "yes", "A_TEST_TOKEN": "hidden"}
    import sys

    with gateway.new_cluster(conda_env=sys.prefix, worker_cores=1, worker_memory=4, env=env) as cluster:
        cluster.scale(1)
        with cluster.get_client() as client:
            client.wait_for_workers(1, timeout=60)
            seen = client.submit(lambda: [os.environ.get("SEEN_BY_WORKERS"), os.environ.get("A_TEST_TOKEN"), sys.prefix])
            assert seen.result(timeout=60) == ["yes", "hidden", sys.prefix]
            [worker] = client.scheduler_info()["workers"].values()
            assert (worker["nthreads"], worker["memory_limit"]) == (1, 4 << 30)
        options = gateway.get_cluster(cluster.name).options
        assert options["worker_memory"] == 4.0
        assert options["env"] == {"SEEN_BY_WORKERS": "yes", "A_TEST_TOKEN": "********"}


def test_adaptive_clusters_follow_their_load(gateway):
    with gateway.new_cluster(worker_cores=1) as cluster, cluster.get_client() as client:
        cluster.adapt(minimum=1, maximum=2)
        client.wait_for_workers(1, timeout=60)
        futures = client.map(lambda x: __import__("time").sleep(0.3) or x, range(40))
        client.wait_for_workers(2, timeout=60)
        assert client.gather(futures) == list(range(40))
        # One result is still wanted: going down may not lose it.
        kept = futures[0]
        del futures
        wait_until(lambda: len(client.scheduler_info()["workers"]) == 1, "back to the minimum", 60)
        assert kept.result(timeout=30) == 0
        cluster.adapt(active=False)


def test_clusters_are_submitted_found_by_name_and_survive_their_objects(appliance, gateway):
    name = gateway.submit()
    assert gateway.get_cluster(name).status in (ClusterStatus.PENDING, ClusterStatus.RUNNING)
    with gateway.connect(name) as cluster:
        assert cluster.name == name and not cluster.shutdown_on_close
    assert gateway.get_cluster(name).status == ClusterStatus.RUNNING
    with GatewayCluster.from_name(name, address=appliance.address) as again, again.get_client() as client:
        again.scale(1)
        assert client.submit(inc, 1).result(timeout=60) == 2
    gateway.stop_cluster(name)
    wait_until(lambda: gateway.get_cluster(name).status == ClusterStatus.STOPPED, "it stops", 30)
    assert name in [r.name for r in gateway.list_clusters(status="stopped")]
    gateway.stop_cluster(name)
    gateway.stop_cluster("never-was")
    with pytest.raises(GatewayClusterError, match="already stopped"):
        gateway.connect(name)
    with pytest.raises(GatewayClusterError, match="is not running"):
        gateway.scale_cluster(name, 1)
    with pytest.raises(ValueError, match="Cluster never-was not found"):
        gateway.get_cluster("never-was")


def test_the_address_may_come_from_the_configuration(appliance):
    with dask.config.set({"gateway.address": appliance.address}), Gateway() as gateway:
        assert gateway.list_clusters() == []


async def test_the_asynchronous_client(appliance):
    async with Gateway(appliance.address, asynchronous=True) as gateway:
        async with gateway.new_cluster(worker_cores=1) as cluster:
            await cluster.scale(1)
            async with cluster.get_client() as client:
                assert await client.submit(inc, 1) == 2
            assert [report.name for report in await gateway.list_clusters()] == [cluster.name]


async def test_several_watchers_see_the_same(appliance):
    async with Gateway(appliance.address, asynchronous=True) as gateway:
        async with gateway.new_cluster(worker_cores=1) as first:
            second = await gateway.connect(first.name)
            await first.scale(1)
            for cluster in (first, second):
                deadline = time.monotonic() + 60
                while len(cluster.scheduler_info["workers"]) != 1:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            await second.close()


def test_wrong_options_are_refused_before_anything_starts(gateway):
    for options, match in [
        ({"worker_cores": "x"}, "worker_cores must be an integer, got 'x'"),
        ({"worker_cores": True}, "worker_cores must be an integer, got True"),
        ({"worker_memory": 0}, "worker_memory must be >= 0.1"),
        ({"b": 1, "a": 2}, r"Unknown fields \['a', 'b'\]"),
        ({"conda_env": "/nonexistent"}, "no interpreter at /nonexistent"),
        ({"conda_env": "nope"}, "no environment nope; looked for"),
        ({"env": {"A": None}}, "env: A must be a string, got None"),
        ({"python": "/a", "conda_env": "/b"}, "mean the same and differ"),
    ]:
        with pytest.raises(ValueError, match=match):
            gateway.submit(**options)
    assert gateway.list_clusters() == []


def test_one_clusters_credentials_do_not_open_another(gateway):
    with gateway.new_cluster() as one, gateway.new_cluster() as other:
        with Client(one.scheduler_address, security=one.security, timeout=30):
            pass
        with pytest.raises((OSError, TimeoutError)):
            Client(one.scheduler_address, security=other.security, timeout="3s")


def test_limits_clip_with_the_words_of_dask_gateway(work_dir):
    config = "[gateway.cluster]\ncluster_max_workers = 2\n[gateway.user]\nmax_clusters = 2\nmax_workers = 3\n"
    with Appliance(work_dir / "limits", config) as appliance, Gateway(appliance.address) as gateway:
        name = gateway.submit()
        with gateway.connect(name) as cluster:
            with pytest.warns(match="Scaling to 2 instead"):
                cluster.scale(4)
            with pytest.warns(match="Using `maximum=2, minimum=0` instead"):
                cluster.adapt(maximum=4)
            with pytest.warns(match="Using `maximum=2, minimum=2` instead"):
                cluster.adapt(minimum=4, maximum=6)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                cluster.scale(2)
            second = gateway.submit()
            with gateway.connect(second), pytest.warns(match="Scaling to 1 instead"):
                gateway.scale_cluster(second, 2)
            with pytest.raises(ValueError, match="has 2 clusters, and the limit is 2"):
                gateway.submit()


def test_limits_hold_for_requests_at_once_and_names_stay_with_their_users(work_dir):
    config = '[gateway.auth]\ntype = "basic"\n[gateway.user]\nmax_clusters = 2\nmax_workers = 3\n'
    with Appliance(work_dir / "at-once", config) as appliance, ThreadPoolExecutor(8) as pool:

        def ask(user, method, path, body=None):
            word = base64.b64encode(f"{user}:".encode()).decode()
            return appliance.ask(method, f"/api/rask/v1/{path}", body, {"Authorization": f"Basic {word}"})

        made = list(pool.map(lambda _: ask("alice", "POST", "clusters", {}), range(8)))
        assert sorted(answer.status for answer in made) == [201] * 2 + [422] * 6
        names = [answer.json()["name"] for answer in made if answer.status == 201]
        assert all(ask("alice", "GET", f"clusters/{name}?wait").json()["status"] == "RUNNING" for name in names)
        list(pool.map(lambda name: ask("alice", "POST", f"clusters/{name}/adapt", {"maximum": 3}), names))
        maxima = [ask("alice", "GET", f"clusters/{name}").json()["adapt"]["maximum"] for name in names]
        assert sorted(maxima) == [0, 3]
        taken = ask("bob", "POST", "clusters", {"name": "local"})
        assert taken.status == 409 and "rask up itself" in taken.error
        # Logs are found by the name: another user's next cluster of that name would show them.
        assert ask("bob", "POST", "clusters", {"name": "mine"}).status == 201
        ask("bob", "DELETE", "clusters/mine")
        wait_until(lambda: ask("bob", "GET", "clusters/mine").json()["status"] == "STOPPED", "it stops", 30)
        again = ask("carol", "POST", "clusters", {"name": "mine"})
        assert again.status == 409 and "another user had a cluster mine" in again.error
        assert ask("bob", "POST", "clusters", {"name": "mine"}).status == 201
        assert [c["name"] for c in ask("bob", "GET", "history?limit=1").json()["clusters"]] == ["mine"]
        assert ask("carol", "GET", "history").json()["clusters"] == []


def test_declared_options_replace_the_built_in_ones(work_dir):
    config = """
[[gateway.options]]
field = "size"
label = "Size"
type = "select"
default = "small"
options = { small = { worker_cores = 1, worker_memory = 0.5 }, big = { worker_cores = 2, worker_memory = 1 } }
[[gateway.options]]
field = "retries"
type = "int"
min = 1
max = 3
"""
    with Appliance(work_dir / "options", config) as appliance, Gateway(appliance.address) as gateway:
        options = gateway.cluster_options()
        assert dict(options) == {"size": "small", "retries": 1}
        options.size = "big"
        with pytest.raises(ValueError):
            options.size = "huge"
        with gateway.new_cluster(options, retries=2) as cluster, cluster.get_client() as client:
            cluster.scale(1)
            client.wait_for_workers(1, timeout=60)
            [worker] = client.scheduler_info()["workers"].values()
            assert (worker["nthreads"], worker["memory_limit"]) == (2, 1 << 30)
            assert client.submit(lambda: os.environ["CLUSTER_OPTION_RETRIES"]).result(timeout=60) == "2"


def test_users_of_basic_auth_see_and_stop_only_their_own(work_dir):
    config = '[gateway.auth]\ntype = "basic"\npassword = "sesame"\nadmin_users = ["root"]\n'
    with Appliance(work_dir / "basic", config) as appliance:

        def user(name, password="sesame"):
            return Gateway(appliance.address, auth=BasicAuth(name, password))

        with user("alice") as alice, user("bob") as bob, user("root") as root, user("alice", "open") as wrong:
            name = alice.submit()
            assert [r.name for r in alice.list_clusters()] == [name]
            assert bob.list_clusters() == []
            assert [r.name for r in root.list_clusters()] == [name]
            for forbidden in (bob.get_cluster, bob.stop_cluster, lambda n: bob.scale_cluster(n, 1)):
                with pytest.raises(aiohttp.ClientResponseError, match="User bob lacks permissions") as refused:
                    forbidden(name)
                assert refused.value.status == 403
            with pytest.raises(aiohttp.ClientResponseError) as refused:
                wrong.list_clusters()
            assert refused.value.status == 401
            root.stop_cluster(name)
            wait_until(lambda: alice.get_cluster(name).status == ClusterStatus.STOPPED, "it stops", 30)


# argv: host, port, path of a feed, token. Watches it in two ways until both end.
WATCH = """
import base64, http.client, socket, sys
host, port, path, secret = sys.argv[1:]
bearer = {"Authorization": f"Bearer {secret}"}
events = http.client.HTTPConnection(host, int(port), timeout=60)
events.request("GET", path + "/events?q=%7B%22want%22:%5B%22overview%22%5D%7D", headers=bearer)
stream = events.getresponse()
assert stream.status == 200 and stream.readline(), stream.status
upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "=="}
lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{name}: {value}" for name, value in (bearer | upgrade).items())]
web = socket.create_connection((host, int(port)), timeout=60)
web.sendall(("\\r\\n".join(lines) + "\\r\\n" * 2).encode())
assert web.recv(12) == b"HTTP/1.1 101"
print("open", flush=True)
stream.read()
while web.recv(1 << 16):
    pass
print("ended", flush=True)
"""


def test_a_token_is_a_password_until_it_is_revoked(work_dir):
    with Appliance(work_dir / "token", '[gateway.auth]\ntype = "token"\n') as appliance:
        # The command line of the same user needs none: it reads the appliance's own.
        def rask(*args):
            done = subprocess.run([rask_bin(), *args], env=appliance.env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        secret = rask("token", "create", "notebook", "--user", "carol")
        with Gateway(appliance.address, auth=BasicAuth(password=secret)) as gateway:
            name = gateway.submit()
            [entry] = json.loads(rask("token", "ls", "--json"))
            assert (entry["user"], entry["role"], entry["label"]) == ("carol", "user", "notebook")
            assert secret not in (appliance.state / "rask.db").read_bytes().decode("latin1")
            assert appliance.ask("GET", "/api/v1/clusters/").status == 401
            bearer = {"Authorization": f"Bearer {secret}"}
            assert list(appliance.ask("GET", "/api/v1/clusters/", headers=bearer).json()) == [name]
            streams = []
            for path in ("events", f"clusters/{name}/logs?follow=1"):
                connection = http.client.HTTPConnection(*appliance.hostport, timeout=60)
                connection.request("GET", f"/api/rask/v1/{path}", headers=bearer)
                streams.append(connection.getresponse())
                assert streams[-1].status == 200
            # Pages too, for programs of other users of this machine (the same user needs no token for them).
            watching, python = None, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
            if os.getuid() == 0 and python:
                argv = [python, "-c", WATCH, *map(str, appliance.hostport), f"/clusters/{name}/feed", secret]
                watching = subprocess.Popen(argv, user="nobody", stdout=subprocess.PIPE, text=True)
                assert watching.stdout.readline() == "open\n"
            rask("token", "revoke", entry["id"])
            for stream in streams:
                stream.read()  # to its end: what was open is closed, too
            if watching:
                assert watching.communicate(timeout=60)[0] == "ended\n"
            rask("cluster", "stop", name)
            with pytest.raises(aiohttp.ClientResponseError) as refused:
                gateway.list_clusters()
            assert refused.value.status == 401


def test_a_jupyterhub_says_who_somebody_is(work_dir):
    with Hub() as hub:
        hub.users = {
            "t-alice": {"kind": "user", "name": "alice", "admin": False, "scopes": ["access:services!service=dask"]},
            "t-root": {"kind": "user", "name": "root", "admin": True, "scopes": ["access:services"]},
            "t-service": {"kind": "service", "name": "cull", "scopes": ["access:services"]},
            "t-other": {"kind": "user", "name": "mallory", "scopes": []},
            "t-forbidden": 403,
            "t-broken": 500,
        }
        config = f'[gateway.auth]\ntype = "jupyterhub"\nhub_api_url = "{hub.url}"\nservice_name = "dask"\n'
        with Appliance(work_dir / "hub", config) as appliance:

            def user(token):
                return Gateway(appliance.address, auth=JupyterHubAuth(token))

            with user("t-alice") as alice, user("t-root") as root, user("t-service") as service:
                name = alice.submit()
                assert [r.name for r in root.list_clusters()] == [name]
                assert service.list_clusters() == []
                asked = hub.asked
                alice.list_clusters()
                assert hub.asked == asked, "the session spares the hub"
                alice.stop_cluster(name)
            for token, status in [("t-other", 401), ("unknown", 401), ("t-forbidden", 401), ("t-broken", 502)]:
                with user(token) as gateway, pytest.raises(aiohttp.ClientResponseError) as refused:
                    gateway.list_clusters()
                assert refused.value.status == status


def test_https_and_gateway_connections_share_the_port(appliance):
    host, port = appliance.hostport
    context = ssl.create_default_context(cafile=appliance.state / "ca" / "ca.crt")
    import urllib.request

    with urllib.request.urlopen(f"https://{host}:{port}/api/version", context=context, timeout=10) as answer:
        assert json.load(answer)["version"] == "2026.3.0"
