"""Variables in which the minimum of a logistic regression is found in fewer iterations.

The Hessian of the mean loss is nearly a multiple of the features' covariance, with an intercept
that belongs to the features' means. With the covariance as L L', the variables U = W L (and the
intercept there) have a Hessian that is nearly the identity, however different the features'
scales are and however strongly they are correlated. The function and its minimum stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlse._linear_problem import is_sparse

if TYPE_CHECKING:
    from fastlse._problem import Array

# Below so many rows a fit takes scikit-learn's own steps.
WORTH_ROWS = 1000

# The covariance costs no more than about five evaluations: it comes from all rows if there are few
# features for each class, else from some, but not fewer than these.
LEAST_ROWS = 8192
LEAST_ROWS_PER_FEATURE = 8

# The rows that it comes from lie in so many runs of neighbours, so that of a file few pages are
# read.
RUNS = 64
RUN_BYTES = 2**20

# A sample's correlations are made smaller as if it had so many rows more, each with one feature.
# Without that, two rare features that are found together once would be one.
MORE_ROWS = 1.0

# All correlations are made smaller by this part, so that they have a Cholesky factor.
SHRINKAGE = 1e-8

# Without a penalty, features of which one is nearly a sum of others have no one minimum, and only
# scikit-learn's own steps lead to the one that it finds. This is how much of the one's variance is
# not in the others; correlations of a sample cannot tell less.
COLLINEAR = 1e-3


@dataclass(frozen=True, slots=True)
class Variables:
    """W = U `to_coef`, and U = W `from_coef`."""

    to_coef: Array
    from_coef: Array

    def coef(self, variables: Array) -> Array:
        """The coefficients, from the variables."""
        return variables @ self.to_coef

    def variables(self, coef: Array) -> Array:
        """The variables, from the coefficients."""
        return coef @ self.from_coef

    def gradient(self, gradient: Array) -> Array:
        """The gradient by the variables, from that by the coefficients."""
        return gradient @ self.to_coef.T


def variables_for(
    X: Any, sample_weight: Array | None, n_outputs: int, penalty: float, fit_intercept: bool
) -> Variables | None:
    """Better variables for a large problem; None where they are not worth their price."""
    if is_sparse(X) or not are_worth_it(X.shape, n_outputs):
        return None
    n_sampled = rows_to_sample(X, n_outputs)
    with np.errstate(all="ignore"):
        mean, variance = _moments(X, sample_weight)
        if not fit_intercept:
            variance += mean**2
            mean[:] = 0
        sums, fourth_powers = _products(X, sample_weight, mean, n_sampled)
    moments = Moments(mean, variance, sums, fourth_powers if n_sampled < len(X) else None)
    return variables_of(moments, n_outputs, penalty, fit_intercept)


def are_worth_it(shape: tuple[int, ...], n_outputs: int) -> bool:
    """Whether a matrix has enough rows for its covariance to be worth its price."""
    n_rows, n_features = shape
    return n_rows >= WORTH_ROWS and n_features**2 <= n_rows * n_outputs


@dataclass(frozen=True, slots=True)
class Moments:
    """What the variables are made of.

    Attributes
    ----------
    mean, variance : ndarray, shape (n_features,)
        Of all rows; without an intercept zeros, and the mean squares.
    products : ndarray, shape (n_features, n_features)
        The sum over all rows, or some, of the products of features less their means.
    fourth_powers : ndarray, shape (n_features,), or None
        The sum over some rows of fourth powers; None if `products` is of all rows.
    """

    mean: Array
    variance: Array
    products: Array
    fourth_powers: Array | None


def variables_of(
    moments: Moments, n_outputs: int, penalty: float, fit_intercept: bool
) -> Variables | None:
    """The variables, from the moments of the features; None where they cannot tell."""
    mean, variance = moments.mean, moments.variance
    n_features = len(mean)
    # Without any coefficients a class's part of the Hessian is the covariance over this.
    ratio = 4.0 if n_outputs == 1 else float(n_outputs)
    with np.errstate(all="ignore"):
        # The penalty has its part in the Hessian.
        scale = np.sqrt(variance + ratio * penalty)
        scale[scale == 0] = 1
        share = np.sqrt(variance) / scale
        correlations = _correlations(moments) * np.outer(share, share)
    if not (np.isfinite(correlations).all() and np.isfinite(scale).all()):
        return None
    np.fill_diagonal(correlations, 1)
    lower = np.linalg.cholesky(correlations)
    if not penalty and np.diag(lower).min() ** 2 < COLLINEAR:
        return None
    root = scale[:, None] * lower / ratio**0.5
    inverse = np.linalg.inv(lower) / scale * ratio**0.5
    if not fit_intercept:
        return Variables(inverse, root)
    return Variables(
        np.block([[inverse, -(inverse @ mean)[:, None]], [np.zeros(n_features), ratio**0.5]]),
        np.block([[root, mean[:, None] / ratio**0.5], [np.zeros(n_features), ratio**-0.5]]),
    )


def rows_to_sample(X: Any, n_outputs: int) -> int:
    """How many rows of an array the products come from."""
    n_rows, n_features = X.shape
    least = max(LEAST_ROWS, LEAST_ROWS_PER_FEATURE * n_features)
    return int(min(n_rows, max(least, 20 * max(5, n_outputs) * n_rows // n_features)))


def _moments(X: Any, sample_weight: Array | None) -> tuple[Array, Array]:
    """The mean and the variance of each feature."""
    n_rows, n_features = X.shape
    sums, squares = np.zeros((2, n_features))
    step = max(1, RUN_BYTES // (4 * n_features * X.itemsize))
    near = X[:step].mean(axis=0)  # features far from 0 keep the digits of their variance
    for start in range(0, n_rows, step):
        x = X[start : start + step] - near
        weights = np.ones(len(x)) if sample_weight is None else sample_weight[start : start + step]
        weights = weights.astype(X.dtype, copy=False)
        sums += weights @ x
        squares += weights @ np.square(x, out=x)
    total = n_rows if sample_weight is None else sample_weight.sum()
    mean = sums / total
    return mean + near, np.maximum(squares / total - mean**2, 0)


def _products(
    X: Any, sample_weight: Array | None, mean: Array, n_sampled: int
) -> tuple[Array, Array]:
    """Sums of products and of fourth powers of the features around `mean`, of so many rows."""
    n_rows, n_features = X.shape
    sums, fourth_powers = np.zeros((n_features, n_features)), np.zeros(n_features)
    for rows in sampled_runs(n_rows, n_features, n_sampled):
        x = X[rows] - mean
        if sample_weight is not None:
            x *= np.sqrt(np.abs(sample_weight[rows, None]))
        sums += x.T @ x
        if n_sampled < n_rows:
            fourth_powers += np.square(np.square(x)).sum(axis=0)
    return sums, fourth_powers


def sampled_runs(n_rows: int, n_features: int, n_sampled: int) -> list[slice]:
    """Runs of neighbouring rows, so many rows in all, from everywhere."""
    n_runs = max(RUNS, n_sampled * n_features * 8 // RUN_BYTES)
    starts = np.linspace(0, n_rows, n_runs, endpoint=False).astype(int).tolist()
    length = -(-n_sampled // n_runs)
    return [
        slice(start, min(stop, start + length))
        for start, stop in zip(starts, [*starts[1:], n_rows], strict=True)
    ]


def _correlations(moments: Moments) -> Array:
    """Correlations of the features, a little smaller than the products' own."""
    squares = np.diag(moments.products).copy()
    # So many rows decide a feature's variance: a third of them if it is normal, few if it is rare.
    n_telling = np.full(len(squares), np.inf)
    if moments.fourth_powers is not None:
        fourth_powers = moments.fourth_powers
        np.divide(squares**2, fourth_powers, out=n_telling, where=fourth_powers > 0)
    scale = np.sqrt(squares * (1 + MORE_ROWS / n_telling))
    scale[scale == 0] = 1
    correlations: Array = moments.products / np.outer(scale, scale) * (1 - SHRINKAGE)
    return correlations
