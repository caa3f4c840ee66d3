"""Asking the real scheduler: methods of Dask's scheduler that are requests to rask's."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading

import distributed

from .views import NotOffered

__name__ = "__main__"  # What is defined here travels whole: see `__init__.py`.

# Methods of Dask's scheduler that are operations of rask's, by the names of the operations. Those that themselves run
# in this process are left out: it is busy.
OPERATIONS = {
    "scatter": "scatter",
    "gather": "gather",
    "stimulus_retry": "retry",
    "close": "terminate",
    "broadcast": "broadcast",
    "proxy": "proxy",
    "get_ncores": "ncores",
    "get_ncores_running": "ncores_running",
    "get_has_what": "has_what",
    "get_who_has": "who_has",
    "get_processing": "processing",
    "get_call_stack": "call_stack",
    "get_profile": "profile",
    "get_logs": "logs",
    "get_worker_logs": "worker_logs",
    "get_events": "events",
    "get_nbytes": "nbytes",
    "identity": "identity",
    "rebalance": "rebalance",
    "replicate": "replicate",
    "restart": "restart",
    "restart_workers": "restart_workers",
    "remove_worker": "unregister",
    "retire_workers": "retire_workers",
    "get_metadata": "get_metadata",
    "set_metadata": "set_metadata",
    "set_restrictions": "set_restrictions",
    "get_task_status": "get_task_status",
    "get_task_stream": "get_task_stream",
    "get_task_prefix_states": "get_task_prefix_states",
    "register_worker_plugin": "register_worker_plugin",
    "unregister_worker_plugin": "unregister_worker_plugin",
    "register_nanny_plugin": "register_nanny_plugin",
    "unregister_nanny_plugin": "unregister_nanny_plugin",
    "adaptive_target": "adaptive_target",
    "workers_to_close": "workers_to_close",
    "get_cluster_state": "get_cluster_state",
    "benchmark_hardware": "benchmark_hardware",
    "get_story": "get_story",
    "check_idle": "check_idle",
}
ASK_TIMEOUT_S = 300


class Asking:
    """Asks the real scheduler as any client would, on a thread of its own: user code may hold this one's loop."""

    def __init__(self):
        self.loop = None

    def ask(self, address, op, fields):
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, name="rask-asks", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(self._ask(address, op, fields), self.loop)

    async def _ask(self, address, op, fields):
        comm = await distributed.core.connect(address, **distributed.Security().get_connection_args("client"))
        try:
            return await distributed.core.send_recv(comm, op=op, **fields)
        finally:
            comm.abort()


ASKING = Asking()


def operation(scheduler, method: str):
    """A method of Dask's scheduler, as a request to rask's. It waits, or can be waited for, as the original."""
    original = getattr(distributed.scheduler.Scheduler, method, None)
    signature = inspect.signature(original)

    def ask(*args, **kwargs):
        given = signature.bind(None, *args, **kwargs).arguments
        fields: dict = {}
        for name, value in list(given.items())[1:]:
            kind = signature.parameters[name].kind
            fields.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        fields.pop("comm", None)
        if callable(fields.get("key")):
            raise NotOffered("rask does not call functions from within functions that run on the scheduler")
        if scheduler.starting:
            raise NotOffered(f"rask's scheduler answers no {method!r} before it has started")
        return ASKING.ask(scheduler.address, OPERATIONS[method], fields)

    if inspect.iscoroutinefunction(original):

        async def call(*args, **kwargs):
            return await asyncio.wrap_future(ask(*args, **kwargs))
    else:

        def call(*args, **kwargs):
            return ask(*args, **kwargs).result(ASK_TIMEOUT_S)

    return functools.wraps(original)(call)


def known(method: str) -> bool:
    """Does this version of Dask have it?"""
    return hasattr(distributed.scheduler.Scheduler, method)
