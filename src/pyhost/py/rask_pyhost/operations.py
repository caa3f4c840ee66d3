"""Requests that user code answers: what it put into the handlers of the scheduler."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback

from .scheduler import settle
from .views import View
from .wire import plain

# How long a request is waited for in one go: others come meanwhile, and it may wait for one of them.
PATIENCE_S = 0.2


async def stream_operation(host, op, fields):
    """Something on the stream of a client or worker that user code put into ``stream_handlers``."""
    try:
        await settle(host.scheduler.stream_handlers[op](**fields))
    except Exception:
        print(f"the stream handler {op!r} failed:", file=sys.stderr)
        traceback.print_exc()


async def op_operation(host, body):
    """A request that user code put into ``Scheduler.handlers``. Source: ``distributed/core.py``, ``_handle_comm``."""
    host.scheduler.refresh(body.get("snapshot"))
    handler = host.scheduler.handlers[body["op"]]
    first = next(iter(inspect.signature(handler).parameters), None)
    result = handler(*[View("connection", {})] * (first in ("comm", "stream")), **body["fields"])
    if not inspect.isawaitable(result):
        return host.told(result=plain(result))
    host.waiting_count += 1
    host.waiting[host.waiting_count] = asyncio.ensure_future(result)
    return await op_operation_wait(host, {"waiting": host.waiting_count})


async def op_operation_wait(host, body):
    task = host.waiting[body["waiting"]]
    done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
    if not done:
        return host.told(waiting=body["waiting"])
    del host.waiting[body["waiting"]]
    return host.told(result=plain(task.result()))
