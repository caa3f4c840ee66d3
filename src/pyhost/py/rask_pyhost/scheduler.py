"""The scheduler as functions, plugins and preloaded modules see it."""

from __future__ import annotations

import inspect
import os
import sys
from collections import deque

import distributed
from distributed.core import Status
from distributed.protocol import pickle

from .asking import OPERATIONS, known, operation
from .views import Monitor, Tasks, View, task_view, worker_view
from .wire import plain

__name__ = "__main__"  # What is defined here travels whole: see `__init__.py`.


class SchedulerView(View):
    """What functions, key functions and plugins get as ``dask_scheduler``. It outlives calls, so users may keep
    things on it; each call brings a fresh snapshot."""

    def __init__(self):
        super().__init__("scheduler", {})
        self.__dict__.update(plugins={}, actions=[], files={}, workers={}, tasks=Tasks(), clients={})
        self.__dict__.update(status=Status.running, address=None, id=None, monitor=Monitor({}), loop=None)
        self.__dict__.update(task_groups={}, task_prefixes={}, computations=[], cumulative_worker_metrics={})
        self.__dict__.update(periodic_callbacks={}, validate=False, starting=False)
        self.__dict__.update(transition_log=deque(maxlen=100_000), transition_counter=0)
        self.__dict__["handlers"] = {op: operation(self, name) for name, op in OPERATIONS.items() if known(name)}
        self.__dict__["stream_handlers"] = {}
        self.__dict__["extensions"] = {name: View(f"extension {name!r}", {}) for name in EXTENSIONS}
        self.__dict__["_offered"] = dict(self.handlers)
        self.__dict__["_told"] = ([], [])

    def __getattr__(self, name):
        if name in OPERATIONS and known(name):
            return operation(self, name)
        return super().__getattr__(name)

    def refresh(self, snapshot):
        if not snapshot:
            return
        fields = dict(snapshot)
        before = self.tasks
        workers = {address: worker_view(address, told) for address, told in (fields.pop("workers", None) or {}).items()}
        tasks = Tasks((key, task_view(key, told)) for key, told in (fields.pop("tasks", None) or {}).items())
        clients = {name: View("client", {"client_key": name}) for name in fields.pop("clients", None) or {}}
        for worker in workers.values():
            worker.processing = {tasks[key]: 0.0 for key in worker.processing if key in tasks}
            worker.has_what = {tasks[key]: None for key in worker.has_what if key in tasks}
        for task in tasks.values():
            for name in ("dependencies", "dependents", "waiting_on", "waiters"):
                setattr(task, name, {tasks[key] for key in task.__dict__.get(name) or () if key in tasks})
            task.who_has = {workers[address] for address in task.__dict__.get("who_has") or () if address in workers}
            task.processing_on = workers.get(task.__dict__.get("processing_on"))
        self.group(tasks)
        self.extend(fields.pop("coordination", None) or ())
        self.__dict__["computations"] = [View("computation", told) for told in fields.pop("computations", None) or ()]
        metrics = fields.pop("cumulative_worker_metrics", None) or {}
        self.__dict__["cumulative_worker_metrics"] = {tuple(name.split("|")): value for name, value in metrics.items()}
        self.__dict__["monitor"] = Monitor(fields.pop("monitor", None) or {})
        status = fields.pop("status", None)
        if status:
            self.__dict__["status"] = Status[status]
        fields.pop("plugins", None)
        told = ((key, *rest) for key, *rest in fields.pop("transition_log", None) or ())
        self.__dict__["transition_log"] = deque(told, maxlen=self.transition_log.maxlen)
        self.__dict__.update(fields, workers=workers, tasks=tasks, clients=clients)
        return before

    def group(self, tasks):
        """Groups and prefixes of the tasks that are shown."""
        groups: dict = {}
        prefixes: dict = {}
        for task in tasks.values():
            prefix = prefixes.get(task.prefix_key)
            if prefix is None:
                prefix = View("task prefix", {"name": task.prefix_key, "groups": [], "states": {}})
                prefixes[task.prefix_key] = prefix
            group = groups.get(task.group_key)
            if group is None:
                fields = {"name": task.group_key, "prefix": prefix, "states": {}, "nbytes_total": 0}
                group = groups[task.group_key] = View("task group", fields)
                prefix.groups.append(group)
            for states in (group.states, prefix.states):
                states[task.state] = states.get(task.state, 0) + 1
            group.nbytes_total += max(0, task.nbytes)
            task.prefix, task.group = prefix, group
        self.__dict__.update(task_groups=groups, task_prefixes=prefixes)

    def extend(self, coordination):
        """What Dask's own extensions hold, by name."""
        for extension, (field, kind) in HOLDS.items():
            view = self.extensions.get(extension)
            if isinstance(view, View):
                held = {name: told for of, name, told in coordination if of == kind}
                view.__dict__[field] = held

    def take_actions(self):
        """What the real scheduler is to do now that the call has ended."""
        own = [name for name, handler in self.handlers.items() if self._offered.get(name) is not handler]
        told = (own, list(self.stream_handlers))
        if told != self._told:
            self.__dict__["_told"] = told
            self.actions.append(["operations", *told])
        actions, self.__dict__["actions"] = self.actions, []
        return actions

    def workers_with(self, status):
        return {worker for worker in self.workers.values() if worker.status == status}

    @property
    def running(self):
        return self.workers_with(Status.running)

    @property
    def idle(self):
        return {worker.address: worker for worker in self.running if not worker.processing}

    @property
    def aliases(self):
        return {worker.name: address for address, worker in self.workers.items()}

    @property
    def unrunnable(self):
        return {task: 0.0 for task in self.tasks.values() if task.state == "no-worker"}

    @property
    def stream_comms(self):
        """Who has a stream; what is sent on it is up to the real scheduler."""
        return {address: View("stream", {"address": address}) for address in self.workers}

    @property
    def client_comms(self):
        return {name: View("stream", {"address": name}) for name in self.clients if name.startswith("Client-")}

    @property
    def host_info(self):
        hosts: dict = {}
        for address, worker in self.workers.items():
            host = hosts.setdefault(worker.host, {"addresses": set(), "nthreads": 0})
            host["addresses"].add(address)
            host["nthreads"] += worker.nthreads
        return hosts

    @property
    def is_idle(self):
        unfinished = ("waiting", "queued", "no-worker", "processing")
        return all(task.state not in unfinished for task in self.tasks.values())

    @property
    def queued(self):
        return {task for task in self.tasks.values() if task.state == "queued"}

    @property
    def n_tasks(self):
        return len(self.tasks)

    @property
    def total_memory(self):
        return sum(worker.memory_limit or 0 for worker in self.workers.values())

    @property
    def events(self):
        return self.get_events()

    async def finished(self):
        """Dask's scheduler waits here until it is closed; what was asked to close need not be waited for."""

    async def register_scheduler_plugin(self, plugin, name=None, idempotent=None):
        plugin = pickle.loads(plugin) if isinstance(plugin, bytes) else plugin
        await settle(plugin.start(self))
        self.add_plugin(plugin, idempotent=bool(idempotent), name=name)

    async def unregister_scheduler_plugin(self, name):
        self.remove_plugin(name)

    def versions(self):
        return distributed.versions.get_versions()

    @property
    def total_nthreads(self):
        return sum(worker.nthreads for worker in self.workers.values())

    @property
    def total_occupancy(self):
        return sum(worker.__dict__.get("occupancy", 0.0) for worker in self.workers.values())

    @property
    def task_count(self):
        return len(self.tasks)

    def log_event(self, topic, msg):
        """Passed on to the real scheduler when the call ends."""
        self.actions.append(["log_event", plain(topic), plain(msg)])

    def add_plugin(self, plugin, *, idempotent=False, name=None, **kwargs):
        name = name or plugin_name(plugin)
        if not (idempotent and name in self.plugins):
            self.plugins[name] = plugin
            self.actions.append(["add_plugin", name, hooks_of(plugin)])

    def remove_plugin(self, name=None, plugin=None):
        # Older code hands the plugin itself over.
        wanted = plugin if plugin is not None else name
        found = [known for known, kept in self.plugins.items() if known == name or kept is wanted]
        if not found:
            raise ValueError(f"Could not find plugin {name!r} among the current scheduler plugins")
        del self.plugins[found[0]]
        self.actions.append(["remove_plugin", found[0], None])

    async def upload_file(self, filename, data, load=True):
        """Known to the other processes too, once the call ends."""
        self.files[filename] = (data, load)
        return import_file(filename, data, load)


