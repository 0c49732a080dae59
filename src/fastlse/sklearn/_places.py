"""The places of scikit-learn that `patch` changes, by estimator."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _replacements as make


@dataclass(frozen=True, slots=True)
class Place:
    """A module's attribute, or an item of a dict that is one.

    Attributes
    ----------
    module, attribute : str
    make : callable
        From what stands there to what shall.
    key : str, optional
        The dict's key.
    since, before : tuple of int
        The versions of scikit-learn that have it: from, up to but without.
    """

    module: str
    attribute: str
    make: Callable[[Any], Any]
    key: str | None = None
    since: tuple[int, int] = (1, 6)
    before: tuple[int, int] = (99, 0)

    def __str__(self) -> str:
        item = "" if self.key is None else f"[{self.key!r}]"
        return f"{self.module}.{self.attribute}{item}"

    def read(self) -> Any:
        """What stands there; an ImportError, AttributeError or KeyError if nothing does."""
        value = getattr(importlib.import_module(self.module), self.attribute)
        return value if self.key is None else value[self.key]

    def write(self, value: Any) -> None:
        """Put something there."""
        module = importlib.import_module(self.module)
        if self.key is None:
            setattr(module, self.attribute, value)
        else:
            getattr(module, self.attribute)[self.key] = value


# Every loss object makes its pointwise loss by these names, which therefore serve all estimators.
_LOSSES = (
    Place("sklearn._loss.loss", "CyHalfMultinomialLoss", make.make_multinomial_loss),
    Place("sklearn._loss.loss", "CyHalfBinomialLoss", make.make_binomial_loss),
)
# predict_proba of the loss objects
_LINKS = (
    Place("sklearn._loss.link", "softmax", make.make_softmax),
    Place("sklearn._loss.link", "expit", make.make_expit, before=(1, 9)),
    Place("sklearn._loss.link", "_expit", make.make_expit, since=(1, 9)),
)
_MIXTURE = (
    Place("sklearn.mixture._base", "logsumexp", make.make_logsumexp, before=(1, 8)),
    Place("sklearn.mixture._base", "_logsumexp", make.make_logsumexp, since=(1, 8)),
)
_NAIVE_BAYES = (
    Place("sklearn.naive_bayes", "logsumexp", make.make_logsumexp, before=(1, 8)),
    Place("sklearn.naive_bayes", "_logsumexp", make.make_logsumexp, since=(1, 8)),
)
# The public name alone: instances of scikit-learn's class keep the name that their pickles hold.
_LOGISTIC_REGRESSION = (
    Place("sklearn.linear_model", "LogisticRegression", make.make_logistic_regression),
    Place("sklearn.ensemble._stacking", "LogisticRegression", make.make_logistic_regression),
)
_LINEAR = (
    Place("sklearn.linear_model._logistic", "softmax", make.make_softmax),
    Place("sklearn.linear_model._base", "expit", make.make_expit, before=(1, 9)),
    Place("sklearn.linear_model._base", "_expit", make.make_expit, since=(1, 9)),
)

PLACES: dict[str, tuple[Place, ...]] = {
    "LogisticRegression": (*_LOGISTIC_REGRESSION, *_LOSSES, *_LINEAR),
    "LogisticRegressionCV": (*_LOSSES, *_LINEAR),
    "HistGradientBoostingClassifier": (*_LOSSES, *_LINKS),
    "GradientBoostingClassifier": (*_LOSSES, *_LINKS),
    "GaussianMixture": _MIXTURE,
    "BayesianGaussianMixture": _MIXTURE,
    "GaussianNB": _NAIVE_BAYES,
    "BernoulliNB": _NAIVE_BAYES,
    "CategoricalNB": _NAIVE_BAYES,
    "ComplementNB": _NAIVE_BAYES,
    "MultinomialNB": _NAIVE_BAYES,
    "MLPClassifier": (
        Place(
            "sklearn.neural_network._base",
            "ACTIVATIONS",
            make.make_inplace_softmax,
            key="softmax",
        ),
        Place("sklearn.neural_network._base", "logistic_sigmoid", make.make_expit),
        Place("sklearn.neural_network._base", "LOSS_FUNCTIONS", make.make_log_loss, key="log_loss"),
    ),
    "LinearDiscriminantAnalysis": (
        Place("sklearn.discriminant_analysis", "softmax", make.make_softmax),
        Place("sklearn.discriminant_analysis", "_expit", make.make_expit),
    ),
    "LatentDirichletAllocation": (
        Place("sklearn.decomposition._lda", "logsumexp", make.make_logsumexp),
    ),
    "CalibratedClassifierCV": (
        *_LOSSES,
        Place("sklearn.calibration", "expit", make.make_expit),
        Place("sklearn.calibration", "softmax", make.make_softmax, since=(1, 8)),
    ),
    "NeighborhoodComponentsAnalysis": (
        Place("sklearn.neighbors._nca", "softmax", make.make_softmax),
    ),
}


def version_of(text: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def places_of(name: str, version: str) -> list[Place]:
    """Where an estimator is patched in a version of scikit-learn."""
    here = version_of(version)
    return [place for place in PLACES[name] if place.since <= here < place.before]
