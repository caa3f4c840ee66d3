"""`LocalCluster`: Dask's, with a scheduler of rask."""

from __future__ import annotations

import logging
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import distributed
from distributed.core import Status
from distributed.security import Security

from rask.ports import asking
from rask.scheduler import Scheduler
from rask.spawn import scriptless

if TYPE_CHECKING:
    from distributed import Nanny, Worker
    from tornado.ioloop import IOLoop


class LocalCluster(distributed.LocalCluster):
    """A scheduler `rask scheduler` and workers on this machine, for as long as this script runs.

    Parameters, attributes and methods are those of `distributed.LocalCluster`, of which this is a subclass. What differs:

    - The scheduler is a process of its own. `cluster.scheduler` has its address, workers and status; what else a
      `distributed.Scheduler` has is asked by a client, as `client.run_on_scheduler` does.
    - Workers do not import the script, so it needs no ``if __name__ == "__main__"``.
    - With ``processes=False`` the workers are threads of this process, as in Dask, and the scheduler is reached by TCP
      instead of ``inproc://``: what is submitted and gathered must be possible to pickle.
    - All processes end when this one does, even if it is killed.

    The program `rask` is the one that ``RASK_BIN`` names, else the one beside this module, else the one on ``PATH``.

    Examples
    --------
    >>> from rask import LocalCluster  # doctest: +SKIP
    >>> with LocalCluster(n_workers=4) as cluster, cluster.get_client() as client:  # doctest: +SKIP
    ...     client.submit(sum, [1, 2]).result()
    3
    """

    scheduler: Scheduler | None

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: IOLoop | None = None,
        start: bool | None = None,
        host: str | None = None,
        ip: str | None = None,
        scheduler_port: int = 0,
        silence_logs: int | str | bool | None = logging.WARN,
        dashboard_address: str | int | None = ":8787",
        worker_dashboard_address: str | None = None,
        services: dict[str, Any] | None = None,
        worker_services: dict[str, Any] | None = None,
        service_kwargs: dict[str, Any] | None = None,
        asynchronous: bool = False,
        security: Security | bool | None = None,
        protocol: str | None = None,
        blocked_handlers: list[str] | None = None,
        interface: str | None = None,
        worker_class: type[Worker] | type[Nanny] | None = None,
        scheduler_kwargs: dict[str, Any] | None = None,
        scheduler_sync_interval: float | str = 1,
        **worker_kwargs: Any,
    ):
        if processes is None:
            processes = worker_class is None or issubclass(worker_class, distributed.Nanny)
        if worker_class is None:
            worker_class = distributed.Nanny if processes else distributed.Worker
        if issubclass(worker_class, distributed.Nanny):
            worker_class = scriptless(worker_class)
        else:
            worker_class = asking(worker_class)
        if security is None:
            security = Security()
        elif security is True:
            security = Security.temporary()
        encrypted = isinstance(security, Security) and security.require_encryption
        if protocol is None and not encrypted and "://" not in (host or ip or ""):
            # As Dask chooses, but for inproc://.
            protocol = "tcp://"
        self._dashboard_address = dashboard_address
        self._scheduler_silence_logs = silence_logs
        super().__init__(
            name=name,
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=processes,
            loop=loop,
            start=start,
            host=host,
            ip=ip,
            scheduler_port=scheduler_port,
            silence_logs=silence_logs,
            dashboard_address=dashboard_address,
            worker_dashboard_address=worker_dashboard_address,
            services=services,
            worker_services=worker_services,
            service_kwargs=service_kwargs,
            asynchronous=asynchronous,
            security=security,
            protocol=protocol,
            blocked_handlers=blocked_handlers,
            interface=interface,
            worker_class=worker_class,
            scheduler_kwargs=scheduler_kwargs,
            scheduler_sync_interval=scheduler_sync_interval,
            **worker_kwargs,
        )

    async def _start(self) -> None:
        """Dask's way to start, with another scheduler in the place of its own."""
        if self.scheduler is None and self.scheduler_spec["cls"] is distributed.Scheduler:
            mine = weakref.ref(self)
            options = self.scheduler_spec["options"] | {
                "info": lambda: cluster.scheduler_info if (cluster := mine()) is not None else {"workers": {}},
                "silence_logs": self._scheduler_silence_logs,
            }
            self.scheduler_spec = {"cls": Scheduler, "options": options}
            await super()._start()
            self._warn_of_another_port()
        else:
            await super()._start()

    async def _close(self) -> None:
        if self.scheduler is not None and self.scheduler.status == Status.failed:
            # It is gone: Dask would knock at its address for the length of a timeout.
            self.shutdown_scheduler = False
        await super()._close()

    def _warn_of_another_port(self) -> None:
        """Source: distributed/http and distributed/node.py."""
        wanted = str(self._dashboard_address or "").rpartition(":")[2]
        served = self.scheduler_info.get("services", {}).get("dashboard")
        if wanted.isdigit() and int(wanted) and served and served != int(wanted):
            warnings.warn(
                f"Port {wanted} is already in use.\nPerhaps you already have a cluster running?\n"
                f"Hosting the HTTP server on port {served} instead"
            )
