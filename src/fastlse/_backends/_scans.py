"""logcumsumexp in plain NumPy.

The sum of the others, without the maximum's own element, is kept relative to a reference that
changes only where the maximum has left it far behind:

    max_j    = max(max_{j-1}, x_j)
    others_j = sum over i <= j of exp(min(max_{i-1}, x_i) - reference)
    result_j = max_j + log1p(others_j exp(reference - max_j))
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ._blocks import Array, row_blocks
from ._rows import work_dtype

# exp of this, times 2**_SCALE_BITS and any number of elements, is finite.
_REACH = 500
# The terms are scaled so that none is subnormal.
_SCALE_BITS = 200


@dataclass(slots=True)
class _Carry:
    """How far some rows have come: one entry per row."""

    special: Array  # +inf or NaN if the row has one, else -inf
    row_max: Array  # of the other elements
    reference: Array
    high: Array  # 2**_SCALE_BITS times the sum of the others, as a pair
    low: Array

    @classmethod
    def start(cls, n_rows: int, dtype: np.dtype[np.generic]) -> _Carry:
        nothing = np.full(n_rows, -np.inf, dtype)
        return cls(nothing, nothing.copy(), *(np.zeros(n_rows, dtype) for _ in range(3)))

    def take(self, rows: Array) -> _Carry:
        return _Carry(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: Array, carry: _Carry) -> None:
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(carry, field.name)


@np.errstate(all="ignore")
def logcumsumexp(x: Array, out: Array, exclusive: bool, n_threads: int) -> None:
    """Write the logsumexp of each prefix of the rows to `out`; exclusive: without its last one."""
    work = work_dtype(x.dtype)
    for block in row_blocks(x.shape, 1):
        carry = _Carry.start(block.n_rows, work)
        last = np.full((block.n_rows, 1), -np.inf, work)
        for piece in block.columns:
            results = _scan(block.read(x, piece).astype(work, copy=False), carry)
            if exclusive:
                results = np.concatenate([last, results], axis=1)
                results, last = results[:, :-1], results[:, -1:]
            block.write(out, piece, results)


def _scan(x: Array, carry: _Carry) -> Array:
    """The results for the next columns of some rows; moves `carry` on."""
    is_special = ~(x < np.inf)
    special = _maxima(carry.special, np.where(is_special, x, -np.inf))[:, 1:]
    carry.special = special[:, -1]
    x = np.where(is_special, -np.inf, x)
    row_max = _maxima(carry.row_max, x)
    first = np.take_along_axis(row_max, (row_max > -np.inf).argmax(axis=1)[:, None], axis=1)[:, 0]
    carry.reference = np.where(
        (carry.row_max == -np.inf) & (first > -np.inf), first, carry.reference
    )

    steep = row_max[:, -1] - carry.reference > _REACH
    if not steep.any():
        results = _run(x, row_max, carry)
    else:
        results = np.empty_like(x)
        for rows in (np.flatnonzero(~steep), *np.flatnonzero(steep)[:, None]):
            some = carry.take(rows)
            run = _steep_runs if steep[rows].any() else _run
            results[rows] = run(x[rows], row_max[rows], some)
            carry.put(rows, some)
    return np.where(special == -np.inf, results, special)


def _maxima(first: Array, x: Array) -> Array:
    """Running maxima, that of nothing but `first` in front."""
    return np.asarray(np.maximum.accumulate(np.concatenate([first[:, None], x], axis=1), axis=1))


def _steep_runs(x: Array, row_max: Array, carry: _Carry) -> Array:
    """`_run` of one row in pieces with a reference each."""
    results = np.empty_like(x)
    start, n = 0, x.shape[1]
    while start < n:
        largest = row_max[:, start + 1]
        if largest[0] - carry.reference[0] > _REACH:
            root = _exp(carry.reference / 2, largest / 2)  # for the factor may be subnormal
            carry.high, carry.low = carry.high * root * root, carry.low * root * root
            carry.reference = largest
        stop = int(np.searchsorted(row_max[0, 1:], carry.reference[0] + _REACH, side="right"))
        results[:, start:stop] = _run(x[:, start:stop], row_max[:, start : stop + 1], carry)
        start = stop
    return results


def _run(x: Array, row_max: Array, carry: _Carry) -> Array:
    """The results for columns whose maxima are within reach of the reference."""
    reference = carry.reference[:, None]
    half = _exp(np.minimum(x, row_max[:, :-1]) / 2, reference / 2)
    terms = half * np.ldexp(half, _SCALE_BITS)
    high = np.cumsum(np.concatenate([carry.high[:, None], terms], axis=1), axis=1)
    # What each addition was rounded by, exactly (Knuth's two_sum).
    before, after = high[:, :-1], high[:, 1:]
    from_term = after - before
    lost = (before - (after - from_term)) + (terms - from_term)
    low = np.cumsum(lost, axis=1) + carry.low[:, None]
    carry.row_max, carry.high, carry.low = row_max[:, -1], after[:, -1], low[:, -1]
    rest = np.ldexp((after + low) * _exp(reference, row_max[:, 1:]), -_SCALE_BITS)
    return np.where(row_max[:, 1:] == -np.inf, -np.inf, row_max[:, 1:] + np.log1p(rest))


def _exp(a: Array, b: Array) -> Array:
    """exp(a - b), the rounding of the difference made good."""
    difference = a - b
    from_b = difference - a
    lost = (a - (difference - from_b)) - (b + from_b)
    return np.asarray(np.exp(difference) * (1 + np.where(np.isfinite(lost), lost, 0)))
