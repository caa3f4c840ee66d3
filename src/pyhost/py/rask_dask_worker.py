"""Starts Dask's own worker for rask: ``python rask_dask_worker.py FLAGS`` is ``dask worker FLAGS`` with two differences.

1. Ports without TLS answer only the user who runs the worker, root, and the users in ``RASK_ALLOW_USERS``. Dask's own
   ports answer everybody, so any user of this machine could run code as the worker's user.
2. The current folder comes last on the path of modules: a ``json.py`` that lies there must not replace Python's.

A nanny starts its worker process with `multiprocessing`, which runs this file there again (as ``__mp_main__``) before
anything else, so both hold in every process. Needs the standard library and `distributed`; Python 3.10 or newer.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and sys.path[0] == here:
        del sys.path[0]
        try:
            sys.path.append(os.getcwd())
        except OSError:  # the folder was removed
            pass

import errno
import functools
import ipaddress
import logging
import socket
import struct
import time
from multiprocessing import util

logger = logging.getLogger("distributed.rask")

# Connections from other machines to a port without TLS: never if rask says so; otherwise only if the first address
# that the process announces to others is not a loopback address (None: it has announced none so far).
FROM_OTHER_MACHINES: bool | None = False if os.environ.get("RASK_PLAIN_PEERS") == "this-machine" else None

# Seconds between two lines about refused connections: whoever is refused must not be able to fill the log.
REFUSALS_EVERY_S = 60.0


def allowed_users() -> set[int]:
    named = os.environ.get("RASK_ALLOW_USERS", "")
    return {os.geteuid(), 0, *(int(uid) for uid in named.split(",") if uid.strip())}


# ---- who is at the other end -----------------------------------------------------------------------------------------

TCP_ESTABLISHED = 1


def canonical(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address that is written as an IPv6 one is the IPv4 address."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def ask_kernel(peer: tuple, local: tuple) -> int | None:
    """The user who holds the socket at `peer` that is connected to `local`. None: there is none on this machine.

    Source: man 7 sock_diag, a request for one exact socket. `OSError`: the kernel has no socket diagnostics.
    """
    ips = [canonical(peer[0]), canonical(local[0])]
    family = socket.AF_INET if ips[0].version == 4 else socket.AF_INET6
    packed = [ip.packed.ljust(16, b"\0") for ip in ips]
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
    body += struct.pack("!HH", peer[1], local[1]) + packed[0] + packed[1] + struct.pack("=IQ", 0, 0xFFFFFFFFFFFFFFFF)
    sock_diag_by_family, request = 20, 1
    header = struct.pack("=IHHII", 16 + len(body), sock_diag_by_family, request, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as netlink:  # 4: NETLINK_SOCK_DIAG
        netlink.sendto(header + body, (0, 0))
        answer = netlink.recv(1024, socket.MSG_DONTWAIT)
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind != sock_diag_by_family:
        (error,) = struct.unpack_from("=i", answer, 16)
        if error == -errno.ENOENT:
            return None
        raise OSError(-error, os.strerror(-error))
    uid, inode = struct.unpack_from("=II", answer, 16 + 64)
    # A socket that nobody holds any more is reported as root's.
    return uid if answer[16 + 1] == TCP_ESTABLISHED and inode else None


def look_up(peer: tuple, local: tuple) -> int | None:
    """The same from `/proc/net/tcp` (man 5 proc), for kernels without socket diagnostics."""

    def end(text: str) -> tuple:
        ip, _, port = text.partition(":")
        words = [int(ip[at : at + 8], 16) for at in range(0, len(ip), 8)]
        packed = struct.pack(f"={len(words)}I", *words)
        return canonical(socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)), int(port, 16)

    wanted = ((canonical(peer[0]), peer[1]), (canonical(local[0]), local[1]))
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                next(lines, None)
                for fields in map(str.split, lines):
                    if int(fields[3], 16) != TCP_ESTABLISHED or fields[9] == "0":
                        continue
                    if (end(fields[1]), end(fields[2])) == wanted:
                        return int(fields[7])
        except FileNotFoundError:  # no IPv6 here
            continue
    return None


@functools.cache
def diagnostics_work() -> bool:
    """Does the kernel know the owner of a socket that we do have?"""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        try:
            return ask_kernel(client.getsockname(), client.getpeername()) is not None
        except OSError:
            return False


def uid_of_peer(peer: tuple, local: tuple) -> int | None:
    try:
        uid = ask_kernel(peer, local)
    except OSError:
        uid = None
    # "No such socket" and "no such question" have one error number.
    return look_up(peer, local) if uid is None and not diagnostics_work() else uid


def is_of_this_machine(ip: str) -> bool:
    if canonical(ip).is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
            probe.bind((ip, 0))  # only our own addresses can be bound
            return True
    except OSError:
        return False


def reason_to_refuse(connection: socket.socket) -> str | None:
    """Why an accepted connection without TLS gets no answer. None: it may go on."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None  # a socket file has an owner and a mode
    try:
        peer, local = connection.getpeername(), connection.getsockname()
        uid = uid_of_peer(peer, local)
        if uid is not None:
            return None if uid in allowed_users() else f"it belongs to another user (id {uid})"
        if is_of_this_machine(peer[0]):
            return "nobody holds it any more"
    except OSError as error:
        return f"its owner cannot be found: {error}"
    return None if FROM_OTHER_MACHINES else "it comes from another machine and has no TLS"


