"""Starts what lies beside it: `rask_pyhost`, the Python side of a scheduler."""

import os
import sys

if __name__ == "__main__":
    from rask_pyhost.parent import die_with_parent, take_pipes

    PIPES = take_pipes()
    die_with_parent()
    # Graphs name modules in the folder they were started from; ours holds nothing to import. It comes last, as for the
    # workers: a json.py that lies there must not replace Python's.
    del sys.path[0]
    sys.path.append(os.getcwd())
    try:
        from rask_pyhost.main import main
    except ImportError as error:
        print(f"rask pyhost: {sys.executable} cannot import dask and distributed: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    main(*PIPES)
