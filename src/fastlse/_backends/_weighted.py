"""logsumexp with weights: log(abs(sum(b * exp(a)))) for weights of any size and sign."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._blocks import Array, Columns, RowBlock, row_blocks
from ._rows import add_up, work_dtype

# log(2) in two parts: multiples of the first by an exponent are exact in float64.
_LOG2_HIGH = float.fromhex("0x1.62e42fefap-1")
_LOG2_LOW = "1.64659495828970812809844307550013436e-12"

# A weight's exponent is applied exactly up to this; only what exceeds it goes into the exponential.
_EXACT_EXPONENT = 300

# As in the unweighted sum: below this, terms may be subnormal and are computed again, scaled up.
_DEEP = 2.0**-400
_DEEP_SCALE = 300

_Term = Callable[[Array, Array], Array]


def logsumexp(
    a: Array, n_reduced: int, lse: Array, b: Array, sign: Array | None, where: Array | None
) -> None:
    """Write log(abs(sum(b * exp(a)))) to `lse` and the sum's sign to `sign`.

    The element with the largest abs(b) * exp(a), at place j, is left out of the sum:

        rest = sum(b_i / b_j * exp(a_i - a_j))        over i != j
        lse  = a_j + log(abs(b_j)) + log(abs(1 + rest))

    Without `sign`, a negative sum gives NaN. The caller silences floating-point warnings.
    """
    for block in row_blocks(a.shape, n_reduced):
        values, signs = _WeightedRows(a, b, where, block).result()
        if sign is None:
            lse[block.rows] = np.where(signs < 0, np.nan, values)
        else:
            lse[block.rows], sign[block.rows] = values, signs


class _WeightedRows:
    """A block's rows: their leading element and the sum of the others relative to it."""

    def __init__(self, a: Array, b: Array, where: Array | None, block: RowBlock) -> None:
        self.a, self.b, self.where, self.block = a, b, where, block
        self.work = work_dtype(a.dtype)

    def result(self) -> tuple[Array, Array]:
        """The rows' log(abs(sum)) and the sum's sign."""
        self._find_leader()
        rest = self._sum_others()
        # 1 + rest changes sign at rest = -1; log1p takes what lies above.
        log_total = np.log1p(np.where(rest < -1, -rest - 2, rest))
        lse = self.leader_a + (np.log(np.abs(self.leader_b)) + log_total)
        sign = np.sign(self.leader_b) * np.sign(1 + rest)
        infinite_sign = np.where(self.plus_inf & self.minus_inf, np.nan, 1.0 - 2 * self.minus_inf)
        lse = np.select(
            [np.isnan(self.top), self.top == np.inf, self.top == -np.inf],
            [self.top, infinite_sign * infinite_sign * np.inf, self.top],
            lse,
        )
        sign = np.select(
            [np.isnan(self.top), self.top == np.inf, self.top == -np.inf],
            [self.top, infinite_sign, 0],
            sign,
        )
        return lse, sign

    def _read(self, piece: Columns) -> tuple[Array, Array]:
        """The rows' elements and weights; a dropped element has -inf and weight 1."""
        a = self.block.read(self.a, piece).astype(self.work, copy=False)
        b = self.block.read(self.b, piece).astype(self.work, copy=False)
        dropped = b == 0
        if self.where is not None:
            dropped |= ~self.block.read(self.where, piece)
        return np.where(dropped, -np.inf, a), np.where(dropped, 1, b)

    def _find_leader(self) -> None:
        """Find the largest a + log(abs(b)), its a and b, and the signs of infinite terms."""
        n_rows = self.block.n_rows
        a_max = np.full(n_rows, -np.inf, self.work)
        for piece in self.block.columns:
            np.fmax(a_max, self._read(piece)[0].max(axis=1), out=a_max)
        # Relative to the largest a, so that a huge a does not swallow log(abs(b)).
        shift = np.where(np.isfinite(a_max), a_max, 0)[:, None]

        self.top = np.full(n_rows, -np.inf, self.work)
        self.leader = np.zeros(n_rows, np.intp)
        self.leader_a, self.leader_b = np.zeros(n_rows, self.work), np.ones(n_rows, self.work)
        self.plus_inf, self.minus_inf = np.zeros(n_rows, bool), np.zeros(n_rows, bool)
        for piece in self.block.columns:
            a, b = self._read(piece)
            size = (a - shift) + np.log(np.abs(b))
            place = size.argmax(axis=1)[:, None]
            found = np.take_along_axis(size, place, axis=1)[:, 0]
            better = (found > self.top) | np.isnan(found)
            self.top[better] = found[better]
            self.leader[better] = place[better, 0] + piece.start
            self.leader_a[better] = np.take_along_axis(a, place, axis=1)[better, 0]
            self.leader_b[better] = np.take_along_axis(b, place, axis=1)[better, 0]
            self.plus_inf |= ((size == np.inf) & (b > 0)).any(axis=1)
            self.minus_inf |= ((size == np.inf) & (b < 0)).any(axis=1)

    def _sum_others(self) -> Array:
        """The sum of b_i / b_j * exp(a_i - a_j) over all but the leader j."""
        rest = self._sum_terms(_term)
        deep = np.abs(rest) < _DEEP
        if self.work.itemsize == self.a.dtype.itemsize and deep.any():
            scaled = self._sum_terms(_term_scaled)
            rest = np.where(deep, np.ldexp(scaled, -_DEEP_SCALE), rest)
        return rest

    def _sum_terms(self, term: _Term) -> Array:
        # Dividing the sum by b_j, not each term, keeps the cancellation of equal terms exact; b_j's
        # exponent is taken off before, so that no term overflows.
        leader_mantissa, leader_exponent = np.frexp(self.leader_b)
        low = self.work.type(_LOG2_LOW)
        sums = []
        for piece in self.block.columns:
            a, b = self._read(piece)
            mantissa, exponent = np.frexp(b)
            exponent = exponent - leader_exponent[:, None]
            exact = np.clip(exponent, -_EXACT_EXPONENT, _EXACT_EXPONENT)
            excess = exponent - exact
            gap = ((a - self.leader_a[:, None]) + excess * _LOG2_HIGH) + excess * low
            terms = term(np.ldexp(mantissa, exact), gap)
            own = np.flatnonzero((self.leader >= piece.start) & (self.leader < piece.stop))
            terms[own, self.leader[own] - piece.start] = 0
            sums.append(terms.sum(axis=1))
        return np.asarray(add_up(sums) / leader_mantissa)


def _term(factor: Array, gap: Array) -> Array:
    return np.asarray(factor * np.exp(gap))


def _term_scaled(factor: Array, gap: Array) -> Array:
    """Compute factor * exp(gap) * 2**_DEEP_SCALE, accurate where exp alone would be subnormal."""
    half = np.exp(gap / 2)
    return np.asarray((factor * half) * np.ldexp(half, _DEEP_SCALE))
