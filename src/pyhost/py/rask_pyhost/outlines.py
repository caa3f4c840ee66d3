"""Outlines of arrays: what their layers consist of, for rask to make the tasks of all blocks itself.

A layer of blocks is told as a template: the task of any block, in which tuples ``(mark, number)`` stand where blocks
differ, and per number what comes there. ``(mark, -1)`` stands for the key of the task. Dask's own ``substitute`` puts
them in place, so Dask decides where things go.
"""

from __future__ import annotations

import itertools
import operator
import uuid

import dask
from dask._task_spec import DataNode, GraphNode, Task, TaskRef, _execute_subgraph, parse_input
from dask.array.core import concatenate_axes, concatenate_shaped
from dask.array.optimization import _is_getter_task
from dask.blockwise import Blockwise, blockwise_token, optimize_blockwise
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.layers import (
    ArrayBlockIdDep,
    ArrayChunkShapeDep,
    ArrayOverlapLayer,
    ArraySliceDep,
    _expand_keys_around_center,
    fractional_slice,
)

from .wire import pickled

EXPRESSIONS = {"HLGExpr", "_HLGExprGroup", "HLGFinalizeCompute"}
# What tells blocks apart, beside their inputs.
SOURCES = {
    ArrayChunkShapeDep: ("shape", lambda dep: dep.chunks),
    ArraySliceDep: ("slice", lambda dep: dep.starts),
    ArrayBlockIdDep: ("place", lambda dep: ()),
}


class NoOutline(Exception):
    """The graph has to be read by Dask; says why."""


def told(expr) -> dict:
    """The outline of an expression of arrays, or the reason why there is none."""
    try:
        return {"outline": pickled(outline(expr)), "reason": None}
    except NoOutline as why:
        return {"outline": None, "reason": str(why)}
    except Exception as error:  # Dask itself will say what is wrong with the graph
        return {"outline": None, "reason": f"no outline: {type(error).__name__}"}


def outline(expr):
    if dask.config.get("optimization.fuse.active") is False:
        raise NoOutline("the setting optimization.fuse.active")
    operands = expr.operands if type(expr).__name__ == "_HLGExprSequence" else [expr]
    return [operand(one) for one in operands]


def operand(expr):
    """The keys of one collection and its layers, users before what they need. Source: ``dask/array/optimization.py``."""
    if type(expr).__name__ not in EXPRESSIONS:
        raise NoOutline(f"an operand of class {type(expr).__name__}")
    keys = list(flatten(expr.__dask_keys__()))
    graph = expr.hlg
    if type(graph) is not HighLevelGraph:
        raise NoOutline(f"a graph of class {type(graph).__name__}")
    graph = optimize_blockwise(graph, keys=keys)
    look_at_roots(graph)
    return keys, [layer_of(graph.layers[name]) for name in reversed(graph._toposort_layers())]


def look_at_roots(graph):
    """Dask fuses tasks of old kinds in layers without inputs, if such layers meet. Source: ``dask/blockwise.py``,
    ``fuse_roots``."""
    users = {name: 0 for name in graph.layers}
    for name in itertools.chain.from_iterable(graph.dependencies.values()):
        users[name] = users.get(name, 0) + 1
    for name, layer in graph.layers.items():
        needs = graph.dependencies[name]
        if not isinstance(layer, Blockwise) or len(needs) < 2:
            continue
        if any(graph.dependencies[need] or users[need] != 1 for need in needs):
            continue
        for need in needs:
            root = graph.layers[need]
            if not isinstance(root, Blockwise) and any(type(value) is tuple for value in root.values()):
                raise NoOutline("tasks of old kinds in layers that are fused")


def layer_of(layer):
    if type(layer).__module__.startswith("distributed.shuffle"):
        raise NoOutline(f"a layer of class {type(layer).__name__}")
    if isinstance(layer, Blockwise):
        look_at_slices(layer.task)
    if type(layer) is Blockwise and type(layer.task) is Task:
        told = blocks_of(layer)
        if told is not None:
            return told
    if type(layer) is ArrayOverlapLayer and not layer.is_materialized():
        told = overlap_of(layer)
        if told is not None:
            return told
    return "tasks", dict(layer)


