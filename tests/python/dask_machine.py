"""Dask's own worker state machine as a reference: events in, what it asks for out.

Dask iterates sets of tasks in an order that changes with each process, so some of its choices are arbitrary. Here its
sets iterate in order of creation, its heaps forget what was removed from them, and its dice always show 0: each choice
is one that Dask could have made, and the same one each time. Nothing else of it is touched.
"""

from __future__ import annotations

import heapq
import itertools
import traceback
from contextlib import contextmanager

import distributed.worker_state_machine as wsm
from distributed.sizeof import safe_sizeof

ADDRESS = "tcp://10.0.0.1:1"
VALUE = 7
VALUE_SIZE = safe_sizeof(VALUE)
BUSY_RETRY_US = 150_000
MISSING_EVERY_US = 1_000_000
RUNNING = ("executing", "long-running")

created = itertools.count()


class OrderedSet(set):
    """Iterates over tasks in order of creation."""

    def __iter__(self):
        return iter(sorted(set.__iter__(self), key=lambda ts: ts.serial))


class OrderedTask(wsm.TaskState):
    __slots__ = ("serial",)

    def __post_init__(self):
        super().__post_init__()
        self.serial = next(created)
        self.dependencies = OrderedSet()
        self.dependents = OrderedSet()
        self.waiting_for_data = OrderedSet()
        self.waiters = OrderedSet()


class TidyHeapSet(wsm.HeapSet):
    """What is discarded and added again takes its place anew (in Dask it may keep the old one)."""

    def discard(self, value):
        if value in self._data:
            super().discard(value)
            self._heap = [entry for entry in self._heap if entry[2]() is not value]
            heapq.heapify(self._heap)

    def __iter__(self):
        return iter(sorted(self._data, key=lambda ts: ts.serial))


class OrderedTransfers(dict):
    """Keys of a transfer in order of creation of their tasks."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def __setitem__(self, worker, keys):
        super().__setitem__(worker, sorted(keys, key=lambda key: self.state.tasks[key].serial))


class NoChance:
    def random(self):
        return 0.0


class Transitions:
    """A worker plugin that writes down what it is told."""

    def __init__(self):
        self.seen = []

    def transition(self, key, start, finish, **kwargs):
        self.seen.append((key, start, finish))


@contextmanager
def fixed_order():
    """Within it, machines make the same choices each time."""
    before = wsm.TaskState, wsm.HeapSet
    wsm.TaskState, wsm.HeapSet = OrderedTask, TidyHeapSet
    try:
        yield
    finally:
        wsm.TaskState, wsm.HeapSet = before


class Raised(Exception):
    """Dask's machine raised: its worker would have died."""

    def __init__(self, why):
        chain = [why]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        root = chain[-1]
        frames = [frame for frame in traceback.extract_tb(root.__traceback__) if frame.filename == wsm.__file__]
        self.kind = type(root).__name__, frames[-1].name if frames else ""
        super().__init__(f"{self.kind}: {root}")


