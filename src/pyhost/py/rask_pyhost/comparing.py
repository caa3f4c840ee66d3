"""Comparing tasks: whether rask has read a graph as Dask reads it."""

from __future__ import annotations

import dask
from dask._task_spec import GraphNode, Task, _execute_subgraph


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
