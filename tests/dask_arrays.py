"""Dask arrays in random chunks, and what the functions of NumPy arrays make of them whole."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
from hypothesis import strategies as st

# Relative differences that the roundings of states, sums and float16 or float32 results make.
TOLERANCE = {"float16": 2e-3, "float32": 2e-6, "float64": 2e-14}


@st.composite
def chunks_of(draw, n):
    """Lengths of chunks that make up an axis, some of them 0 at times."""
    cuts = draw(st.lists(st.integers(0, n), max_size=3).map(sorted))
    return tuple(int(stop - start) for start, stop in zip([0, *cuts], [*cuts, n], strict=True))


@st.composite
def lazy(draw, array):
    """The array as a Dask array in any chunks."""
    return da.from_array(array, chunks=tuple(draw(chunks_of(n)) for n in np.shape(array)))


@st.composite
def lazy_or_not(draw, array):
    """An argument beside the main one: as it is, or as a Dask array in chunks of its own."""
    return array if array is None or draw(st.booleans()) else draw(lazy(array))


def numbers(seed, shape, dtype, special=True):
    """Numbers of several scales; NaN and infinities in some rows and in none."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10 ** rng.uniform(-2, 1.3)
    if rng.random() < 0.5:
        x = np.where(rng.random(shape) < 0.1, x + 30, x)
    if special and np.dtype(dtype).kind == "f":
        for value, share in ((-np.inf, 0.2), (np.inf, 0.03), (np.nan, 0.03)):
            if rng.random() < 0.4:
                x = np.where(rng.random(shape) < share, value, x)
    return x.astype(dtype)


def assert_same(lazy_results, expected, compute, of=0):
    """Assert that lazy results have the shape, the dtype and, but for rounding, the values.

    Differences are relative to the results or, where terms cancel, to their size: `of`, one number
    or one for each result.
    """
    sizes = of if isinstance(of, list) else [of] * len(expected)
    computed = iter(compute(*(result for result in lazy_results if result is not None)))
    for result, other, size in zip(lazy_results, expected, sizes, strict=True):
        if other is None:
            assert result is None
            continue
        assert isinstance(result, da.Array)
        now, other = next(computed), np.asarray(other)
        assert result.dtype == now.dtype == other.dtype
        assert result.shape == np.shape(now) == other.shape
        tolerance, tiny = TOLERANCE[other.dtype.name], np.finfo(other.dtype).tiny
        np.testing.assert_allclose(now, other, rtol=tolerance, atol=tolerance * size + 2 * tiny)


def on_threads(*collections):
    return dask.compute(*collections, scheduler="threads")
