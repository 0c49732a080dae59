"""What a fitted classifier says of rows, chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

import fastlse
from fastlse.elementwise import expit, log_expit
from fastlse.reductions import log_softmax, softmax

from ._chunks import on_chunks, threads_of_a_call, tree_sum
from ._operands import as_floats

if TYPE_CHECKING:
    from fastlse._problem import Array

# Axes of the result, and of the coefficients, in one chunk.
CLASSES, OUTPUTS, COLUMNS = 2, 3, 4


def of_rows(
    function: Any, X: da.Array, point: Array, dtype: np.dtype[Any], n_columns: int | None
) -> da.Array:
    """The results of a function of each chunk and the coefficients: rows, or rows and columns."""
    axes, new = ((0,), None) if n_columns is None else ((0, CLASSES), {CLASSES: n_columns})
    operands = (X, (0, 1)), (da.from_array(point, chunks=-1), (OUTPUTS, COLUMNS))
    return on_chunks(function, axes, *operands, dtype=dtype, new=new)


def scores(x: Any, point: Array) -> Array:
    """The scores of a chunk: one for each class, or of two the second's."""
    x = as_floats(x)
    result: Array = x @ point[:, :-1].T
    result += point[:, -1]
    return result[:, 0] if len(point) == 1 else result


def probabilities(x: Any, point: Array) -> Array:
    """The probability of each class."""
    return _of_scores(x, point, softmax, expit)


def log_probabilities(x: Any, point: Array) -> Array:
    """Its logarithm, finite where the probability is 0."""
    return _of_scores(x, point, log_softmax, log_expit)


def _of_scores(x: Any, point: Array, of_many: Any, of_two: Any) -> Array:
    given = scores(x, point)
    with fastlse.threads(threads_of_a_call(None)):
        if given.ndim == 2:
            many: Array = of_many(given, axis=1, out=given)
            return many
        return np.stack([of_two(-given), of_two(given)], axis=1)


def places(x: Any, point: Array) -> Array:
    """The place of the class with the highest score."""
    given = scores(x, point)
    return (given > 0).astype(np.intp) if given.ndim == 1 else given.argmax(axis=1)


def labels(chosen: da.Array, classes: Array) -> da.Array:
    """The labels of the classes at these places."""
    known = da.from_array(classes, chunks=-1)
    return on_chunks(_take, (0,), (chosen, (0,)), (known, (1,)), dtype=classes.dtype)


def _take(chosen: Array, classes: Array) -> Array:
    return classes[chosen]


def accuracy(y: da.Array, predicted: da.Array, weights: da.Array | None) -> da.Array:
    """The share of the labels that are the predicted ones, of no dimension."""
    parts = on_chunks(
        _hits,
        (0, CLASSES),
        (predicted, (0,)),
        (y, (0,)),
        (weights, None if weights is None else (0,)),
        dtype=np.float64,
        sizes={0: 1},
        new={CLASSES: 2},
    )
    hits = tree_sum(parts, (0,), np.float64)
    return hits[0] / hits[1]


def _hits(predicted: Array, y: Any, weights: Any) -> Array:
    """The weight of the rows whose label is the predicted one, and that of all."""
    given = np.asarray(y)
    if len(given) != len(predicted):
        raise ValueError(
            f"y must have the chunks of X, got one of {len(given)} rows for one of {len(predicted)}"
        )
    of_rows = np.ones(len(given)) if weights is None else np.asarray(weights, np.float64)
    return np.array([[of_rows[given == predicted].sum(), of_rows.sum()]])
