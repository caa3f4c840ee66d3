"""tcp://, tls:// and ws://: the same work over each, and what each must refuse."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import numpy as np
import pytest
from distributed import Client
from distributed.security import Security

import certificates
from certificates import flags, security
from harness import wait_until
from rawdask import HELLO, encode

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
    return certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def old_pki(tmp_path_factory):
    """Certificates of X.509 version 1, which openssl makes when it is told of no extensions, in every kind of chain."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH to make certificates with")
    where = tmp_path_factory.mktemp("old-pki")
    (where / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    (where / "leaf.ext").write_text("basicConstraints=CA:FALSE\n")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=where, check=True, capture_output=True)

    def sign(name, by, *more, kind="ec", ext=None, subject=None):
        new = {"ec": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "rsa": ("rsa:2048",), "short": ("rsa:1024",)}[kind]
        openssl("req", "-newkey", *new, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject or name}")
        how = ("-signkey", f"{name}.key") if by is None else ("-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial")
        more += ("-extfile", f"{ext}.ext") if ext else ()
        openssl("x509", "-req", "-in", f"{name}.csr", *how, "-out", f"{name}.pem", *(more or ("-days", "2")))

    def chain(name, *others):
        (where / f"{name}.pem").write_text("".join((where / f"{one}.pem").read_text() for one in (name, *others)))

    sign("ca", None, ext="ca", kind="rsa")
    sign("old-ca", None)  # an authority of version 1
    sign("other-ca", None)
    sign("false-ca", None, ext="ca", subject="ca")
    for name in ("ca", "old-ca"):
        sign(f"by-{name}", name)
    sign("rsa", "ca", kind="rsa")
    sign("between", "ca", "-days", "2", ext="ca")
    sign("by-between", "between")
    chain("by-between", "between")
    sign("stranger", "other-ca")
    sign("namesake", "false-ca")
    sign("short", "ca", kind="short")
    sign("past", "ca", "-days", "-1")
    sign("sha1", "ca", "-days", "2", "-sha1")
    sign("leaf", "ca", "-days", "2", ext="leaf")  # no authority, and so must not issue
    sign("by-leaf", "leaf")
    chain("by-leaf", "leaf")
    sign("by-old", "by-ca")
    chain("by-old", "by-ca")
    sign("broken", "ca")
    lines = (where / "broken.pem").read_text().splitlines()
    flipped = "A" if lines[-3][20] != "A" else "B"  # within the signature
    lines[-3] = lines[-3][:20] + flipped + lines[-3][21:]
    (where / "broken.pem").write_text("\n".join(lines) + "\n")
    (where / "authorities.pem").write_text((where / "ca.pem").read_text() + (where / "old-ca.pem").read_text())
    return where


def test_tls(start_cluster, pki):
    cluster = start_cluster(args=("--protocol", "tls", *flags(pki)), worker_args=flags(pki))
    assert cluster.address.startswith("tls://127.0.0.1:")
    cluster.add_worker("a")
    cluster.add_worker("b")
    with Client(cluster.address, timeout=30, security=security(pki)) as client:
        use(client, "tls://")
        assert len(client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.get_ncores())) == 2

        # a stranger's certificate, no certificate, no TLS at all: refused, and nothing else disturbed
        with pytest.raises(OSError):
            Client(cluster.address, timeout=3, security=security(pki, leaf="other"), set_as_default=False)
        with pytest.raises(OSError):
            Client(cluster.address.replace("tls://", "tcp://"), timeout=3, set_as_default=False)
        with socket.create_connection(cluster.hostport) as plain:
            plain.sendall(b"\x00" * 64)
        assert client.submit(inc, 1, pure=False).result() == 2


def test_tls_from_the_environment(start_cluster, old_pki):
    """Settings may hold PEM text instead of the names of files, as with Dask; and certificates of version 1."""

    def text(name):
        return (old_pki / name).read_text()

    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    env = {tls + "CA_FILE": text("authorities.pem"), "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": True}
    env |= {tls + "SCHEDULER__CERT": text("by-ca.pem"), tls + "SCHEDULER__KEY": text("by-ca.key")}
    env |= {tls + "WORKER__CERT": text("by-old-ca.pem"), tls + "WORKER__KEY": text("by-old-ca.key")}
    cluster = start_cluster(host="tls://127.0.0.1", env=env)
    assert cluster.address.startswith("tls://")
    cluster.add_worker("a")
    given = ("--tls-ca-file", text("authorities.pem"), "--tls-cert", text("rsa.pem"), "--tls-key", text("rsa.key"))
    cluster.add_worker("b", *given, kind="rask")
    with Client(cluster.address, timeout=30, security=security(old_pki, ca="authorities", leaf="by-ca")) as client:
        use(client, "tls://")
        assert len(client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.get_ncores())) == 2


def lets_in(at, pki, leaf, version):
    """Does the listener at this address answer who shows this certificate?"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL itself refuses to show weak certificates
    context.load_verify_locations(pki / "authorities.pem")
    context.load_cert_chain(pki / f"{leaf}.pem", pki / f"{leaf}.key")
    context.maximum_version = version
    with socket.create_connection(at, timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                wrapped.sendall(encode(HELLO))
                return len(wrapped.recv(8)) > 0
        except (ssl.SSLError, ConnectionError):
            return False


@contextlib.contextmanager
def stock_listener(security):
    """Dask's own judgement of certificates: whoever it lets in is answered."""
    context = security.get_listen_args("scheduler")["ssl_context"]

    def serve():
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as wrapped:
                wrapped.sendall(wrapped.recv(8))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_old_certificates_are_taken_and_refused_as_by_dask(start_cluster, old_pki):
    ca, cert, key = (str(old_pki / name) for name in ("authorities.pem", "by-ca.pem", "by-ca.key"))
    cluster = start_cluster(args=("--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key))
    taken = ["by-ca", "by-old-ca", "rsa", "by-between", "old-ca"]
    refused = ["stranger", "namesake", "short", "past", "sha1", "by-leaf", "by-old", "broken"]
    with stock_listener(Security(tls_ca_file=ca, tls_scheduler_cert=cert, tls_scheduler_key=key)) as stock:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for at in (stock, cluster.hostport):
                assert [leaf for leaf in taken + refused if lets_in(at, old_pki, leaf, version)] == taken, (at, version)


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
