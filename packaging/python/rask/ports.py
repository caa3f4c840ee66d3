"""Ports of this process without TLS answer only its user, root, and the users in ``RASK_ALLOW_USERS``.

Dask's own answer everybody, so any user of this machine could run code as this one. Processes of workers are wholly a
cluster's, and ask for each connection as under `rask worker`. In this process only the servers of nannies and workers ask:
others that the script has are none of ours.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rask import rask_dask_worker as worker

if TYPE_CHECKING:
    from distributed.core import Server
    from tornado.tcpserver import TCPServer


def guard_process() -> None:
    """Has every server of this process ask, from now on."""
    worker.guard_ports()


class AsksWhoConnects:
    """Mixed into a class of nannies or workers: their ports without TLS ask who connects."""

    async def listen(self, *args: Any, **kwargs: Any) -> None:
        await super().listen(*args, **kwargs)  # type: ignore[misc]
        for listener in self.listeners:  # type: ignore[attr-defined]
            _guard(getattr(listener, "tcp_server", None) or getattr(listener, "server", None))

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        super().start_http_server(*args, **kwargs)  # type: ignore[misc]
        _guard(self.http_server)  # type: ignore[attr-defined]


def asking(kind: type[Server], *mixed: type) -> type[Any]:
    """A class of nannies or workers like `kind`, whose ports ask who connects; with other classes mixed in."""
    members: dict[str, Any] = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (*mixed, AsksWhoConnects, kind), members)


_refusals = worker.Refusals()


def _guard(server: TCPServer | None) -> None:
    if server is None or server.ssl_options is not None or hasattr(server, "_asks_who_connects"):
        return
    answer = server.handle_stream
    # A server on loopback is reached from this machine only; on another address others are wanted.
    worker.FROM_OTHER_MACHINES = True

    @functools.wraps(answer)
    def ask_first(stream: Any, address: Any) -> Any:
        reason = worker.reason_to_refuse(stream.socket)
        if reason is None:
            return answer(stream, address)
        stream.close()
        _refusals.note(reason)
        return None

    server.handle_stream = ask_first  # type: ignore[method-assign]
    server._asks_who_connects = True  # type: ignore[attr-defined]
