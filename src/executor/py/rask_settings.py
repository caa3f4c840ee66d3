"""Says what Dask's configuration has for a worker before there is one: ``python rask_settings.py``, JSON on standard output.

Files, environment variables and Dask's defaults, as a worker process would see them. `distributed` itself is not
imported: that takes most of a second. Needs `dask`; Python 3.10 or newer.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # A json.py that lies in the current folder must not replace Python's.
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and sys.path[0] == here:
        del sys.path[0]
        try:
            sys.path.append(os.getcwd())
        except OSError:  # the folder was removed
            pass

import json
from importlib.util import find_spec

import dask.config
import yaml
from dask.utils import parse_timedelta


def with_defaults() -> None:
    """Reads what `import distributed` would have added. Source: distributed/config.py."""
    found = find_spec("distributed")
    if found is not None and found.origin:
        with open(os.path.join(os.path.dirname(found.origin), "distributed.yaml")) as file:
            dask.config.update_defaults(yaml.safe_load(file))


def environment(name: str) -> dict[str, str]:
    """Source: distributed/nanny.py, `_get_env_variables`: what is set already goes before what Dask's files say."""
    wanted = dask.config.get(name, None) or {}
    return {name: os.environ.get(name, str(value)) for name, value in wanted.items() if value is not None}


def texts(name: str) -> list[str]:
    """A text, or a list of them."""
    value = dask.config.get(name, None) or []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def tls_version(name: str) -> str | None:
    value = dask.config.get(name, None)
    return None if value is None else str(value)


def settings() -> dict:
    get = dask.config.get
    environ = environment("distributed.nanny.pre-spawn-environ")
    # Workers that group by the hash of a text must agree on it. Source: distributed/nanny.py, `Nanny.__init__`.
    if environ.get("PYTHONHASHSEED") in (None, "0"):
        environ["PYTHONHASHSEED"] = "6640"
    environ |= environment("distributed.nanny.environ")
    return {
        "scheduler": get("scheduler-address", None),
        "ca": get("distributed.comm.tls.ca-file", None),
        "cert": get("distributed.comm.tls.worker.cert", None),
        "key": get("distributed.comm.tls.worker.key", None),
        "require_encryption": bool(get("distributed.comm.require-encryption", None)),
        "connect_secs": parse_timedelta(get("distributed.comm.timeouts.connect", "30s"), "s"),
        "ciphers": get("distributed.comm.tls.ciphers", None),
        "min_version": tls_version("distributed.comm.tls.min-version"),
        "max_version": tls_version("distributed.comm.tls.max-version"),
        "preload_nanny": texts("distributed.nanny.preload"),
        "preload_nanny_argv": texts("distributed.nanny.preload-argv"),
        "default_scheme": get("distributed.comm.default-scheme", "tcp"),
        "environ": environ,
    }


if __name__ == "__main__":
    with_defaults()
    print(json.dumps(settings()))
