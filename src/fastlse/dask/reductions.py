"""logsumexp, softmax and log_softmax of Dask arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

import fastlse
from fastlse._problem import Array, as_axes

from ._chunks import (
    Axes,
    as_lazy,
    broadcast,
    check_threads,
    on_chunks,
    one_element,
    pick,
    refuse_out,
    threads_of_a_call,
)
from ._states import (
    STATE,
    log_softmax_of_chunk,
    log_sums_of_chunk,
    merged_states,
    signs_of_chunk,
    softmax_of_chunk,
)


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
    make no difference beyond the last rounding. With `b`, and for complex numbers, it is the chunks'
    logarithms and signs that are added up, in float64 or more: of float64 arrays that may add two
    ulp, and where chunks cancel, the ulp are those of the largest chunk's.

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
    problem = _problem(a, "a", axis, b, where)
    threads = check_threads(n_threads)
    dtypes = _with_sign(problem.dtype) if return_sign else [problem.dtype]
    if not problem.is_split:
        results = problem.log_sums(bool(keepdims), threads, dtypes)
    elif b is not None or problem.dtype.kind == "c":
        results = _sum_of_chunks(problem, bool(keepdims), threads, dtypes)
    else:
        kept = problem.kept
        states = (problem.states(threads), (STATE, *kept))
        lse = on_chunks(log_sums_of_chunk, kept, states, dtype=problem.dtype, of_dtype=problem.dtype)
        results = [lse]
        if return_sign:
            results.append(on_chunks(signs_of_chunk, kept, (lse, kept), dtype=problem.dtype))
        if keepdims:
            results = [da.expand_dims(result, problem.axes) for result in results]
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
    problem = _problem(x, "x", axis, where=where)
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
    problem = _problem(x, "x", axis, where=where)
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
    problem = _problem(x, "x", axis)
    threads = check_threads(n_threads)
    every, kept, dtype = problem.every, problem.kept, problem.dtype
    if problem.has_states:
        states = problem.states(threads)
        of_rows = (states, (STATE, *kept))
        lse = on_chunks(log_sums_of_chunk, kept, of_rows, dtype=dtype, of_dtype=dtype)
        return lse, problem.rows_by(softmax_of_chunk, states, threads)
    x = problem.whole_rows().x
    options = {"axes": problem.axes, "n_threads": threads}
    both = on_chunks(
        _logsumexp_and_softmax_of_chunk, every, (x, every), dtype=dtype, **options
    )
    lse = pick(both, every, 0, kept, dtype)
    return lse, problem.in_shape(pick(both, every, 1, every, dtype))


@dataclass(frozen=True)
class _Problem:
    """A checked reduction: `x`, `b` and `where` have one shape and the same chunks.

    A 0-d input is an array of one element; a `b` that is a Python scalar stays one.
    """

    x: da.Array
    b: Any
    where: da.Array | None
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def every(self) -> tuple[int, ...]:
        return tuple(range(self.x.ndim))

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(axis for axis in self.every if axis not in self.axes)

    @property
    def is_split(self) -> bool:
        return any(self.x.numblocks[axis] > 1 for axis in self.axes)

    @property
    def has_states(self) -> bool:
        """Whether rows are split, and of a dtype that states know."""
        return self.is_split and self.dtype.kind == "f"

    @property
    def operands(self) -> list[tuple[Any, Axes]]:
        return [
            (operand, self.every if isinstance(operand, da.Array) else None)
            for operand in (self.x, self.b, self.where)
        ]

    def whole_rows(self) -> _Problem:
        """The same with no reduced axis split."""
        if not self.is_split:
            return self
        whole = dict.fromkeys(self.axes, -1)
        x, b, where = (
            operand.rechunk(whole) if isinstance(operand, da.Array) else operand
            for operand in (self.x, self.b, self.where)
        )
        return replace(self, x=x, b=b, where=where)

    def states(self, n_threads: int | None) -> da.Array:
        """The states of rows that are split."""
        return merged_states(self.x, self.axes, self.where, dtype=self.dtype, n_threads=n_threads)

    def log_sums(self, keepdims: bool, n_threads: int | None, dtypes: Sequence[Any]) -> list[Any]:
        """Each chunk's logsumexp, and with two dtypes its sign."""
        return_sign = len(dtypes) == 2
        axes = self.every if keepdims else self.kept
        results = on_chunks(
            _logsumexp_of_chunk,
            axes,
            *self.operands,
            dtype=dtypes[0],
            sizes=dict.fromkeys(self.axes, 1) if keepdims else None,
            axes=self.axes,
            keepdims=keepdims,
            return_sign=return_sign,
            n_threads=n_threads,
        )
        if not return_sign:
            return [results]
        return [pick(results, axes, number, axes, dtypes[number]) for number in (0, 1)]

    def rows_of(self, function: Callable[..., Any], n_threads: int | None) -> da.Array:
        """Softmax or log_softmax of chunks that hold whole rows."""
        result = on_chunks(
            _rows_of_chunk,
            self.every,
            (self.x, self.every),
            (self.where, None if self.where is None else self.every),
            dtype=self.dtype,
            of=function,
            axes=self.axes,
            n_threads=n_threads,
        )
        return self.in_shape(result)

    def rows_by(
        self, function: Callable[..., Any], states: da.Array, n_threads: int | None
    ) -> da.Array:
        """Softmax or log_softmax of chunks that hold parts of rows, by the rows' states."""
        return on_chunks(
            function,
            self.every,
            (self.x, self.every),
            (states, (STATE, *self.kept)),
            (self.where, None if self.where is None else self.every),
            dtype=self.dtype,
            axes=self.axes,
            of_dtype=self.dtype,
            n_threads=n_threads,
        )

    def in_shape(self, result: da.Array) -> da.Array:
        """What has the shape of `x`, with the shape as it came."""
        return result if self.shape else result[0]


