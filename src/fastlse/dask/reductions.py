"""logsumexp, softmax and log_softmax of Dask arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastlse

from ._chunks import check_threads, on_chunks, pick, refuse_out
from ._reduction import as_problem, logsumexp_and_softmax_of_chunk, sum_of_chunks, with_sign
from ._states import (
    STATE,
    log_softmax_of_chunk,
    log_sums_of_chunk,
    signs_of_chunk,
    softmax_of_chunk,
)

if TYPE_CHECKING:
    import dask.array as da


def logsumexp(
    a: Any,
    axis: int | tuple[int, ...] | None = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    where: Any = None,
    out: None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the sum of exponentials of a Dask array.

    Parameters
    ----------
    a : dask.array.Array
        Input of any numeric dtype, chunked along any axes; its chunks may be masked arrays.
    axis, keepdims, return_sign
        As for `fastlse.logsumexp`.
    b, where : dask.array.Array or array_like, optional
        As for `fastlse.logsumexp`; brought to the chunks of `a`.
    out : None
        Refused: a result that is not yet computed has nothing to write.
    n_threads : int, optional
        The most threads that the call of a chunk uses. None is one, since Dask works on as many
        chunks at once as there are processors, or what was set in the worker's process.

    Returns
    -------
    lse : dask.array.Array
        Nothing is computed yet.
    sign : dask.array.Array
        Only with `return_sign`.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays.
    ValueError
        If a shape does not fit, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    fastlse.logsumexp : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Each chunk of `a` is read once. Where no reduced axis is split, a chunk's rows are computed as
    `fastlse.logsumexp` computes them, bit for bit. Otherwise the chunks' states are merged as a
    tree, and the result is within ``STATE_ULP`` ulp, as `fastlse.LogSumExpState` says: the chunks
    make no difference beyond the last rounding. With `b`, and for complex numbers, it is the
    logarithms and signs of the chunks that are added up, in float64 or more: of float64 arrays that
    may add two ulp; where chunks cancel, the ulp are those of the largest chunk's.

    NaN and infinities do what they do in NumPy arrays, whatever the chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> a = da.full((1000, 1000), 7.0, chunks=(500, 250))
    >>> lse = fastlse.dask.logsumexp(a, axis=1)
    >>> lse
    dask.array<..., shape=(1000,), dtype=float64, chunksize=(500,), chunktype=numpy.ndarray>
    >>> print(f"{lse.max().compute():.6f}")
    13.907755
    """
    refuse_out(out)
    problem = as_problem(a, "a", axis, b, where)
    threads = check_threads(n_threads)
    dtypes = with_sign(problem.dtype) if return_sign else [problem.dtype]
    if not problem.is_split:
        results = problem.log_sums(bool(keepdims), threads, dtypes)
    elif b is not None or problem.dtype.kind == "c":
        results = sum_of_chunks(problem, bool(keepdims), threads, dtypes)
    else:
        kept = problem.kept
        states = (problem.states(threads), (STATE, *kept))
        lse = on_chunks(
            log_sums_of_chunk, kept, states, dtype=problem.dtype, of_dtype=problem.dtype
        )
        results = [lse]
        if return_sign:
            results.append(on_chunks(signs_of_chunk, kept, (lse, kept), dtype=problem.dtype))
        if keepdims:
            places = [None if axis in problem.axes else slice(None) for axis in problem.every]
            results = [result[tuple(places)] for result in results]
    return tuple(results) if return_sign else results[0]


