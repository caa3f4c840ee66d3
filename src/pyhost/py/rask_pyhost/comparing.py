"""Comparing tasks: whether rask has read a graph as Dask reads it."""

from __future__ import annotations

import contextlib
import sys

import dask
from dask._task_spec import GraphNode, Task, _execute_subgraph
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer


@contextlib.contextmanager
def same_steps():
    """What Dask leaves to the order of its sets is done in rask's order: which of several tasks is met first, which
    decides what is fused. And layers are culled even where as many tasks are wanted as they have."""
    bags = sys.modules.get("dask.bag.core")
    theirs = HighLevelGraph.cull, Layer.cull, getattr(bags, "cull", None)

    def cull_layer(layer, keys, all_keys):
        return theirs[1](layer, keys | {("no", "such", "key")}, all_keys)

    def cull_graph(graph, keys):
        return layers_in_order(graph, theirs[0](graph, keys))

    HighLevelGraph.cull, Layer.cull = cull_graph, cull_layer
    if bags is not None:
        bags.cull = cull_in_order
    try:
        yield
    finally:
        HighLevelGraph.cull, Layer.cull = theirs[:2]
        if bags is not None:
            bags.cull = theirs[2]


def layers_in_order(graph, culled):
    """The tasks of each layer in the order that they had before."""
    names = {name: name.rpartition("-")[0] for name in culled.layers}
    layers = {}
    for name, layer in culled.layers.items():
        if type(layer) is MaterializedLayer:
            tasks = {key: layer[key] for key in graph.layers[names[name]] if key in layer.mapping}
            layer = MaterializedLayer(tasks, annotations=layer.annotations)
        layers[name] = layer
    return HighLevelGraph(layers, culled.dependencies)


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
