"""Certificates for clusters with TLS, made with openssl, and how flags and clients name them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from distributed.security import Security


def make(where: Path) -> Path:
    """Two authorities, one certificate of each; only the first is the cluster's."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH to make certificates with")

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


def flags(pki: Path, leaf="node") -> tuple[str, ...]:
    return ("--tls-ca-file", str(pki / "ca.pem"), "--tls-cert", str(pki / f"{leaf}.pem"), "--tls-key", str(pki / f"{leaf}.key"))


def security(pki: Path, ca="ca", leaf="node") -> Security:
    return Security(
        tls_ca_file=str(pki / f"{ca}.pem"),
        tls_client_cert=str(pki / f"{leaf}.pem"),
        tls_client_key=str(pki / f"{leaf}.key"),
        require_encryption=True,
    )
