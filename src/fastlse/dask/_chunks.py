"""From what the caller passed to Dask arrays with chunks that fit, and from chunk to chunk."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np

from fastlse import _threads
from fastlse._lazy import is_lazy
from fastlse._linear_problem import is_sparse
from fastlse._problem import Array, as_array, describe

# Numbers that name axes, those of the main operand as they are, others negative. An operand
# without any is passed to each call as it is.
Axes = Sequence[int] | None


def as_lazy(value: object, name: str, kinds: str = "biufcO", *, sparse: bool = False) -> da.Array:
    """`value` as a Dask array of known shape, its chunks NumPy's (or sparse); else an error."""
    if not isinstance(value, da.Array):
        if is_lazy(value):
            raise TypeError(
                f"{name} must be a Dask array or an array, got {type(value).__name__}: pass a "
                "dataframe's to_dask_array(lengths=True), or an xarray object's data"
            )
        array = as_array(value, name, kinds)
        return da.from_array(value if isinstance(value, np.ma.MaskedArray) else array, chunks=-1)
    unknown = [axis for axis, n in enumerate(value.shape) if math.isnan(n)]
    if unknown:
        raise ValueError(
            f"{name} has chunks of unknown sizes along axis {unknown[0]}: call "
            f"{name}.compute_chunk_sizes() first, or make it with to_dask_array(lengths=True)"
        )
    meta = value._meta
    if not (isinstance(meta, np.ndarray) or (sparse and is_sparse(meta))):
        raise TypeError(
            f"{name} must have chunks that are NumPy arrays, got chunks of {type(meta).__name__}"
        )
    if isinstance(meta, np.ndarray):
        as_array(np.empty((0,) * value.ndim, value.dtype), name, kinds)
    if value.ndim and not any(value.shape):
        return rechunked(value, tuple((n,) for n in value.shape))
    return value


def one_element(array: da.Array) -> Array:
    """A stand-in by which the functions of NumPy arrays tell a result's dtype, or refuse."""
    return np.zeros((1,) * array.ndim, array.dtype)


def align(array: da.Array, axes: Axes, chunks: Mapping[int, tuple[int, ...]]) -> da.Array:
    """Rechunk to the chunks of the axes that are named."""
    assert axes is not None
    wanted = tuple(chunks[axis] for axis in axes)
    return rechunked(array, wanted)


