"""The operations that rask has handlers for, held against those of the installed distributed."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import pytest
from distributed import Scheduler
from distributed.core import _expects_comm

from harness import scheduler_kind

SOURCES = Path(__file__).parents[2] / "src"

pytestmark = pytest.mark.skipif(scheduler_kind() != "rask", reason="about the tables in rask's sources")

# Handlers of stock that rask leaves out, each with its reason.
LEFT_OUT = {
    "connection_stream": "opens a stream between two workers; nothing in distributed opens one to a scheduler",
    "dump_state": "dumps a server's own attributes; dump_cluster_state asks rask for get_cluster_state instead",
}

# Operations of rask that this distributed has no handler for.
MORE = {
    "close": "every server of distributed knows it, outside the table of handlers: it ends the connection",
    "ping": "a worker of distributed has it; tools ask it of any server, to see whether it is alive",
    "publish_wait_flush": "sent by clients from distributed 2026.6 on",
    "queue_release": "a stream operation of stock that clients may also send as a request",
    "variable_delete": "a stream operation of stock that clients may also send as a request",
}

# Stream operations of rask that are not in stock's table of stream handlers.
MORE_ON_STREAMS = {
    "close-stream": "stock looks for it before its table of handlers",
}


# Requests whose arguments are not held against stock's signature.
ANY_ARGUMENTS = {
    "feed": "takes what its function wants",
    "heartbeat_worker": "workers say it of themselves; those of a later release may say more",
    "register-client": "as heartbeat_worker, of clients",
    "register-worker": "as heartbeat_worker",
    "register_nanny": "as heartbeat_worker, of nannies",
    "add_keys": "as heartbeat_worker",
}


def operations() -> list[str]:
    """Names in the tables that requests are dispatched by."""
    tables = []
    for source in sorted((SOURCES / "cluster" / "ops").glob("*.rs")):
        tables += re.findall(r"const OPS: Operations =(.*?)\];\n", source.read_text(), re.S)
    assert len(tables) >= 15, "the tables look different now; this test must learn to read them"
    return re.findall(r'\(\s*"([^"]+)",\s*(?:\||[a-z_:]+\))', "".join(tables))


def stream_operations() -> set[str]:
    """Names in the match that stream items are read by."""
    source = (SOURCES / "wire" / "op" / "stream.rs").read_text()
    return set(re.findall(r'^ {12}"([a-z_-]+)" => (?:return self\.|StreamOp::|\{)', source, re.M))


def signatures() -> dict[str, tuple[str, str]]:
    """The function and the parameters in the table that arguments are held against; the first row of each operation."""
    source = (SOURCES / "cluster" / "codec" / "signatures.rs").read_text()
    rows = re.findall(r'\(\s*"([^"]+)",\s*"([^"]+)",\s*"([^"]*)",?\s*\)', source.split("const ROWS")[1].split("\n];")[0])
    assert len(rows) > 60, "the table looks different now; this test must learn to read it"
    return {op: (function, parameters) for op, function, parameters in reversed(rows)}


def signature(handler) -> tuple[str, str]:
    """The same of a handler of stock."""
    parameters = list(inspect.signature(handler).parameters.values())[1 if _expects_comm(handler) else 0 :]
    words, starred = [], False
    for parameter in parameters:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL) and not starred:
            words.append("*")
            starred = True
        if parameter.kind == parameter.VAR_KEYWORD:
            words.append("**")
        elif parameter.kind != parameter.VAR_POSITIONAL:
            words.append(parameter.name + ("" if parameter.default is parameter.empty else "="))
    return handler.__qualname__, " ".join(words)


async def ask_stock(question):
    async with Scheduler(dashboard=False, port=0, host="127.0.0.1") as scheduler:
        return question(scheduler)


def stock() -> tuple[set[str], set[str]]:
    return asyncio.run(ask_stock(lambda scheduler: (set(scheduler.handlers), set(scheduler.stream_handlers))))


def test_every_request_of_stock_has_a_handler_or_a_reason():
    ours, (theirs, _) = operations(), stock()
    assert len(ours) == len(set(ours))
    assert theirs - set(ours) == LEFT_OUT.keys() & theirs
    assert set(ours) - theirs <= MORE.keys()


def test_every_stream_operation_of_stock_is_read():
    ours, (_, theirs) = stream_operations(), stock()
    assert theirs - ours == set()
    assert ours - theirs <= MORE_ON_STREAMS.keys()


def test_every_request_takes_the_arguments_that_it_takes_on_stock():
    ours = signatures()
    theirs = asyncio.run(ask_stock(lambda found: {op: signature(handler) for op, handler in found.handlers.items()}))
    left_out = LEFT_OUT.keys() | ANY_ARGUMENTS.keys()
    assert ours == {op: found for op, found in theirs.items() if op not in left_out}
