"""What only complex numbers need; the conventions are SciPy's.

exp(a) of a complex `a` has the modulus exp(a.real) and the phase a.imag. The maximum of complex
numbers is NumPy's: the largest real part and, among those, the largest imaginary part.
"""

from __future__ import annotations

import numpy as np

from ._blocks import Array, Columns, RowBlock, row_blocks
from ._rows import add_up


def logsumexp(
    a: Array,
    n_reduced: int,
    lse: Array,
    b: Array | None,
    sign: Array | None,
    where: Array | None,
) -> None:
    """Write log(sum(b * exp(a))) to `lse`; with `sign`, its real part, and the phase to `sign`.

    The imaginary part is in (-pi, pi]. A row whose result is not finite gets what C99's complex
    exp and log make of the plain formula. The caller silences floating-point warnings.
    """
    for block in row_blocks(a.shape, n_reduced):
        modulus, total = _log_modulus_and_sum(a, b, where, block)
        finite = np.isfinite(modulus) & np.isfinite(total)
        plain = total if finite.all() else _plain_sum(a, b, where, block)
        if sign is None:
            # Built from its parts: 1j * angle + modulus would turn a -0.0 or an inf into NaN.
            value = np.empty_like(total)
            value.real, value.imag = modulus, np.angle(total)
            lse[block.rows] = np.where(finite, value, np.log(plain))
        else:
            lse[block.rows] = np.where(finite, modulus, np.log(np.abs(plain)))
            sign[block.rows] = np.sign(np.where(finite, total, plain))


def softmax(x: Array, n_reduced: int, out: Array, lse: Array | None, where: Array | None) -> None:
    """Write exp(x) / sum(exp(x)) to `out`, which may be `x`, and logsumexp to `lse`."""
    if lse is not None:
        logsumexp(x, n_reduced, lse, None, None, where)
    for block in row_blocks(x.shape, n_reduced):
        shift = _lexicographic_max(x, where, block)
        total = _shifted_sum(x, where, block, shift)
        for piece in block.columns:
            values = np.exp(_read(x, block, piece) - shift[:, None]) / total[:, None]
            if where is not None:
                values[~block.read(where, piece)] = 0
            block.write(out, piece, values)


def log_softmax(x: Array, n_reduced: int, out: Array, where: Array | None) -> None:
    """Write x - log(sum(exp(x))) to `out`, which may be `x`; imaginary parts are not wrapped."""
    for block in row_blocks(x.shape, n_reduced):
        largest = _lexicographic_max(x, where, block)
        shift = np.where(np.isfinite(largest), largest, 0)
        log_total = np.log(_shifted_sum(x, where, block, shift))
        for piece in block.columns:
            values = (_read(x, block, piece) - shift[:, None]) - log_total[:, None]
            if where is not None:
                values[~block.read(where, piece)] = -np.inf
            block.write(out, piece, values)


def _read(a: Array, block: RowBlock, piece: Columns) -> Array:
    return block.read(a, piece).astype(np.promote_types(a.dtype, np.complex128), copy=False)


def _read_weights(
    a: Array, b: Array | None, where: Array | None, block: RowBlock, piece: Columns
) -> tuple[Array, Array]:
    """The rows' elements and weights; a dropped element has -inf and weight 0."""
    values = _read(a, block, piece)
    weights = np.ones_like(values) if b is None else _read(b, block, piece)
    dropped = weights == 0
    if where is not None:
        dropped |= ~block.read(where, piece)
    return np.where(dropped, -np.inf, values), np.where(dropped, 0, weights)


def _log_modulus_and_sum(
    a: Array, b: Array | None, where: Array | None, block: RowBlock
) -> tuple[Array, Array]:
    """Each row's log(abs(sum)) and the sum itself up to a positive factor.

    The element j with the largest real part is kept out of the sum, so that log(abs(sum)) is
    a_j.real + log(abs(b_j)) + log(abs(1 + rest)) with rest relative to b_j * exp(i * a_j.imag).
    """
    n_rows = block.n_rows
    leader = np.zeros(n_rows, np.intp)
    real_max = np.full(n_rows, -np.inf, np.promote_types(a.real.dtype, np.float64))
    leader_term = np.zeros(n_rows, np.promote_types(a.dtype, np.complex128))
    for piece in block.columns:
        values, weights = _read_weights(a, b, where, block, piece)
        place = values.real.argmax(axis=1)[:, None]
        element = np.take_along_axis(values, place, axis=1)[:, 0]
        better = (element.real > real_max) | np.isnan(element.real)
        weight = np.take_along_axis(weights, place, axis=1)[:, 0]
        real_max[better] = element.real[better]
        leader[better] = place[better, 0] + piece.start
        leader_term[better] = (weight * np.exp(1j * element.imag))[better]

    sums = []
    for piece in block.columns:
        values, weights = _read_weights(a, b, where, block, piece)
        terms = weights * np.exp(values - real_max[:, None])
        own = np.flatnonzero((leader >= piece.start) & (leader < piece.stop))
        terms[own, leader[own] - piece.start] = 0
        sums.append(terms.sum(axis=1))
    others = add_up(sums)
    rest = others / leader_term
    return real_max + np.log(np.abs(leader_term)) + _log_abs1p(rest), leader_term + others


def _log_abs1p(z: Array) -> Array:
    """log(abs(1 + z)), accurate for small z: abs(1 + z)**2 = 1 + (x * (2 + x) + y**2)."""
    x, y = z.real, z.imag
    small = np.abs(z) < 0.5
    squared = np.where(small, x * (2 + x) + y * y, 0)
    return np.where(small, np.log1p(squared) / 2, np.log(np.hypot(1 + x, y)))


def _plain_sum(a: Array, b: Array | None, where: Array | None, block: RowBlock) -> Array:
    """sum(b * exp(a)) without any shift, for the rows whose result is not finite."""
    sums = []
    for piece in block.columns:
        values, weights = _read_weights(a, b, where, block, piece)
        terms = np.exp(values) if b is None else weights * np.exp(values)
        sums.append(np.where(weights == 0, 0, terms).sum(axis=1))
    return add_up(sums)


def _lexicographic_max(x: Array, where: Array | None, block: RowBlock) -> Array:
    largest = []
    for piece in block.columns:
        values, _ = _read_weights(x, None, where, block, piece)
        largest.append(values.max(axis=1))
    return np.asarray(np.stack(largest, axis=1).max(axis=1))


def _shifted_sum(x: Array, where: Array | None, block: RowBlock, shift: Array) -> Array:
    sums = []
    for piece in block.columns:
        values, _ = _read_weights(x, None, where, block, piece)
        sums.append(np.exp(values - shift[:, None]).sum(axis=1))
    return add_up(sums)
