"""The logistic function, its logarithms and the binary loss in plain NumPy.

Everything follows from e = exp(-|x|), which never overflows, and from log1p(e).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._blocks import BLOCK_ELEMENTS, Array, boxes
from ._rows import work_dtype

# Beyond this exp(-|x|) may be a subnormal float64, and a great weight would show its few digits.
_DEEP = 700


def _expit(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _log_expit(x: Array) -> Array:
    return -_softplus(-x)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "expit": _expit,
    "log_expit": _log_expit,
    "softplus": _softplus,
}


def elementwise_plain(
    name: str, x: Any, out: Any, resolve: Callable[[int | None, int], int]
) -> Any:
    """No lane for plain calls here: always None, and the caller takes the general path.

    `resolve` says how many threads a large call gets (``fastlse._threads.resolve``).
    """


@np.errstate(all="ignore")
def elementwise(name: str, x: Array, out: Array, n_threads: int) -> None:
    """Write the function of that name, one of `FUNCTIONS`, to `out`, which may be `x`."""
    work = work_dtype(x.dtype)
    for box, _, _ in boxes(x.shape, BLOCK_ELEMENTS):
        out[box] = FUNCTIONS[name](x[box].astype(work, copy=False))


def binary_cross_entropy_plain(
    logits: Any,
    target: Any,
    want_grad: bool,
    out: Any,
    resolve: Callable[[int | None, int], int],
) -> tuple[Any, Array | None] | None:
    """No lane for plain calls here: always None, and the caller takes the general path."""
    return None


@np.errstate(all="ignore")
def binary_cross_entropy(
    logits: Array,
    target: Array,
    loss: Array | None,
    grad: Array | None,
    weight: Array | None,
    pos_weight: Array | None,
    divisor: float,
    n_threads: int,
) -> Any:
    """Write the losses to `loss`, the gradient over `divisor` to `grad`; return the losses' sum.

    All arrays have one shape and dtype; `grad` may be `logits`. With a = |z|, A = pos_weight y,
    B = 1 - y, C the one that the logit's sign speaks against and D the other,

        loss = (A + B) log1p(exp(-a)) + a C
        grad = sign(z) (C - D exp(-a)) / (1 + exp(-a))

    An element of weight 0 is left out: its loss and gradient are 0 whatever it holds.
    """
    sums = []
    for box, _, _ in boxes(logits.shape, BLOCK_ELEMENTS):
        z = logits[box]
        work = _work_dtype(z, weight, pos_weight)
        z, y = z.astype(work, copy=False), target[box].astype(work)
        weights = None if weight is None else weight[box].astype(work)
        for_one = y if pos_weight is None else pos_weight[box] * y
        for_zero = 1 - y
        against = np.where(z < 0, for_one, for_zero)
        a = np.abs(z)
        e = np.exp(-a)
        # An infinite logit that its target agrees with costs nothing.
        losses = (for_one + for_zero) * np.log1p(e) + np.where(against == 0, 0, a * against)
        losses = _weighted(losses, weights)
        sums.append(losses.sum())
        if loss is not None:
            loss[box] = losses
        if grad is not None:
            along = np.where(z < 0, for_zero, for_one)
            values = np.where(z < 0, along * e - against, against - along * e)
            grad[box] = _weighted(values / (1 + e), weights) / divisor
    return np.sum(sums)


def _weighted(values: Array, weights: Array | None) -> Array:
    return values if weights is None else np.where(weights == 0, 0, weights * values)


def _work_dtype(z: Array, weight: Array | None, pos_weight: Array | None) -> np.dtype[Any]:
    """As for every operation, but one of a wider range where a weight may need it."""
    is_weighted = weight is not None or pos_weight is not None
    if is_weighted and z.dtype.itemsize == 8 and (np.abs(z) > _DEEP).any():
        return np.dtype(np.longdouble)
    return work_dtype(z.dtype)
