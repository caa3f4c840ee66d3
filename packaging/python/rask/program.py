"""Where the program `rask` is."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


class ProgramNotFound(RuntimeError):
    """There is no program `rask` to start."""


def find_program() -> str:
    """The path of the program `rask`: what ``RASK_BIN`` names, else the one installed with this module, else the first
    on ``PATH``.

    Raises `ProgramNotFound` if there is none.
    """
    given = os.environ.get("RASK_BIN")
    if given:
        if os.access(given, os.X_OK) and os.path.isfile(given):
            return os.path.abspath(given)
        raise ProgramNotFound(f"RASK_BIN is {given}, which is not a program: correct it or unset it")
    for folder in _folders_of_scripts():
        beside = folder / "rask"
        if os.access(beside, os.X_OK) and beside.is_file():
            return str(beside)
    found = shutil.which("rask")
    if found is None:
        raise ProgramNotFound(
            "there is no program rask beside this module or on PATH: install the wheel rask-dask, or set RASK_BIN to "
            "the program"
        )
    return found


def _folders_of_scripts() -> list[Path]:
    """Where a wheel's scripts go, in this environment and, for `pip install --user`, in the user's own folder."""
    user = sysconfig.get_preferred_scheme("user")
    return [Path(sysconfig.get_path("scripts")), Path(sysconfig.get_path("scripts", user))]