def rechunked(array: da.Array, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """An array in other chunks; Dask leaves one alone whose axes are all of length zero."""
    if array.chunks == chunks:
        return array
    if not any(array.shape):
        return da.empty(array.shape, dtype=array.dtype, chunks=chunks)
    return array.rechunk(chunks)


def broadcast(array: da.Array, name: str, like: da.Array) -> da.Array:
    """A view of `array` with the shape and the chunks of another."""
    try:
        fits = np.broadcast_shapes(array.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be broadcastable to shape {like.shape}, got shape {array.shape}"
        )
    return broadcast_to(array, like.chunks)


def broadcast_to(array: da.Array, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """A view with these chunks, to whose shape the array's broadcasts."""
    behind = chunks[len(chunks) - array.ndim :]
    own = tuple((1,) if n == 1 else lengths for n, lengths in zip(array.shape, behind, strict=True))
    return da.broadcast_to(rechunked(array, own), tuple(map(sum, chunks)), chunks=chunks)


def joint_chunks(a: da.Array, b: da.Array) -> tuple[tuple[int, ...], ...]:
    """The chunks of the two broadcast together: those of `a` where that is not broadcast."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    chunks = list((None,) * (len(shape) - a.ndim) + a.chunks)
    for axis, lengths in enumerate(b.chunks, len(shape) - b.ndim):
        if chunks[axis] is None or sum(chunks[axis]) != shape[axis]:
            chunks[axis] = lengths
    return tuple(chunks)


def offsets(chunks: Sequence[int]) -> da.Array:
    """Where each chunk of an axis begins: one number for each chunk, for `on_chunks`."""
    starts = np.cumsum([0, *chunks[:-1]])
    return da.from_array(starts, chunks=1)


def on_chunks(
    function: Callable[..., Any],
    axes: Axes,
    /,
    *operands: tuple[Any, Axes],
    dtype: Any,
    sizes: Mapping[int, Any] | None = None,
    new: Mapping[int, int] | None = None,
    **options: Any,
) -> da.Array:
    """An array of which each chunk is a call of `function` with the operands' chunks.

    An operand's axis that the result has not is in one chunk. `sizes` are the lengths of the
    result's chunks where they are not the operands', `new` those of axes that no operand has.
    """
    assert axes is not None
    arguments = [part for operand in operands for part in operand]
    return da.blockwise(
        functools.partial(_call, function),
        tuple(axes),
        *arguments,
        token=f"fastlse-{function.__name__.strip('_')}",
        dtype=dtype,
        meta=np.empty((0,) * len(axes), dtype),
        adjust_chunks=dict(sizes) if sizes else None,
        new_axes=dict(new) if new else None,
        # The first operand has all axes that are split; `align` has seen to the others.
        align_arrays=False,
        concatenate=None,
        **options,
    )


def _call(function: Callable[..., Any], *blocks: Any, **options: Any) -> Any:
    return function(*map(_only, blocks), **options)


def _only(block: Any) -> Any:
    """What Dask passes as a list, or list of lists, for the axes that the result has not."""
    while isinstance(block, list):
        (block,) = block
    return block


def pick(
    results: da.Array, of_axes: Axes, number: int, axes: Axes, dtype: Any, **shape: Any
) -> da.Array:
    """One of the results of a function that returns a tuple for each chunk."""
    return on_chunks(_pick, axes, (results, of_axes), dtype=dtype, number=number, **shape)


def _pick(results: tuple[Any, ...], number: int) -> Any:
    return results[number]


def tree_sum(parts: da.Array, axes: Sequence[int], dtype: Any) -> da.Array:
    """The sum over axes of which each chunk has one element."""
    if not axes:
        return parts
    return da.reduction(
        parts,
        chunk=as_it_is,
        combine=_add_up,
        aggregate=_add_up,
        axis=tuple(axes),
        dtype=dtype,
        concatenate=False,
        meta=np.empty((0,) * (parts.ndim - len(axes)), dtype),
    )


def tree_merge(parts: da.Array, merge: Callable[[list[Any]], Any]) -> da.Array:
    """One object of those that the chunks of an axis are, as an array without an axis."""
    merged = functools.partial(_merge, merge)
    return da.reduction(
        parts,
        chunk=as_it_is,
        combine=merged,
        aggregate=merged,
        axis=(0,),
        dtype=object,
        concatenate=False,
        meta=np.empty((), object),
    )


def _merge(
    merge: Callable[[list[Any]], Any], parts: Any, axis: tuple[int, ...], keepdims: bool
) -> Any:
    return merge(_flattened(parts))


def as_it_is(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """For reductions whose chunks are made already."""
    return x


def _add_up(parts: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    with np.errstate(all="ignore"):
        total = functools.reduce(np.add, _flattened(parts))
    return total if keepdims else np.squeeze(total, axis=axis)[()]


def _flattened(parts: Any) -> list[Any]:
    if not isinstance(parts, list):
        return [parts]
    return [one for part in parts for one in _flattened(part)]


def refuse_out(out: object) -> None:
    """A result that is not yet computed has nothing to write."""
    if out is not None:
        raise TypeError(f"out must be None for Dask arrays, got {describe(out)}")


def check_threads(n_threads: int | None) -> int | None:
    """Check the caller's number now, and not in a worker."""
    return None if n_threads is None else _threads._checked(n_threads, "n_threads")


def threads_of_a_call(n_threads: int | None) -> int:
    """How many threads a chunk's call may use: one, unless somebody asked for more.

    Dask's schedulers run as many chunks at once as there are processors.
    """
    return n_threads or _threads._asked_for() or 1
