"""What a logistic regression minimises: the mean loss of all rows and the penalty, by blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlse import _backends, _threads
from fastlse._linear import loss_and_gradients, neighbours
from fastlse._linear_problem import as_chunk_rows, is_sparse, linear_problem
from fastlse._targets import as_options

if TYPE_CHECKING:
    from fastlse._problem import Array

FLOAT64 = np.dtype(np.float64)

# From coefficients (n_outputs, n_features) and intercepts (n_outputs,) or None, in float64: the
# mean loss and its gradients by both.
MeanLoss = Callable[["Array", "Array | None"], tuple[float, "Array", "Array | None"]]


def multinomial_loss(
    X: Any,
    target: Array,
    sample_weight: Array | None,
    n_classes: int,
    divisor: float | None = None,
) -> MeanLoss:
    """The mean cross-entropy of the rows of X, an array or CSR; a target is a class's index.

    `divisor` is the weight of all rows where X is a part of them; the parts then sum to the mean.
    """
    dtype = X.dtype
    weight, bias = np.zeros((n_classes, X.shape[1]), dtype), np.zeros(n_classes, dtype)
    options = as_options("mean", -100)
    problem = linear_problem(X, weight, target, bias, None, sample_weight, options, None)
    # The blocks' sums are float64: let the results keep their digits where X is float32.
    whole = problem.loss.divisor if divisor is None else divisor
    loss_of_rows = replace(problem.loss, dtype=FLOAT64, divisor=whole)
    problem = replace(problem, dtype=FLOAT64, loss=loss_of_rows)

    def mean_loss(coef: Array, intercept: Array | None) -> tuple[float, Array, Array | None]:
        bias = None if intercept is None else intercept.astype(dtype)
        here = replace(problem, weight=coef.astype(dtype, copy=False), bias=bias)
        loss, (_, grad, grad_bias) = loss_and_gradients(here, ("weight", "bias"), None)
        return float(loss), grad, grad_bias

    return mean_loss


def binomial_loss(
    X: Any, target: Array, sample_weight: Array | None, divisor: float | None = None
) -> MeanLoss:
    """The mean binary cross-entropy of the rows of X, an array or CSR; a target is 0 or 1.

    `divisor` is as for `multinomial_loss`.
    """
    n_rows, n_features = X.shape
    dtype = X.dtype
    target = target.astype(dtype)
    weight = None if sample_weight is None else sample_weight.astype(dtype)
    if divisor is None:
        divisor = float(n_rows if sample_weight is None else sample_weight.sum())
    chunk_rows = as_chunk_rows(None, X, 1, dtype)
    buffer = np.empty(0 if is_sparse(X) else chunk_rows, dtype)

    def mean_loss(coef: Array, intercept: Array | None) -> tuple[float, Array, Array | None]:
        slopes = coef[0].astype(dtype)
        total, grad, grad_bias = 0.0, np.zeros(n_features), 0.0
        for start in range(0, n_rows, chunk_rows):
            rows = slice(start, min(n_rows, start + chunk_rows))
            x = neighbours(X, rows)
            logits = x @ slopes if is_sparse(X) else np.matmul(x, slopes, out=buffer[: len(x)])
            if intercept is not None:
                logits += dtype.type(intercept[0])
            total += _backends.active.binary_cross_entropy(
                logits,
                target[rows],
                None,
                logits,
                None if weight is None else weight[rows],
                None,
                1.0,
                _threads.resolve(None, logits.size),
            )
            grad += x.T @ logits
            grad_bias += float(np.add.reduce(logits))
        with np.errstate(all="ignore"):  # weights whose sum is 0
            grad /= divisor
            loss, slope = float(np.divide(total, divisor)), np.divide([grad_bias], divisor)
        return loss, grad[None], None if intercept is None else slope

    return mean_loss


class Objective:
    """The mean loss plus half the penalty times the coefficients' squares, with its gradient.

    A point is a matrix (n_outputs, n_columns) of float64: the coefficients and, if there is one,
    in its last column the intercept, which is not penalised.

    Attributes
    ----------
    n_evaluations : int
        How often it was computed: repeated for the point before, it costs nothing.
    """

    def __init__(self, mean_loss: MeanLoss, penalty: float, n_features: int) -> None:
        self.mean_loss, self.penalty, self.n_features = mean_loss, penalty, n_features
        self.n_evaluations = 0
        self._point: Array | None = None
        self._result: tuple[float, Array]

    def __call__(self, point: Array) -> tuple[float, Array]:
        """The objective and its gradient, of the point's shape."""
        if self._point is None or not np.array_equal(point, self._point):
            self._result = self._compute(point)
            self._point = point.copy()
        return self._result

    def _compute(self, point: Array) -> tuple[float, Array]:
        self.n_evaluations += 1
        coef = point[:, : self.n_features]
        has_intercept = point.shape[1] > self.n_features
        loss, grad_coef, grad_intercept = self.mean_loss(
            coef, point[:, -1] if has_intercept else None
        )
        gradient = np.empty_like(point)
        np.multiply(coef, self.penalty, out=gradient[:, : self.n_features])
        gradient[:, : self.n_features] += grad_coef
        if has_intercept:
            gradient[:, -1] = grad_intercept
        return loss + 0.5 * self.penalty * float(np.vdot(coef, coef)), gradient
