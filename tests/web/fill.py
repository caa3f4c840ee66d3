"""Many small tasks for the task stream to show, in batches; nothing is held. Prints `ready` when all have run.

    python fill.py ADDRESS COUNT [PER_SECOND]
"""

import operator
import sys
import time

from distributed import Client, wait

if __name__ == "__main__":
    address, count = sys.argv[1], int(sys.argv[2])
    pace = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    batch = int(pace) or 10_000
    with Client(address, timeout=60) as client:
        begun = time.perf_counter()
        for start in range(0, count, batch):
            names = [f"fill-{n}" for n in range(start, min(start + batch, count))]
            wait(client.map(operator.neg, range(len(names)), key=names))
            if pace:
                time.sleep(max(0, begun + (start + batch) / pace - time.perf_counter()))
        print("ready", flush=True)
