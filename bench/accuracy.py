"""Print every operation's worst error in ulp, less the contract's gap, over a million rows.

    python bench/accuracy.py [--backend NAME] [--scale 1.0] [--seed 0]

Rows are random of several spreads, tied, offset, confident, full of -inf, log-probabilities, and
such whose maximum is near 0, of lengths 1 to 100,000. The exact results are those of
tests/reference.py, in numpy.longdouble.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import fastlse

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import reference

# (length, rows): about 1.1 million rows and 40 million numbers for each dtype
LENGTHS = [
    *[(n, 24000) for n in range(1, 41)],
    *[(n, 4000) for n in (47, 48, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257)],
    *[(n, 500) for n in (500, 1000, 1023, 1024, 1025, 4095, 4096, 4097)],
    *[(n, 12) for n in (32767, 32769, 65535, 65537, 100000)],
]


def normal(rng, shape):
    return rng.normal(size=shape) * rng.choice([0.01, 0.3, 1, 3, 10, 40], size=(shape[0], 1))


def tied(rng, shape):
    return rng.choice(rng.normal(size=3) * 5, size=shape)


def offset(rng, shape):
    return rng.normal(size=shape) + rng.choice([-1e4, -300, -1, 1, 77, 1e4], size=(shape[0], 1))


def confident(rng, shape):
    x = rng.normal(size=shape)
    x[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] += rng.uniform(5, 80, shape[0])
    return x


def masked(rng, shape):
    x = np.where(rng.random(shape) < 0.6, -np.inf, rng.normal(size=shape) * 3)
    x[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = rng.normal(size=shape[0])
    return x


def log_probabilities(rng, shape):
    x = normal(rng, shape)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def near_zero(rng, shape):
    x = normal(rng, shape)
    x -= x.max(axis=1, keepdims=True)
    return x + rng.choice([-1, 0, 1], size=(shape[0], 1)) * 10.0 ** rng.uniform(
        -20, 0, (shape[0], 1)
    )


KINDS = [normal, tied, offset, confident, masked, log_probabilities, near_zero]


def lse_excess(result, exact, dtype):
    """Error of logsumexp as a multiple of what the contract allows it, gap included."""
    error = np.abs(result.astype(np.longdouble) - exact.lse)
    allowed = (reference.LOGSUMEXP + exact.lse_gap) * reference.ulp(exact.lse, dtype)
    cancels = np.abs(exact.lse) < np.abs(exact.row_max)
    allowed = np.where(cancels, np.maximum(allowed, reference.ulp(exact.row_max, dtype)), allowed)
    return (error / allowed).max()


def excess(result, exact, gap, dtype, flushed):
    """Worst error less gap, in ulp; results that are flushed count by their absolute error."""
    ulp = reference.ulp(exact, dtype)
    error = np.abs(result.astype(np.longdouble) - exact) / ulp - gap
    tiny = np.abs(exact) < np.finfo(dtype).tiny * (1 + 1e-5)
    error = np.where(tiny & flushed, 0, error)
    error = np.where(exact == -np.inf, np.where(result == -np.inf, 0, np.inf), error)
    return np.nanmax(error, initial=0)


def sweep(dtype, scale, rng):
    worst = defaultdict(float)
    n_rows = 0
    for n, rows in LENGTHS:
        for kind in KINDS:
            shape = (max(1, int(rows * scale / len(KINDS))), n)
            x = kind(rng, shape).astype(dtype)
            target = rng.integers(0, n, shape[0])
            half = shape[0] // 2
            target[:half] = x.argmax(axis=1)[:half]
            exact = reference.exact(x)
            loss = reference.exact_loss(x, target)
            n_rows += shape[0]
            for order in "CF":
                a = np.array(x, order=order)
                results = {
                    "logsumexp (part of bound)": lse_excess(
                        fastlse.logsumexp(a, axis=1), exact, dtype
                    ),
                    "softmax": excess(
                        fastlse.softmax(a, axis=1),
                        exact.softmax,
                        exact.softmax_gap,
                        dtype,
                        True,
                    ),
                    "log_softmax": excess(
                        fastlse.log_softmax(a, axis=1),
                        exact.log_softmax,
                        exact.log_softmax_gap,
                        dtype,
                        False,
                    ),
                }
                value, grad = fastlse.cross_entropy_and_grad(a, target, reduction="none")
                finite = np.isfinite(loss.loss)
                results["loss"] = excess(
                    value[finite],
                    loss.loss[finite],
                    loss.loss_gap[finite],
                    dtype,
                    False,
                )
                results["gradient"] = excess(grad, loss.grad, loss.grad_gap, dtype, True)
                for name, error in results.items():
                    worst[name] = max(worst[name], float(error))
    return n_rows, dict(worst)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backend", default=fastlse.backend(), choices=fastlse.available_backends()
    )
    parser.add_argument("--scale", type=float, default=1.0, help="rows, relative to the full sweep")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with fastlse.use_backend(options.backend), np.errstate(all="ignore"):
        for dtype in (np.float32, np.float64):
            n_rows, worst = sweep(dtype, options.scale, np.random.default_rng(options.seed))
            print(f"{options.backend}, {dtype.__name__}, {n_rows} rows, in C and in Fortran order:")
            for name, error in worst.items():
                print(f"  {name:<28}{error:8.3f}")


if __name__ == "__main__":
    main()
