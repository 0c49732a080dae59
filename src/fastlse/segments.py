"""Reductions over ragged rows: segments given by ids or by the boundaries of a CSR matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _threads
from ._lazy import lazy_version
from ._problem import (
    Array,
    as_array,
    as_index,
    backend_for,
    cast,
    compute_dtype,
    describe,
    finish,
    result_dtype,
    unmasked,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Error bounds in ulp of the exact result, to which the gap of the difference of two elements adds.
SEGMENT_LOGSUMEXP_ULP = 3
SEGMENT_SOFTMAX_ULP = 4


def segment_logsumexp(
    x: ArrayLike,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    *,
    indptr: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logsumexp of each segment of an array, ``log(sum(exp(x[segment_ids == k])))`` for every k.

    Parameters
    ----------
    x : array_like
        Real numbers of any dtype; see `logsumexp`. The first axis is the segmented one. A masked
        element is left out.
    segment_ids : array_like of int
        The segment of each ``x[i]``. Sorted ids cost nothing; others a sort and a copy of `x`.
    num_segments : int, optional
        The number of segments; by default the largest id and one.
    indptr : array_like of int, optional
        Instead of ids: segment k is ``x[indptr[k]:indptr[k + 1]]``, as in a CSR matrix.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    ndarray
        Of shape ``(num_segments, *x.shape[1:])`` and the input's dtype; -inf for an empty segment.

    Raises
    ------
    IndexError
        If an id is negative or not below `num_segments`; it names the place and the value.
    TypeError
        If `x` is not an array of real numbers, ids or boundaries are not integers, or both or
        neither are given.
    ValueError
        If a shape does not fit, or `indptr` does not rise from 0 to the length of `x`.

    See Also
    --------
    logsumexp : Rows of one length.
    segment_softmax

    Notes
    -----
    Every segment is computed as `logsumexp` computes a row: within ``SEGMENT_LOGSUMEXP_ULP`` ulp of
    the exact result, plus the rounding of the differences of two elements, and NaN, infinities and
    confident segments alike.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> x = np.log([1.0, 2.0, 3.0, 4.0])
    >>> np.exp(fastlse.segment_logsumexp(x, [0, 0, 2, 2])).round(12)
    array([3., 0., 7.])
    >>> np.exp(fastlse.segment_logsumexp(x, indptr=[0, 3, 4])).round(12)
    array([6., 4.])
    """
    lazy = lazy_version("segment_logsumexp", x, segment_ids)
    if lazy is not None:
        return lazy(x, segment_ids, num_segments, indptr=indptr, n_threads=n_threads)
    segments = _as_segments(x, segment_ids, num_segments, indptr)
    values = segments.values()
    lse = np.full((segments.n, values[..., 0].size if values.size else 0), -np.inf, values.dtype)
    if values.size:
        threads = _threads.resolve(n_threads, values.size)
        backend_for(segments.dtype).segment_logsumexp(values, segments.indptr, lse, threads)
    elif 0 not in segments.x.shape[1:]:
        lse = np.full((segments.n, *segments.x.shape[1:]), -np.inf, values.dtype)
    return finish(lse.reshape(segments.n, *segments.x.shape[1:]), segments.dtype, None)


