"""Dask's local cluster with rask's scheduler.

    from rask import LocalCluster

`LocalCluster` takes what `distributed.LocalCluster` takes and gives what it gives. Its scheduler is a process `rask
scheduler` that serves this script alone and ends with it. A script that makes one needs no ``if __name__ ==
"__main__"``.
"""

from __future__ import annotations

try:
    import distributed as _distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rask's Python module needs dask and distributed ({error}): pip install 'rask-dask[dask]'"
    ) from error

from rask.cluster import LocalCluster
from rask.program import ProgramNotFound, find_program

__all__ = ["LocalCluster", "ProgramNotFound", "find_program"]
