"""The weights of the rows, from `sample_weight` and `class_weight`."""

from __future__ import annotations

from inspect import signature
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.class_weight import compute_class_weight

if TYPE_CHECKING:
    from fastlse._problem import Array

# Since 1.7: before, "balanced" does not look at the sample weights.
BALANCES_SAMPLE_WEIGHT = "sample_weight" in signature(compute_class_weight).parameters


def row_weights(
    sample_weight: Any, class_weight: Any, X: Any, y: Array, classes: Array, target: Array
) -> Array | None:
    """The weight of each row in float64, a copy; None if none was given."""
    if sample_weight is None and class_weight is None:
        return None
    weights = _as_sample_weight(sample_weight, X)
    if class_weight is not None:
        options = {"sample_weight": weights} if BALANCES_SAMPLE_WEIGHT else {}
        by_class = compute_class_weight(class_weight, classes=classes, y=y, **options)
        weights *= by_class[target]
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def _as_sample_weight(sample_weight: Any, X: Any) -> Array:
    n_rows = X.shape[0]
    if sample_weight is None or isinstance(sample_weight, Number):
        return np.full(n_rows, 1.0 if sample_weight is None else sample_weight)
    weights: Array = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        order="C",
        copy=True,
        input_name="sample_weight",
    )
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
            f"either a scalar value or a 1D array of length {n_rows}."
        )
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}!")
    return weights
