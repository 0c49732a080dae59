"""What a classifier is fitted to: rows, labels and weights as Dask arrays, looked through once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np

from fastlse._linear_problem import is_sparse
from fastlse._problem import Array

from ._chunks import on_chunks, tree_merge
from ._operands import float_dtype, in_same_chunks

FLOAT64 = np.dtype(np.float64)

# From the labels, the rows of each and their summed weights: one factor for each class, or None.
ClassWeights = Callable[[Array, Array, Array], "Array | None"]


@dataclass(frozen=True)
class Training:
    """Rows, labels and weights in the same chunks, and what a pass over them found.

    Attributes
    ----------
    X : dask.array.Array
        Features in one chunk; of the dtype that they came in.
    target : dask.array.Array
        Each row's place in `classes`, held by Dask, in 1, 2 or 4 bytes.
    weights : dask.array.Array or None
        Of the rows, in float64, held by Dask.
    classes : ndarray
        The labels in order.
    total : float
        The sum of the weights, or the number of rows.
    means : ndarray
        Of the features, all rows alike.
    is_sparse : bool
        Whether a chunk is a sparse matrix.
    """

    X: da.Array
    target: da.Array
    weights: da.Array | None
    classes: Array
    total: float
    means: Array
    is_sparse: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the coefficients."""
        return float_dtype(self.X.dtype)


@dataclass(frozen=True)
class Summary:
    """What a pass finds in some chunks; `fault` is the first chunk's that is bad, and its row's."""

    n_rows: int
    fault: tuple[int, int, str] | None
    classes: Array
    counts: Array
    weights: Array
    has_weight: bool
    sums: Array


def training(X: Any, y: Any, sample_weight: Any, class_weights: ClassWeights) -> Training:
    """Check rows, labels and weights, of which all but the shapes takes a pass over them."""
    X, y, weights = in_same_chunks(X, y, sample_weight)
    numbers = da.from_array(np.arange(X.numblocks[0]), chunks=1)
    (summary,) = dask.compute(
        tree_merge(
            on_chunks(
                _summary,
                (0,),
                (X, (0, 1)),
                (y, (0,)),
                (weights, None if weights is None else (0,)),
                (numbers, (0,)),
                dtype=object,
                sizes={0: 1},
            ),
            _merged,
        )
    )
    if summary.fault is not None:
        _raise_fault(summary.fault, X.chunks[0])
    classes = _plain(summary.classes)
    factors = class_weights(classes, summary.counts, summary.weights)
    target = _places(y, classes)
    total: float = summary.n_rows if weights is None else float(summary.weights.sum())
    if factors is not None:
        weights = _times(weights, target, factors)
        total = float(factors @ summary.weights)
    if not summary.has_weight or (factors is not None and not factors.any()):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if weights is None:
        (target,) = dask.persist(target)
    else:
        target, weights = dask.persist(target, weights)
    sparse = is_sparse(X._meta)
    means = summary.sums / summary.n_rows
    return Training(X, target, weights, classes, total, means, sparse)


@np.errstate(all="ignore")
def _summary(x: Any, y: Any, weights: Any, number: Array) -> Summary:
    """What there is in a chunk, or what is wrong with it."""
    y = np.asarray(y)
    x = x.tocsr() if is_sparse(x) else x
    fault = _fault(x, y, weights)
    if fault is not None:
        y, weights = y[:0], None
    classes, places = _unique(y)
    counts = np.bincount(places, minlength=len(classes)).astype(np.float64)
    sums: Array = counts
    if weights is not None:
        sums = np.bincount(places, np.asarray(weights, np.float64), len(classes))
    return Summary(
        x.shape[0],
        None if fault is None else (int(number[0]), *fault),
        classes,
        counts,
        sums,
        weights is None or bool(np.any(weights)),
        np.asarray(x.sum(axis=0, dtype=np.float64)).reshape(-1),
    )


