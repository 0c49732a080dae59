"""log(1 - exp(x)) and log(exp(x) - exp(y)) in plain NumPy."""

from __future__ import annotations

import numpy as np

from ._blocks import Array, row_blocks
from ._rows import work_dtype


@np.errstate(all="ignore")
def log1mexp(x: Array, out: Array, n_threads: int) -> None:
    """Write log(1 - exp(x)) to `out`, which may be `x`; NaN for x > 0."""
    for block in row_blocks(x.shape, x.ndim):
        for piece in block.columns:
            values = block.read(x, piece).astype(work_dtype(x.dtype), copy=False)
            block.write(out, piece, _log1mexp(values, 0))


@np.errstate(all="ignore")
def logsubexp(x: Array, y: Array, out: Array, n_threads: int) -> None:
    """Write log(exp(x) - exp(y)) to `out`, which may be `x` or `y`; NaN for x < y."""
    work = work_dtype(x.dtype)
    for block in row_blocks(x.shape, x.ndim):
        for piece in block.columns:
            a = block.read(x, piece).astype(work, copy=False)
            b = block.read(y, piece).astype(work, copy=False)
            difference = b - a
            from_a = difference - b
            lost = (b - (difference - from_a)) - (a + from_a)
            values = a + _log1mexp(difference, np.where(np.isfinite(lost), lost, 0))
            values[(a == b) & (a == -np.inf)] = -np.inf
            block.write(out, piece, values)


def _log1mexp(x: Array, low: Array | float) -> Array:
    """log(1 - exp(x + low)), low a rounding error of x."""
    near = np.expm1(x) + low * np.exp(x)
    far = np.exp(x) * (1 + low)
    result = np.where(x > -np.log(2), np.log(-near), np.log1p(-far))
    result[x == 0] = -np.inf
    return np.asarray(result)