def overlap_of(layer):
    """What rask needs to put a block together with the edges of its neighbours. Source: ``dask/layers.py``,
    ``ArrayOverlapLayer._construct_graph``."""
    dims = [len(sizes) for sizes in layer.chunks]
    depths = [layer.axes.get(axis, 0) for axis in range(len(dims))]
    depths = [depth if isinstance(depth, tuple) else (depth, depth) for depth in depths]
    if not dims or list(layer.numblocks) != dims or any(type(n) is not int or n < 0 for pair in depths for n in pair):
        return None
    getitem, overlap = f"getitem-{layer.token}", f"overlap-{layer.token}"
    samples = {}
    for fraction in range(3):
        block = tuple(fraction * (dim - 1) // 2 for dim in dims)
        parts = _expand_keys_around_center((None, *block), dims, name=getitem, axes=layer.axes)
        samples[overlap, *block] = concatenate_shaped, *parts
        for _, *place in parts[0]:
            samples[getitem, *place] = fractional_slice((layer.name, *place), layer.axes)
    axes = [(dim, *depth) for dim, depth in zip(dims, depths, strict=True)]
    return "overlap", [layer.name, getitem, overlap], axes, operator.getitem, concatenate_shaped, samples


def look_at_slices(task):
    """Dask merges slices of slices in a fused task. Source: ``dask/array/optimization.py``, ``_optimize_slices``."""
    if getattr(task, "func", None) is not _execute_subgraph:
        return
    inner = task.args[0]
    for node in inner.values():
        getter = _is_getter_task(node)
        if getter and _is_getter_task(inner.get(getattr(getter[1], "key", None))):
            raise NoOutline("slices of slices, which Dask merges")


def blocks_of(layer):
    """A template with what fills it; ``None``: there is none of this layer. Source: ``dask/blockwise.py``,
    ``_make_blockwise_graph``."""
    mark = f"block-{uuid.uuid4().hex}"
    task, holes = layer.task, []
    for at, (name, index) in enumerate(layer.indices):
        token = blockwise_token(at)
        if token not in task.dependencies:
            continue
        if index is None:
            value = name if isinstance(name, (GraphNode, TaskRef)) else DataNode(None, name)
            task = task.substitute({token: value})
            continue
        hole = source_of(layer, token, name, index) if name in layer.io_deps else input_of(layer, token, name, index)
        if hole is None:
            return None
        task = task.substitute({token: (mark, len(holes))})
        holes.append(hole)
    template = Task.fuse(task, key=(mark, -1))
    dims = [layer.dims[i] for i in layer.output_indices]
    blocks = sorted(layer.output_blocks) if layer.output_blocks else None
    return "blocks", layer.output, mark, template, dims, blocks, holes, samples_of(layer, dims, blocks)


def source_of(layer, token, name, index):
    dep = layer.io_deps[name]
    if any(i not in layer.output_indices for i in index):
        return None
    axes = [axis_of(layer, name, i, at) for at, i in enumerate(index)]
    if type(dep) in SOURCES:
        kind, tables = SOURCES[type(dep)]
        return kind, token, axes, tables(dep)
    table = {}
    for place in itertools.product(*map(range, dep.numblocks)):
        table[place] = parse_input(dep.get(place, place))
        if isinstance(table[place], (GraphNode, TaskRef)):
            return None
    return "table", token, axes, table


def input_of(layer, token, name, index):
    axes = [axis_of(layer, name, i, at) for at, i in enumerate(index)]
    contracted = [at for at, i in enumerate(index) if i not in layer.output_indices]
    join = concatenate_axes if layer.concatenate is True else layer.concatenate
    return "key", name, axes, token, join if contracted and join else None, contracted


def axis_of(layer, name, i, at):
    """A place in the coordinates of the block; -1: always 0; for a contracted axis how many blocks, all or the first
    so many times."""
    alone = layer.numblocks[name][at] == 1
    if i in layer.output_indices:
        return -1 if alone else layer.output_indices.index(i)
    if alone:
        return "first", 1 if layer.concatenate else layer.dims[i]
    return "all", layer.dims[i]


def samples_of(layer, dims, blocks):
    """The tasks that Dask makes of the first, a middle and the last block."""
    if blocks is None:
        places = [tuple(fraction * (dim - 1) // 2 for dim in dims) for fraction in range(3)]
    else:
        places = [blocks[0], blocks[len(blocks) // 2], blocks[-1]]
    return list(layer._cull(set(places)).items()) if all(dims) else []