class DaskMachine:
    """A `WorkerState` with a clock, and with memory of which runs and transfers it has asked for."""

    def __init__(self, config):
        self.now = 0
        self.plugin = Transitions()
        limit = lambda name: config.get(name, float("inf"))  # noqa: E731
        self.state = ws = wsm.WorkerState(
            nthreads=config["slots"],
            address=ADDRESS,
            resources=dict(config.get("resources", ())),
            plugins={"transitions": self.plugin},
            transfer_incoming_count_limit=config.get("incoming_count_max", 9999),
            transfer_incoming_bytes_limit=limit("incoming_bytes_max"),
            transfer_message_bytes_limit=limit("message_bytes_max"),
            validate=False,
        )
        ws.transfer_incoming_bytes_throttle_threshold = config.get("throttle_from_bytes", 10_000_000)
        ws.rng = NoChance()
        ws.in_flight_workers = OrderedTransfers(ws)
        self.busy = {}  # peer -> when it is asked again
        self.ask_missing_at = None
        self.runs = {}  # key -> run number that its execution began with
        self.transfers = {}  # peer -> bytes

    def deadline(self):
        return min([*self.busy.values(), *([self.ask_missing_at] if self.ask_missing_at else ())], default=None)

    def applies(self, event):
        """Whether the event can happen now: a run or a transfer ends only if there is one."""
        match event:
            case ("ended", key, *_) | ("seceded", key):
                return key in self.runs
            case ("fetched" | "fetch-busy" | "fetch-broken" | "fetch-failed", peer, *_):
                return peer in self.transfers
            case _:
                return True

    def step(self, now, event):
        """Returns messages, moves and state after the event. Raises `Raised`."""
        self.now = now
        self.plugin.seen = []
        # Read before the step: what runs now may have ended after it.
        try:
            instructions = [i for ev in self.translate(event) for i in self.state.handle_stimulus(ev)]
        except Exception as why:
            raise Raised(why) from why
        effects = [effect for i in instructions if (effect := self.effect(i))]
        if not self.state.missing_dep_flight:
            self.ask_missing_at = None
        elif self.ask_missing_at is None:
            self.ask_missing_at = now + MISSING_EVERY_US
        return effects, self.plugin.seen, self.summary()

    def summary(self):
        ws = self.state
        return {
            "phases": {key: ts.state for key, ts in ws.tasks.items()},
            "held_bytes": ws.nbytes,
            "incoming_bytes": ws.transfer_incoming_bytes,
            "incoming_count": ws.transfer_incoming_count,
            "available": {name: float(left) for name, left in ws.available_resources.items()},
            "deadline": self.deadline(),
        }

    def effect(self, instruction):
        match instruction:
            case wsm.Execute(key=key):
                self.runs[key] = run = self.state.tasks[key].run_id
                return "execute", key, run
            case wsm.GatherDep(worker=peer, to_gather=keys, total_nbytes=size):
                self.transfers[peer] = size
                return "fetch", peer, sorted(keys), size
            case wsm.RetryBusyWorkerLater(worker=peer):
                self.busy[peer] = self.now + BUSY_RETRY_US
                return None
            case wsm.TaskFinishedMsg(key=key, run_id=run, nbytes=size):
                return "task-finished", key, run, size
            case wsm.TaskErredMsg(key=key, run_id=run):
                return "task-erred", key, run
            case wsm.ReleaseWorkerDataMsg(key=key):
                return "release-worker-data", key
            case wsm.AddKeysMsg(keys=keys):
                return "add-keys", sorted(keys)
            case wsm.RescheduleMsg(key=key):
                return "reschedule", key
            case wsm.LongRunningMsg(key=key, run_id=run, compute_duration=secs):
                return "long-running", key, run, secs
            case wsm.StealResponseMsg(key=key, state=state, stimulus_id=stimulus):
                return "steal-response", key, state, stimulus
            case wsm.RequestRefreshWhoHasMsg(keys=keys):
                return "request-refresh-who-has", sorted(keys)
        raise TypeError(instruction)

    def translate(self, event):
        """Dask's events for one of ours."""
        s = {"stimulus_id": "s"}
        match event:
            case ("compute", key, run, priority, inputs, resources, actor):
                yield wsm.ComputeTaskEvent(
                    key=key,
                    run_id=run,
                    who_has={name: list(holders) for name, (_, holders) in inputs.items()},
                    nbytes={name: size for name, (size, _) in inputs.items()},
                    priority=tuple(priority),
                    run_spec=None,
                    resource_restrictions=dict(resources),
                    actor=actor,
                    annotations={},
                    span_id=None,
                    **s,
                )
            case ("free-keys", keys):
                yield wsm.FreeKeysEvent(keys=keys, **s)
            case ("remove-replicas", keys):
                yield wsm.RemoveReplicasEvent(keys=keys, **s)
            case ("acquire-replicas", inputs):
                who_has = {name: list(holders) for name, (_, holders) in inputs.items()}
                yield wsm.AcquireReplicasEvent(
                    who_has=who_has, nbytes={name: size for name, (size, _) in inputs.items()}, **s
                )
            case ("steal-request", key, stimulus):
                yield wsm.StealRequestEvent(key=key, stimulus_id=stimulus)
            case ("cancel-compute", key):
                yield wsm.CancelComputeEvent(key=key, **s)
            case ("refresh-who-has", holders):
                yield wsm.RefreshWhoHasEvent(who_has=holders, **s)
            case ("remove-worker", peer):
                yield wsm.RemoveWorkerEvent(worker=peer, **s)
            case ("set-running", running):
                yield wsm.UnpauseEvent(**s) if running else wsm.PauseEvent(**s)
            case ("ended", key, "success", size):
                run = self.runs.pop(key)
                yield wsm.ExecuteSuccessEvent(
                    key=key, run_id=run, value=VALUE, start=0.0, stop=1.0, nbytes=size, type=int, **s
                )
            case ("ended", key, "failure"):
                yield wsm.ExecuteFailureEvent.dummy(key, run_id=self.runs.pop(key), **s)
            case ("ended", key, "reschedule"):
                self.runs.pop(key)
                yield wsm.RescheduleEvent(key=key, **s)
            case ("seceded", key):
                yield wsm.SecedeEvent(key=key, compute_duration=1.0, **s)
            case ("fetched", peer, keys):
                size = self.transfers.pop(peer)
                yield wsm.GatherDepSuccessEvent(worker=peer, total_nbytes=size, data=dict.fromkeys(keys, VALUE), **s)
            case ("fetch-busy", peer):
                yield wsm.GatherDepBusyEvent(worker=peer, total_nbytes=self.transfers.pop(peer), **s)
            case ("fetch-broken", peer):
                yield wsm.GatherDepNetworkFailureEvent(worker=peer, total_nbytes=self.transfers.pop(peer), **s)
            case ("fetch-failed", peer):
                size = self.transfers.pop(peer)
                yield wsm.GatherDepFailureEvent.from_exception(ValueError(), worker=peer, total_nbytes=size, **s)
            case ("scattered", keys):
                yield wsm.UpdateDataEvent(data=dict.fromkeys(keys, VALUE), **s)
            case ("tick",):
                for peer in sorted(peer for peer, until in self.busy.items() if until <= self.now):
                    del self.busy[peer]
                    yield wsm.RetryBusyWorkerEvent(worker=peer, **s)
                if self.ask_missing_at is not None and self.ask_missing_at <= self.now:
                    self.ask_missing_at = self.now + MISSING_EVERY_US
                    yield wsm.FindMissingEvent(**s)
            case _:
                raise ValueError(event)
