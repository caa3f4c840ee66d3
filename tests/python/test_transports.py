"""tcp://, tls:// and ws://: the same work over each, and what each must refuse."""

from __future__ import annotations

import shutil
import socket
import subprocess

import numpy as np
import pytest
from distributed import Client
from distributed.security import Security

from harness import wait_until

pytestmark = pytest.mark.timeout(90)


def inc(x):
    return x + 1


def use(client, address_starts_with):
    """Small and large messages both ways, worker to worker, RPC and streams."""
    client.wait_for_workers(2, timeout=40)
    assert all(w.startswith(address_starts_with) for w in client.ncores())
    assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
    data = np.random.default_rng(0).bytes(20_000_000)  # more than one websocket shard
    on_a = client.scatter(data, workers=["a"], direct=False)
    assert client.submit(len, on_a, workers="b").result() == len(data)
    assert client.gather(on_a, direct=False) == data
    assert client.submit(bytes, 9_000_000).result() == bytes(9_000_000)
    with pytest.raises(ZeroDivisionError):
        client.submit(lambda: 1 / 0).result()
    assert len(client.run(lambda: 1)) == 2


def test_websockets(start_cluster):
    cluster = start_cluster(args=("--protocol", "ws"))
    assert cluster.address.startswith("ws://")  # stock says the machine's own address here
    cluster.add_worker("a", "--protocol", "ws")
    cluster.add_worker("b", "--protocol", "ws")
    with Client(cluster.address, timeout=30) as client:
        use(client, "ws://")


# --- tls -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two authorities, one certificate of each; only the first is the cluster's."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH to make certificates with")
    where = tmp_path_factory.mktemp("pki")

    # Without extensions openssl makes X.509 version 1, which TLS libraries other than OpenSSL refuse.
    (where / "v3.ext").write_text("basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=where, check=True, capture_output=True)

    for ca, leaf in (("ca", "node"), ("other-ca", "other")):
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *curve, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2")
        openssl("req", *curve, "-keyout", f"{leaf}.key", "-out", f"{leaf}.csr", "-subj", "/CN=node")
        openssl("x509", "-req", "-in", f"{leaf}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-out", f"{leaf}.pem", "-days", "2", "-extfile", "v3.ext")
    return where


def flags(pki, leaf="node"):
    return ("--tls-ca-file", str(pki / "ca.pem"), "--tls-cert", str(pki / f"{leaf}.pem"), "--tls-key", str(pki / f"{leaf}.key"))


def security(pki, ca="ca", leaf="node"):
    return Security(
        tls_ca_file=str(pki / f"{ca}.pem"),
        tls_client_cert=str(pki / f"{leaf}.pem"),
        tls_client_key=str(pki / f"{leaf}.key"),
        require_encryption=True,
    )


def test_tls(start_cluster, pki):
    cluster = start_cluster(args=("--protocol", "tls", *flags(pki)), worker_args=flags(pki))
    assert cluster.address.startswith("tls://127.0.0.1:")
    cluster.add_worker("a")
    cluster.add_worker("b")
    with Client(cluster.address, timeout=30, security=security(pki)) as client:
        use(client, "tls://")

        # a stranger's certificate, no certificate, no TLS at all: refused, and nothing else disturbed
        with pytest.raises(OSError):
            Client(cluster.address, timeout=3, security=security(pki, leaf="other"), set_as_default=False)
        with pytest.raises(OSError):
            Client(cluster.address.replace("tls://", "tcp://"), timeout=3, set_as_default=False)
        with socket.create_connection(cluster.hostport) as plain:
            plain.sendall(b"\x00" * 64)
        assert client.submit(inc, 1, pure=False).result() == 2


def test_tls_from_the_environment(start_cluster, pki):
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    env = {tls + "CA_FILE": pki / "ca.pem", "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": True}
    env |= {f"{tls}{role}__CERT": pki / "node.pem" for role in ("SCHEDULER", "WORKER")}
    env |= {f"{tls}{role}__KEY": pki / "node.key" for role in ("SCHEDULER", "WORKER")}
    cluster = start_cluster(host="tls://127.0.0.1", env=env)
    assert cluster.address.startswith("tls://")
    cluster.add_worker("a")
    with Client(cluster.address, timeout=30, security=security(pki)) as client:
        client.wait_for_workers(1, timeout=40)
        assert client.submit(inc, 1).result() == 2


def test_a_missing_certificate_file_is_an_error_at_start(work_dir, pki):
    from harness import Cluster

    with pytest.raises(AssertionError, match="(?s)ended while starting.*nowhere"):
        Cluster(work_dir, args=("--protocol", "tls", "--tls-ca-file", "/nowhere/ca.pem", *flags(pki)[2:])).close()


# --- tcp -----------------------------------------------------------------------------------------


def test_hundreds_of_connections(cluster, client):
    host, port = cluster.hostport
    socks = [socket.create_connection((host, port), timeout=5) for _ in range(300)]
    try:
        assert client.submit(inc, 1, pure=False).result(timeout=10) == 2
    finally:
        for s in socks:
            s.close()
    wait_until(lambda: client.submit(inc, 2, pure=False).result(timeout=10) == 3, "still computing")


def test_many_clients_at_once(cluster):
    clients = [Client(cluster.address, timeout=30, set_as_default=False) for _ in range(12)]
    futures = [c.map(inc, range(10), key=f"many-{i % 3}") for i, c in enumerate(clients)]
    assert [c.gather(fs) for c, fs in zip(clients, futures)] == [list(range(1, 11))] * 12
    for c in clients:
        c.close()