def softmax(
    x: Any,
    axis: int | tuple[int, ...] | None = None,
    *,
    where: Any = None,
    out: None = None,
    n_threads: int | None = None,
) -> da.Array:
    """Exponentials of a Dask array divided by their sum.

    Parameters
    ----------
    x : dask.array.Array
        Input of any numeric dtype, chunked along any axes; its chunks may be masked arrays.
    axis
        As for `fastlse.softmax`.
    where : dask.array.Array or array_like, optional
        As for `fastlse.softmax`; brought to the chunks of `x`.
    out, n_threads
        As for `logsumexp`.

    Returns
    -------
    dask.array.Array
        Of the shape and the chunks of `x`.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays.
    ValueError
        If a shape does not fit, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    fastlse.softmax : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Within ``STATE_SOFTMAX_ULP`` ulp, plus the rounding of ``x - max``; see `logsumexp`. Where a
    reduced axis is split, each chunk is used twice, for the state of its rows and for its result:
    Dask holds the chunks of a row until its states are merged. Complex numbers and objects are
    rechunked, so that no reduced axis is split.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> x = da.zeros((2, 4), chunks=(2, 2))
    >>> fastlse.dask.softmax(x, axis=1).compute()
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]])
    """
    refuse_out(out)
    problem = as_problem(x, "x", axis, where=where)
    threads = check_threads(n_threads)
    if not problem.has_states:
        return problem.whole_rows().rows_of(fastlse.softmax, threads)
    return problem.rows_by(softmax_of_chunk, problem.states(threads), threads)


def log_softmax(
    x: Any,
    axis: int | tuple[int, ...] | None = None,
    *,
    where: Any = None,
    out: None = None,
    n_threads: int | None = None,
) -> da.Array:
    """Logarithm of a Dask array's softmax.

    Parameters
    ----------
    x, axis, where, out, n_threads
        As for `softmax`.

    Returns
    -------
    dask.array.Array
        Of the shape and the chunks of `x`.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays.
    ValueError
        If a shape does not fit, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    fastlse.log_softmax : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Within ``STATE_ULP`` ulp, plus the rounding of differences of two elements; see `softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> fastlse.dask.log_softmax(da.from_array([1000.0, 0.0], chunks=1)).compute()
    array([    0., -1000.])
    """
    refuse_out(out)
    problem = as_problem(x, "x", axis, where=where)
    threads = check_threads(n_threads)
    if not problem.has_states:
        return problem.whole_rows().rows_of(fastlse.log_softmax, threads)
    return problem.rows_by(log_softmax_of_chunk, problem.states(threads), threads)


def logsumexp_and_softmax(
    x: Any,
    axis: int | tuple[int, ...] | None = -1,
    *,
    out: None = None,
    n_threads: int | None = None,
) -> tuple[da.Array, da.Array]:
    """Logsumexp of a Dask array and its gradient, softmax.

    Parameters
    ----------
    x, axis, out, n_threads
        As for `softmax`.

    Returns
    -------
    lse : dask.array.Array
        As from `logsumexp`.
    probabilities : dask.array.Array
        As from `softmax`; what both need is computed once if they are computed together.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays.
    ValueError
        If a shape does not fit, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    fastlse.logsumexp_and_softmax : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    The bounds are those of `logsumexp` (``STATE_ULP``) and `softmax` (``STATE_SOFTMAX_ULP``).

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> x = da.zeros((1, 4), chunks=2)
    >>> lse, probabilities = dask.compute(*fastlse.dask.logsumexp_and_softmax(x))
    >>> print(f"{lse[0]:.6f}")
    1.386294
    >>> probabilities
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    refuse_out(out)
    problem = as_problem(x, "x", axis)
    threads = check_threads(n_threads)
    every, kept, dtype = problem.every, problem.kept, problem.dtype
    if problem.has_states:
        states = problem.states(threads)
        of_rows = (states, (STATE, *kept))
        lse = on_chunks(log_sums_of_chunk, kept, of_rows, dtype=dtype, of_dtype=dtype)
        return lse, problem.rows_by(softmax_of_chunk, states, threads)
    x = problem.whole_rows().x
    both = on_chunks(
        logsumexp_and_softmax_of_chunk,
        every,
        (x, every),
        dtype=dtype,
        axes=problem.axes,
        n_threads=threads,
    )
    lse = pick(both, every, 0, kept, dtype)
    return lse, problem.in_shape(pick(both, every, 1, every, dtype))
