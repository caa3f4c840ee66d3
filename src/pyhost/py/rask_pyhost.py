"""The Python side of a rask scheduler.

Reads requests on standard input and answers on standard output, one at a time, in Dask's own framing. What users
send is only ever run here. Needs the standard library, dask and distributed; Python 3.10 or newer.

A request is ``{"id", "op", "body"}``; an answer ``{"id", "ok": True, "result"}``, or ``{"id", "ok": False, "kind",
"exception", "traceback", "exception_text", "traceback_text"}``.
"""

from __future__ import annotations

import os
import sys


def take_pipes() -> tuple[int, int]:
    """Move the pipes to the parent out of reach: user code prints and reads while it is being unpickled."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone, even while it hangs. Linux only."""
    parent = int(os.environ.pop("RASK_PYHOST_PARENT", "0"))
    if not parent or not sys.platform.startswith("linux"):
        return
    try:
        import ctypes
        import signal

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    except Exception as error:  # a libc without prctl: the end of the pipe still ends us
        print(f"rask pyhost: cannot follow its parent: {error}", file=sys.stderr)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    PIPES = take_pipes()
    die_with_parent()
    # Graphs name modules in the folder they were started from; ours holds nothing to import. It comes last, as for the
    # workers: a json.py that lies there must not replace Python's.
    del sys.path[0]
    sys.path.append(os.getcwd())

import asyncio
import contextlib
import functools
import importlib
import inspect
import io
import numbers
import signal
import struct
import textwrap
import threading
import traceback

try:
    import dask
    import distributed
    import msgpack
    from dask._task_spec import Alias, GraphNode, Task, TaskRef, _execute_subgraph, convert_legacy_graph
    from dask.utils import is_namedtuple_instance, key_split
    from distributed.core import Status, error_message
    from distributed.protocol import pickle
    from distributed.protocol.core import dumps, loads
    from distributed.protocol.compression import decompress
    from distributed.protocol.serialize import Pickled, Serialized, ToPickle, merge_and_deserialize, to_serialize
    from distributed.protocol.utils import msgpack_opts
    from distributed.scheduler import MemoryState
    from distributed.utils import ensure_memoryview
except ImportError as error:
    print(f"rask pyhost: {sys.executable} cannot import dask and distributed: {error}", file=sys.stderr)
    if __name__ == "__main__":
        sys.stderr.flush()
        os._exit(3)
    raise


# ---------------------------------------------------------------------------------------------- frames


