"""A performance report of a short computation, written to a file.

    python report.py ADDRESS FILE
"""

import sys
import time

from distributed import Client, performance_report


def reported(x):
    time.sleep(0.02)
    return x


if __name__ == "__main__":
    with Client(sys.argv[1]) as client, performance_report(filename=sys.argv[2]):
        client.gather(client.map(reported, range(50)))
