"""Numbers that are read from disk in batches: a logsumexp, and the fit of a linear layer.

The matrix is four times as large as what the computation may hold, and is never held: run it with
``python docs/examples/streams.py [n_rows]``.
"""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

import fastlse
from fastlse import LogSumExpState

N_FEATURES, N_CLASSES, BATCH = 50, 10, 10_000


def make_data(folder, n_rows):
    """Features and targets of which one batch is held at a time."""
    rng = np.random.default_rng(0)
    of_class = rng.standard_normal((N_CLASSES, N_FEATURES))
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (n_rows, N_FEATURES))
    target = np.lib.format.open_memmap(folder / "target.npy", "w+", np.int64, (n_rows,))
    for start in range(0, n_rows, BATCH):
        rows = slice(start, min(n_rows, start + BATCH))
        target[rows] = rng.integers(N_CLASSES, size=rows.stop - start)
        x[rows] = of_class[target[rows]] + rng.standard_normal((rows.stop - start, N_FEATURES))


def logsumexp_of_columns(x):
    """One state for each column, and one batch of rows in memory."""
    state = LogSumExpState.empty((N_FEATURES,), x.dtype, axis=0)
    for start in range(0, len(x), BATCH):
        state = state.update(x[start : start + BATCH])
    return state.result()


def fit(x, target, n_steps=20, rate=0.1):
    """Gradient descent; each step reads the file once, by blocks of rows."""
    weight, bias = np.zeros((N_CLASSES, N_FEATURES), np.float32), np.zeros(N_CLASSES, np.float32)
    losses = []
    for _ in range(n_steps):
        total, of_weight, of_bias = 0.0, np.zeros(weight.shape), np.zeros(bias.shape)
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            loss, (_, grad_weight, grad_bias) = fastlse.linear_cross_entropy_and_grad(
                x[rows], weight, target[rows], linear_bias=bias, reduction="sum"
            )
            total, of_weight, of_bias = total + loss, of_weight + grad_weight, of_bias + grad_bias
        losses.append(total / len(x))
        weight -= (rate / len(x) * of_weight).astype(np.float32)
        bias -= (rate / len(x) * of_bias).astype(np.float32)
    return weight, bias, losses


def main(n_rows=200_000):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, n_rows)
        x, target = np.load(folder / "x.npy", "r"), np.load(folder / "target.npy", "r")
        tracemalloc.start()
        lse = logsumexp_of_columns(x)
        weight, bias, losses = fit(x, target)
        # The loss alone needs no gradient of x, and so no loop of one's own.
        loss = fastlse.linear_cross_entropy(x, weight, target, linear_bias=bias)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{x.nbytes / 1e6:.0f} MB on disk, at most {peak / 1e6:.1f} MB held")
        print(f"loss {losses[0]:.4f} -> {loss:.4f}")
        np.testing.assert_allclose(lse, fastlse.logsumexp(x, axis=0), rtol=1e-6)
        assert loss < losses[0] / 2
        assert peak < x.nbytes / 4
        del x, target  # Windows removes no file that is mapped


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