def segment_softmax(
    x: ArrayLike,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    *,
    indptr: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Any:
    """Softmax within each segment of an array.

    Parameters
    ----------
    x, segment_ids, num_segments, indptr, n_threads
        As for `segment_logsumexp`; a masked element gets 0.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`: exponentials that sum to 1 over every segment.

    Raises
    ------
    IndexError
        If an id is negative or not below `num_segments`; it names the place and the value.
    TypeError
        If `x` is not an array of real numbers, ids or boundaries are not integers, or both or
        neither are given.
    ValueError
        If a shape does not fit, or `indptr` does not rise from 0 to the length of `x`.

    See Also
    --------
    softmax : Rows of one length.
    segment_logsumexp

    Notes
    -----
    Every segment is computed as `softmax` computes a row: within ``SEGMENT_SOFTMAX_ULP`` ulp of the
    exact result, plus the rounding of ``x - max``; +0 below the smallest normal number; NaN for a
    segment of only -inf, or with a NaN or +inf.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.segment_softmax([1000.0, 1000.0, 5.0], [0, 0, 1])
    array([0.5, 0.5, 1. ])
    """
    segments = _as_segments(x, segment_ids, num_segments, indptr)
    values = segments.values()
    result = np.empty(segments.x.shape, values.dtype)
    if values.size:
        threads = _threads.resolve(n_threads, values.size)
        in_order = result if segments.order is None else np.empty_like(result)
        out = np.moveaxis(in_order, 0, -1)
        backend_for(segments.dtype).segment_softmax(values, segments.indptr, out, threads)
        if segments.order is not None:
            result[segments.order] = in_order
        if segments.mask is not None:
            result[~segments.mask] = 0
    return finish(result, segments.dtype, None)


@dataclass(frozen=True, slots=True)
class _Segments:
    """A checked problem: segments of the first axis of `x`."""

    x: Array
    mask: Array | None
    dtype: np.dtype[Any]
    indptr: Array
    order: Array | None  # what sorts the ids, where they are not

    @property
    def n(self) -> int:
        return self.indptr.size - 1

    def values(self) -> Array:
        """The elements by segments, the segmented axis last; masked ones -inf."""
        values = self.x
        if self.mask is not None:
            values = np.where(self.mask, values, -np.inf).astype(values.dtype)
        if self.order is not None:
            values = values[self.order]
        return np.moveaxis(values, 0, -1)


def _as_segments(x: object, segment_ids: object, num_segments: object, indptr: object) -> _Segments:
    array = as_array(x, "x", "biuf")
    if array.ndim == 0:
        raise ValueError(f"x must have an axis of segments, got the scalar {describe(array[()])}")
    dtype = result_dtype((x, array))
    if (segment_ids is None) == (indptr is None):
        came = "neither" if indptr is None else "both"
        raise TypeError(f"segment_ids or indptr must be given, and only one of them, got {came}")
    n = None
    if num_segments is not None:
        n = as_index(num_segments, "num_segments", "an int")
        if n < 0:
            raise ValueError(f"num_segments must be at least 0, got {n}")
    order = None
    if indptr is None:
        boundaries, order = _sorted_ids(segment_ids, len(array), n)
    else:
        boundaries = _as_indptr(indptr, len(array), n)
    return _Segments(cast(array, compute_dtype(dtype)), unmasked(x), dtype, boundaries, order)


def _as_integers(value: object, name: str) -> Array:
    array = as_array(value, name, "biuf")
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    return array


def _sorted_ids(ids: object, length: int, n: int | None) -> tuple[Array, Array | None]:
    """The boundaries of the segments, and the order that makes them runs if they are none."""
    array = _as_integers(ids, "segment_ids")
    if array.size != length:
        raise ValueError(
            f"segment_ids must have the length of x's first axis, {length}, got {array.size}"
        )
    smallest, largest = (int(array.min()), int(array.max())) if length else (0, -1)
    if n is None:
        n = largest + 1
    if smallest < 0 or largest >= n:
        place = int(np.flatnonzero((array < 0) | (array >= n))[0])
        raise IndexError(f"segment_ids must be in [0, {n}), got {array[place]} at {place}")
    order = None
    if np.any(array[1:] < array[:-1]):
        order = _stable_order(array, n)
    counts = np.bincount(array.astype(np.int64, copy=False), minlength=n)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), order


def _stable_order(ids: Array, n: int) -> Array:
    """What sorts the ids, digit by digit: 16-bit integers NumPy sorts by counting."""
    order = np.argsort(ids.astype(np.uint16), kind="stable")
    shift = 16
    while (n - 1) >> shift:
        digits = (ids[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
        shift += 16
    return order


def _as_indptr(indptr: object, length: int, n: int | None) -> Array:
    array = _as_integers(indptr, "indptr")
    if array.size == 0:
        raise ValueError("indptr must have at least one element, got none")
    if n is not None and array.size != n + 1:
        raise ValueError(f"indptr must have num_segments + 1 = {n + 1} elements, got {array.size}")
    if array[0] != 0 or array[-1] != length:
        raise ValueError(
            f"indptr must go from 0 to the length of x's first axis, {length}, "
            f"got {array[0]} to {array[-1]}"
        )
    falls = np.flatnonzero(array[1:] < array[:-1])
    if falls.size:
        k = int(falls[0])
        raise ValueError(
            f"indptr must not decrease, got {array[k]} at {k} before {array[k + 1]} at {k + 1}"
        )
    return np.ascontiguousarray(array, np.int64)
