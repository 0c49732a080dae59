"""scikit-learn's estimators on fastlse's kernels."""

from __future__ import annotations

from sklearn import linear_model


class LogisticRegression(linear_model.LogisticRegression):  # type: ignore[misc]
    """scikit-learn's own, until this package has its."""