def _fault(x: Any, y: Array, weights: Any) -> tuple[int, str] | None:
    """The first row of a chunk that cannot be used, and why."""
    n_rows = x.shape[0]
    for name, values in (("y", y), ("sample_weight", weights)):
        if values is not None and len(values) != n_rows:
            return 0, f"{name} must have the rows of X, {n_rows} in this chunk, got {len(values)}"
    numbers = x.data if is_sparse(x) else x
    # A finite sum is the quick way to know that all numbers are.
    if not np.isfinite(np.sum(numbers, dtype=np.float64)):
        invalid = ~np.isfinite(numbers)
        if invalid.any():
            place = np.unravel_index(int(np.argmax(invalid)), invalid.shape)
            row = int(place[0])
            if is_sparse(x):
                row = int(np.searchsorted(x.indptr, row, "right")) - 1
            return row, f"X must be finite, got {numbers[place]}"
    if weights is not None and not np.isfinite(weights).all():
        row = int(np.argmin(np.isfinite(weights)))
        return row, f"sample_weight must be finite, got {weights[row]}"
    missing = _missing(y)
    if missing.any():
        row = int(np.argmax(missing))
        return row, f"y must hold a label for each row, got {y[row]}"
    if y.dtype.kind == "f" and (y != np.trunc(y)).any():
        row = int(np.argmax(y != np.trunc(y)))
        return row, f"y must hold labels, not a continuous target, got {y[row]}"
    return None


def _missing(y: Array) -> Array:
    if y.dtype.kind == "f":
        return ~np.isfinite(y)
    if y.dtype.kind != "O":
        return np.zeros(len(y), bool)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        return np.asarray(pandas.isna(y))
    return np.array([label is None or label != label for label in y], bool)  # noqa: PLR0124


def _unique(labels: Array) -> tuple[Array, Array]:
    """The labels in order, and each one's place among them."""
    try:
        classes, places = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise TypeError(f"y must hold labels that have an order: {error}") from None
    return classes, places.reshape(-1)


@np.errstate(all="ignore")
def _merged(parts: list[Summary]) -> Summary:
    faults = [part.fault for part in parts if part.fault is not None]
    classes, places = _unique(np.concatenate([part.classes for part in parts]))
    n = len(classes)
    return Summary(
        sum(part.n_rows for part in parts),
        min(faults) if faults else None,
        classes,
        np.bincount(places, np.concatenate([part.counts for part in parts]), n),
        np.bincount(places, np.concatenate([part.weights for part in parts]), n),
        any(part.has_weight for part in parts),
        functools.reduce(np.add, [part.sums for part in parts]),
    )


def _plain(classes: Array) -> Array:
    """Objects that are numbers or bools as these: a dataframe's categories become objects."""
    if classes.dtype.kind != "O" or any(isinstance(label, str) for label in classes):
        return classes
    numbers = np.array(classes.tolist())
    return numbers if numbers.dtype.kind in "biuf" and numbers.ndim == 1 else classes


def _raise_fault(fault: tuple[int, int, str], chunks: tuple[int, ...]) -> None:
    number, row, what = fault
    start = sum(chunks[:number])
    raise ValueError(
        f"{what} in row {start + row}, in chunk {number} (rows {start} to "
        f"{start + chunks[number] - 1})"
    )


def _places(y: da.Array, classes: Array) -> da.Array:
    """The place of each label among the classes."""
    dtype = np.min_scalar_type(max(1, len(classes) - 1))
    known = da.from_array(classes, chunks=-1)
    return on_chunks(_places_of_chunk, (0,), (y, (0,)), (known, (1,)), dtype=dtype)


def _places_of_chunk(y: Any, classes: Array) -> Array:
    dtype = np.min_scalar_type(max(1, len(classes) - 1))
    return np.searchsorted(classes, np.asarray(y)).astype(dtype)


def _times(weights: da.Array | None, target: da.Array, factors: Array) -> da.Array:
    """The weights of the rows times their classes'."""
    return on_chunks(
        _times_of_chunk,
        (0,),
        (target, (0,)),
        (weights, None if weights is None else (0,)),
        (da.from_array(factors, chunks=-1), (1,)),
        dtype=FLOAT64,
    )


def _times_of_chunk(target: Array, weights: Any, factors: Array) -> Array:
    of_rows: Array = factors[target]
    return of_rows if weights is None else of_rows * np.asarray(weights, np.float64)
