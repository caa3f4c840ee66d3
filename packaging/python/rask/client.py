"""`Client`: Dask's, that starts a cluster of rask where Dask's would start its own."""

from __future__ import annotations

from typing import Any

import distributed

from rask.cluster import LocalCluster


class Client(distributed.Client):
    """Dask's client. With no address, neither given nor in Dask's configuration, it makes a `rask.LocalCluster` of what
    else it is given, and closes it at its end.

    Examples
    --------
    >>> from rask import Client  # doctest: +SKIP
    >>> with Client(n_workers=2) as client:  # doctest: +SKIP
    ...     client.submit(sum, [1, 2]).result()
    3
    """

    async def _start(self, *args: Any, **kwargs: Any) -> Any:
        if self.cluster is None and self.scheduler_file is None and self._start_arg is None:
            options = {"loop": self.loop, "asynchronous": self._asynchronous, **self._startup_kwargs}
            # `_start_arg` stays None, so that Dask closes the cluster with the client.
            self.cluster = await LocalCluster(**options)
        return await super()._start(*args, **kwargs)
