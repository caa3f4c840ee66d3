"""What names and pickled objects are, for rask to know which graphs it can read as Dask would."""

from __future__ import annotations

import importlib
import numbers
import sys

import dask
from dask._task_spec import GraphNode, TaskRef
from dask.utils import is_namedtuple_instance
from distributed.protocol import pickle

from .graphs import load_expression


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
