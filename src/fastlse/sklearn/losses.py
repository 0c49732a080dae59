"""scikit-learn's classification losses by fastlse's kernels.

The objects derive from scikit-learn's own, which are in a private module: its estimators take
instances of that module's base class and nothing else, and no public name leads to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn._loss import loss as _theirs

import fastlse

from ._low_level import CyHalfBinomialLoss, CyHalfMultinomialLoss

__all__ = [
    "CyHalfBinomialLoss",
    "CyHalfMultinomialLoss",
    "HalfBinomialLoss",
    "HalfMultinomialLoss",
]


class HalfMultinomialLoss(_theirs.HalfMultinomialLoss):
    """Loss of multi-class classification, to pass to an estimator: categorical cross-entropy.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,), optional
        Not used; here as in scikit-learn's own.
    n_classes : int, default 3
        The number of classes.

    Attributes
    ----------
    closs : CyHalfMultinomialLoss
        The pointwise loss, whose kernels serve every method.

    See Also
    --------
    HalfBinomialLoss : For two classes.

    Notes
    -----
    In methods and results it is scikit-learn's ``sklearn._loss.HalfMultinomialLoss``, from which it
    derives, and as private: estimators that take it are in `docs/sklearn.md`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from fastlse.sklearn import HalfMultinomialLoss
    >>> X, y = load_iris(return_X_y=True)
    >>> loss = HalfMultinomialLoss(n_classes=3)
    >>> model = HistGradientBoostingClassifier(loss=loss, max_iter=10).fit(X, y)
    >>> model.predict(X[:3])
    array([0, 0, 0])
    """

    def __init__(self, sample_weight: Any = None, n_classes: int = 3) -> None:
        super().__init__(sample_weight=sample_weight, n_classes=n_classes)
        self.closs = CyHalfMultinomialLoss()

    def predict_proba(self, raw_prediction: Any) -> Any:
        """Class probabilities, softmax(raw_prediction).

        Parameters
        ----------
        raw_prediction : ndarray of shape (n_samples, n_classes)

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
        """
        return fastlse.softmax(raw_prediction, axis=1)


class HalfBinomialLoss(_theirs.HalfBinomialLoss):
    """Loss of binary classification, to pass to an estimator: binary cross-entropy.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,), optional
        Not used; here as in scikit-learn's own.

    Attributes
    ----------
    closs : CyHalfBinomialLoss
        The pointwise loss, whose kernels serve every method.

    See Also
    --------
    HalfMultinomialLoss : For more classes.

    Notes
    -----
    In methods and results it is scikit-learn's ``sklearn._loss.HalfBinomialLoss``, from which it
    derives, and as private.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from fastlse.sklearn import HalfBinomialLoss
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = HistGradientBoostingClassifier(loss=HalfBinomialLoss(), max_iter=10).fit(X, y)
    >>> model.predict(X[:3])
    array([0, 0, 0])
    """

    def __init__(self, sample_weight: Any = None) -> None:
        super().__init__(sample_weight=sample_weight)
        self.closs = CyHalfBinomialLoss()

    def predict_proba(self, raw_prediction: Any) -> Any:
        """Class probabilities, expit(raw_prediction) for the second.

        Parameters
        ----------
        raw_prediction : ndarray of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        proba : ndarray of shape (n_samples, 2)
        """
        proba = np.empty((raw_prediction.shape[0], 2), raw_prediction.dtype)
        proba[:, 1] = fastlse.expit(raw_prediction.reshape(-1))
        proba[:, 0] = 1 - proba[:, 1]
        return proba
