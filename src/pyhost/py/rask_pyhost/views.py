"""What user code sees of workers, tasks and the like: values from a snapshot of the real scheduler."""

from __future__ import annotations

from dask.utils import key_split
from distributed.core import Status
from distributed.scheduler import MemoryState

__name__ = "__main__"  # What is defined here travels whole: see `__init__.py`.


class NotOffered(AttributeError):
    """User code wants more of the scheduler than rask shows."""


class View:
    """Named values from a snapshot. What rask does not show is an AttributeError that says so."""

    def __init__(self, what: str, fields: dict):
        self.__dict__.update(fields)
        self.__dict__["_what"] = what

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotOffered(f"rask does not offer {name!r} on the {self.__dict__['_what']} that functions see")

    def __repr__(self):
        return f"<{self._what} {getattr(self, 'address', None) or self.__dict__.get('key', '')!r}>"


class WorkerView(View):
    """As much of ``WorkerState`` as a snapshot tells."""

    def __hash__(self):
        return hash(self.address)

    def __eq__(self, other):
        return isinstance(other, WorkerView) and self.address == other.address

    def identity(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_what", "processing")}

    @property
    def memory(self):
        spilled = (self.metrics.get("spilled_bytes") or {}).get("disk", 0)
        process = self.metrics.get("memory", 0)
        return MemoryState(process=process, unmanaged_old=0, managed=max(0, self.nbytes - spilled), spilled=spilled)


class TaskView(View):
    """As much of ``TaskState`` as a snapshot tells."""

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return isinstance(other, TaskView) and self.key == other.key


class Tasks(dict):
    """The tasks of a snapshot. While plugins are told of transitions there are also those that were forgotten since."""

    told: dict | None = None

    def __missing__(self, key):
        if self.told is None or key not in self.told:
            raise KeyError(key)
        told = self.told[key]
        if told is None:
            name = key_split(key)
            group = View("task group", {"name": name, "states": {}, "prefix": View("task prefix", {"name": name})})
            fields = {"prefix": group.prefix, "prefix_key": name, "group": group, "group_key": name}
            told = self.told[key] = task_view(key, {**fields, "state": "forgotten"})
        return told


class Monitor:
    """``Scheduler.monitor``: how many samples were taken."""

    def __init__(self, fields):
        self.count = fields.get("count", 0)


def worker_view(address, told) -> WorkerView:
    fields = {"address": address, "name": address, "nthreads": 1, "resources": {}, "metrics": {}, "nbytes": 0}
    fields.update(memory_limit=0, occupancy=0.0, host=None, processing=(), has_what=(), extra={}, status="running")
    fields.update(told)
    fields["status"] = Status[fields["status"]] if isinstance(fields["status"], str) else fields["status"]
    return WorkerView("worker", fields)


def task_view(key, told) -> TaskView:
    fields = {"key": key, "state": "released", "nbytes": -1, "priority": None, "annotations": {}}
    fields.update({"prefix_key": None, "group_key": None}, **told)
    return TaskView("task", fields)
