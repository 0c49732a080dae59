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
WORTH_ROWS = 5000

# The correlations come from this many rows, or SAMPLE_ROWS_PER_FEATURE for each feature if those are
# more, in runs of neighbours, so that of a file few pages are read.
SAMPLE_ROWS = 8192
SAMPLE_ROWS_PER_FEATURE = 8
RUN_ROWS = 128

# Correlations are made smaller by this part: what the sample does not know stays within bounds.
SHRINKAGE = 1e-3

# Of a block's features, which go through the cache once.
BLOCK_BYTES = 2**18


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
    n_rows, n_features = X.shape
    if is_sparse(X) or n_rows < WORTH_ROWS or n_features**2 > n_rows * n_outputs:
        return None
    # Without any coefficients a class's part of the Hessian is the covariance over this.
    ratio = 4.0 if n_outputs == 1 else float(n_outputs)
    with np.errstate(all="ignore"):
        mean, variance = _moments(X, sample_weight)
        if not fit_intercept:
            variance += mean**2
            mean[:] = 0
        correlations = _correlations(X, sample_weight, mean)
        # The penalty has its part in the Hessian.
        scale = np.sqrt(variance + ratio * penalty)
    scale[scale == 0] = 1
    if not (np.isfinite(correlations).all() and np.isfinite(scale).all()):
        return None
    lower = np.linalg.cholesky(correlations)
    root = scale[:, None] * lower / ratio**0.5
    inverse = np.linalg.inv(lower) / scale * ratio**0.5
    if not fit_intercept:
        return Variables(inverse, root)
    return Variables(
        np.block([[inverse, -(inverse @ mean)[:, None]], [np.zeros(n_features), ratio**0.5]]),
        np.block([[root, mean[:, None] / ratio**0.5], [np.zeros(n_features), ratio**-0.5]]),
    )


def _moments(X: Any, sample_weight: Array | None) -> tuple[Array, Array]:
    """The mean and the variance of each feature."""
    n_rows, n_features = X.shape
    sums, squares = np.zeros((2, n_features))
    step = max(1, BLOCK_BYTES // max(1, n_features * X.itemsize))
    for start in range(0, n_rows, step):
        x = X[start : start + step]
        weights = np.ones(len(x)) if sample_weight is None else sample_weight[start : start + step]
        weights = weights.astype(X.dtype, copy=False)
        sums += weights @ x
        squares += weights @ np.square(x)
    total = n_rows if sample_weight is None else sample_weight.sum()
    mean = sums / total
    return mean, np.maximum(squares / total - mean**2, 0)


def _correlations(X: Any, sample_weight: Array | None, mean: Array) -> Array:
    """Correlations of the features around `mean`, from some of the rows."""
    n_rows, n_features = X.shape
    sums = np.zeros((n_features, n_features))
    n_runs = -(-max(SAMPLE_ROWS, SAMPLE_ROWS_PER_FEATURE * n_features) // RUN_ROWS)
    for start in np.unique(np.linspace(0, n_rows, n_runs, endpoint=False).astype(int)):
        rows = slice(int(start), int(start) + RUN_ROWS)
        x = X[rows] - mean
        weighted = x if sample_weight is None else x * sample_weight[rows, None]
        sums += weighted.T @ x
    scale = np.sqrt(np.diag(sums))
    scale[~(scale > 0)] = 1
    correlations = sums / np.outer(scale, scale) * (1 - SHRINKAGE)
    np.fill_diagonal(correlations, 1)
    return correlations
