"""Plugins of the scheduler and modules that are preloaded, and telling them of events."""

from __future__ import annotations

import sys
import traceback

import distributed
from distributed.protocol import pickle

from .operations import stream_operation
from .scheduler import HOOKS, WITH_SCHEDULER, hooks_of, plugin_name, settle
from .views import NotOffered
from .wire import plain


async def op_plugin_add(host, body):
    """Source: ``distributed/scheduler.py``, ``register_scheduler_plugin``."""
    plugin = pickle.loads(body["plugin"])
    if not isinstance(plugin, distributed.diagnostics.plugin.SchedulerPlugin):
        raise TypeError(f"a scheduler plugin must be a SchedulerPlugin, not {type(plugin).__name__}")
    name = body.get("name") or plugin_name(plugin)
    if body.get("idempotent") and name in host.scheduler.plugins:
        return host.told(name=name, hooks=hooks_of(host.scheduler.plugins[name]), known=True)
    host.scheduler.refresh(body.get("snapshot"))
    await settle(plugin.start(host.scheduler))
    host.scheduler.plugins[name] = plugin
    return host.told(name=name, hooks=hooks_of(plugin), known=False)


def op_plugin_remove(host, body):
    host.scheduler.remove_plugin(body["name"])
    return host.told(names=list(host.scheduler.plugins))


async def op_preload(host, body):
    """``--preload``: ``dask_setup`` of each module. As in Dask, a module that can't be imported is an error, and one
    whose setup fails is only logged; but one that needs what is missing here must not seem to work.

    Source: ``distributed/preloading.py``."""
    from distributed import preloading

    host.scheduler.refresh(body.get("snapshot"))
    host.preloads = preloading.process_preloads(host.scheduler, list(body["modules"]), list(body["argv"]))
    host.scheduler.__dict__["starting"] = True
    for preload in host.preloads:
        try:
            await preload.start()
        except NotOffered:
            raise
        except Exception:
            print(f"dask_setup of {preload.name!r} failed:", file=sys.stderr)
            traceback.print_exc()
    host.scheduler.__dict__["starting"] = False
    plugins = [[name, hooks_of(plugin)] for name, plugin in host.scheduler.plugins.items()]
    return host.told(plugins=plugins)


async def op_preload_end(host, body):
    """``dask_teardown`` of what was preloaded."""
    if host.preloads is not None:
        await host.preloads.teardown()
    return host.told()


async def op_plugin_event(host, body):
    """Fans out ``events``: ``[hook, args, kwargs]`` each. A plugin that raises is logged and goes on being called."""
    before = host.scheduler.refresh(body.get("snapshot")) or {}
    told = {args[0] for hook, args, _ in body["events"] if hook == "transition"}
    host.scheduler.tasks.told = {key: before.get(key) for key in told}
    try:
        return await tell_plugins(host, body["events"])
    finally:
        host.scheduler.tasks.told = None


async def tell_plugins(host, events):
    results = []
    for hook, args, kwargs in events:
        if hook == "stream":
            await stream_operation(host, *args, kwargs)
            continue
        if hook not in HOOKS:
            raise ValueError(f"no plugin hook is called {hook!r}")
        first = (host.scheduler,) if hook in WITH_SCHEDULER else ()
        for name, plugin in list(host.scheduler.plugins.items()):
            if hook not in hooks_of(plugin):
                continue
            try:
                result = await settle(getattr(plugin, hook)(*first, *args, **kwargs))
                results.append([name, hook, plain(result)])
            except Exception:
                print(f"plugin {name!r} failed in {hook}:", file=sys.stderr)
                traceback.print_exc()
    return host.told(results=results)
