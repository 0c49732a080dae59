"""The arrays of a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastlse._bench.cases import Case

Array = NDArray[Any]

ALIGNMENT = 64  # bytes: a cache line, which malloc meets only by luck
BLOCK = 1 << 20  # random numbers that are repeated in larger arrays
TEMPORARIES = 2  # arrays of the input's size that a peer may need for itself


@dataclass(frozen=True)
class Inputs:
    """What the contenders of a case are given."""

    x: Array
    axis: int  # that of a row's elements
    target: Array
    out: Array  # for a result of the shape of x
    row_out: Array  # for a result of one number a row
    threads: int


def make_inputs(case: Case) -> Inputs:
    """Logits from the standard normal distribution, random targets, and touched outputs."""
    n_rows, n = case.shape
    rng = np.random.default_rng(0)
    x = _laid_out(_normal(rng, case), case.layout)
    out = _empty_like(x)
    out.fill(0)  # a first write to fresh memory would cost more than the arithmetic
    return Inputs(
        x=x,
        axis=0 if case.layout == "axis 0" else 1,
        target=rng.integers(n, size=n_rows),
        out=out,
        row_out=np.zeros(n_rows, case.dtype),
        threads=case.threads,
    )


def bytes_needed(case: Case, is_lean: bool) -> int:
    """Memory for the arrays of a case, and for a peer's temporaries unless it `is_lean`."""
    arrays = 2 + (case.layout == "strided") + (0 if is_lean else TEMPORARIES)
    return arrays * case.n_elements * np.dtype(case.dtype).itemsize


def aligned(size: int, dtype: str) -> Array:
    """An empty array that begins at a cache line."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * itemsize].view(dtype)


def _normal(rng: np.random.Generator, case: Case) -> Array:
    flat = aligned(case.n_elements, case.dtype)
    block = rng.standard_normal(min(BLOCK, flat.size)).astype(case.dtype)
    for start in range(0, flat.size, block.size):
        part = flat[start : start + block.size]
        part[:] = block[: part.size]
    return flat.reshape(case.shape)


def _laid_out(x: Array, layout: str) -> Array:
    """The numbers of `x` in another layout of memory."""
    if layout == "C":
        return x
    if layout == "strided":
        longer = aligned(2 * x.size, x.dtype.name).reshape(x.shape[0], -1)
        longer.fill(0)
        longer[:, ::2] = x
        return longer[:, ::2]
    columns = aligned(x.size, x.dtype.name).reshape(x.shape[::-1])
    columns[:] = x.T
    return columns if layout == "axis 0" else columns.T


def _empty_like(x: Array) -> Array:
    """An aligned array of the shape of `x`, in Fortran order if `x` is."""
    out = aligned(x.size, x.dtype.name)
    return out.reshape(x.shape, order="F" if x.flags.f_contiguous and x.ndim > 1 else "C")
