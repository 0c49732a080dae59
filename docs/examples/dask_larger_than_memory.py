"""Logistic regression on data four times as large as what a worker process may hold.

The first step writes the data to disk, chunk by chunk, as a stack of npy files. The second fits
it on two worker processes of 300 MiB each. The last one loads all of it into this process, and
compares the coefficients with those of the fit in memory; ``--no-comparison`` leaves that out:

    python docs/examples/dask_larger_than_memory.py [MiB of data] [--no-comparison]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import fastlse.dask
import fastlse.sklearn

N_FEATURES, N_CLASSES, CHUNK_ROWS = 20, 10, 100_000
LIMIT = 300 * 2**20


def make_chunk(number, n_rows):
    """Rows of several classes and, in a last column, the class."""
    rng = np.random.default_rng(number)
    centers = 0.4 * np.random.default_rng(0).standard_normal((N_CLASSES, N_FEATURES))
    labels = rng.integers(N_CLASSES, size=n_rows)
    return np.column_stack([centers[labels] + rng.standard_normal((n_rows, N_FEATURES)), labels])


def make_data(folder, n_bytes, chunk_rows=CHUNK_ROWS):
    """Write features and labels, of which a few chunks at a time are held."""
    n_chunks = max(1, round(n_bytes / (chunk_rows * N_FEATURES * 8)))
    chunk = dask.delayed(make_chunk)
    shape = chunk_rows, N_FEATURES + 1
    table = da.concatenate(
        [da.from_delayed(chunk(i, chunk_rows), shape, float) for i in range(n_chunks)]
    )
    da.to_npy_stack(folder / "X", table[:, :-1])
    da.to_npy_stack(folder / "y", table[:, -1].astype(np.int64))


def open_data(folder):
    """Dask arrays of the files; a chunk is read when a worker needs it."""
    X, y = (da.from_npy_stack(folder / name, mmap_mode=None) for name in ("X", "y"))
    return X, y


def peak():
    """The most bytes that this process has ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # what Linux has in `resource` is the parent's where that held more
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fit(folder, n_workers=2, limit=LIMIT, **options):
    """The fitted model, its accuracy, and what each worker held at most."""
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, memory_limit=limit, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        print(f"dashboard: {cluster.dashboard_link}")
        X, y = open_data(folder)
        model = fastlse.dask.LogisticRegression(**options).fit(X, y)
        return model, float(model.score(X, y)), client.run(peak)


def main(n_mib=1200, compare=True):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, n_mib * 2**20)
        X, y = open_data(folder)
        print(f"{X.nbytes / 2**20:.0f} MiB in {X.numblocks[0]} files, {LIMIT >> 20} MiB per worker")

        start = time.perf_counter()
        model, score, peaks = fit(folder, verbose=1, checkpoint=folder / "fit.npz")
        print(f"{time.perf_counter() - start:.1f} s, accuracy {score:.4f}")
        for worker, held in peaks.items():
            print(f"{worker} held at most {held / 2**20:.0f} MiB")
            assert held < LIMIT

        if compare:
            in_memory = fastlse.sklearn.LogisticRegression().fit(X.compute(), y.compute())
            largest = np.abs(in_memory.coef_).max()
            difference = np.abs(model.coef_ - in_memory.coef_).max() / largest
            print(f"coefficients differ from those of the fit in memory by {difference:.1e}")
            assert difference < 1e-6


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(*sizes, compare="--no-comparison" not in sys.argv)
