"""Exact losses with every option, and what the documented bounds allow for their errors.

In numpy.longdouble, as in reference.py. A row's loss is written as pulls on its classes:

    loss     = sum_c pull_c * (lse - y_c)  +  z_loss * lse**2
    gradient = (sum_k pull_k + 2 * z_loss * lse) * p_c - pull_c,    times the slope of the cap
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from reference import CROSS_ENTROPY, GRADIENT, longdouble, ulp

from fastlse.losses import SOFTCAP_ULP


def pulls_of(target, n, weight=None, label_smoothing=0.0):
    """What the loss puts on each class: of class indices, or of rows of class probabilities."""
    weight = np.ones(n, longdouble) if weight is None else np.asarray(weight, longdouble)
    if target.dtype.kind == "f":
        q = target.astype(longdouble)
    else:
        q = (target[:, None] == np.arange(n)).astype(longdouble)
    eps = longdouble(label_smoothing)
    return weight * ((1 - eps) * q + eps / n)


def kept_rows(target, sample_weight, ignore_index):
    kept = np.ones(len(target), bool) if target.dtype.kind == "f" else target != ignore_index
    return kept if sample_weight is None else kept & (sample_weight != 0)


@dataclass(frozen=True)
class ExactRows:
    """Losses and gradients of rows, each with the largest error that its bound allows."""

    loss: np.ndarray
    loss_error: np.ndarray
    grad: np.ndarray
    grad_error: np.ndarray


@np.errstate(all="ignore")
def exact_rows(
    x,
    target,
    weight=None,
    *,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    softcap=None,
) -> ExactRows:
    """Of 2-D `x`, whose kept rows have a finite maximum, under reduction "none"."""
    dtype, (n_rows, n) = x.dtype, x.shape
    eps = np.finfo(dtype).eps
    kept = kept_rows(target, sample_weight, ignore_index)
    x = np.where(kept[:, None], x, 0).astype(longdouble)
    pull = pulls_of(target, n, weight, label_smoothing)
    pull = np.where(kept[:, None], pull, 0)
    s = np.ones(n_rows, longdouble) if sample_weight is None else sample_weight.astype(longdouble)
    s = np.where(kept, s, 0)
    extra = (target.dtype.kind == "f") * (1 + (weight is not None) + (label_smoothing > 0))

    y, slope, of_slope, cap = x, longdouble(1), longdouble(0), 0
    if softcap is not None:
        y = softcap * np.tanh(x / softcap)
        e = np.exp(-2 * np.abs(x) / softcap)
        slope, cap = 4 * e / (1 + e) ** 2, SOFTCAP_ULP
        of_slope = cap + 2 * np.abs(x) / softcap

    rows, top = np.arange(n_rows), y.argmax(axis=1)
    y_max = y[rows, top][:, None]
    d = y_max - y
    others = np.exp(-d)
    others[rows, top] = 0
    rest = others.sum(axis=1, keepdims=True)
    log_total = np.log1p(rest)
    lse = y_max + log_total
    p = np.exp(-d) / (1 + rest)

    # What a rounding of each logit's difference from the maximum, and of the cap, moves.
    gap = np.where(np.isinf(d), 0, d + cap * (np.abs(y) + np.abs(y_max)))
    gap[rows, top] = 0
    of_lse = (gap * others).sum(axis=1, keepdims=True) / (1 + rest)

    distance = np.where(pull == 0, 0, d + log_total)
    parts = np.abs(pull) * distance
    z_part = z_loss * lse**2
    loss = (pull * distance).sum(axis=1, keepdims=True) + z_part
    size = s * (parts.sum(axis=1, keepdims=True))[:, 0]
    loss_error = (CROSS_ENTROPY + extra) * ulp(size, dtype)
    moved = (np.abs(pull) * (of_lse + np.where(distance == 0, 0, cap * gap))).sum(axis=1)
    loss_error = loss_error + eps * s * moved
    if z_loss:
        moved = cap * np.abs(y_max) + of_lse
        z_error = (2 * CROSS_ENTROPY + 1) * z_part + 2 * z_loss * np.abs(lse) * moved
        loss_error = loss_error + (ulp(s * loss[:, 0], dtype) + eps * s * z_error[:, 0])

    mass = pull.sum(axis=1, keepdims=True)
    weight_sum = np.abs(pull).sum(axis=1, keepdims=True)  # pulls of both signs cancel in the mass
    z_slope = 2 * z_loss * lse
    grad = (mass + z_slope) * p - pull
    size = (weight_sum + np.abs(z_slope)) * p + np.abs(pull)
    moved = (weight_sum + np.abs(z_slope)) * p * (gap + of_lse)
    own = top
    if target.dtype.kind != "f":
        own = np.where(kept, target, 0)
    without_own = np.exp(-d)
    without_own[rows, own] = 0
    share = without_own.sum(axis=1) / (1 + rest[:, 0])
    others_pull = pull.copy()
    others_pull[rows, own] = 0
    others_size = np.abs(others_pull).sum(axis=1)
    others_pull = others_pull.sum(axis=1)
    z_own = z_slope[:, 0] * p[rows, own]
    # Where most of the weight is on the row's own class, the difference is that of the others.
    confident = np.abs(pull[rows, own]) >= np.abs(others_pull)
    of_rows, of_own = rows[confident], own[confident]
    exact_own = others_pull - mass[:, 0] * share + z_own
    own_size = others_size + weight_sum[:, 0] * share + np.abs(z_own)
    own_moved = weight_sum[:, 0] * ((p * gap).sum(axis=1) + gap[rows, own] * share)
    own_moved += np.abs(z_own) * (gap[rows, own] + of_lse[:, 0])
    grad[of_rows, of_own] = exact_own[confident]
    size[of_rows, of_own] = own_size[confident]
    moved[of_rows, of_own] = own_moved[confident]
    extra += z_loss > 0
    if z_loss:
        of_z = 2 * z_loss * (CROSS_ENTROPY * np.abs(lse) + of_lse + cap * np.abs(y_max))
        moved = moved + p * of_z
    s = s[:, None]
    grad_error = (GRADIENT + extra) * ulp(s * size * slope, dtype)
    grad_error = grad_error + eps * np.abs(s) * slope * (moved + size * of_slope)
    zero = (s == 0) | np.isneginf(y_max)
    return ExactRows(
        loss=(s * loss)[:, 0],
        loss_error=loss_error,
        grad=np.where(zero, 0, s * slope * grad),
        # Below the smallest normal number results are flushed to zero.
        grad_error=np.where(zero, 0, grad_error + np.finfo(dtype).tiny),
    )


def assert_within_error(result, exact, error):
    """Assert that no result is further from the exact one than `error`."""
    result, exact = np.asarray(result), np.asarray(exact)
    with np.errstate(invalid="ignore"):
        off = np.abs(result - exact)
    same = (result == exact) | (np.isnan(result) & np.isnan(exact))
    bad = ~same & ~(off <= error)
    if bad.any():
        with np.errstate(all="ignore"):
            ratio = np.where(bad, off / np.broadcast_to(error, off.shape), 0).astype(float)
        worst = np.unravel_index(np.argmax(ratio), ratio.shape)
        raise AssertionError(
            f"{np.count_nonzero(bad)} of {bad.size} are out of bound; at {worst}: got "
            f"{result[worst]!r}, exact {exact[worst]!r}, {ratio[worst]:.2f} times the bound"
        )
