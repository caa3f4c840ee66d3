"""Graphs: an expression becomes tasks, with their annotations."""

from __future__ import annotations

import contextlib
import importlib
import numbers
import sys
import textwrap

import msgpack
from dask._task_spec import convert_legacy_graph

from .comparing import same_steps
from .wire import Known, payload, pickled, plain

DESERIALIZING = """\
    Error during deserialization of the task graph. This frequently
    occurs if the Scheduler and Client have different environments.
    For more information, see
    https://docs.dask.org/en/stable/deployment-considerations.html#consistent-software-environments
"""


def op_graph(host, body):
    """Materialise a graph. Source: ``distributed/scheduler.py``, ``update_graph``."""
    expr = load_expression(body["expr"])
    with same_steps() if body.get("check") else contextlib.nullcontext():
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


def op_outline(host, body):
    """The outline of an expression of arrays, or the reason why there is none."""
    expr = load_expression(body["expr"])
    try:
        # Not before arrays come: it takes a while, and an environment may be without NumPy.
        from . import outlines
    except ImportError as why:
        return {"outline": None, "reason": f"dask.array cannot be imported: {type(why).__name__}"}
    return outlines.told(expr)


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
