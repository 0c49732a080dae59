"""Exact results, the error of a result in ulp, and rows of every kind.

Exact means numpy.longdouble with a mantissa of at least 64 bits, 11 more than float64 has: the
reference's own errors, of the same kind as those that the contract allows (a few roundings, and one
rounding of x - max), are 2**11 times smaller than they. It has a wider range too, so that nothing
underflows here that float64 can hold. test_accuracy.py checks it against mpmath.
The formulas are those that keep what is small: the sum of the others (`rest`) and log1p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fastlse import losses, reductions

longdouble = np.longdouble

needs_longdouble = pytest.mark.skipif(
    np.finfo(longdouble).nmant < 63,
    reason="the reference needs a numpy.longdouble of at least 64 bits",
)

# The bounds of the contract: beside the functions in the package.
LOGSUMEXP = reductions.LOGSUMEXP_ULP
SOFTMAX = reductions.SOFTMAX_ULP
LOG_SOFTMAX = reductions.LOG_SOFTMAX_ULP
CROSS_ENTROPY = losses.CROSS_ENTROPY_ULP
GRADIENT = losses.GRADIENT_ULP

DTYPES = ["float32", "float64"]


def factor(backend: str) -> int:
    """What the bounds are multiplied by: the NumPy backend is held to twice the bounds."""
    return 2 if backend == "numpy" else 1


@dataclass(frozen=True)
class Exact:
    """Exact results of rows, and the contract's `gap` of each."""

    row_max: np.ndarray
    lse: np.ndarray
    lse_gap: np.ndarray
    softmax: np.ndarray
    softmax_gap: np.ndarray
    log_softmax: np.ndarray
    log_softmax_gap: np.ndarray


@np.errstate(all="ignore")
def _parts(x):
    """Maximum, exp(x - max), max - x, the sum of the others, and their mean distance."""
    x = x.astype(longdouble)
    row_max = x.max(axis=1, keepdims=True)
    distance = row_max - x
    e = np.exp(-distance)
    others = e.copy()
    others[np.arange(len(x)), x.argmax(axis=1)] = 0
    rest = others.sum(axis=1, keepdims=True)
    weighted = np.where(others > 0, np.where(np.isinf(distance), 0, distance) * others, 0)
    mean_gap = weighted.sum(axis=1, keepdims=True) / np.where(rest > 0, rest, 1)
    return x, row_max, distance, e, rest, mean_gap


@np.errstate(all="ignore")
def exact(x: np.ndarray) -> Exact:
    """Exact reductions of 2-D `x` along its rows; each row has a finite maximum."""
    x, row_max, distance, e, rest, mean_gap = _parts(x)
    log_total = np.log1p(rest)
    return Exact(
        row_max=row_max[:, 0],
        lse=(row_max + log_total)[:, 0],
        lse_gap=np.where(row_max == 0, mean_gap, 0)[:, 0],
        softmax=e / (1 + rest),
        softmax_gap=np.where(np.isinf(distance), 0, distance),
        log_softmax=-distance - log_total,
        log_softmax_gap=np.where(distance == 0, mean_gap, 0),
    )


@dataclass(frozen=True)
class ExactLoss:
    """Exact losses of rows and their gradients, reduction "none", and the contract's `gap`."""

    loss: np.ndarray
    loss_gap: np.ndarray
    grad: np.ndarray
    grad_gap: np.ndarray


@np.errstate(all="ignore")
def exact_loss(x, target, weight=None, sample_weight=None, ignore_index=-100, eps=0.0) -> ExactLoss:
    """Exact losses of 2-D `x`, each kept row of which has a finite maximum.

    loss = s * ((1 - eps) * w_t * (lse - x_t) + eps / K * sum_c w_c * (lse - x_c))
    """
    n_rows, n = x.shape
    rows = np.arange(n_rows)
    s = np.ones(n_rows, longdouble)
    if sample_weight is not None:
        s = sample_weight.astype(longdouble)
    kept = (target != ignore_index) & (s != 0)
    # What an ignored row holds must not matter.
    x = np.where(kept[:, None], x, 0)
    target = np.where(kept, target, 0)
    s = np.where(kept, s, 0)
    w = np.ones(n, longdouble) if weight is None else weight.astype(longdouble)
    q = longdouble(eps) / n * w
    a = (1 - longdouble(eps)) * w[target]

    _, _, distance, e, rest, mean_gap = _parts(x)
    log_total = np.log1p(rest)
    to_target = (distance[rows, target] + log_total[:, 0]) * a
    to_target = np.where(a == 0, 0, to_target)
    to_all = np.where(q == 0, 0, (distance + log_total) * q).sum(axis=1)
    total = a + q.sum()
    softmax = e / (1 + rest)
    grad = total[:, None] * softmax - q
    others = e.copy()
    others[rows, target] = 0
    # a + q_t - total * p_t is negated and rewritten without the difference of 1 and p_t.
    not_here = q.sum() - q[target]
    grad[rows, target] = not_here - total * others.sum(axis=1) / (1 + rest[:, 0])
    grad_gap = np.where(np.isinf(distance), 0, distance)
    confident = distance[rows, target] == 0
    target_gap = np.where(confident, mean_gap[:, 0], 0)
    grad_gap[rows, target] = target_gap
    return ExactLoss(
        loss=s * (to_target + to_all),
        loss_gap=target_gap,
        grad=s[:, None] * grad,
        grad_gap=grad_gap,
    )


def ulp(exact, dtype):
    """One unit in the last place of the exact result, in the result's dtype."""
    with np.errstate(all="ignore"):
        return np.spacing(np.abs(np.asarray(exact).astype(dtype))).astype(np.float64)


