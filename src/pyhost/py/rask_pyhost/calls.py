"""Functions that users send: called once, or again and again, as feeds."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys

import distributed
from distributed.protocol import pickle
from distributed.protocol.serialize import to_serialize

from .scheduler import import_file, settle
from .wire import plain


def wants(function, name) -> bool:
    """Does the function take an argument of this name? Source: ``distributed/utils.py``, ``has_arg``."""
    return distributed.utils.has_arg(function, name)


async def op_call(host, body):
    """``Client.run_on_scheduler``. Source: ``distributed/worker.py``, ``run``."""
    function = pickle.loads(body["function"])
    args = pickle.loads(body["args"]) if body.get("args") else ()
    kwargs = pickle.loads(body["kwargs"]) if body.get("kwargs") else {}
    wait = body.get("wait", True)
    host.scheduler.refresh(body.get("snapshot"))
    if wants(function, "dask_scheduler"):
        kwargs["dask_scheduler"] = host.scheduler
    if wants(function, "dask_worker"):
        kwargs["dask_worker"] = host.scheduler
    coroutine = inspect.iscoroutinefunction(function)
    if not wait and not coroutine:
        # Dask's words and kind of error.
        raise AssertionError("Combination not supported")
    result = function(*args, **kwargs)
    if wait:
        result = await settle(result)
    else:
        host.keep(asyncio.ensure_future(result))
        result = None
    return host.told(result=to_serialize(result))


async def op_keycall(host, body):
    """Groups workers by a key function. Source: ``distributed/scheduler.py``, ``workers_to_close``."""
    host.scheduler.refresh(body.get("snapshot"))
    function = pickle.loads(body["function"])
    workers = host.scheduler.workers
    groups: dict = {}
    for address in body.get("workers") or list(workers):
        if address in workers:
            groups.setdefault(function(workers[address]), []).append(address)
    return host.told(groups=list(groups.values()))


def op_versions(host, body):
    return distributed.versions.get_versions(packages=body.get("packages"))


def op_import_file(host, body):
    return import_file(body["filename"], body["data"], body.get("load", True))


async def op_write_state(host, body):
    """``Client.dump_cluster_state`` to a URL. Source: ``distributed/scheduler.py``, ``dump_cluster_state_to_url``."""

    from distributed import cluster_dump  # takes a while, and is hardly ever needed

    async def state():
        return body["state"]

    options = body.get("storage_options") or {}
    await cluster_dump.write_state(state, body["url"], body["format"], **options)


def op_ping(host, body):
    return {"pid": os.getpid(), "python": sys.executable}


async def op_feed_open(host, body):
    """``Scheduler.feed``: a function that is asked again and again."""
    host.scheduler.refresh(body.get("snapshot"))
    setup, function, teardown = (pickle.loads(body[name]) if body.get(name) else None for name in FEED)
    state = await settle(setup(host.scheduler)) if setup else None
    host.feed_count += 1
    host.feeds[host.feed_count] = (function, teardown, state)
    return host.told(feed=host.feed_count)


FEED = ("setup", "function", "teardown")


async def op_feed_poll(host, body):
    host.scheduler.refresh(body.get("snapshot"))
    function, _, state = host.feeds[body["feed"]]
    result = function(host.scheduler) if state is None else function(host.scheduler, state)
    return host.told(result=plain(await settle(result)))


async def op_feed_close(host, body):
    _, teardown, state = host.feeds.pop(body["feed"], (None, None, None))
    if teardown:
        await settle(teardown(host.scheduler, state))
    return host.told()
