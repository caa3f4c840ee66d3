"""From the parameters of `distributed.Scheduler` and Dask's configuration to what the program `rask scheduler` takes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dask
from distributed.security import Security

# Of Dask's configuration what a scheduler reads. The rest concerns clients, workers, or Python beside the scheduler.
_READ = (
    "distributed.scheduler",
    "distributed.admin.log-length",
    "distributed.admin.low-level-log-length",
    "distributed.worker.memory.terminate",
    "distributed.worker.memory.recent-to-old-time",
    "distributed.worker.memory.rebalance",
)
# Its keys are names of tasks, which a variable's name cannot hold.
_WHOLE = "distributed.scheduler.default-task-durations"

# Parameters of `distributed.Scheduler` that a scheduler outside of this process cannot take: values that ask for nothing,
# and what to do for others.
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "services": ((None, {}), "leave it out"),
    "service_kwargs": ((None, {}), "the pages work under any prefix that a proxy adds: leave it out"),
    "http_prefix": ((None, "", "/"), "the pages work under any prefix that a proxy adds: leave it out"),
    "extensions": ((None, {}), "add them by client.run_on_scheduler"),
    "plugins": ((None, (), []), "register them by client.register_plugin"),
    "transition_counter_max": ((False, None), "leave it out"),
    "jupyter": ((False, None), "start Jupyter on its own"),
    "scheduler_file": ((None,), "write it by client.write_scheduler_file"),
}

# Parameters that are settings of Dask's configuration too.
_SETTINGS = ("blocked_handlers", "allowed_failures", "worker_ttl", "validate", "preload")
# Parameters that are flags.
_FLAGS = ("host", "port", "interface", "protocol", "idle_timeout", "contact_address")


@dataclass
class SchedulerSettings:
    """Everything that a scheduler is told when it starts."""

    given: dict[str, Any]
    dashboard_address: str | None
    security: Security
    preload_argv: list[str] = field(default_factory=list)
    silence_logs: int | str | bool | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], silence_logs: int | str | bool | None) -> SchedulerSettings:
        """Raises `TypeError` for what no scheduler takes, `ValueError` for what rask's does not."""
        given = dict(options)
        for name, (empty, instead) in _REFUSED.items():
            if given.pop(name, None) not in empty:
                raise ValueError(f"rask's scheduler does not take {name}={options[name]!r}: {instead}")
        dashboard = given.pop("dashboard", True)
        address = given.pop("dashboard_address", None)
        if str(given.get("protocol")).startswith(("inproc", "ucx")):
            raise ValueError(
                f"rask's scheduler is a process of its own, and is not reached by {given['protocol']}: leave protocol "
                "out, or take distributed.LocalCluster"
            )
        settings = cls(
            dashboard_address=None if dashboard is False or address is None else str(address),
            security=given.pop("security", None) or Security(),
            preload_argv=_words(given.pop("preload_argv", ())),
            silence_logs=silence_logs,
            given=given,
        )
        unknown = sorted(set(given) - {*_SETTINGS, *_FLAGS})
        if unknown:
            raise TypeError(f"Scheduler got an unexpected keyword argument {unknown[0]!r}")
        if given.get("preload") is not None:
            given["preload"] = _words(given["preload"])
        return settings

    def flags(self) -> list[str]:
        """Flags of `rask scheduler`, but for TLS."""
        found: list[str] = []
        for name in _FLAGS:
            value = self.given.get(name)
            if value is not None:
                text = str(value).removesuffix("://") if name == "protocol" else str(value)
                found += [f"--{name.replace('_', '-')}", text]
        if self.dashboard_address is None:
            return [*found, "--no-dashboard"]
        return [*found, "--dashboard-address", self.dashboard_address]

    @contextmanager
    def tls_flags(self) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """Flags that name certificates and key, and the descriptors that the program has to inherit for them.

        What `Security` holds as text goes into memory that only the program sees: neither into a file nor into a command
        line.
        """
        flags: list[str] = []
        descriptors: list[int] = []
        with ExitStack() as stack:
            if str(self.given.get("protocol", "")).startswith(("tls", "wss")):
                pem = self.security
                fields = {"ca-file": pem.tls_ca_file, "cert": pem.tls_scheduler_cert, "key": pem.tls_scheduler_key}
                for name, value in fields.items():
                    # Source: distributed/security.py: more than one line is the text itself.
                    if value and "\n" in value:
                        held = os.memfd_create(f"rask-{name}")
                        stack.callback(os.close, held)
                        os.write(held, value.encode())
                        descriptors.append(held)
                        value = f"/proc/self/fd/{held}"
                    if value:
                        flags += [f"--tls-{name}", value]
            yield flags, tuple(descriptors)

    def environment(self) -> dict[str, str]:
        """This process's environment, with Dask's configuration as it is now."""
        env = dict(os.environ)
        env["DASK_INTERNAL_INHERIT_CONFIG"] = dask.config.serialize(_plain(dask.config.global_config))
        # Graphs name modules that the script can import.
        env["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        env.update((variable(key), repr(value)) for key, value in changed())
        for name in _SETTINGS:
            value = self.given.get(name)
            if value is not None:
                env[variable(f"distributed.scheduler.{name}")] = repr(value)
        if self.silence_logs:
            env.setdefault("RASK_LOG", log_filter(self.silence_logs))
        return env


def variable(key: str) -> str:
    """The variable that sets a key of Dask's configuration."""
    return "DASK_" + key.upper().replace(".", "__").replace("-", "_")


def changed() -> Iterator[tuple[str, Any]]:
    """Keys that a scheduler reads and values, of Dask's configuration, where they are not the default."""
    defaults = dask.config.merge(*dask.config.defaults)
    for root in _READ:
        yield from _leaves(root, dask.config.get(root, None), dask.config.get(root, None, config=defaults))


def _leaves(key: str, value: Any, default: Any) -> Iterator[tuple[str, Any]]:
    if value == default:
        return
    if isinstance(value, dict) and key != _WHOLE:
        known = default if isinstance(default, dict) else {}
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner, known.get(name))
    else:
        yield key, value


def log_filter(level: int | str | bool) -> str:
    """A level of Python's `logging`, as `RASK_LOG` names it."""
    if isinstance(level, str):
        level = logging.getLevelName(level.upper())
    names = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
    for bound, name in names.items():
        if isinstance(level, int) and level <= bound:
            return name
    return "off"


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """What can be sent of a configuration: a setting may be any object of this process, such as an executor."""
    return {key: value for key, value in config.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _words(given: Any) -> list[str]:
    """Source: distributed/preloading.py: one text, a list of texts, or a list of such lists."""
    if not given:
        return []
    if isinstance(given, str):
        return [given]
    return [word for item in given for word in ([item] if isinstance(item, str) else item)]
