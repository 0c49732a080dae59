"""From what the caller passed to a normalised problem: rows to reduce, checked and typed.

A backend sees every problem as *rows*: the kept axes in front, the reduced ones behind, as a
transposed view and never a copy. Nothing here writes to an output; what is returned was checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from . import _backends
from ._backends import numpy as _numpy_backend

Array = NDArray[Any]

# Attempts allowed to decide whether two arrays share an element before assuming that they do.
_OVERLAP_WORK = 10_000

# NumPy's stubs know two values of max_work only.
_shares_memory: Callable[..., bool] = np.shares_memory


def describe(value: object) -> str:
    """What came, for an error message."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, (int, float, complex, np.generic, tuple, type(None))):
        return repr(value)
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    return type(value).__name__


def as_array(value: object, name: str, kinds: str = "biufc") -> Array:
    """`value` as a plain ndarray whose dtype's kind is one of `kinds`, else a TypeError."""
    expected = "an array of numbers" if "c" in kinds else "an array of real numbers"
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.matrix):
        raise TypeError(f"{name} must be an array, got a numpy.matrix: pass numpy.asarray({name})")
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise TypeError(f"{name} must be {expected}, got {describe(value)}: {error}") from error
    if array.dtype.kind not in kinds or (array.dtype.kind == "O" and array.ndim == 0):
        came = describe(value)
        if not isinstance(value, np.ndarray) and array.ndim > 0:
            came += f" that becomes an array of dtype {array.dtype}"
        raise TypeError(f"{name} must be {expected}, got {came}")
    return array


