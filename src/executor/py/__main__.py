"""Starts what lies beside it: `rask_executor`, the Python side of one of rask's own workers, or of its nanny."""

import os
import sys

# As for any script, modules in the current folder can be loaded; after all others, because a json.py that lies there must
# not replace Python's. In the first place of the path is the folder of this file, where nothing else is.
try:
    sys.path.append(os.getcwd())
except OSError:  # the folder was removed
    pass

if __name__ == "__main__":
    if sys.argv[1:2] == ["nanny"]:
        from rask_executor.nanny import main

        main(sys.argv[2:])
    else:
        try:
            from rask_executor.main import main
        except ImportError as why:
            # A name of Dask's is gone: whoever started this can go on with Dask's own workers.
            from rask_executor.control import Control, inherited

            Control(inherited(sys.argv[1:2])[0]).out("unfit", str(why))
            raise
        main(sys.argv[1:])
