"""The `Worker` that user code sees: a `distributed.Worker` that says and hears everything through the node."""

from __future__ import annotations

import inspect
import logging

import dask
import distributed
from distributed import WorkerPlugin, protocol
from distributed.core import Status
from distributed.utils import import_term
from distributed.worker import Worker as StockWorker
from distributed.worker_memory import WorkerMemoryManager
from distributed.worker_state_machine import PauseEvent, SecedeEvent, TaskState, UnpauseEvent, WorkerState

from .control import security
from .frames import CONTEXT
from .values import Data, Home, size_of

logger = logging.getLogger("distributed.rask")

# Between two ticks of the event loop, by which its delays are measured. Dask's 20 ms are what an idle worker uses most
# of its time for.
TICK_S = 0.2
# Looks at threads that found none at work, before looking ends until the next run begins.
IDLE_LOOKS = 10


def tasks_in(name: str) -> property:
    """The tasks in a state."""
    return property(lambda self: {task for task in self.tasks.values() if task.state == name}, lambda self, value: None)


class FacadeState(WorkerState):
    """What user code reads of the state machine: asked for when it is read. Writing to it changes nothing."""

    home: Home | None = None

    def _tasks(self):
        if self.home is None or not self.home.in_service:
            return {}
        tasks = {}
        for key, state, size in self.home.asked("tasks"):
            tasks[key] = task = TaskState(key)
            task.state, task.nbytes = state, size
            if about := self.home.running.get(key):
                task.span_id, task.annotations = about[0], about[1] or {}
        return tasks

    def _log(self):
        rows = self.home.asked("log") if self.home is not None and self.home.in_service else ()
        # In place of what Dask's has: the state that came of it, what it led to, and what it was a part of.
        return [(key, start, finish, finish, {}, "", at) for key, start, finish, at in rows]

    def _number(self, name):
        return self.home.asked("number", name) if self.home is not None and self.home.in_service else 0

    tasks = property(_tasks, lambda self, value: None)
    nbytes = property(lambda self: self._number("nbytes"), lambda self, value: None)
    executing_count = property(lambda self: self._number("executing"))
    log = property(_log, lambda self, value: None)
    ready, waiting, constrained = tasks_in("ready"), tasks_in("waiting"), tasks_in("constrained")
    executing, long_running = tasks_in("executing"), tasks_in("long-running")
    in_flight_tasks, missing_dep_flight = tasks_in("flight"), tasks_in("missing")


class MemoryManager(WorkerMemoryManager):
    """The node watches the memory; what user code sets here is passed on to it."""

    LIMITS = {
        "memory_target_fraction": "target",
        "memory_spill_fraction": "spill",
        "memory_pause_fraction": "pause",
        "max_spill": "max_spill",
        "memory_limit": "memory_limit",
    }
    tell = None

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in self.LIMITS and self.tell is not None:
            self.tell("limits", {ours: getattr(self, theirs) or None for theirs, ours in self.LIMITS.items()})


class Worker(StockWorker):
    """Says and hears everything through the node."""

    def __init__(self, hello: dict, home: Home, out):
        self.home, self.out, self.in_service = home, out, False
        super().__init__(
            hello["scheduler"],
            nthreads=hello["nthreads"],
            name=hello["name"],
            memory_limit=hello["memory_limit"],
            contact_address=hello["address"],
            local_directory=hello["local_directory"],
            resources=hello["resources"],
            security=security(hello["security"]),
            nanny=hello["nanny"],
            lifetime=hello["lifetime"],
            lifetime_stagger=hello["lifetime_stagger"],
            lifetime_restart=hello["lifetime_restart"],
            preload=hello["preload"],
            preload_argv=hello["preload_argv"],
            dashboard=False,
            data=Data(home),
            WorkerStateClass=FacadeState,
        )
        self.memory_manager.__class__ = MemoryManager
        self.memory_manager.tell = out
        self.id = hello["id"]
        self.state.address = hello["address"]
        self.state.actors = home.actors
        for name in ("heartbeat", "keep-alive", "find-missing", "memory_monitor"):
            self.periodic_callbacks.pop(name, None)
        tick = self.periodic_callbacks["tick"]
        tick.callback_time = max(tick.callback_time, TICK_S * 1e3)
        # Looks at the threads for profiles, but only while there are runs. None: profiles are switched off.
        self.looker = self.periodic_callbacks.pop("profile", None)
        self.looking, self.idle_looks = self.looker is None, 0

    address = property(lambda self: self.contact_address)
    address_safe = property(lambda self: self.contact_address)

    async def start_unsafe(self):
        await self.rpc.start()
        self.ip = self.contact_address.split("://")[-1].rsplit(":", 1)[0]
        await self.preloads.start()
        self._status = Status.running  # not the property: the node tells the scheduler
        self.start_periodic_callbacks()
        self.in_service = True
        return self

    def a_run_begins(self):
        """In the run's thread, after the run is among the active ones."""
        if not self.looking:
            self.looking = True
            self.loop.add_callback(self.looker.start)

    def trigger_profile(self):
        if self.active_threads:
            self.idle_looks = 0
            return super().trigger_profile()
        self.idle_looks += 1
        if self.idle_looks > IDLE_LOOKS:
            self.idle_looks = 0
            self.looker.stop()
            self.looking = False
            if self.active_threads:  # it began in between, and saw that threads are being looked at
                self.a_run_begins()

    def loop_delay(self):
        """The mean time between ticks, as a worker of Dask's measures it with ticks every 20 ms. Unit: seconds."""
        usual = self.periodic_callbacks["tick"].callback_time / 1e3
        return self._tick_interval + max(0.0, self._tick_interval_observed - usual)

    def batched_send(self, msg):
        """Up the stream to the scheduler: `log-event`, and whatever plugins say."""
        if self.in_service:
            head, *frames = protocol.dumps(msg, context=CONTEXT)
            self.out("send", head, frames=frames)

    def _send_worker_status_change(self, stimulus_id):
        if self.in_service:
            self.out("status", self._status.name)

    def handle_stimulus(self, *stims):
        for stim in stims:
            if not isinstance(stim, (PauseEvent, SecedeEvent, UnpauseEvent)):  # the node knows of these already
                logger.warning("%s was given to the worker's state, which rask keeps elsewhere: no effect", type(stim).__name__)

    async def set_resources(self, **resources):
        self.state.total_resources.update(resources)
        self.out("resources", dict(resources))
        await self.scheduler.set_resources(resources=self.state.total_resources, worker=self.contact_address)

    def tell_subscription(self):
        wanted = any(
            isinstance(plugin, WorkerPlugin) and type(plugin).transition is not WorkerPlugin.transition
            for plugin in self.plugins.values()
        )
        self.out("subscribed", wanted)

    async def plugin_add(self, plugin, name=None, catch_errors=True):
        reply = await super().plugin_add(plugin, name, catch_errors)
        self.tell_subscription()
        return reply

    async def plugin_remove(self, name):
        reply = await super().plugin_remove(name)
        self.tell_subscription()
        return reply

    def update_data(self, data, stimulus_id=None, **kwargs):
        """Values that come to be here without a run: scattered in a task, or gathered for the scheduler."""
        sizes = {}
        for key, value in data.items():
            self.home.keep(key, value, self.home.stamp)
            sizes[key] = size_of(value)
        # Answered when the node knows them: others may ask for them as soon as the scheduler does.
        self.home.asked("held", [(key, size) for key, size in sizes.items()])
        return {"nbytes": sizes, "status": "OK"}

    async def close(self, timeout=30, executor_wait=True, nanny=True, reason="worker-close"):
        self.out("close", reason, not nanny)  # the node closes, and then ends this process
        return "OK"

    async def wind_up(self, reason):
        """The node has left the cluster."""
        self.in_service = False
        if self.looker is not None:
            self.looker.stop()
        self._status = Status.running  # Dask's own way through its states
        await super().close(timeout=2, executor_wait=False, nanny=False, reason=reason)


