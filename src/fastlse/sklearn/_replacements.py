"""What `patch` puts in the place of scikit-learn's functions.

Each maker takes what stands there and returns what will. A replacement serves plain float32 and
float64 arrays and hands everything else, such as another array library's arrays, to the original.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

import fastlse

from ._low_level import CyHalfBinomialLoss, CyHalfMultinomialLoss


def is_plain(x: object) -> bool:
    """Whether a replacement serves this argument."""
    return type(x) is np.ndarray and x.dtype.char in "fd"


def make_logsumexp(original: Callable[..., Any]) -> Callable[..., Any]:
    """SciPy's function, or the one that scikit-learn has in its place, along an axis."""

    @wraps(original)
    def logsumexp(a: Any, axis: Any = None, **options: Any) -> Any:
        if is_plain(a) and options.keys() <= {"xp"}:
            return fastlse.logsumexp(a, axis)
        return original(a, axis=axis, **options)

    return logsumexp


def make_softmax(original: Callable[..., Any]) -> Callable[..., Any]:
    """``sklearn.utils.extmath.softmax``, which may overwrite its argument."""

    @wraps(original)
    def softmax(X: Any, copy: bool = True) -> Any:
        if is_plain(X) and X.ndim == 2:
            return fastlse.softmax(X, 1, out=None if copy else X)
        return original(X, copy=copy)

    return softmax


def make_expit(original: Callable[..., Any]) -> Callable[..., Any]:
    """``scipy.special.expit``, or the function that scikit-learn has in its place.

    What follows the first argument is an output, or an array namespace, which NumPy's arrays need
    not name.
    """

    @wraps(original)
    def expit(x: Any, *args: Any, **options: Any) -> Any:
        given = [arg for arg in (*args, *options.values()) if arg is not None]
        outputs = [arg for arg in given if isinstance(arg, np.ndarray)]
        known = len(args) <= 1 and options.keys() <= {"out", "xp"} and len(outputs) <= 1
        if is_plain(x) and known and all(is_plain(out) for out in outputs):
            out = outputs[0] if outputs else None
            if out is None or (out.dtype == x.dtype and out.shape == x.shape):
                return fastlse.expit(x, out=out)
        return original(x, *args, **options)

    return expit


def make_inplace_softmax(original: Callable[..., Any]) -> Callable[..., Any]:
    """The activation of a network's last layer."""

    @wraps(original)
    def inplace_softmax(X: Any) -> None:
        if is_plain(X) and X.ndim == 2:
            fastlse.softmax(X, 1, out=X)
        else:
            original(X)

    return inplace_softmax


def make_log_loss(original: Callable[..., Any]) -> Callable[..., Any]:
    """The loss of a network's probabilities: the logarithms of those that the targets pick."""

    @wraps(original)
    def log_loss(y_true: Any, y_prob: Any, *args: Any, **options: Any) -> Any:
        weights = [arg for arg in (*args, *options.values()) if arg is not None]
        picks = type(y_true) is np.ndarray and y_true.dtype == np.bool_
        if weights or not (picks and is_plain(y_prob)):
            return original(y_true, y_prob, *args, **options)
        if y_prob.ndim != 2 or y_prob.shape != y_true.shape or y_prob.shape[1] < 2:
            return original(y_true, y_prob, *args, **options)
        eps = np.finfo(y_prob.dtype).eps
        picked = np.clip(y_prob[y_true], eps, 1 - eps)
        return -np.log(picked, out=picked).sum() / len(y_prob)

    return log_loss


class _Multinomial(CyHalfMultinomialLoss):
    """In a pickle it is scikit-learn's own, so that a model is read where fastlse is not."""

    def __reduce__(self) -> tuple[Any, ...]:
        from sklearn._loss import _loss

        return _loss.CyHalfMultinomialLoss, ()


class _Binomial(CyHalfBinomialLoss):
    """In a pickle it is scikit-learn's own, so that a model is read where fastlse is not."""

    def __reduce__(self) -> tuple[Any, ...]:
        from sklearn._loss import _loss

        return _loss.CyHalfBinomialLoss, ()


def make_multinomial_loss(_: object) -> type[CyHalfMultinomialLoss]:
    """The pointwise loss, from which every multinomial loss object makes one for itself."""
    return _Multinomial


def make_binomial_loss(_: object) -> type[CyHalfBinomialLoss]:
    """The pointwise loss, from which every binomial loss object makes one for itself."""
    return _Binomial


def make_logistic_regression(_: object) -> Any:
    """The estimator."""
    from .estimators import LogisticRegression

    return LogisticRegression
