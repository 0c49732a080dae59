"""States of chunks as arrays of their own, and their merging as a tree.

An array of states has an axis of three in front, the three rows of `LogSumExpState.states`: as
arrays of numbers they are sized, sent and kept by Dask like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from fastlse._problem import Array, as_where, unmasked
from fastlse.state import LogSumExpState

from ._chunks import as_it_is, on_chunks, threads_of_a_call

STATE = -1  # the axis in front


def state_dtype(dtype: Any) -> np.dtype[Any]:
    """In which states of a result's dtype are kept."""
    return np.promote_types(dtype, np.float64)


def merged_states(
    x: da.Array,
    axes: tuple[int, ...],
    where: da.Array | None,
    dtype: Any,
    n_threads: int | None,
) -> da.Array:
    """The states of rows whose reduced axes are split; those axes are left out."""
    every = range(x.ndim)
    parts = on_chunks(
        chunk_states,
        (STATE, *every),
        (x, every),
        (where, None if where is None else every),
        dtype=state_dtype(dtype),
        sizes=dict.fromkeys(axes, 1),
        new={STATE: 3},
        axes=axes,
        of_dtype=dtype,
        n_threads=n_threads,
    )
    return merge_chunks(parts, [axis + 1 for axis in axes])


def chunk_states(
    x: Array,
    where: Array | None,
    axes: tuple[int, ...],
    of_dtype: Any,
    n_threads: int | None,
) -> Array:
    """The states of a chunk's rows, with the reduced axes kept."""
    threads = threads_of_a_call(n_threads)
    state = LogSumExpState.from_array(x, axes, where=where, n_threads=threads)
    states = np.expand_dims(state.states, tuple(axis + 1 for axis in axes))
    return states.astype(state_dtype(of_dtype), copy=False)


def merge_chunks(parts: da.Array, axes: Sequence[int]) -> da.Array:
    """Merge along axes of which each chunk has one state; of what is behind it, the maximum."""
    return da.reduction(
        parts,
        chunk=as_it_is,
        combine=_merge,
        aggregate=_merge,
        axis=tuple(axes),
        dtype=parts.dtype,
        meta=np.empty((0,) * (parts.ndim - len(axes)), parts.dtype),
    )


def _merge(parts: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Merge by halves along each axis in turn."""
    for one in axis:
        parts = np.moveaxis(parts, one, 1)
        while parts.shape[1] > 1:
            half = parts.shape[1] // 2
            merged = _merge_two(parts[:, :half], parts[:, half : 2 * half])
            parts = np.concatenate([merged, parts[:, 2 * half :]], axis=1)
        parts = np.moveaxis(parts, 1, one)
    return parts if keepdims else np.squeeze(parts, axis=axis)


def _merge_two(a: Array, b: Array) -> Array:
    merged = as_state(a[:3]).merge(as_state(b[:3])).states
    if len(a) == 3:
        return merged
    with np.errstate(invalid="ignore"):
        return np.concatenate([merged, np.maximum(a[3:], b[3:])])


def as_state(states: Array, dtype: Any = np.float64, axes: Any = None) -> LogSumExpState:
    """A chunk of an array of states as what it is."""
    # The constructor makes its array read-only; Dask's may be somebody else's.
    return LogSumExpState(np.ascontiguousarray(states).view(), np.dtype(dtype), axes)


def log_sums_of_chunk(states: Array, of_dtype: Any) -> Any:
    """Logsumexp."""
    return as_state(states, of_dtype).result()


def signs_of_chunk(lse: Array) -> Any:
    """The signs of sums of exponentials without factors, by their logarithms."""
    return np.where(np.isnan(lse), lse, lse > -np.inf).astype(np.asarray(lse).dtype)[()]


def softmax_of_chunk(
    x: Array,
    states: Array,
    where: Array | None,
    axes: tuple[int, ...],
    of_dtype: Any,
    n_threads: int | None,
) -> Array:
    """Softmax of a part of the rows whose states are given."""
    x, included = _included(x, where)
    state = as_state(states, of_dtype, axes)
    result: Array = state.softmax(x, n_threads=threads_of_a_call(n_threads))
    if included is not None:
        result[~included] = 0
    return result


def log_softmax_of_chunk(
    x: Array,
    states: Array,
    where: Array | None,
    axes: tuple[int, ...],
    of_dtype: Any,
    n_threads: int | None,
) -> Array:
    """(x - max) - log(1 + rest) of a part of the rows whose states are given."""
    x, included = _included(x, where)
    state = as_state(states, state_dtype(of_dtype))
    # The logarithm alone, NaN beside an infinite maximum.
    log_total = state.cross_entropy(state.max)
    with np.errstate(all="ignore"):
        result = x - np.expand_dims(state.max, axes)
        result -= np.expand_dims(log_total, axes)
        if included is not None:
            result[~included] = -np.inf
        rounded: Array = result.astype(of_dtype, copy=False)
        return rounded


def _included(x: Array, where: Array | None) -> tuple[Array, Array | None]:
    """A chunk with -inf where it is masked or `where` leaves it out; and what is not."""
    included = as_where(where, unmasked(x), x.shape)
    if included is None:
        return x, None
    return np.where(included, np.asarray(x), -np.inf), included
