"""segment_logsumexp of Dask arrays."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

import fastlse
from fastlse._problem import Array, as_index, describe, unmasked
from fastlse.segments import _as_indptr

from ._chunks import (
    align,
    as_lazy,
    check_threads,
    offsets,
    on_chunks,
    one_element,
    threads_of_a_call,
)
from ._states import STATE, log_sums_of_chunk, merge_chunks, state_dtype

SEGMENTS = -3  # the axis of the segments


def segment_logsumexp(
    x: Any,
    segment_ids: Any = None,
    num_segments: int | None = None,
    *,
    indptr: Any = None,
    n_threads: int | None = None,
) -> da.Array:
    """Logsumexp of each segment of a Dask array.

    Parameters
    ----------
    x : dask.array.Array
        As for `fastlse.segment_logsumexp`, chunked along any axes: segments may be split.
    segment_ids : dask.array.Array or array_like of int
        The segment of each ``x[i]``, in any order; brought to the chunks of the first axis of `x`.
    num_segments : int, optional
        The number of segments; without it `segment_ids` must be in memory.
    indptr : array_like of int, optional
        Instead of ids, and in memory: segment k is ``x[indptr[k]:indptr[k + 1]]``.
    n_threads : int, optional
        As for `logsumexp`.

    Returns
    -------
    dask.array.Array
        Of shape ``(num_segments, *x.shape[1:])``, all segments in one chunk.

    Raises
    ------
    IndexError
        If an id is negative or not below `num_segments`; it names the place and the value. At once
        for ids in memory, for those of a Dask array when they are computed.
    TypeError
        If `x` is not an array of real numbers, ids or boundaries are not integers, or both or
        neither are given.
    ValueError
        If a shape does not fit, `num_segments` is not given for lazy ids, or chunks are of unknown
        sizes.

    See Also
    --------
    fastlse.segment_logsumexp : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Within ``STATE_ULP`` ulp; NaN and infinities as in NumPy arrays. Every chunk of the first axis
    gives a state of every segment, 24 bytes each, that are merged as a tree: that is for segments
    that are few beside the elements of a chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import fastlse.dask
    >>> x = da.from_array(np.log([1.0, 2.0, 3.0, 4.0]), chunks=2)
    >>> lse = fastlse.dask.segment_logsumexp(x, [0, 1, 0, 1])
    >>> np.exp(lse.compute()).round(12)
    array([4., 6.])
    """
    array = as_lazy(x, "x", "biuf")
    if array.ndim == 0:
        raise ValueError(f"x must have an axis of segments, got a scalar of dtype {array.dtype}")
    threads = check_threads(n_threads)
    if (segment_ids is None) == (indptr is None):
        came = "neither" if indptr is None else "both"
        raise TypeError(f"segment_ids or indptr must be given, and only one of them, got {came}")
    ids, n = _as_ids(segment_ids, num_segments, indptr, array.shape[0])
    ids = align(ids, (0,), {0: array.chunks[0]})
    dtype = fastlse.logsumexp(one_element(array)).dtype
    others = tuple(range(1, array.ndim))
    first = offsets(array.chunks[0]), (0,)
    if array.numblocks[0] == 1:
        return on_chunks(
            _segments_of_chunk,
            (SEGMENTS, *others),
            (array, (0, *others)),
            (ids, (0,)),
            first,
            dtype=dtype,
            new={SEGMENTS: n},
            n=n,
            n_threads=threads,
        )
    parts = on_chunks(
        _states_of_chunk,
        (STATE, 0, SEGMENTS, *others),
        (array, (0, *others)),
        (ids, (0,)),
        first,
        dtype=state_dtype(dtype),
        sizes={0: 1},
        new={STATE: 3, SEGMENTS: n},
        n=n,
        of_dtype=dtype,
        n_threads=threads,
    )
    kept = (SEGMENTS, *others)
    merged = merge_chunks(parts, [1]), (STATE, *kept)
    return on_chunks(log_sums_of_chunk, kept, merged, dtype=dtype, of_dtype=dtype)


def _as_ids(
    segment_ids: Any, num_segments: int | None, indptr: Any, length: int
) -> tuple[da.Array, int]:
    """The segment of each element, and how many segments there are."""
    n = None
    if num_segments is not None:
        n = as_index(num_segments, "num_segments", "an int")
        if n < 0:
            raise ValueError(f"num_segments must be at least 0, got {n}")
    if indptr is not None:
        if isinstance(indptr, da.Array):
            raise TypeError(f"indptr must be in memory, got {describe(indptr)}: compute it first")
        boundaries = _as_indptr(indptr, length, n)
        given = np.repeat(np.arange(boundaries.size - 1), np.diff(boundaries))
        return da.from_array(given, chunks=-1), boundaries.size - 1
    ids = as_lazy(segment_ids, "segment_ids", "biuf")
    if ids.size == 0 and not isinstance(segment_ids, (da.Array, np.ndarray)):
        ids = ids.astype(np.int64)  # an empty list has no dtype of its own
    if ids.dtype.kind not in "iu":
        raise TypeError(f"segment_ids must be an array of integers, got dtype {ids.dtype}")
    if ids.shape != (length,):
        raise ValueError(
            f"segment_ids must have the length of x's first axis, {length}, got shape {ids.shape}"
        )
    if isinstance(segment_ids, da.Array):
        if n is None:
            raise ValueError("num_segments must be given where segment_ids are a Dask array")
        return ids, n
    in_memory = np.asarray(segment_ids)
    if n is None:
        n = int(in_memory.max(initial=-1)) + 1
    _check_ids(in_memory, 0, n)
    return ids, n


def _check_ids(ids: Array, first: int, n: int) -> None:
    invalid = (ids < 0) | (ids >= n)
    if invalid.any():
        place = int(np.argmax(invalid))
        raise IndexError(f"segment_ids must be in [0, {n}), got {ids[place]} at {first + place}")


def _segments_of_chunk(x: Array, ids: Array, first: Array, n: int, n_threads: int | None) -> Any:
    _check_ids(ids, int(first[0]), n)
    return fastlse.segment_logsumexp(x, ids, n, n_threads=threads_of_a_call(n_threads))


@np.errstate(all="ignore")
def _states_of_chunk(
    x: Array, ids: Array, first: Array, n: int, of_dtype: np.dtype[Any], n_threads: int | None
) -> Array:
    """The state of each segment's elements in a chunk.

    With the segment's maximum subtracted, its logsumexp is log(1 + rest), as accurate as rest is.
    """
    _check_ids(ids, int(first[0]), n)
    wide = state_dtype(of_dtype)
    threads = threads_of_a_call(n_threads)
    maxima = np.full((n, *x.shape[1:]), -np.inf, wide)
    values = np.asarray(x, wide)
    mask = unmasked(x)
    if mask is not None:
        values = np.where(mask, values, -np.inf)
    np.maximum.at(maxima, ids, values)
    shift = np.where(np.isfinite(maxima), maxima, 0)
    log_totals = fastlse.segment_logsumexp(values - shift[ids], ids, n, n_threads=threads)
    states = np.zeros((3, *maxima.shape), wide)
    states[0] = maxima
    states[1] = np.where(np.isfinite(maxima), np.expm1(log_totals), 0)
    return states[:, np.newaxis]
