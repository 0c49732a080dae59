"""Elementwise work: the order in which arrays of one shape are swept, and room for the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._problem import Array


def in_memory_order(x: Array, *others: Array | None) -> tuple[Array | None, ...]:
    """All arrays with their axes in the order in which `x` lies in memory, to sweep it in one go.

    Axes along which `x` repeats one element have no such order; then all stay as they are.
    """
    if x.ndim < 2 or x.flags.c_contiguous or 0 in x.strides:
        return (x, *others)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    if order == list(range(x.ndim)):
        return (x, *others)
    return tuple(None if array is None else array.transpose(order) for array in (x, *others))


def room_like(x: Array, dtype: np.dtype[Any]) -> Array:
    """An array of `x`'s shape whose axes lie in memory as those of `x` do.

    One in C order for an `x` that repeats elements.
    """
    return np.empty_like(x, dtype=dtype, order="C" if 0 in x.strides else "K", subok=False)
