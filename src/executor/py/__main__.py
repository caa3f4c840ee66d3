"""Starts what lies beside it: `rask_executor`, the Python side of one of rask's own workers."""

import os
import sys

# As for any script, modules in the current folder can be loaded; after all others, because a json.py that lies there must
# not replace Python's. In the first place of the path is the folder of this file, where nothing else is.
try:
    sys.path.append(os.getcwd())
except OSError:  # the folder was removed
    pass

from rask_executor.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
