"""The Python side of a rask scheduler.

Reads requests on standard input and answers on standard output, one at a time, in Dask's own framing. What users
send is only ever run here. Needs the standard library, dask and distributed; Python 3.10 or newer.

A request is ``{"id", "op", "body"}``; an answer ``{"id", "ok": True, "result"}``, or ``{"id", "ok": False, "kind",
"exception", "traceback", "exception_text", "traceback_text"}``.

Functions may return what they see here to clients, which have no such package. So the files that define what they see
call themselves ``__main__``: then Dask pickles classes and functions whole, and tracebacks name errors without a
module.
"""

from __future__ import annotations
