"""A computation to take a picture of: tables are made, shuffled between workers, and summed up. Says `some` when some is done.

    python picture.py ADDRESS
"""

import sys
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, wait

ROWS = 30_000
PARTS = 48


def read_sales(part):
    time.sleep(0.15)
    rng = np.random.default_rng(part)
    days = pd.date_range("2026-01-01", periods=365)
    return pd.DataFrame(
        {
            "day": rng.choice(days, ROWS),
            "shop": rng.integers(0, 400, ROWS),
            "amount": rng.gamma(2.0, 30.0, ROWS),
        }
    )


def fit_model(table, seed):
    rng = np.random.default_rng(seed)
    daily = table.groupby("day").amount.sum()
    np.linalg.svd(rng.normal(size=(200, 200)))
    time.sleep(rng.uniform(0.2, 0.8))
    return daily.mean()


if __name__ == "__main__":
    client = Client(sys.argv[1])
    sales = dd.from_map(read_sales, range(PARTS), meta=read_sales(0).head(0))
    by_shop = sales.shuffle("shop", npartitions=32).persist()
    wait(by_shop)
    means = by_shop.groupby("day").amount.mean().persist()
    models = client.map(fit_model, client.compute(by_shop.to_delayed()) * 8, range(256))
    wait(means)
    while sum(model.done() for model in models) < len(models) * 0.3:
        time.sleep(0.1)
    print("some", flush=True)
    sys.stdin.read()
