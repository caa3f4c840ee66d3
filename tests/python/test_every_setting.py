"""Every setting of Dask with every kind of value that its schema allows: none stops a scheduler that stock starts."""

from __future__ import annotations

import importlib.resources
import itertools

import pytest
import yaml

from harness import Cluster

pytestmark = pytest.mark.timeout(120)

# With these a scheduler in Python does not start either, or ends: no certificates, no module, no time.
NOT_ALONE = {
    "distributed.comm.require-encryption",
    "distributed.comm.default-scheme",
    "distributed.scheduler.idle-timeout",
    "distributed.scheduler.no-workers-timeout",
    "distributed.scheduler.pickle",
    "distributed.scheduler.preload",
    "distributed.scheduler.preload-argv",
    "distributed.scheduler.contact-address",
    *(f"distributed.comm.tls.{name}" for name in ("ca-file", "scheduler.cert", "scheduler.key")),
}
DURATIONS = ("timeout", "interval", "ttl", "delay", "duration", "time", "cycle", "limit", "lifetime", "wait-for")
SIZES = ("memory", "bytes", "size", "shard", "bandwidth")


def read(name):
    return yaml.safe_load(importlib.resources.files("distributed").joinpath(name).read_text())


def leaves(schema, defaults, path=()):
    """`(key, schema of its values, default)` of each setting."""
    properties = schema.get("properties")
    if not properties:
        yield ".".join(path), schema, defaults
        return
    for name, inner in properties.items():
        default = defaults.get(name) if isinstance(defaults, dict) else None
        yield from leaves(inner, default, (*path, name))


def values(key, schema, default):
    """One value of each kind that is allowed, and the default."""
    found = [default] if default is not None else []
    for one in schema.get("oneOf", schema.get("anyOf", [schema])):
        if "enum" in one:
            found += one["enum"]
        kinds = one.get("type", [])
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            least = one.get("minimum", 0)
            found += {
                "null": [None],
                "boolean": [True, False],
                "integer": [max(1, least)],
                "number": [1, 0.5] if least < 1 else [least],
                "array": [[]],
                "object": [{}],
                "string": [text(key)] if "enum" not in one else [],
            }[kind]
    return found


def text(key):
    last = key.rsplit(".", 1)[-1]
    if any(word in last for word in DURATIONS):
        return "90 s"
    return "1 GiB" if any(word in last for word in SIZES) else "text"


def variable(key, value):
    name = key.upper().replace("-", "_").replace(".", "__")
    return f"DASK_{name}", value if isinstance(value, str) else repr(value)


def test_no_setting_that_dask_takes_stops_the_scheduler(work_dir):
    settings = {}
    schema, defaults = read("distributed-schema.yaml"), read("distributed.yaml")
    for key, allowed, default in leaves(schema, defaults):
        if key not in NOT_ALONE:
            settings[key] = values(key, allowed, default)
    assert len(settings) > 100
    # The first value of each key at once, then the second of each, and so on: some starts instead of hundreds.
    for row in itertools.zip_longest(*([variable(key, value) for value in each] for key, each in settings.items())):
        with Cluster(work_dir, env=dict(filter(None, row))):
            pass
