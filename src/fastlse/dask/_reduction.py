"""A reduction of Dask arrays, checked; and how chunks that hold whole rows are reduced."""

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
    broadcast_to,
    joint_chunks,
    on_chunks,
    one_element,
    pick,
    threads_of_a_call,
)
from ._states import STATE, merged_states


@dataclass(frozen=True)
class Problem:
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

    def whole_rows(self) -> Problem:
        """The same with no reduced axis split."""
        if not self.is_split:
            return self
        whole = dict.fromkeys(self.axes, -1)
        b, where = (
            operand.rechunk(whole) if isinstance(operand, da.Array) else operand
            for operand in (self.b, self.where)
        )
        return replace(self, x=self.x.rechunk(whole), b=b, where=where)

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


def as_problem(x: Any, name: str, axis: Any, b: Any = None, where: Any = None) -> Problem:
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
            array = broadcast_to(array, joint_chunks(array, factors))
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
    if name == "x":
        dtype = fastlse.softmax(stand_in, axes).dtype
    else:
        dtype = np.asarray(fastlse.logsumexp(stand_in, axes, of_b)).dtype
    return Problem(array, factors, included, shape, axes, dtype)


def _is_weak(b: object) -> bool:
    """Whether NumPy's promotion takes a factor's value and not its dtype."""
    return isinstance(b, (int, float, complex)) and not isinstance(b, np.generic)


def sum_of_chunks(
    problem: Problem, keepdims: bool, n_threads: int | None, dtypes: Sequence[Any]
) -> list[Any]:
    """Add up the chunks' logarithms with their signs as factors, all chunks of a row at once."""
    wide = np.promote_types(problem.dtype, np.float64)
    in_wide = replace(problem, x=problem.x.astype(wide), dtype=wide)
    lse, sign = in_wide.log_sums(True, n_threads, with_sign(wide))
    rows = replace(in_wide, x=lse, b=sign, where=None).whole_rows()
    results = rows.log_sums(keepdims, n_threads, [np.promote_types(d, wide) for d in dtypes])
    return [result.astype(dtype) for result, dtype in zip(results, dtypes, strict=True)]


def with_sign(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
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


def logsumexp_and_softmax_of_chunk(
    x: Array, axes: tuple[int, ...], n_threads: int | None
) -> tuple[Any, Array]:
    return fastlse.logsumexp_and_softmax(x, axes, n_threads=threads_of_a_call(n_threads))