class Refusals:
    """Says once in a while that connections were refused, and how many."""

    def __init__(self):
        self.told = -REFUSALS_EVERY_S
        self.untold = 0

    def note(self, reason: str) -> None:
        self.untold += 1
        if time.monotonic() - self.told >= REFUSALS_EVERY_S:
            logger.warning(
                "Connection refused: %s (%d refused since the last such line). Users in security.allow_users may connect.",
                reason,
                self.untold,
            )
            self.told, self.untold = time.monotonic(), 0


# ---- where it is asked -----------------------------------------------------------------------------------------------


def guard_ports() -> None:
    """Has every TCP server of this process ask who connects, once per connection: Dask's ports and its pages."""
    import dask
    from tornado.tcpserver import TCPServer

    # Older releases can also listen by asyncio, whose servers do not ask.
    dask.config.set({"distributed.comm.tcp.backend": "tornado"})
    handle, refusals = TCPServer._handle_connection, Refusals()

    @functools.wraps(handle)
    def ask_first(self, connection, address):
        reason = None if self.ssl_options is not None else reason_to_refuse(connection)
        if reason is None:
            return handle(self, connection, address)
        connection.close()
        refusals.note(reason)

    TCPServer._handle_connection = ask_first

    from distributed.core import Server

    listen = Server.listen

    @functools.wraps(listen)
    async def listen_and_note(self, *args, **kwargs):
        global FROM_OTHER_MACHINES
        await listen(self, *args, **kwargs)
        if FROM_OTHER_MACHINES is None:
            from distributed.comm import get_address_host

            FROM_OTHER_MACHINES = not is_loopback_host(get_address_host(self.listeners[0].contact_address))

    Server.listen = listen_and_note


def is_loopback_host(host: str) -> bool:
    try:
        return canonical(host).is_loopback
    except ValueError:  # a name, or no network address at all
        return False


def keep_folder_off_path() -> None:
    """Processes that `multiprocessing` starts have the current folder first on their path until they are told ours."""
    spawn = util.spawnv_passfds

    @functools.wraps(spawn)
    def spawn_safely(path, args, passfds):
        args = list(args)
        if "-c" in args:
            at = args.index("-c") + 1
            args[at] = "import sys; sys.path = [at for at in sys.path if at]; " + args[at]
        return spawn(path, args, passfds)

    util.spawnv_passfds = spawn_safely


if __name__ in ("__main__", "__mp_main__"):
    keep_folder_off_path()
    guard_ports()

if __name__ == "__main__":
    from distributed.cli.dask_worker import main

    main(prog_name="dask worker")
