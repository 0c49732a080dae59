"""A pytest plugin: our LogisticRegression in the place of scikit-learn's, before it is imported."""

from __future__ import annotations

from sklearn import linear_model
from sklearn.linear_model import _logistic

from fastlse.sklearn import LogisticRegression

linear_model.LogisticRegression = _logistic.LogisticRegression = LogisticRegression
