"""Rask's own workers beside a stock one over TLS and WebSockets: every kind of connection, and what they must refuse."""

from __future__ import annotations

import asyncio
import operator
import socket
import ssl

import pytest
from distributed import Client
from distributed.comm import connect
from distributed.security import Security

import certificates
from harness import Cluster
from test_own_worker import (  # noqa: F401
    LATE_S,
    Mix,
    test_actors_from_clients_and_tasks,
    test_clients_in_tasks_secede_and_rejoin,
    test_coordination_in_tasks,
    test_run_plugins_uploads_and_introspection,
    test_scatter_broadcast_replicate_and_direct_gather,
    test_shuffles_from_peer_to_peer,
    test_values_travel_between_workers_in_both_directions,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=["rask-tls", "stock-tls", "rask-ws"])
def whole(request, work_dir, pki):
    scheduler, protocol = request.param.split("-")
    tls = certificates.flags(pki) if protocol == "tls" else ()
    cluster = Cluster(work_dir, scheduler=scheduler, args=("--protocol", protocol, *tls), worker_args=tls)
    cluster.add_worker("ours", "--engine", "rask", nthreads=2, kind="rask", nanny=True)
    cluster.add_worker("stock", "--protocol", protocol, nthreads=2, kind="stock")
    cluster.security = certificates.security(pki) if protocol == "tls" else None
    yield cluster
    cluster.close()


@pytest.fixture
def mix(whole):
    with Client(whole.address, timeout=LATE_S, security=whole.security) as client:
        client.wait_for_workers(2, timeout=LATE_S)
        yield Mix(whole, client)
    assert whole.healthy(), whole.logs()


def test_a_worker_speaks_as_its_scheduler_does(mix):
    scheme = mix.cluster.address.split("://")[0]
    assert mix.address("ours").startswith(f"{scheme}://127.0.0.1:")
    assert mix.on("ours", operator.add, 1, 1).result(LATE_S) == 2


def test_its_nanny_speaks_so_too(mix):
    before = mix.address("ours")
    told = mix.client.run(lambda dask_worker: (dask_worker.name, dask_worker.address), nanny=True)
    assert [name for name, _ in told.values()] == ["ours"]
    assert all(nanny.split("://")[0] == before.split("://")[0] for _, nanny in told.values())
    assert mix.client.restart_workers([before], timeout=LATE_S) == {before: "OK"}
    assert mix.address("ours") != before
    assert mix.on("ours", operator.add, 1, 1).result(LATE_S) == 2


def test_strangers_and_plain_connections_to_an_encrypted_worker_are_refused(mix, pki):
    if not mix.cluster.security:
        pytest.skip("without TLS, whose connection it is decides, which test_other_users.py is about")
    address = mix.address("ours")

    async def ask(address, security: Security):
        comm = await connect(address, timeout=5, **security.get_connection_args("client"))
        await comm.write({"op": "ping", "reply": True})
        answer = await comm.read()
        await comm.close()
        return answer

    assert asyncio.run(ask(address, certificates.security(pki))) == b"pong"
    with pytest.raises(OSError):
        asyncio.run(ask(address, certificates.security(pki, leaf="other")))
    with pytest.raises(OSError):
        asyncio.run(ask(address.replace("tls://", "tcp://"), Security(require_encryption=False)))
    assert mix.on("ours", operator.add, 1, 1).result(LATE_S) == 2


def test_certificates_come_from_dasks_configuration_too(work_dir, pki):
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    env = {tls + "CA_FILE": pki / "ca.pem", "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": True}
    env |= {f"{tls}{role}__CERT": pki / "node.pem" for role in ("SCHEDULER", "WORKER", "CLIENT")}
    env |= {f"{tls}{role}__KEY": pki / "node.key" for role in ("SCHEDULER", "WORKER", "CLIENT")}
    with Cluster(work_dir, host="tls://127.0.0.1", env=env) as cluster:
        cluster.env[tls + "MIN_VERSION"] = "1.3"
        cluster.add_worker("ours", "--engine", "rask", kind="rask")
        with Client(cluster.address, timeout=LATE_S, security=certificates.security(pki)) as client:
            client.wait_for_workers(1, timeout=LATE_S)
            assert client.submit(operator.add, 1, 1).result(LATE_S) == 2
            [address] = client.scheduler_info()["workers"]
        assert spoken(pki, address) == "TLSv1.3"
        with pytest.raises(OSError):
            spoken(pki, address, most=ssl.TLSVersion.TLSv1_2)
        cluster.env[tls + "CIPHERS"] = "ECDHE-RSA-AES256-GCM-SHA384"
        refused = cluster.add_worker("choosy", "--engine", "rask", kind="rask")
        assert refused.wait(LATE_S) == 2
        assert "tls.ciphers is set" in refused.output() and "--engine stock" in refused.output()
        del cluster.workers["choosy"]


def spoken(pki, address: str, most=ssl.TLSVersion.TLSv1_3) -> str:
    """The version of TLS that a server and a client that knows none above `most` agree on."""
    context = certificates.security(pki).get_connection_args("client")["ssl_context"]
    context.maximum_version = most
    host, port = address.removeprefix("tls://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as sock:
        return sock.version()