def _problem(x: Any, name: str, axis: Any, b: Any = None, where: Any = None) -> _Problem:
    array = as_lazy(x, name)
    shape = array.shape
    factors = b
    if b is not None and not _is_weak(b):
        factors = as_lazy(b, "b", "biufc")
        try:
            shape = np.broadcast_shapes(array.shape, factors.shape)
        except ValueError:
            raise ValueError(
                f"b must be broadcastable with {name} of shape {array.shape}, "
                f"got shape {factors.shape}"
            ) from None
        if shape != array.shape:
            array = da.broadcast_arrays(array, factors)[0]
        factors = broadcast(factors, "b", array)
    included = where
    if where is not None:
        included = as_lazy(where, "where", "biufc")
        if included.dtype != np.bool_:
            raise TypeError(f"where must be an array of bools, got dtype {included.dtype}")
        included = broadcast(included, "where", array)
    if not shape:
        array, factors, included = (
            da.atleast_1d(one) if isinstance(one, da.Array) else one
            for one in (array, factors, included)
        )
    axes = as_axes(axis, array.ndim)
    # What a function of NumPy arrays makes of one element, or why it refuses.
    of_b = one_element(factors) if isinstance(factors, da.Array) else factors
    stand_in = one_element(array)
    of = fastlse.softmax if name == "x" else fastlse.logsumexp
    dtype = np.asarray(of(stand_in, axes) if b is None else of(stand_in, axes, of_b)).dtype
    return _Problem(array, factors, included, shape, axes, dtype)


def _is_weak(b: object) -> bool:
    """Whether NumPy's promotion takes a factor's value and not its dtype."""
    return isinstance(b, (int, float, complex)) and not isinstance(b, np.generic)


def _sum_of_chunks(
    problem: _Problem, keepdims: bool, n_threads: int | None, dtypes: Sequence[Any]
) -> list[Any]:
    """Add up the chunks' logarithms with their signs as factors, all chunks of a row at once."""
    wide = np.promote_types(problem.dtype, np.float64)
    in_wide = replace(problem, x=problem.x.astype(wide), dtype=wide)
    lse, sign = in_wide.log_sums(True, n_threads, _with_sign(wide))
    rows = replace(in_wide, x=lse, b=sign, where=None).whole_rows()
    results = rows.log_sums(keepdims, n_threads, [np.promote_types(d, wide) for d in dtypes])
    return [result.astype(dtype) for result, dtype in zip(results, dtypes, strict=True)]


def _with_sign(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """Of which dtypes a logarithm and a sign are."""
    lse, sign = fastlse.logsumexp(np.zeros(1, dtype), return_sign=True)
    return [lse.dtype, sign.dtype]


def _logsumexp_of_chunk(
    x: Array, b: Any, where: Array | None, n_threads: int | None, **options: Any
) -> Any:
    axis = options.pop("axes")
    threads = threads_of_a_call(n_threads)
    return fastlse.logsumexp(x, axis, b, where=where, n_threads=threads, **options)


def _rows_of_chunk(
    x: Array,
    where: Array | None,
    of: Callable[..., Array],
    axes: tuple[int, ...],
    n_threads: int | None,
) -> Array:
    return of(x, axes, where=where, n_threads=threads_of_a_call(n_threads))


def _logsumexp_and_softmax_of_chunk(
    x: Array, axes: tuple[int, ...], n_threads: int | None
) -> tuple[Any, Array]:
    return fastlse.logsumexp_and_softmax(x, axes, n_threads=threads_of_a_call(n_threads))
