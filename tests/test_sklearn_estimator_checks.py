"""scikit-learn's checks of an estimator: all that its own LogisticRegression passes."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import estimator_checks_generator

from fastlse.sklearn import LogisticRegression

pytestmark = pytest.mark.filterwarnings("default")

# What `parametrize_with_checks` runs; in older versions that gives pytest an iterator, which warns.
CHECKS = list(estimator_checks_generator(LogisticRegression()))


def name(check):
    function = getattr(check, "func", check)
    return f"{function.__name__}-{getattr(check, 'keywords', None) or ''}"


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[name(check) for _, check in CHECKS])
def test_estimator(estimator, check):
    """A check raises where the estimator does not do what it asks."""
    check(estimator)
