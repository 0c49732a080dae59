"""scikit-learn's checks of an estimator: all that its own LogisticRegression passes."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlse.sklearn import LogisticRegression

pytestmark = pytest.mark.filterwarnings("default")


@parametrize_with_checks([LogisticRegression()])
def test_estimator(estimator, check):
    """A check raises where the estimator does not do what it asks."""
    check(estimator)
