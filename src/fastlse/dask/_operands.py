"""Features, labels and weights as Dask arrays in the same chunks, from arrays or dataframes."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from fastlse._linear_problem import for_blas, is_sparse

from ._chunks import align, as_lazy

if TYPE_CHECKING:
    from fastlse._problem import Array

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def in_same_chunks(
    X: Any, y: Any, sample_weight: Any
) -> tuple[da.Array, da.Array, da.Array | None]:
    """Dask arrays of known chunks, those of X; a number as weight is that of all rows."""
    X, y, sample_weight = _without_frames(X, y, sample_weight)
    X = as_features(X)
    _check_known(X, "X")
    n_rows, n_features = X.shape
    if n_rows == 0 or n_features == 0:
        raise ValueError(f"X must have at least one row and one feature, got shape {X.shape}")
    y = _of_rows(y, "y", X)
    if y.dtype.kind not in "biufOUST":
        raise TypeError(f"y must hold numbers, strings or bools, got dtype {y.dtype}")
    if sample_weight is None:
        return X, y, None
    if np.isscalar(sample_weight):
        number = float(np.asarray(sample_weight))
        sample_weight = da.full(n_rows, number, chunks=(X.chunks[0],))
    weights = _of_rows(sample_weight, "sample_weight", X)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must be an array of numbers, got dtype {weights.dtype}")
    return X, y, weights


def as_features(X: Any) -> da.Array:
    """A matrix as a Dask array, its features in one chunk; those of rows may be unknown."""
    X = frame_to_array(X)
    if not isinstance(X, da.Array):
        X = as_lazy(X, "X", "biuf", sparse=True)
    if X.ndim != 2:
        raise ValueError(f"X must have 2 dimensions, rows and features, got shape {X.shape}")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X must be an array of real numbers, got dtype {X.dtype}")
    if X.numblocks[1] > 1:
        _check_known(X, "X")
        X = X.rechunk({1: -1})
    return X


def is_frame(value: Any) -> bool:
    """Whether it is a DataFrame or a Series of Dask's."""
    return hasattr(value, "to_dask_array") and hasattr(value, "map_partitions")


def frame_to_array(value: Any, lengths: Any = None) -> Any:
    """A frame's Dask array, of unknown chunks without their lengths; else the value itself."""
    if not is_frame(value):
        return value
    with warnings.catch_warnings():
        # It says that strings become objects, which is what labels may be.
        warnings.filterwarnings("ignore", "Dask currently has limited support", UserWarning)
        return value.to_dask_array(lengths=lengths)


def _without_frames(*values: Any) -> list[Any]:
    """Frames as arrays, the lengths of whose chunks take a look at all partitions."""
    frames = [value for value in values if is_frame(value)]
    lengths = iter(dask.compute(*(frame.map_partitions(len) for frame in frames)))
    return [
        frame_to_array(value, tuple(map(int, next(lengths)))) if is_frame(value) else value
        for value in values
    ]


def _check_known(array: da.Array, name: str) -> None:
    if any(math.isnan(n) for n in array.shape):
        raise ValueError(
            f"{name} has chunks of unknown sizes: call {name}.compute_chunk_sizes() first, or pass "
            "the dataframe itself"
        )


def _of_rows(value: Any, name: str, X: da.Array) -> da.Array:
    """One value for each row, in the chunks of X."""
    array = value if isinstance(value, da.Array) else np.asarray(value)
    if isinstance(array, da.Array):
        _check_known(array, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {array.shape}")
    if array.shape != X.shape[:1]:
        raise ValueError(
            f"{name} must have one value for each row of X, {X.shape[0]}, got shape {array.shape}"
        )
    if isinstance(array, da.Array):
        return align(array, (0,), dict(enumerate(X.chunks)))
    return da.from_array(array, chunks=(X.chunks[0],))


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which features are used."""
    return FLOAT32 if dtype == FLOAT32 else FLOAT64


def as_floats(x: Any) -> Any:
    """A chunk of features as the losses take it: itself where that is possible."""
    dtype = float_dtype(x.dtype)
    if is_sparse(x):
        return x.tocsr().astype(dtype, copy=False)
    return for_blas(np.asarray(x), dtype)


def feature_names(X: Any) -> Array | None:
    """The names of a dataframe's features, if all are strings."""
    if not (is_frame(X) and hasattr(X, "columns")):
        return None
    names = np.asarray(list(X.columns), object)
    return names if all(isinstance(name, str) for name in names) else None


def beside(value: Any, name: str, predicted: da.Array) -> da.Array:
    """Labels or weights in the chunks of the predicted labels."""
    array = frame_to_array(value)
    if not isinstance(array, da.Array):
        array = np.asarray(array)
        if np.isnan(predicted.shape[0]):
            raise ValueError(
                f"{name} must be a Dask array or a Series where X has chunks of unknown sizes"
            )
        array = da.from_array(array, chunks=-1)
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {array.shape}")
    if np.isnan(predicted.shape[0]) or np.isnan(array.shape[0]):
        if array.numblocks != predicted.numblocks:
            raise ValueError(
                f"{name} must have the chunks of X, which are {predicted.numblocks[0]} of unknown "
                f"sizes, got {array.numblocks[0]}"
            )
        return array
    if array.shape != predicted.shape:
        raise ValueError(
            f"{name} must have one value for each row of X, {predicted.shape[0]}, got shape "
            f"{array.shape}"
        )
    return align(array, (0,), {0: predicted.chunks[0]})
