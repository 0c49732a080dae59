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

from . import _complex, _log_space, _logistic, _losses, _scans, _segments, _states, _weighted
from ._blocks import Array, row_blocks
from ._rows import Rows, flushed

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


# Functions with a room of their own.
check_target = _losses.check_target
cross_entropy = _losses.cross_entropy
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
