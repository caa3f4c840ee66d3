"""A `rask up` of a test's own, its REST API with plain HTTP, and a stand-in for a JupyterHub."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from harness import START_S, Proc, clean_env, rask_bin, wait_until


class Appliance:
    """Started without the local cluster. A context manager; its clusters are gone after it."""

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *flags: str,
        local: bool = False,
        env: dict | None = None,
        state: Path | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state = state or folder / "state"
        self.config = folder / "rask.toml"
        self.config.write_text(config)
        self.env = clean_env(folder, HOME=folder, RASK_CONFIG=self.config, **(env or {}))
        argv = [rask_bin(), "up", "--port", "0", "--scheduler-port", "0", "--nworkers", "2", "--nthreads", "1"]
        argv += [] if local else ["--no-local-cluster"]
        self.proc = Proc("rask-up", [*argv, *flags], self.env, folder)
        self.up = wait_until(self._announced, "rask up announces itself", START_S, 0.02)
        self.address: str = self.up["http"]

    def _announced(self):
        assert self.proc.alive(), f"rask up ended:\n{self.proc.output()}"
        try:
            return json.loads((self.state / "up.json").read_text())
        except (OSError, ValueError):
            return None

    @property
    def hostport(self) -> tuple[str, int]:
        parts = urlsplit(self.address)
        return parts.hostname, parts.port

    def ask(self, method: str, path: str, body=None, headers: dict | None = None, timeout: float = 30) -> "Answer":
        """One request. A body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self.hostport, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 10, size: int = 65536) -> bytes:
        """Sends bytes as they are; what comes back until the other end closes or is silent."""
        with socket.create_connection(self.hostport, timeout=timeout) as sock:
            sock.sendall(data)
            got = b""
            try:
                while len(got) < size and (part := sock.recv(size)):
                    got += part
            except (TimeoutError, ConnectionError):
                pass
            return got

    def stop(self):
        return self.proc.stop(signal.SIGTERM, 30)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        assert self.headers.get_content_type() == "application/json", (self.headers, self.body)
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json()["error"]

    def __repr__(self):
        return f"{self.status} {self.reason}: {self.body[:500]!r}"


class Hub:
    """Answers `GET /hub/api/user` as a JupyterHub does: by token."""

    def __init__(self):
        self.users: dict[str, dict | int] = {}
        self.asked = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.asked += 1
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                said = hub.users.get(token, 404) if scheme == "token" and self.path == "/hub/api/user" else 404
                status = said if isinstance(said, int) else 200
                body = json.dumps({"message": "no"} if isinstance(said, int) else said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hub/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
