"""Passes over the rows of a fit: the objective's mean loss, and the moments of the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

import fastlse
from fastlse._linear_problem import is_sparse
from fastlse.sklearn._objective import binomial_loss, multinomial_loss
from fastlse.sklearn._variables import (
    RUN_BYTES,
    Moments,
    Variables,
    are_worth_it,
    rows_to_sample,
    sampled_runs,
    variables_of,
)

from ._chunks import offsets, on_chunks, threads_of_a_call, tree_sum
from ._operands import as_floats

if TYPE_CHECKING:
    from fastlse._problem import Array

    from ._training import Training

# An axis of numbers that are added up over the chunks, and those of the coefficients.
NUMBERS, OUTPUTS, COLUMNS = 2, 3, 4


class MeanLoss:
    """The mean loss of all rows and its gradients, by one pass over the chunks.

    Attributes
    ----------
    bytes_read : int
        The bytes of features that the chunks of the last pass held, as they were counted there.
    """

    def __init__(self, data: Training) -> None:
        self.data = data
        self.bytes_read = 0

    def __call__(self, coef: Array, intercept: Array | None) -> tuple[float, Array, Array | None]:
        point = coef if intercept is None else np.column_stack([coef, intercept])
        numbers = self.lazy(point, intercept is not None).compute()
        loss, n_bytes = float(numbers[0]), numbers[1]
        self.bytes_read = int(n_bytes)
        gradient = numbers[2:].reshape(point.shape)
        if intercept is None:
            return loss, gradient, None
        return loss, gradient[:, :-1], gradient[:, -1]

    def lazy(self, point: Array, has_intercept: bool) -> da.Array:
        """Loss, bytes and gradient, one after the other, not yet computed."""
        data = self.data
        parts = on_chunks(
            _loss_of_chunk,
            (0, NUMBERS),
            (data.X, (0, 1)),
            (data.target, (0,)),
            (data.weights, None if data.weights is None else (0,)),
            (da.from_array(point, chunks=-1), (OUTPUTS, COLUMNS)),
            dtype=np.float64,
            sizes={0: 1},
            new={NUMBERS: 2 + point.size},
            n_classes=len(data.classes),
            divisor=data.total,
            has_intercept=has_intercept,
        )
        return tree_sum(parts, (0,), np.float64)


def _loss_of_chunk(
    x: Any,
    target: Array,
    weights: Array | None,
    point: Array,
    n_classes: int,
    divisor: float,
    has_intercept: bool,
) -> Array:
    """A chunk's part of the mean loss, its bytes, and its part of the gradient."""
    numbers = np.zeros((1, 2 + point.size))
    if x.shape[0] == 0:
        return numbers
    n_bytes = x.data.nbytes + x.indices.nbytes + x.indptr.nbytes if is_sparse(x) else x.nbytes
    x = as_floats(x)
    n_features = x.shape[1]
    intercept = point[:, n_features] if has_intercept else None
    with fastlse.threads(threads_of_a_call(None)), np.errstate(all="ignore"):
        mean_loss = (
            binomial_loss(x, target, weights, divisor)
            if n_classes == 2
            else multinomial_loss(x, target, weights, n_classes, divisor)
        )
        loss, grad, grad_intercept = mean_loss(point[:, :n_features], intercept)
    numbers[0, 0], numbers[0, 1] = loss, n_bytes
    gradient = numbers[0, 2:].reshape(point.shape)
    gradient[:, :n_features] = grad
    if has_intercept:
        gradient[:, n_features] = grad_intercept
    return numbers


def variables_of_chunks(
    data: Training, n_outputs: int, penalty: float, fit_intercept: bool
) -> Variables | None:
    """The variables that a fit in memory has, from the same rows; one pass over the chunks."""
    X, n_features = data.X, data.X.shape[1]
    if data.is_sparse or not are_worth_it(X.shape, n_outputs):
        return None
    n_sampled = rows_to_sample(X, n_outputs)
    # Near the mean, sums of products keep their digits; without an intercept they are around 0.
    near = data.means if fit_intercept else np.zeros(n_features)
    n_numbers = 2 + n_features * (n_features + 8)
    numbers = tree_sum(
        on_chunks(
            _sums_of_chunk,
            (0, NUMBERS),
            (X, (0, 1)),
            (data.weights, None if data.weights is None else (0,)),
            (offsets(X.chunks[0]), (0,)),
            (da.from_array(near, chunks=-1), (1,)),
            dtype=np.float64,
            sizes={0: 1},
            new={NUMBERS: n_numbers},
            n_rows=X.shape[0],
            n_sampled=n_sampled,
        ),
        (0,),
        np.float64,
    ).compute()
    with np.errstate(all="ignore"):
        moments = _moments(numbers, near, n_features, fit_intercept, n_sampled < X.shape[0])
    return variables_of(moments, n_outputs, penalty, fit_intercept)


def _sums_of_chunk(
    x: Array, weights: Array | None, start: Array, near: Array, n_rows: int, n_sampled: int
) -> Array:
    """Sums over a chunk of powers and products of its features less `near`, by weight.

    In this order: the weight of all rows, and of those sampled; of all rows the first and the
    second powers; of those sampled the first, then powers from 0 to 4 by the square of the weight,
    and the products.
    """
    n_features = len(near)
    numbers = np.zeros(2 + n_features * (n_features + 8))
    powers = numbers[2 : 2 + 8 * n_features].reshape(8, n_features)
    products = numbers[2 + 8 * n_features :].reshape(n_features, n_features)
    step = max(1, RUN_BYTES // (8 * n_features))
    with np.errstate(all="ignore"):
        for first in range(0, len(x), step):
            u, w = _block(x, weights, slice(first, first + step), near)
            numbers[0] += w.sum()
            powers[0] += w @ u
            powers[1] += w @ np.square(u)
        for run in sampled_runs(n_rows, n_features, n_sampled):
            stop = min(len(x), run.stop - int(start[0]))
            for first in range(max(0, run.start - int(start[0])), stop, step):
                u, w = _block(x, weights, slice(first, min(stop, first + step)), near)
                w = np.abs(w)
                numbers[1] += w.sum()
                powers[2] += w @ u
                power, squares = np.ones_like(u), np.square(w)
                for k in range(5):
                    powers[3 + k] += squares @ power
                    power *= u
                u *= np.sqrt(w)[:, None]
                products += u.T @ u
    return numbers[None]


def _block(x: Array, weights: Array | None, rows: slice, near: Array) -> tuple[Array, Array]:
    u = x[rows] - near
    return u, np.ones(len(u)) if weights is None else weights[rows]


def _moments(
    numbers: Array, near: Array, n_features: int, fit_intercept: bool, are_some: bool
) -> Moments:
    """Moments around the weighted mean, from sums around what is near to it."""
    powers = numbers[2 : 2 + 8 * n_features].reshape(8, n_features)
    products = numbers[2 + 8 * n_features :].reshape(n_features, n_features)
    total, sampled = numbers[:2]
    first, second, of_sampled, *by_square = powers
    shift = first / total if fit_intercept else np.zeros(n_features)
    variance = np.maximum(second / total - shift**2, 0)
    cross = np.outer(shift, of_sampled)
    around = products - cross - cross.T + sampled * np.outer(shift, shift)
    if not are_some:
        return Moments(near + shift, variance, around, None)
    terms = [factor * shift ** (4 - k) * by_square[k] for k, factor in enumerate((1, -4, 6, -4, 1))]
    return Moments(near + shift, variance, around, np.sum(terms, axis=0))
