"""Mergeable states in plain NumPy: from rows to states, from states to results.

States are an array of three rows, one column for each row of `x`: its maximum, and `rest`, the sum
of exp(x - max) without the maximum's own element, as a pair high + low. A NaN in a row is its
maximum; beside an infinite maximum `rest` is 0.
"""

from __future__ import annotations

import numpy as np

from ._blocks import Array, row_blocks
from ._rows import Rows, flushed, work_dtype


@np.errstate(all="ignore")
def row_states(
    x: Array, n_reduced: int, states: Array, where: Array | None, n_threads: int
) -> None:
    """Write each row's state to a column of `states`."""
    for block in row_blocks(x.shape, n_reduced):
        rows = Rows(x, where, block)
        states[0, block.rows] = np.where(np.isnan(rows.rest), np.nan, rows.row_max)
        states[1, block.rows], states[2, block.rows] = rows.rest_pair()
    states[1:, ~np.isfinite(states[0])] = 0


@np.errstate(all="ignore")
def log_sums(states: Array, minus: Array | None, n_terms: Array | None, result: Array) -> None:
    """Write (max - minus) + log((1 + rest) / n_terms); None stands for zeros and for ones.

    With `minus` it is a loss, NaN where the maximum is not finite.
    """
    row_max, high, low = states
    if n_terms is None:
        logarithm = np.log1p(high) + low / (1 + high)
    else:
        # near n_terms the quotient's distance from 1 must not be rounded
        total = 1 + high
        excess = ((total - n_terms) + ((high - (total - 1)) + low)) / n_terms
        logarithm = np.where(excess < -0.5, np.log(total / n_terms), np.log1p(excess))
    if minus is None:
        result[...] = np.where(np.isinf(row_max), row_max, row_max + logarithm)
        result[np.isnan(logarithm)] = np.nan
    else:
        gap = row_max - minus
        from_max = gap + minus
        lost = (row_max - from_max) + (from_max - gap - minus)
        result[...] = gap + (logarithm + np.where(np.isfinite(lost), lost, 0))
        result[~np.isfinite(row_max)] = np.nan


@np.errstate(all="ignore")
def softmax_of_states(x: Array, n_reduced: int, states: Array, out: Array, n_threads: int) -> None:
    """Write exp(x - max) / (1 + rest) to `out`, which may be `x`, by the states given."""
    work = work_dtype(x.dtype)
    for block in row_blocks(x.shape, n_reduced):
        shift, total = _shift_and_total(states[:, block.rows], work)
        for piece in block.columns:
            terms = np.exp(block.read(x, piece).astype(work, copy=False) - shift[:, None])
            block.write(out, piece, flushed(terms / total[:, None], out.dtype))


@np.errstate(all="ignore")
def gradient_of_states(
    logits: Array,
    states: Array,
    target: Array,
    sample_weight: Array | None,
    grad: Array,
    n_threads: int,
) -> None:
    """Write sample_weight * (softmax - one-hot) to `grad`, which may be `logits`.

    A target of -1 is in another shard. At the target the entry is the negated share of the others.
    Rows of sample weight 0, and those of nothing but -inf, get zeros.
    """
    work = work_dtype(logits.dtype)
    for block in row_blocks(logits.shape, 1):
        given, classes = states[:, block.rows], target[block.rows]
        shift, total = _shift_and_total(given, work)
        scale = np.ones(block.n_rows)
        if sample_weight is not None:
            scale = sample_weight[block.rows]
        zero = (scale == 0) | (given[0] == -np.inf)
        for piece in block.columns:
            terms = np.exp(block.read(logits, piece).astype(work, copy=False) - shift[:, None])
            values = terms / total[:, None]
            here = np.flatnonzero((classes >= piece.start) & (classes < piece.stop))
            place = classes[here] - piece.start
            others = ((1 - terms[here, place]) + given[1, here]) + given[2, here]
            values[here, place] = -others / total[here]
            values *= scale[:, None]
            values[zero] = 0
            block.write(grad, piece, flushed(values, grad.dtype))


def _shift_and_total(states: Array, work: np.dtype[np.generic]) -> tuple[Array, Array]:
    """What to subtract and what to divide by; NaN where the maximum is not finite."""
    row_max, high, low = states.astype(work, copy=False)
    is_finite = np.isfinite(row_max)
    return np.where(is_finite, row_max, 0), np.where(is_finite, 1 + (high + low), np.nan)