def ulp_error(result, exact):
    """Error in ulp of the exact result; equal infinities and a NaN for a NaN are no error."""
    result, exact = np.asarray(result), np.asarray(exact)
    with np.errstate(all="ignore"):
        # The difference needs the long mantissa, the quotient does not.
        error = np.abs(result - exact).astype(np.float64) / ulp(exact, result.dtype)
    if np.isnan(error).any():
        same = (result == exact) | (np.isnan(result) & np.isnan(exact))
        error = np.where(np.isnan(error), np.where(same, 0, np.inf), error)
    return error


def assert_within(result, exact, bound):
    """Assert that each error is within its bound, in ulp of the exact result."""
    error = ulp_error(result, exact)
    with np.errstate(invalid="ignore"):
        excess = error - bound
    if not np.all(excess <= 0):
        worst = np.unravel_index(np.argmax(excess), excess.shape)
        raise AssertionError(
            f"{np.count_nonzero(excess > 0)} of {excess.size} are out of bound; at {worst}: "
            f"got {result[worst]!r}, exact {exact[worst]!r}, error {error[worst]:.2f} ulp, "
            f"bound {np.broadcast_to(bound, error.shape)[worst]:.2f}"
        )


def assert_lse_within(lse, rows: Exact, times=1):
    """Logsumexp within its bound, or 1 ulp of the maximum where it cancels with log(sum)."""
    bound = times * (LOGSUMEXP + rows.lse_gap)
    of_max = times * ulp(rows.row_max, lse.dtype) / ulp(rows.lse, lse.dtype)
    assert_within(lse, rows.lse, np.where(rows.row_max < 0, np.maximum(bound, of_max), bound))


def assert_flushed_within(result, exact, bound):
    """Like assert_within for results that are +0 below the smallest normal number."""
    tiny = np.finfo(result.dtype).tiny
    # A result this near to the smallest normal number may fall on either side of it.
    tolerance = np.broadcast_to(bound, result.shape) * np.finfo(result.dtype).eps * tiny
    may_be_zero = np.abs(exact) < tiny + tolerance
    must_be_zero = np.abs(exact) < tiny - tolerance
    small = np.abs(result) < tiny
    assert not np.any(small & (result != 0)), "a subnormal number was not flushed to zero"
    assert not np.any(small & np.signbit(result)), "-0"
    assert not np.any(must_be_zero & (result != 0))
    is_flushed = may_be_zero & (result == 0)
    assert_within(np.where(is_flushed, 0, result), np.where(is_flushed, 0, exact), bound)


# ---- rows ----

# Around the number of lanes (32, 64), of elements in a chunk (4096) and in a block (32768, 65536).
SHORT = [*range(1, 71), 95, 96, 97]
MIDDLE = [127, 128, 129, 255, 256, 257, 1000]
LONG = [4095, 4096, 4097, 32769, 65535, 65536, 65537, 100_000]
LENGTHS = {"short": SHORT, "middle": MIDDLE, "long": LONG}

KINDS = [
    "random",
    "tied",
    "offset",
    "confident",
    "with -inf",
    "wide",
    "maximum 0",
    "cancelling",
    "ramp",
]


def n_rows_for(n: int) -> int:
    """Rows enough for tiles where they are short, one where they are long."""
    if n in (17, 22, 27):  # between 16 and 28 elements a tile takes whole ones
        return 70
    if n <= 97:
        return 20
    return 9 if n <= 1000 else 1


def make_rows(kind: str, n_rows: int, n: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Rows of one kind, each of another scale."""
    rng = np.random.default_rng([KINDS.index(kind), n_rows, n, seed])
    deepest = 110 if dtype == "float32" else 760  # beyond where exp underflows
    scale = 10 ** rng.uniform(-4, 2, (n_rows, 1))
    x = rng.standard_normal((n_rows, n)) * scale
    if kind == "tied":
        # one value, or a value and another below it
        x = np.repeat(scale * rng.choice([-1, 0, 1], (n_rows, 1)), n, axis=1)
        lower = rng.random((n_rows, n)) < rng.choice([0, 0.5, 1], (n_rows, 1))
        lower[:, n // 3] = False
        x = x - lower * rng.uniform(0, deepest / 4, (n_rows, 1))
    elif kind == "offset":
        x = x + rng.choice([-1, 1], (n_rows, 1)) * 10 ** rng.uniform(2, 5, (n_rows, 1))
    elif kind == "confident":
        x[np.arange(n_rows), rng.integers(n, size=n_rows)] += rng.uniform(0, deepest, n_rows)
    elif kind == "with -inf":
        x[rng.random((n_rows, n)) < rng.uniform(0.1, 1, (n_rows, 1))] = -np.inf
        x[np.arange(n_rows), rng.integers(n, size=n_rows)] = rng.standard_normal(n_rows)
    elif kind == "wide":
        x = rng.uniform(-deepest, deepest / 8, (n_rows, n))
    elif kind == "ramp":  # a long row's blocks lie far below each other
        x = x * 0.01 + np.linspace(0, -deepest, n) * rng.choice([-1, 1], (n_rows, 1))
    elif kind == "maximum 0":
        x = -rng.uniform(0, rng.uniform(0.1, deepest, (n_rows, 1)), (n_rows, n))
        x[np.arange(n_rows), rng.integers(n, size=n_rows)] = 0
    elif kind == "cancelling":
        x = x / scale
        x = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        x = x + rng.choice([0, 1e-6, -1e-3], (n_rows, 1))
    return x.astype(dtype)
