"""The reference backend: the backend's functions in plain NumPy.

It serves where the compiled kernels were not built or are not wanted, for the dtypes they do not
know (longdouble, complex), and as the oracle of the tests. A row's steps are always

    row_max = max(x)                        and the place where it is found first
    rest    = sum(exp(x - row_max))         over all elements but that one
    lse     = row_max + log1p(rest)
    softmax = exp(x - row_max) / (1 + rest)

Leaving the maximum's own element, an exact 1, out of the sum is what keeps confident rows accurate:
log(1 + rest) would lose a small `rest`, log1p does not. float32 is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _complex, _log_space, _logistic, _scans, _segments, _states, _weighted
from ._blocks import Array, row_blocks
from ._rows import Rows, add_up, flushed, work_dtype

NAME = "numpy"

# Error bounds are stated for the compiled kernels; NumPy's own exp costs this factor.
ULP_FACTOR = 2

# Elementwise work has no rows; it has a file of its own.
elementwise = _logistic.elementwise
elementwise_plain = _logistic.elementwise_plain
binary_cross_entropy = _logistic.binary_cross_entropy
binary_cross_entropy_plain = _logistic.binary_cross_entropy_plain


def no_lane(*_arguments: Any) -> None:
    """No lane for plain calls here: always None, and the caller takes the general path.

    A lane takes the caller's arguments unchecked, and ``fastlse._threads.resolve``, which says how
    many threads a call gets. It returns the result, or None where a call is not plain.
    """


logsumexp_rows = softmax_rows = log_softmax_rows = no_lane
logsumexp_and_softmax_rows = cross_entropy_rows = no_lane


@np.errstate(all="ignore")
def logsumexp(
    x: Array,
    n_reduced: int,
    lse: Array,
    b: Array | None,
    sign: Array | None,
    where: Array | None,
    n_threads: int,
) -> None:
    """Write each row's log(abs(sum(b * exp(x)))) to `lse` and the sum's sign to `sign`."""
    if x.dtype.kind == "c":
        _complex.logsumexp(x, n_reduced, lse, b, sign, where)
    elif b is not None:
        _weighted.logsumexp(x, n_reduced, lse, b, sign, where)
    else:
        for block in row_blocks(x.shape, n_reduced):
            rows = Rows(x, where, block)
            lse[block.rows] = rows.logsumexp()
        if sign is not None:
            sign[...] = np.where(np.isnan(lse), np.nan, lse > -np.inf)


@np.errstate(all="ignore")
def softmax(
    x: Array, n_reduced: int, out: Array, lse: Array | None, where: Array | None, n_threads: int
) -> None:
    """Write softmax to `out`, which may be `x`, and each row's logsumexp to `lse`."""
    if x.dtype.kind == "c":
        _complex.softmax(x, n_reduced, out, lse, where)
        return
    for block in row_blocks(x.shape, n_reduced):
        rows = Rows(x, where, block)
        if lse is not None:
            lse[block.rows] = rows.logsumexp()
        total = np.where(np.isfinite(rows.row_max), 1 + rows.rest, np.nan)
        for piece in block.columns:
            probabilities = rows.exp(piece) / total[:, None]
            if where is not None:
                probabilities[~block.read(where, piece)] = 0
            block.write(out, piece, flushed(probabilities, out.dtype))


@np.errstate(all="ignore")
def log_softmax(x: Array, n_reduced: int, out: Array, where: Array | None, n_threads: int) -> None:
    """Write log(softmax) to `out`, which may be `x`."""
    if x.dtype.kind == "c":
        _complex.log_softmax(x, n_reduced, out, where)
        return
    for block in row_blocks(x.shape, n_reduced):
        rows = Rows(x, where, block)
        log_total = np.where(np.isfinite(rows.row_max), rows.log_total, np.nan)
        for piece in block.columns:
            values = (rows.values(piece) - rows.row_max[:, None]) - log_total[:, None]
            if where is not None:
                values[~block.read(where, piece)] = -np.inf
            block.write(out, piece, values)


def check_target(
    target: Array,
    n_classes: int,
    weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int,
) -> tuple[int, float]:
    """Find the first row with an invalid target (or -1) and sum the weights of the kept rows."""
    kept = target != ignore_index
    invalid = kept & ((target < 0) | (target >= n_classes))
    if invalid.any():
        return int(invalid.argmax()), 0.0
    if sample_weight is not None:
        kept &= sample_weight != 0
    row_weights = np.ones(np.count_nonzero(kept))
    if weight is not None:
        row_weights *= weight[target[kept]]
    if sample_weight is not None:
        row_weights *= sample_weight[kept]
    return -1, float(row_weights.sum())