def read_exactly(file, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError
    return data


def read_frames(file) -> list[bytes]:
    """One message. The total length that comes first says nothing we need."""
    _, count = struct.unpack("<QQ", read_exactly(file, 16))
    lengths = struct.unpack(f"<{count}Q", read_exactly(file, 8 * count))
    return [read_exactly(file, length) for length in lengths]


def write_frames(file, frames) -> None:
    frames = [ensure_memoryview(frame) for frame in frames]
    lengths = [frame.nbytes for frame in frames]
    total = 8 + 8 * len(frames) + sum(lengths)
    file.write(struct.pack(f"<QQ{len(frames)}Q", total, len(frames), *lengths))
    for frame in frames:
        file.write(frame)
    file.flush()


# ---------------------------------------------------------------------------------------------- values


class Known(Exception):
    """An error with a kind of its own; the cause is what the user is told."""

    def __init__(self, kind: str, cause: BaseException):
        super().__init__(kind)
        self.kind = kind
        self.cause = cause


def pickled(value) -> Pickled:
    """A payload whose pickle and buffers can be read without Python: never compressed."""
    buffers: list = []
    body = pickle.dumps(value, buffer_callback=lambda buffer: buffers.append(ensure_memoryview(buffer)))
    return Pickled({"pickled-obj": body, "compression": [None] * len(buffers)}, buffers)


def plain(value):
    """The value if msgpack can say it, else its pickle."""
    if isinstance(value, (set, frozenset)):
        value = list(value)
    try:
        msgpack.packb(value, use_bin_type=True)
        return value
    except Exception:
        return ToPickle(value)


def payload(serialized: Serialized):
    """What a payload holds, whatever way it was packed."""
    header, frames = serialized.header, serialized.frames
    if "compression" in header:
        frames = decompress(header, frames)
    if "pickled-obj" in header:
        return pickle.loads(header["pickled-obj"], buffers=frames)
    return merge_and_deserialize(header, frames)


# ---------------------------------------------------------------------------------------------- graphs

DESERIALIZING = """\
    Error during deserialization of the task graph. This frequently
    occurs if the Scheduler and Client have different environments.
    For more information, see
    https://docs.dask.org/en/stable/deployment-considerations.html#consistent-software-environments
"""


def op_graph(host, body):
    """Materialise a graph. Source: ``distributed/scheduler.py``, ``update_graph``."""
    expr = load_expression(body["expr"])
    with same_steps(body.get("check")):
        dsk, by_type = materialize(expr)
    if type(expr).__name__ == "LLGExpr":
        dsk = cull(dsk, body["keys"])
    del expr
    everywhere = payload(body["annotations"]) if body.get("annotations") is not None else {}
    table, annotated = annotate(dsk, everywhere or {}, by_type)
    return {
        "nodes": pickled(dsk),
        "annotations": table,
        "annotated": annotated,
        "shuffles": shuffles(dsk),
    }


@contextlib.contextmanager
def same_steps(check):
    """To be compared with rask's reading, what Dask leaves to the order of its sets is done in rask's order: which of
    the tasks of a bag is met first, which decides what is fused."""
    core = sys.modules.get("dask.bag.core") if check else None
    if core is None:
        yield
        return
    theirs, core.cull = core.cull, cull_in_order
    try:
        yield
    finally:
        core.cull = theirs


def cull_in_order(dsk, keys):
    """Source: ``dask/_task_spec.py``, ``cull``."""
    if len(keys) == len(dsk):
        return dsk
    place = {key: at for at, key in enumerate(dsk)}
    stack, met = list(reversed(keys)), {}
    while stack:
        key = stack.pop()
        if key in dsk and key not in met:
            met[key] = dsk[key]
            needs = [need for need in dsk[key].dependencies if need in place]
            stack.extend(sorted(needs, key=place.__getitem__, reverse=True))
    return met


def load_expression(serialized):
    try:
        try:
            return payload(serialized)
        except ImportError:  # the module may have come after its folder was last looked at
            importlib.invalidate_caches()
            return payload(serialized)
    except Exception as error:
        told = RuntimeError(textwrap.dedent(DESERIALIZING))
        told.__cause__ = error
        raise Known("deserialize", told) from error


def op_vouch(host, body):
    """Load an expression as a worker would, if there is one, and tell what is known of names and of pickled objects."""
    if body.get("expr") is not None:
        load_expression(body["expr"])
    return {
        "verdicts": [verdict(module, name) for module, name in body["names"]],
        "roles": [roles(pickle.loads(data)) for data in body["objects"]],
        "fuses_delayed": bool(dask.config.get("optimization.fuse.delayed", False)),
    }


# Whatever pickles of these libraries call to rebuild their own objects does not fail.
LIBRARIES = {"cloudpickle", "cytoolz", "dask", "distributed", "numpy", "pandas", "pyarrow", "scipy", "tlz", "toolz"}
REBUILDERS = {"_codecs", "array", "collections", "copyreg", "datetime", "decimal", "fractions", "functools"}
REBUILDERS |= {"ipaddress", "pathlib", "pathlib._local", "types", "uuid", "zoneinfo"}
BUILTINS = {"bytearray", "bytes", "complex", "dict", "frozenset", "list", "object", "range", "set", "slice", "tuple"}
LOADING = {"__setstate__", "__new__", "__setattr__", "__setitem__", "append", "extend", "add", "update"}


def verdict(module: str, name: str):
    """None: it does not resolve. Else a number and the roles. 0: a class with a loading of its own; 1: it resolves;
    2: a pickle may call it, too; 3: its objects stand for results of tasks."""
    if "#" in name:  # a type of the interpreter, called with so many arguments: it was, just now
        return [2, *roles(object)]
    try:
        found = importlib.import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
    except Exception:
        return None
    return [trust(module, name, found), *roles(found, MAKERS.get((module, name)))]


def trust(module: str, name: str, found) -> int:
    if is_library(module) or module in REBUILDERS or (module == "builtins" and name in BUILTINS):
        return 2
    if not isinstance(found, type):
        return 1
    # Source: ``dask/_task_spec.py``, ``_is_dask_future``.
    if issubclass(found, TaskRef) or getattr(found, "__dask_future__", False):
        return 3
    return 0 if loads_itself(found) else 1


PLAIN, CALLABLE, NAMED_TUPLE, SPECIAL = range(4)
# What Dask looks into, or compares with keys. Source: ``dask/_task_spec.py``, ``convert_legacy_task``.
SPECIAL_CLASSES = (GraphNode, TaskRef, list, tuple, set, frozenset, dict, str, int, float, numbers.Number)
# What functions return that pickles call.
MAKERS = {
    ("cloudpickle.cloudpickle", "_builtin_type"): CALLABLE,
    ("cloudpickle.cloudpickle", "_make_function"): CALLABLE,
    ("cloudpickle.cloudpickle", "_make_skeleton_class"): CALLABLE,
    ("cloudpickle.cloudpickle", "subimport"): PLAIN,
    ("numpy._core.multiarray", "_reconstruct"): PLAIN,
    ("numpy._core.numeric", "_frombuffer"): PLAIN,
    ("numpy.core.multiarray", "_reconstruct"): PLAIN,
    ("numpy.core.numeric", "_frombuffer"): PLAIN,
}


def roles(found, makes=None):
    """What it is to the tuples that Dask takes for tasks, and what its instances are, if it is a class."""
    if isinstance(found, type) and makes is None:
        makes = role_of_instances(found)
    return [role(found), makes]


def role(found) -> int:
    if is_namedtuple_instance(found):
        return NAMED_TUPLE
    if isinstance(found, SPECIAL_CLASSES) or getattr(found, "__dask_future__", False):
        return SPECIAL
    return CALLABLE if callable(found) else PLAIN


def role_of_instances(cls: type) -> int:
    if issubclass(cls, tuple) and all(hasattr(cls, name) for name in NAMED_TUPLE_NAMES):
        return NAMED_TUPLE
    if issubclass(cls, SPECIAL_CLASSES) or getattr(cls, "__dask_future__", False):
        return SPECIAL
    return CALLABLE if issubclass(cls, type) or has_call(cls) else PLAIN


def has_call(cls: type) -> bool:
    return any("__call__" in base.__dict__ for base in cls.__mro__)


# Source: ``dask/utils.py``, ``is_namedtuple_instance``.
NAMED_TUPLE_NAMES = ("_make", "_asdict", "_replace", "_fields", "_field_defaults")


def is_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


def loads_itself(cls: type) -> bool:
    """Does loading one of its objects run code of its users, which may fail for one object and not for another?"""
    for base in cls.__mro__:
        if is_library(base.__module__) or base.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        if not LOADING.isdisjoint(base.__dict__) or base.__dict__.get("__hash__"):
            return True
    return False


def materialize(expr):
    if isinstance(expr, dict):
        return convert_legacy_graph(expr), {}
    dsk = expr.__dask_graph__()
    by_type: dict = {}
    for kind, values in expr.__dask_annotations__().items():
        by_type.setdefault(kind, {}).update(values)
    return convert_legacy_graph(dsk), by_type


def cull(dsk, keys):
    """What the keys need, and nothing else."""
    wanted, seen = {}, set()
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key in seen or key not in dsk:
            continue
        seen.add(key)
        wanted[key] = dsk[key]
        stack.extend(dsk[key].dependencies)
    return wanted


def annotate(dsk, everywhere, by_type):
    """A table of the annotation maps that occur, and which task has which. The first is everybody's."""
    common = {name: value for name, value in everywhere.items() if not callable(value)}
    table = [{name: annotation(name, value) for name, value in common.items()}]
    calls = {name: value for name, value in everywhere.items() if callable(value)}
    if not calls and not any(by_type.values()):
        return table, []
    places: dict = {}
    annotated = []
    for at, key in enumerate(dsk):
        own = {name: call(key) for name, call in calls.items()}
        own.update((name, values[key]) for name, values in by_type.items() if values.get(key) is not None)
        if not own:
            continue
        merged = {name: annotation(name, value) for name, value in {**common, **own}.items()}
        try:
            same = msgpack.packb(merged, use_bin_type=True)
        except Exception:
            same = object()
        place = places.setdefault(same, len(table))
        if place == len(table):
            table.append(merged)
        annotated.append((at, place))
    return table, annotated


def annotation(name, value):
    """Scheduling counts with numbers of any class: NumPy's, fractions, decimals. The rest stays as it is."""
    if name in ("priority", "retries", "resources"):
        value = {key: number(item) for key, item in value.items()} if isinstance(value, dict) else number(value)
    return plain(value)


def number(value):
    if isinstance(value, numbers.Number) and not isinstance(value, (bool, int, float, complex)):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def shuffles(dsk):
    """The barriers of P2P shuffles. Where no such class was imported, there are none."""
    core = sys.modules.get("distributed.shuffle._core")
    if core is None or not hasattr(core, "P2PBarrierTask"):
        return []
    found = []
    for at, node in enumerate(dsk.values()):
        if not isinstance(node, core.P2PBarrierTask):
            continue
        spec = node.spec
        told = {"id": str(spec.id), "spec": pickled(spec)}
        if hasattr(spec, "npartitions"):
            wanted = range(spec.parts_out) if isinstance(spec.parts_out, int) else spec.parts_out
            told.update(npartitions=int(spec.npartitions), parts_out=[int(part) for part in wanted])
        else:
            told.update(new_chunks=[len(axis) for axis in spec.new])
        found.append((at, told))
    return found


def op_compare(host, body):
    """How pickled tasks differ, two by two; None: they do not."""
    return {"differences": [difference(ours, theirs) for ours, theirs in body["pairs"]]}


def difference(ours, theirs):
    if type(ours) is not type(theirs):
        return f"{ours!r} for {theirs!r}"
    if isinstance(ours, GraphNode):
        if ours.key != theirs.key or ours.dependencies != theirs.dependencies:
            return f"{ours.key!r} of {sorted(map(str, ours.dependencies))} for {theirs.key!r}"
        if ours.data_producer != theirs.data_producer:
            return f"{ours.key!r} makes data, or does not"
        if isinstance(ours, Task):
            return difference(task_parts(ours), task_parts(theirs))
        return difference(getattr(ours, "value", None), getattr(theirs, "value", None))
    if type(ours) in (list, tuple):
        if len(ours) != len(theirs):
            return f"{len(ours)} items for {len(theirs)}"
        return next(filter(None, map(difference, ours, theirs)), None)
    if type(ours) is dict:
        return difference(list(ours), list(theirs)) or difference(list(ours.values()), list(theirs.values()))
    try:
        if bool(ours == theirs):
            return None
    except Exception:
        pass
    same = dask.base.tokenize(ours) == dask.base.tokenize(theirs) or repr(ours) == repr(theirs)
    return None if same else f"{ours!r} for {theirs!r}"


def task_parts(task):
    args = list(task.args)
    if task.func is _execute_subgraph:  # its inputs come in any order
        args[2:] = sorted(map(str, args[2])), sorted(map(str, args[3:]))
    if task.kwargs.get("typ") in (set, frozenset):
        args.sort(key=repr)
    return [task.func, args, task.kwargs]


# ---------------------------------------------------------------------------------------------- the scheduler, seen from user code


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


# ---------------------------------------------------------------------------------------------- asking the real scheduler

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


class SchedulerView(View):
    """What functions, key functions and plugins get as ``dask_scheduler``. It outlives calls, so users may keep
    things on it; each call brings a fresh snapshot."""

    def __init__(self):
        super().__init__("scheduler", {})
        self.__dict__.update(plugins={}, actions=[], files={}, workers={}, tasks=Tasks(), clients={})
        self.__dict__.update(status=Status.running, address=None, id=None, monitor=Monitor({}), loop=None)
        self.__dict__.update(task_groups={}, task_prefixes={}, computations=[], cumulative_worker_metrics={})
        self.__dict__.update(periodic_callbacks={}, validate=False, starting=False)
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
        return {task for task in self.tasks.values() if task.state == "no-worker"}

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


def known(method: str) -> bool:
    """Does this version of Dask have it?"""
    return hasattr(distributed.scheduler.Scheduler, method)


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
        raise ValueError("only a coroutine function can be run without waiting for it")
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


# ---------------------------------------------------------------------------------------------- plugins

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


# ---------------------------------------------------------------------------------------------- operations of users

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


# ---------------------------------------------------------------------------------------------- feeds


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


OPS = {name.removeprefix("op_"): value for name, value in list(globals().items()) if name.startswith("op_")}


# ---------------------------------------------------------------------------------------------- the process


class Host:
    """One process: the scheduler as its users see it, and the answering of requests."""

    def __init__(self):
        self.scheduler = SchedulerView()
        self.background: set = set()
        self.feeds: dict = {}
        self.feed_count = 0
        self.waiting: dict = {}
        self.waiting_count = 0
        self.preloads = None

    def keep(self, task):
        """A task nobody refers to may be collected before it ends."""
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def told(self, **result):
        """A result, with what the call asked the real scheduler to do and the files it uploaded."""
        files, self.scheduler.__dict__["files"] = self.scheduler.files, {}
        result["actions"] = self.scheduler.take_actions()
        result["files"] = [{"filename": name, "data": data, "load": load} for name, (data, load) in files.items()]
        return result

    async def answer(self, frames) -> list:
        number = serializers = None
        try:
            request = loads(frames, deserialize=False)
            number = request["id"]
            serializers = request["body"].get("serializers")  # what the asker can read, if not everything
            op = OPS.get(request["op"])
            if op is None:
                raise NotImplementedError(f"pyhost has no operation {request['op']!r}")
            result = await settle(op(self, request["body"]))
            return dumps({"id": number, "ok": True, "result": result}, serializers=serializers)
        except Known as error:
            return refusal(number, error.cause, error.kind)
        except Exception as error:
            return refusal(number, error, "raised", serializers)
        except BaseException as error:
            # Sent as it is, SystemExit would end the client.
            return refusal(number, RuntimeError(f"code sent to the scheduler raised {error!r}"), "exit")


def refusal(number, error, kind, serializers=None) -> list:
    told = error_message(error)
    told.pop("status", None)
    return dumps({"id": number, "ok": False, "kind": kind, **told}, serializers=serializers)


async def serve(requests, answers) -> None:
    """Answers until the parent closes the pipe. A thread reads, so that its end is noticed while user code hangs."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue = asyncio.Queue()
    host = Host()
    host.scheduler.__dict__["loop"] = loop

    def read():
        try:
            while True:
                loop.call_soon_threadsafe(inbox.put_nowait, read_frames(requests))
        except BaseException:
            sys.stderr.flush()
            os._exit(0)

    threading.Thread(target=read, name="rask-requests", daemon=True).start()
    while True:
        frames = await inbox.get()
        write_frames(answers, await host.answer(frames))
        del frames


def main() -> None:
    # An interrupt at the terminal reaches the whole group; our parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = PIPES
    asyncio.run(serve(io.open(requests, "rb"), io.open(answers, "wb")))


if __name__ == "__main__":
    main()