# What the facade replaces, with parameters that it counts on. Names of Dask's that are not public may go any day.
REPLACED = {
    "start_unsafe": (),
    "batched_send": ("msg",),
    "_send_worker_status_change": ("stimulus_id",),
    "handle_stimulus": ("stims",),
    "update_data": ("data",),
    "plugin_add": ("plugin", "name", "catch_errors"),
    "plugin_remove": ("name",),
    "digest_metric": ("name", "value"),
    "handle_comm": ("comm",),
    "trigger_profile": (),
}


# What a class of users' own may not replace: the node does it, and theirs would have no effect.
OF_THE_NODE = frozenset(
    "start_unsafe batched_send _send_worker_status_change handle_stimulus update_data execute gather_dep get_data "
    "heartbeat get_metrics query_who_has retry_busy_worker_later _register_with_scheduler free_keys".split()
)


def of_class(name: str | None) -> tuple[type, str | None]:
    """The facade with what users' class of this name adds to `distributed.Worker`, or why there is none."""
    if not name:
        return Worker, None
    theirs = import_term(name)
    if theirs is StockWorker:
        return Worker, None
    if not (isinstance(theirs, type) and issubclass(theirs, StockWorker)):
        return Worker, f"{name} is no subclass of distributed.Worker"
    added = theirs.__mro__[: theirs.__mro__.index(StockWorker)]
    replaced = sorted(OF_THE_NODE & {attribute for klass in added for attribute in vars(klass)})
    if replaced:
        return Worker, f"{name} replaces {', '.join(replaced)}"
    return type(theirs.__name__, (Worker, theirs), {"__module__": theirs.__module__, "__doc__": theirs.__doc__}), None


def unfit() -> str | None:
    """Why the facade cannot be made of this Dask."""
    for name, parameters in REPLACED.items():
        there = getattr(StockWorker, name, None)
        known = () if there is None else inspect.signature(there).parameters
        if there is None or any(parameter not in known for parameter in parameters):
            return f"Worker.{name} of distributed {distributed.__version__} is not as expected"
    return None


def settings() -> dict:
    """Dask's configuration, as far as it is the node's business."""
    get = dask.config.get

    def fraction(name):
        value = get(name, False)
        return float(value) if value not in (False, None) else 0.0

    def count(name):
        value = get(name, 0)
        return int(value) if value not in (False, None) else 0

    from dask.utils import parse_bytes, parse_timedelta

    max_spill = get("distributed.worker.memory.max-spill", False)
    return {
        "incoming": count("distributed.worker.connections.incoming"),
        "outgoing": count("distributed.worker.connections.outgoing"),
        "message_bytes": parse_bytes(get("distributed.worker.transfer.message-bytes-limit", "50MB")),
        "default_size": parse_bytes(get("distributed.scheduler.default-data-size", "1kiB")),
        "transfer": fraction("distributed.worker.memory.transfer"),
        "target": fraction("distributed.worker.memory.target"),
        "spill": fraction("distributed.worker.memory.spill"),
        "max_spill": None if max_spill in (False, None) else parse_bytes(max_spill),
        "pause": fraction("distributed.worker.memory.pause"),
        "terminate": fraction("distributed.worker.memory.terminate"),
    }