# Dask's own extensions, and where those that are shown keep what they hold.
EXTENSIONS = ("amm", "events", "locks", "memory_sampler", "multi_locks", "publish", "queues", "semaphores", "shuffle")
EXTENSIONS += ("spans", "stealing", "variables")
HOLDS = {
    "events": ("events", "event"),
    "locks": ("locks", "lock"),
    "publish": ("datasets", "dataset"),
    "queues": ("queues", "queue"),
    "semaphores": ("leases", "semaphore"),
    "variables": ("variables", "variable"),
}


def import_file(filename, data, load):
    """Source: ``distributed/scheduler.py``, ``Scheduler.upload_file``."""
    folder = os.path.join(os.environ.get("RASK_PYHOST_FILES") or os.getcwd(), "uploads")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, os.path.basename(filename))
    part = f"{path}.{os.getpid()}.part"
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if load:
        distributed.utils.import_file(path)
    return {"status": "OK", "nbytes": len(data)}


async def settle(value):
    return await value if inspect.isawaitable(value) else value


WITH_SCHEDULER = {"update_graph", "restart", "add_worker", "remove_worker", "add_client", "remove_client"}
WITH_SCHEDULER.add("valid_workers_downscaling")
HOOKS = WITH_SCHEDULER | {"start", "before_close", "close", "transition", "log_event"}


def plugin_name(plugin) -> str:
    """Source: ``distributed/diagnostics/plugin.py``, ``_get_plugin_name``."""
    return getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}"


def hooks_of(plugin) -> list[str]:
    """The hooks that the class does more in than its base: only those are worth a message."""
    base = distributed.diagnostics.plugin.SchedulerPlugin
    return sorted(name for name in HOOKS if getattr(type(plugin), name, None) is not getattr(base, name, None))