@np.errstate(all="ignore")
def cross_entropy(
    logits: Array,
    target: Array,
    loss: Array | None,
    grad: Array | None,
    weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    grad_scale: float,
    n_threads: int,
) -> float:
    """Write each row's loss to `loss` and its scaled gradient to `grad`; return the losses' sum.

    With row weight s, class weights w, their sum W, K classes and smoothing eps,

        loss = s * ((1 - eps) * w_t * (lse - x_t)  +  eps / K * sum_c w_c * (lse - x_c))
    """
    work = work_dtype(logits.dtype)
    n_classes = logits.shape[-1]
    class_weights = np.ones(n_classes, work) if weight is None else weight.astype(work)
    smoothing = class_weights * (label_smoothing / n_classes)
    sums = []
    for block in row_blocks(logits.shape, 1):
        rows = Rows(logits, None, block)
        kept = target[block.rows] != ignore_index
        row_weight = np.ones(block.n_rows, work)
        if sample_weight is not None:
            row_weight = sample_weight[block.rows].astype(work)
            kept &= row_weight != 0
        classes = np.where(kept, target[block.rows], 0)
        target_weight = (1 - label_smoothing) * class_weights[classes]
        losses = _block_loss(rows, classes, target_weight, smoothing)
        losses = np.where(kept, row_weight * losses, 0)
        sums.append(losses.sum())
        if loss is not None:
            loss[block.rows] = losses
        if grad is not None:
            scale = np.where(kept, row_weight * grad_scale, 0)
            _write_gradient(grad, rows, classes, target_weight, smoothing, scale)
    return float(np.sum(sums))


def _block_loss(rows: Rows, classes: Array, target_weight: Array, smoothing: Array) -> Array:
    """Each row's loss before its own weight: both terms are sums of non-negative parts."""
    log_total = np.where(np.isfinite(rows.row_max), rows.log_total, np.nan)
    logits = rows.x[rows.block.box]
    target_logit = np.take_along_axis(logits, classes.reshape(*logits.shape[:-1], 1), axis=-1)
    to_target = (rows.row_max - target_logit.reshape(-1).astype(rows.work)) + log_total
    # A weight of 0 drops the class, even where the logit is -inf.
    losses = np.where(target_weight == 0, 0 * log_total, target_weight * to_target)
    if smoothing.any():
        sums = []
        for piece in rows.block.columns:
            weights = smoothing[piece.start : piece.stop]
            gaps = (rows.row_max[:, None] - rows.values(piece)) * weights
            sums.append(np.where(weights == 0, 0, gaps).sum(axis=1))
        losses = losses + (add_up(sums) + smoothing.sum() * log_total)
    return losses


def _write_gradient(
    grad: Array,
    rows: Rows,
    classes: Array,
    target_weight: Array,
    smoothing: Array,
    scale: Array,
) -> None:
    """Write scale * d loss / d logits; rows whose scale is 0 get exact zeros.

    With A the sum of the weights put on the classes, q_c, the gradient is A * p_c - q_c. At the
    target, A * p_t - q_t is rewritten as (A - q_t) - A * (1 - p_t), with 1 - p_t computed as the
    other classes' share: a difference of two numbers near 1 would lose it.
    """
    total = np.where(np.isfinite(rows.row_max), 1 + rows.rest, np.nan)
    weight_sum = target_weight + smoothing.sum()
    zero = (scale == 0) | (rows.row_max == -np.inf)
    for piece in rows.block.columns:
        terms = rows.exp(piece)
        values = (weight_sum / total)[:, None] * terms - smoothing[piece.start : piece.stop]
        here = np.flatnonzero((classes >= piece.start) & (classes < piece.stop))
        place = classes[here] - piece.start
        others = ((1 - terms[here, place]) + rows.rest[here]) / total[here]
        not_here = smoothing.sum() - smoothing[classes[here]]
        values[here, place] = not_here - weight_sum[here] * others
        values *= scale[:, None]
        values[zero] = 0
        rows.block.write(grad, piece, flushed(values, grad.dtype))


# Functions with a room of their own.
row_states = _states.row_states
log_sums = _states.log_sums
softmax_of_states = _states.softmax_of_states
gradient_of_states = _states.gradient_of_states
logcumsumexp = _scans.logcumsumexp
log1mexp = _log_space.log1mexp
logsubexp = _log_space.logsubexp


def segment_logsumexp(x: Array, indptr: Array, lse: Array, n_threads: int) -> None:
    """Write logsumexp of x[..., indptr[k] : indptr[k + 1]] to lse[k]; nothing for empty segments.

    Segments of one length are the rows of one array.
    """
    for segments, elements in _segments.by_length(x, indptr):
        values = x[..., elements]
        results = np.empty(values.shape[:-1], lse.dtype)
        logsumexp(values, 1, results.reshape(-1), None, None, None, n_threads)
        lse[segments] = results.reshape(-1, len(segments)).T


def segment_softmax(x: Array, indptr: Array, out: Array, n_threads: int) -> None:
    """Write softmax of x[..., indptr[k] : indptr[k + 1]] to the same place of `out`."""
    for _, elements in _segments.by_length(x, indptr):
        values = x[..., elements]
        softmax(values, 1, values, None, None, n_threads)
        out[..., elements] = values
