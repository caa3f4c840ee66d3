"""What libraries do with Dask: one small real use of each, run on one cluster of the kind that was asked for.

    cases.py NAME stock|rask FOLDER

prints one line of JSON: what the use came to, how long it took, and the versions it was done with. Data is made from
fixed seeds, so the same use comes to the same result on any scheduler.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "2 GiB", "dashboard_address": "127.0.0.1:0"}


@dataclass(frozen=True)
class Case:
    """One use: the packages whose versions are told, what it does in words, and the function."""

    packages: tuple[str, ...]
    does: str
    use: Callable[[Any, Path], Any]


CASES: dict[str, Case] = {}


def case(*packages: str, does: str):
    """Makes a function a case, by its name."""

    def add(use):
        CASES[use.__name__] = Case(packages, does, use)
        return use

    return add


# ------------------------------------------------------------------------------------------ Dask's own collections


@case("dask", "numpy", does="rechunk by P2P, QR, compressed SVD, FFT, matrix product")
def arrays(client, folder):
    import dask.array as da

    x = da.random.default_rng(1).random((600, 400), chunks=(100, 100))
    _, s, _ = da.linalg.svd_compressed(x, k=5, seed=2)
    q, r = da.linalg.qr(x.rechunk((200, 400)))
    spectrum = abs(da.fft.fft(x.rechunk((50, -1)))).sum()
    found = da.compute(s, abs(r).sum(), (q.T @ q).trace(), spectrum, (x.T @ x).sum())
    return [found[0].tolist(), *map(float, found[1:])]


@case("dask", "pandas", "pyarrow", does="parquet with filters, groupby, merge, set_index, quantiles")
def dataframes(client, folder):
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"key": rng.integers(0, 50, 40_000), "x": rng.random(40_000), "t": rng.permutation(40_000)})
    dd.from_pandas(frame, npartitions=8).to_parquet(folder / "frame")
    stored = dd.read_parquet(folder / "frame", filters=[("x", "<", 0.9)])
    names = dd.from_pandas(pd.DataFrame({"key": range(50), "weight": np.arange(50) / 7}), npartitions=1)
    joined = stored.merge(names, on="key")
    return [
        stored.groupby("key").x.agg(["mean", "std"]).compute().sort_index().values.sum(axis=0).tolist(),
        float((joined.x * joined.weight).sum().compute()),
        stored.set_index("t").x.loc[100:200].sum().compute().item(),
        stored.x.quantile([0.25, 0.5]).compute().tolist(),
    ]


@case("dask", does="words counted and folded; delayed functions in a tree")
def bags(client, folder):
    import dask
    import dask.bag as db

    words = db.from_sequence([f"word{n % 17}" for n in range(5_000)], npartitions=10)
    counted = dict(words.frequencies().compute())
    parts = [dask.delayed(pow)(n, 2) for n in range(64)]
    while len(parts) > 1:
        parts = [dask.delayed(sum)(parts[n : n + 4]) for n in range(0, len(parts), 4)]
    return [sorted(counted.items()), parts[0].compute()]


# ------------------------------------------------------------------------------------------ arrays and files


@case("xarray", "netCDF4", "zarr", does="open_mfdataset, groupby, anomalies, rolling, to_zarr and back")
def xarray(client, folder):
    import numpy as np
    import pandas as pd
    import xarray as xr

    rng = np.random.default_rng(4)
    for year in (2001, 2002, 2003):
        days = pd.date_range(f"{year}-01-01", f"{year}-12-31")
        values = rng.random((len(days), 8, 10))
        xr.Dataset({"t2m": (("time", "lat", "lon"), values)}, coords={"time": days}).to_netcdf(folder / f"{year}.nc")
    data = xr.open_mfdataset(str(folder / "*.nc"), parallel=True, chunks={"time": 100})
    months = data.groupby("time.month").mean()
    anomalies = data.groupby("time.month") - months
    anomalies.to_zarr(folder / "anomalies.zarr", mode="w")
    back = xr.open_zarr(folder / "anomalies.zarr")
    return [
        float(months.t2m.sum().compute()),
        float(abs(back.t2m).mean().compute()),
        float(data.t2m.rolling(time=7).mean().sum().compute()),
        data.t2m.resample(time="YS").max().mean(("lat", "lon")).compute().values.tolist(),
    ]


@case("zarr", does="arrays with shards, written by regions and read back")
def zarr(client, folder):
    import dask.array as da
    import zarr as library

    x = da.random.default_rng(5).random((400, 400), chunks=(100, 100))
    at = library.create_array(str(folder / "x.zarr"), shape=x.shape, chunks=(50, 50), shards=(100, 100), dtype=x.dtype)
    x.store(at, lock=False)
    back = da.from_zarr(str(folder / "x.zarr"))
    return [float(back.sum().compute()), bool((back == x).all().compute())]


@case("dask-geopandas", "geopandas", does="buffers, a spatial shuffle, a spatial join, areas dissolved")
def geopandas(client, folder):
    import dask_geopandas
    import geopandas as library
    import numpy as np
    from shapely.geometry import box

    rng = np.random.default_rng(6)
    points = library.GeoDataFrame(
        {"group": rng.integers(0, 4, 2_000)}, geometry=library.points_from_xy(rng.random(2_000), rng.random(2_000))
    )
    cells = library.GeoDataFrame(
        {"cell": range(16)}, geometry=[box(x / 4, y / 4, x / 4 + 0.25, y / 4 + 0.25) for x in range(4) for y in range(4)]
    )
    parts = dask_geopandas.from_geopandas(points, npartitions=4)
    joined = parts.sjoin(dask_geopandas.from_geopandas(cells, npartitions=1))
    return [
        float(parts.buffer(0.01).area.sum().compute()),
        len(parts.spatial_shuffle().compute()),
        joined.groupby("cell").size().compute().sort_index().tolist(),
        parts.dissolve("group").compute().sort_index().geometry.length.tolist(),
    ]


@case("dask-image", does="a Gaussian filter, objects labelled and measured")
def dask_image(client, folder):
    import dask.array as da
    from dask_image import ndfilters, ndmeasure

    smooth = ndfilters.gaussian_filter(da.random.default_rng(13).random((300, 300), chunks=(100, 100)), sigma=3)
    bright = smooth > 0.51
    labels, count = ndmeasure.label(bright)
    return [float(smooth.sum().compute()), int(count.compute()), float(ndmeasure.mean(smooth, labels, [1]).compute()[0])]


@case("datashader", does="points of a dask DataFrame aggregated on a grid")
def datashader(client, folder):
    import dask.dataframe as dd
    import datashader as library
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(14)
    frame = pd.DataFrame({"x": rng.random(50_000), "y": rng.random(50_000), "v": rng.random(50_000)})
    canvas = library.Canvas(40, 40, x_range=(0, 1), y_range=(0, 1))
    points = canvas.points(dd.from_pandas(frame, npartitions=6), "x", "y", library.mean("v"))
    return [float(points.sum()), list(points.shape)]


# ------------------------------------------------------------------------------------------ learning


@case("scikit-learn", "joblib", does="joblib's dask backend: GridSearchCV, a forest, cross_val_score")
def sklearn(client, folder):
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(600, 12, random_state=7)
    with joblib.parallel_config("dask"):
        search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0]}, cv=3).fit(x, y)
        forest = RandomForestClassifier(20, random_state=8).fit(x, y)
        scores = cross_val_score(LogisticRegression(), x, y, cv=4)
    return [search.cv_results_["mean_test_score"].tolist(), forest.feature_importances_.tolist(), scores.tolist()]


@case("dask-ml", does="scaler, logistic regression, PCA, a grid search")
def dask_ml(client, folder):
    import dask.array as da
    from dask_ml.decomposition import PCA
    from dask_ml.linear_model import LogisticRegression
    from dask_ml.model_selection import GridSearchCV
    from dask_ml.preprocessing import StandardScaler
    from sklearn.linear_model import Ridge

    x = da.random.default_rng(9).random((800, 6), chunks=(200, 6)).persist()
    y = (x[:, 0] + x[:, 1] > 1).astype(int)
    scaled = StandardScaler().fit_transform(x)
    model = LogisticRegression(solver="lbfgs", max_iter=30).fit(scaled, y)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3).fit(x.compute(), y.compute())
    return [
        float(scaled.std().compute()),
        [round(float(c), 3) for c in model.coef_],
        PCA(n_components=2, svd_solver="full").fit(x).explained_variance_.tolist(),
        float(search.best_score_),
    ]


@case("xgboost-cpu", does="xgboost.dask: a model trained and used")
def xgboost(client, folder):
    import dask.array as da
    from xgboost import dask as library

    x = da.random.default_rng(10).random((2_000, 8), chunks=(500, 8)).persist()
    y = (3 * x[:, 0] - x[:, 1]).persist()
    options = {"tree_method": "hist", "max_depth": 3, "seed": 1}
    model = library.train(client, options, library.DaskDMatrix(client, x, y), num_boost_round=10)
    told = library.predict(client, model, x)
    # Who trains on which chunks is not fixed: what a model is worth is compared, not each of its digits.
    return [round(float(((told - y) ** 2).mean().compute()), 2), told.shape[0]]


@case("lightgbm", does="DaskLGBMRegressor: fitted and used")
def lightgbm(client, folder):
    import dask.array as da
    from lightgbm import DaskLGBMRegressor

    x = da.random.default_rng(11).random((2_000, 8), chunks=(500, 8)).persist()
    y = (3 * x[:, 0] - x[:, 1]).persist()
    model = DaskLGBMRegressor(client=client, n_estimators=20, num_leaves=8, verbose=-1).fit(x, y)
    told = model.predict(x)
    return [round(float(((told - y) ** 2).mean().compute()), 1), int(told.shape[0])]


@case("optuna", "optuna-integration", does="DaskStorage: a study whose trials run on the workers")
def optuna(client, folder):
    import optuna as library
    from optuna_integration.dask import DaskStorage

    library.logging.set_verbosity(library.logging.WARNING)

    def objective(trial):
        return (trial.suggest_int("x", 0, 5) - 2) ** 2

    grid = library.samplers.GridSampler({"x": list(range(6))}, seed=1)
    study = library.create_study(storage=DaskStorage(), sampler=grid)
    for future in [client.submit(study.optimize, objective, n_trials=1, pure=False) for _ in range(6)]:
        future.result(timeout=60)
    return [len(study.trials), study.best_value, study.best_params]


# ------------------------------------------------------------------------------------------ flows and streams


@case("prefect", "prefect-dask", does="a flow with DaskTaskRunner: tasks mapped, one waits for them all")
def prefect(client, folder):
    import os

    os.environ |= {"PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90"}
    from prefect import flow, task
    from prefect_dask import DaskTaskRunner

    @task
    def square(n):
        return n * n

    @task
    def total(numbers):
        return sum(numbers)

    @flow(task_runner=DaskTaskRunner(address=client.scheduler.address))
    def work():
        return total.submit(square.map(range(6))).result()

    return work()


@case("streamz", does="a stream scattered to the workers, mapped, accumulated, gathered")
def streamz(client, folder):
    from streamz import Stream

    source = Stream()
    found = []
    source.scatter().map(pow, 2).accumulate(lambda total, new: total + new, start=0).gather().sink(found.append)
    for n in range(6):
        source.emit(n)
    return found


@case("modin", "pandas", does="modin.pandas on Dask: groupby, merge, apply")
def modin(client, folder):
    import modin.config

    modin.config.Engine.put("dask")
    modin.config.CpuCount.put(2)
    import modin.pandas as pd
    import numpy as np

    rng = np.random.default_rng(12)
    frame = pd.DataFrame({"key": rng.integers(0, 5, 4_000), "x": rng.random(4_000)})
    names = pd.DataFrame({"key": range(5), "weight": [1.0, 2.0, 3.0, 4.0, 5.0]})
    joined = frame.merge(names, on="key")
    return [
        frame.groupby("key").x.sum().tolist(),
        float((joined.x * joined.weight).sum()),
        float(frame.x.apply(lambda x: x * 2).sum()),
    ]


def main() -> None:
    name, kind, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if kind == "rask":
        from rask import LocalCluster
    else:
        from distributed import LocalCluster
    chosen = CASES[name]
    with LocalCluster(**WORKERS) as cluster, cluster.get_client() as client:
        client.wait_for_workers(2, timeout=60)
        began = time.monotonic()
        result = chosen.use(client, folder)
        took = time.monotonic() - began
    versions = {package: importlib.metadata.version(package) for package in chosen.packages}
    print(json.dumps({"result": result, "seconds": round(took, 1), "versions": versions}))


if __name__ == "__main__":
    main()
