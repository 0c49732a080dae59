"""What every operation needs of a block of rows: the maximum, `rest` and log(1 + rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._blocks import Array, Columns, RowBlock

# Below this a float64 sum may owe its size to terms that are subnormal, hence inaccurate.
DEEP = 2.0**-950
_DEEP_SCALE = 300


class Rows:
    """A block's rows and what every operation needs of them: maximum, `rest`, log(1 + rest)."""

    def __init__(self, x: Array, where: Array | None, block: RowBlock) -> None:
        self.x, self.where, self.block = x, where, block
        self.work = work_dtype(x.dtype)
        # float32 is computed with digits to spare and needs none of the remedies below.
        self._same_precision = self.work.itemsize == x.dtype.itemsize
        self._only_piece: Array | None = None
        self.row_max, self.position = self._find_max()
        # An infinite maximum must not turn the differences into NaN: inf - inf.
        self.shift = np.where(np.isfinite(self.row_max), self.row_max, 0)
        self.rest = self._sum_accurately()
        self.log_total = np.log1p(self.rest)

    def values(self, piece: Columns) -> Array:
        """The rows' elements, masked ones as -inf, in the dtype of the computation."""
        if self._only_piece is not None:
            return self._only_piece
        values = self.block.read(self.x, piece).astype(self.work, copy=False)
        if self.where is not None:
            values = np.where(self.block.read(self.where, piece), values, -np.inf)
        if len(self.block.columns) == 1:
            self._only_piece = values
        return values

    def exp(self, piece: Columns) -> Array:
        """exp(x - row_max)."""
        gap = self.values(piece) - self.shift[:, None]
        return np.asarray(np.exp(gap, out=gap))

    def _find_max(self) -> tuple[Array, Array]:
        row_max = np.full(self.block.n_rows, -np.inf, self.work)
        position = np.zeros(self.block.n_rows, np.intp)
        for piece in self.block.columns:
            values = self.values(piece)
            place = values.argmax(axis=1)
            found = np.take_along_axis(values, place[:, None], axis=1)[:, 0]
            better = (found > row_max) | np.isnan(found)
            row_max[better] = found[better]
            position[better] = place[better] + piece.start
        return row_max, position

    def logsumexp(self) -> Array:
        """row_max + log(1 + rest), computed again with more digits where too few are left."""
        lse = self.row_max + self.log_total
        if self._same_precision:
            doubtful = self._doubtful(lse)
            if doubtful.any():
                rest = self._rest_wide(doubtful)
                lse[doubtful] = self.row_max[doubtful].astype(np.longdouble) + np.log1p(rest)
        return lse

    def rest_pair(self) -> tuple[Array, Array]:
        """`rest` as the sum of two numbers, with more digits where logsumexp needs them."""
        high, low = self.rest.copy(), np.zeros_like(self.rest)
        if self._same_precision:
            doubtful = self._doubtful(self.row_max + self.log_total)
            if doubtful.any():
                rest = self._rest_wide(doubtful)
                high[doubtful] = rest
                low[doubtful] = rest - high[doubtful]
        return high, low

    def _doubtful(self, lse: Array) -> Array:
        """Rows in which the rounding of x - row_max may cost logsumexp more than an ulp or two.

        Weighted by exp(x - row_max), the mean of row_max - x is at most log(n / rest).
        """
        n = sum(piece.stop - piece.start for piece in self.block.columns)
        error = self.rest / (1 + self.rest) * (np.log(n / self.rest) + 2)
        allowed = np.where(
            np.abs(lse) < np.abs(self.row_max), np.abs(self.row_max), 2 * np.abs(lse)
        )
        return np.asarray((error > allowed) & (self.row_max != 0) & np.isfinite(self.row_max))

    def _rest_wide(self, rows: Array) -> Array:
        """Compute `rest` of some rows in longdouble, of use where that is the wider type."""
        row_max = self.row_max[rows, None].astype(np.longdouble)
        sums = []
        for piece in self.block.columns:
            terms = np.exp(self.values(piece)[rows] - row_max)
            own = np.flatnonzero(
                (self.position[rows] >= piece.start) & (self.position[rows] < piece.stop)
            )
            terms[own, self.position[rows][own] - piece.start] = 0
            sums.append(terms.sum(axis=1))
        return add_up(sums)

    def _sum_accurately(self) -> Array:
        """`rest`, with rows whose terms were subnormal summed again at another scale."""
        rest = self._sum_others(self.exp)
        deep = rest < DEEP
        if self._same_precision and deep.any():
            scaled = self._sum_others(self._exp_scaled)
            rest = np.where(deep, np.ldexp(scaled, -_DEEP_SCALE), rest)
        return rest

    def _sum_others(self, exp: Callable[[Columns], Array]) -> Array:
        """The sum of `exp` over all but the first maximum's own element."""
        return add_up([self._without_max(exp(piece), piece) for piece in self.block.columns])

    def _exp_scaled(self, piece: Columns) -> Array:
        """exp(x - row_max) * 2**_DEEP_SCALE, accurate where exp alone would be subnormal."""
        half = np.exp((self.values(piece) - self.shift[:, None]) / 2)
        return np.asarray(half * np.ldexp(half, _DEEP_SCALE))

    def deep_products(self, piece: Columns, factor: Array) -> Array:
        """Products of factors and exp(x - row_max), accurate where exp alone would be subnormal."""
        half = np.exp((self.values(piece) - self.shift[:, None]) / 2)
        return np.asarray(factor[:, None] * half * half)

    def _without_max(self, terms: Array, piece: Columns) -> Array:
        """Each row's sum of `terms` without its maximum's own; overwrites `terms`."""
        own = np.flatnonzero((self.position >= piece.start) & (self.position < piece.stop))
        terms[own, self.position[own] - piece.start] = 0
        return np.asarray(terms.sum(axis=1))


def work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the computation: float32 in float64, the others in their own, native order."""
    return np.promote_types(dtype, np.float64)


def add_up(sums: list[Array]) -> Array:
    """Add up the pieces' sums pairwise, so that the error does not grow with their number."""
    return sums[0] if len(sums) == 1 else np.asarray(np.stack(sums, axis=1).sum(axis=1))


def flushed(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round to `dtype` with results below its smallest normal number as +0."""
    rounded = values.astype(dtype, copy=False)
    rounded[np.abs(rounded) < np.finfo(dtype).tiny] = 0
    return rounded