def unmasked(value: object) -> Array | None:
    """Where a masked array is not masked; None for anything else and for an empty mask."""
    if isinstance(value, np.ma.MaskedArray) and value.mask is not np.ma.nomask:
        return ~np.ma.getmaskarray(value)
    return None


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype a result of `dtype` is computed in: float16 in float32, else its native self."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def result_dtype(*operands: tuple[object, Array]) -> np.dtype[Any]:
    """NumPy's promotion of the operands, Python scalars weak; integers and bools to float64."""
    if len(operands) == 1:
        dtype = operands[0][1].dtype
    else:
        dtype = np.result_type(*(_for_promotion(value, array) for value, array in operands))
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def _for_promotion(value: object, array: Array) -> Any:
    """What stands for an operand in NumPy's promotion: a Python scalar for itself."""
    is_weak = isinstance(value, (int, float, complex)) and not isinstance(value, np.generic)
    return value if is_weak else array.dtype


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` itself where its dtype is `dtype` in either byte order, else converted."""
    if array.dtype == dtype or array.dtype.newbyteorder("=") == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def as_axes(axis: object, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axes of an int, a tuple of ints or None (all axes)."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int:
        return (as_axis(axis, ndim),)
    given: Sequence[object] = axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(as_axis(one, ndim, "an int, a tuple of ints or None") for one in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis} for {ndim} dimensions")
    return axes


def as_axis(axis: object, ndim: int, expected: str = "an int") -> int:
    """One axis as a non-negative int."""
    index = as_index(axis, "axis", expected)
    if not -ndim <= index < ndim:
        raise np.exceptions.AxisError(index, ndim, "axis out of range")
    return index % ndim


def as_index(value: object, name: str, expected: str) -> int:
    """An int from anything with `__index__` but a bool."""
    if type(value) is int:
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, (bool, np.bool_)):
        # An array has the method too, and refuses unless it is one integer.
        with suppress(TypeError):
            return operator.index(value)
    raise TypeError(f"{name} must be {expected}, got {describe(value)}")


def as_where(where: object, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """`where` and a masked array's own mask as one bool array of the given shape, or None."""
    if where is not None:
        given = as_array(where, "where")
        if given.dtype != np.bool_:
            raise TypeError(f"where must be an array of bools, got dtype {given.dtype}")
        given = broadcast(given, "where", shape)
        own = unmasked(where)
        given = given if own is None else given & own
        mask = given if mask is None else given & mask
    return mask


def broadcast(array: Array, name: str, shape: tuple[int, ...]) -> Array:
    """A view of `array` broadcast to `shape`."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        message = f"{name} must be broadcastable to shape {shape}, got shape {array.shape}"
        raise ValueError(message) from None


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """`out` itself if it can take a result of this shape and dtype, else an error."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or isinstance(out, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(f"out must be a numpy.ndarray, got {describe(out)}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got shape {out.shape}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got dtype {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    return out


def can_write_to(out: Array, x: Array, others: Sequence[Array | None]) -> bool:
    """Whether a backend may write to `out` while it reads `x`, in place or apart, and the others.

    It may not if `out` overlaps the input only partly, or has another dtype than the computation.
    """
    inputs = others if _same_memory(out, x) else [x, *others]
    return x.dtype == out.dtype and not any(_overlap(out, array) for array in inputs)


def _same_memory(a: Array, b: Array) -> bool:
    """Whether each element of one array is the same element of the other."""
    return a is b or (
        a.shape == b.shape
        and a.strides == b.strides
        and np.may_share_memory(a, b)  # cheap, and mostly false: the next line takes microseconds
        and a.__array_interface__["data"] == b.__array_interface__["data"]
    )


def _overlap(out: Array, array: Array | None) -> bool:
    """Whether two arrays share an element; in doubt, yes."""
    try:
        return array is not None and _shares_memory(out, array, max_work=_OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return True


def finish(result: Array, dtype: np.dtype[Any], out: Array | None) -> Any:
    """Round to the result's dtype, into `out` if given; a 0-d result becomes a scalar."""
    if result is out:
        return out
    if out is None and result.dtype == dtype:
        return result[()]
    with np.errstate(all="ignore"):
        if out is not None:
            out[...] = result
            return out
        return result.astype(dtype, copy=False)[()]


def backend_for(dtype: np.dtype[Any]) -> Any:
    """The active backend, or NumPy's for the dtypes that only that one knows."""
    return _backends.active if dtype.char in "efd" else _numpy_backend


@dataclass(frozen=True, slots=True)
class Problem:
    """A checked reduction.

    Attributes
    ----------
    x : ndarray
        The input in the dtype of the computation, with the caller's axes.
    b, where : ndarray or None
        Broadcast to `x`'s shape.
    shape : tuple of int
        The input's shape as it came: () for a scalar, of which `x` is a row of one element.
    axes : tuple of int
        The reduced axes, sorted.
    dtype : dtype
        The result's dtype.
    """

    x: Array
    b: Array | None
    where: Array | None
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_reduced(self) -> int:
        """The number of reduced axes of the rows: at least one."""
        return max(1, len(self.axes))

    @property
    def kept_shape(self) -> tuple[int, ...]:
        return tuple(n for i, n in enumerate(self.x.shape) if i not in self.axes)

    @property
    def keepdims_shape(self) -> tuple[int, ...]:
        return tuple(1 if i in self.axes else n for i, n in enumerate(self.x.shape))

    @property
    def n_rows(self) -> int:
        return prod(self.kept_shape)

    def rows(self, array: Array) -> Array:
        """An array of `x`'s shape as rows: a view with the kept axes first, the reduced last."""
        if self.axes == (array.ndim - 1,):
            return array
        kept = [i for i in range(array.ndim) if i not in self.axes]
        rows = array.transpose(*kept, *self.axes)
        return rows if self.axes else rows[..., np.newaxis]


def reduction_problem(
    x: object, name: str, axis: object, b: object = None, where: object = None
) -> Problem:
    """Check a reduction's input; `name` is the input's name in the caller's signature.

    A 0-d input is a row of one element; the caller reshapes the result.
    """
    array, mask = as_array(x, name, "biufcO"), unmasked(x)
    dtype = result_dtype((x, array))
    weights = None
    if b is not None:
        weights = as_array(b, "b")
        dtype = result_dtype((x, array), (b, weights))
        shape = _broadcast_shape(array, name, weights)
        own = unmasked(b)
        if mask is not None:
            mask = np.broadcast_to(mask, shape)
        if own is not None:
            own = np.broadcast_to(own, shape)
            mask = own if mask is None else mask & own
        weights = cast(weights, compute_dtype(dtype))
        weights = np.atleast_1d(np.broadcast_to(weights, shape))
        array = np.broadcast_to(array, shape)
    array = cast(array, compute_dtype(dtype))
    shape = array.shape
    mask = as_where(where, mask, shape)
    array = np.atleast_1d(array)
    mask = None if mask is None else np.atleast_1d(mask)
    return Problem(array, weights, mask, shape, as_axes(axis, array.ndim), dtype)


def _broadcast_shape(array: Array, name: str, weights: Array) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(array.shape, weights.shape)
    except ValueError:
        message = f"b must be broadcastable with {name} of shape {array.shape}"
        raise ValueError(f"{message}, got shape {weights.shape}") from None
