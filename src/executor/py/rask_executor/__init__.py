"""The Python side of one of rask's own workers: threads that run tasks, and the `Worker` that user code sees.

``python FOLDER CONTROL QUESTIONS PORTER SLOT...``, each the number of an open Unix socket. The other ends are
held by the *node*, the Rust process that is the Dask worker to schedulers and peers: it has the state machine, the
listener and the transfers. This process has Python objects.

* A *slot* is a thread and its socket: runs come in, answers go out.
* The *porter* is a thread that takes runs back, drops values and serialises them for others, whatever the slots do.
* *Control* is read into the event loop of the main thread, where the facade lives: a `distributed.Worker` that never
  listens and never registers. What peers ask and the node does not know comes here, and Dask's own code answers it.
* *Questions* go from here to the node and are answered at once.

On each socket travel Dask's frames (`distributed/comm/tcp.py`), the first of them msgpack. Needs the standard library
and `distributed`; Python 3.10 or newer.
"""

from __future__ import annotations
