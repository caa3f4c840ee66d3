"""Dask's local cluster with rask's scheduler.

    from rask import Client, LocalCluster

`LocalCluster` takes what `distributed.LocalCluster` takes and gives what it gives. Its scheduler is a process `rask
scheduler` that serves this script alone and ends with it. A script that makes one needs no ``if __name__ ==
"__main__"``. `Client` is Dask's, and makes such a cluster if it has no address.
`connect` gives a cluster that `rask up` runs as an object of the same kind.
"""

from __future__ import annotations

try:
    import distributed as _distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rask's Python module needs dask and distributed ({error}): pip install 'rask-dask[dask]'"
    ) from error

from rask.client import Client
from rask.cluster import LocalCluster
from rask.program import ProgramNotFound, find_program
from rask.running import NotThere, RunningCluster, connect

__all__ = ["Client", "LocalCluster", "NotThere", "ProgramNotFound", "RunningCluster", "connect", "find_program"]
