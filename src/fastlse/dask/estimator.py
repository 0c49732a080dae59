"""Logistic regression over Dask arrays and dataframes."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from dask.base import get_scheduler
from sklearn import linear_model
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from fastlse.sklearn._lbfgs import minimize
from fastlse.sklearn._objective import Objective
from fastlse.sklearn._weights import BALANCES_SAMPLE_WEIGHT

from . import _predictions
from ._checkpoints import Checkpoint, Saved
from ._operands import as_features, beside, feature_names, float_dtype
from ._passes import MeanLoss, variables_of_chunks
from ._progress import Clock, Progress
from ._training import Training, training
from .cluster import check_workers

if TYPE_CHECKING:
    import dask.array as da

    from fastlse._problem import Array

_SHARED = ("C", "tol", "fit_intercept", "class_weight", "max_iter", "verbose", "warm_start")


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression of rows that no memory holds, by passes over their chunks.

    The model is that of `fastlse.sklearn.LogisticRegression`, multinomial or of two classes, with
    an L2 penalty: the same objective, steps and stopping rule, and therefore the same coefficients.

    Parameters
    ----------
    C : float, default 1.0
        Inverse of the penalty's strength; `numpy.inf` is none.
    tol : float, default 1e-4
        The fit ends where no entry of the gradient exceeds it.
    fit_intercept : bool, default True
        Whether the scores have a constant.
    class_weight : dict or "balanced", optional
        Weights of the classes, as scikit-learn has them.
    max_iter : int, default 100
        The most iterations.
    verbose : int, default 0
        With 1 each iteration prints a line: the objective, the largest entry of its gradient, the
        seconds it took and the bytes that a pass read.
    warm_start : bool, default False
        Whether a fit starts with the coefficients of the fit before.
    checkpoint : str or path, optional
        A file for the coefficients after each iteration. A fit that finds its own goes on there.
    callback : callable, optional
        Called after each iteration with an object of the attributes `n_iter`, `n_evaluations`,
        `loss`, `gradient_norm`, `seconds` and `bytes_read`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels.
    coef_ : ndarray, shape (n_classes, n_features), or (1, n_features) for two classes
        float32 of float32 features, else float64.
    intercept_ : ndarray, shape (n_classes,), or (1,) for two classes
        Zeros without `fit_intercept`.
    n_iter_ : ndarray, shape (1,)
        Iterations of the optimiser, those before a resumed fit's checkpoint included.
    n_features_in_ : int
        Features of `X`.
    feature_names_in_ : ndarray
        Names of the features of a dataframe, if all are strings.

    See Also
    --------
    fastlse.sklearn.LogisticRegression : The same of arrays in memory.
    fastlse.dask.check_workers : What `fit` asks a cluster first.

    Notes
    -----
    A pass looks for the labels and for what is not finite, another, where it is worth its price,
    for the features' covariance; then each evaluation of the objective is one pass: a chunk gives
    its part of loss and gradient, added up in float64 as a tree whose order the chunks alone
    decide. Neither `X` nor a chunk of it is kept between passes, unless you persist it. Kept is, by
    Dask, each row's label as a number of one byte (two for more than 256 classes), and in float64
    its weight if there are weights. Dask's scheduler does the work, its own progress bar shows it.

    A worker that dies changes nothing: Dask repeats what was lost, in the same order of sums.

    A resumed fit has the optimiser's memory of earlier steps no more, so that its steps, not its
    minimum, are others than those of an uninterrupted one. The file is replaced in one step. It
    stays after the fit: with the same data, a fit that had converged then ends at its start, and
    with other data it is a ValueError.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastlse.dask import LogisticRegression
    >>> X = da.random.default_rng(0).standard_normal((3000, 2), chunks=(1000, 2))
    >>> y = da.where(X[:, 0] > 0, "right", "left")
    >>> model = LogisticRegression().fit(X, y)
    >>> model.classes_
    array(['left', 'right'], dtype='<U5')
    >>> model.predict(X)
    dask.array<..., shape=(3000,), dtype=<U5, chunksize=(1000,), chunktype=numpy.ndarray>
    >>> print(f"{float(model.score(X, y)):.2f}")
    1.00
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012 - scikit-learn's name
        **{name: linear_model.LogisticRegression._parameter_constraints[name] for name in _SHARED},
        "checkpoint": [str, os.PathLike, None],
        "callback": [callable, None],
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
        checkpoint: Any = None,
        callback: Any = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.callback = callback

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features, in chunks of rows that are arrays or CSR matrices; one in memory is one chunk.
        y : dask.array.Array, dask.dataframe.Series or array_like, shape (n_rows,)
            Labels: numbers, strings, bools or categories; brought to the chunks of `X`.
        sample_weight : of the kinds of `y`, or a number, optional
            Weight of each row.

        Returns
        -------
        self

        Raises
        ------
        RuntimeError
            If a worker of the cluster lacks fastlse.
        TypeError
            If an argument is not of numbers, or labels have no order.
        ValueError
            If a shape or a parameter is wrong, chunks of an array are of unknown sizes, `X` or a
            weight is not finite or a label is missing (it names the row and the chunk), there are
            fewer than two classes, or the checkpoint is another fit's: all before the first
            iteration.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` is reached, or the optimiser finds no better point.
        """
        self._validate_params()
        client = getattr(get_scheduler(), "__self__", None)
        if client is not None and hasattr(client, "scheduler_info"):
            check_workers(client)
        names = feature_names(X)
        data = training(X, y, sample_weight, self._class_weights)
        self.classes_ = data.classes
        self.n_features_in_ = data.X.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._minimise(data)
        return self

    def _class_weights(self, classes: Array, counts: Array, weights: Array) -> Array | None:
        """Check the labels; the weight of each class, or None."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes is greater")
            check_classification_targets(classes)
        if len(classes) < 2:
            raise ValueError(
                f"y must have at least 2 classes, got only one: {classes.tolist()[0]!r}"
            )
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, str):
            of_classes = weights if BALANCES_SAMPLE_WEIGHT else counts
            return np.asarray(of_classes.sum() / (len(classes) * of_classes))
        return np.asarray(compute_class_weight(self.class_weight, classes=classes, y=classes))

    def _minimise(self, data: Training) -> None:
        """Set the coefficients to those of the least objective."""
        n_rows, n_features = data.X.shape
        n_outputs = 1 if len(data.classes) == 2 else len(data.classes)
        penalty = 1.0 / (float(self.C) * data.total)
        if self.verbose:
            print(
                f"[fastlse] {n_rows} rows in {data.X.numblocks[0]} chunks, {n_features} features, "
                f"{len(data.classes)} classes, {data.dtype}"
            )
        checkpoint = self._checkpoint_of(data)
        saved = None if checkpoint is None else checkpoint.read()
        if saved is None:
            saved = Saved(self._start(n_outputs, n_features), 0)
        elif self.verbose:
            print(f"[fastlse] goes on after iteration {saved.n_iter} of {self.checkpoint}")
        mean_loss = MeanLoss(data)
        objective = Objective(mean_loss, penalty, n_features)
        fit_intercept = bool(self.fit_intercept)
        result = minimize(
            objective,
            saved.point,
            variables_of_chunks(data, n_outputs, penalty, fit_intercept),
            tol=float(self.tol),
            max_iter=int(self.max_iter),
            resolution=float(np.finfo(data.dtype).eps),
            verbose=bool(self.verbose),
            observe=self._observer(objective, mean_loss, checkpoint),
            n_before=saved.n_iter,
        )
        point = result.point.astype(data.dtype)
        self.n_iter_ = np.array([result.n_iter], np.int32)
        self.coef_ = np.ascontiguousarray(point[:, :n_features])
        self.intercept_ = (
            point[:, n_features].copy() if fit_intercept else np.zeros(n_outputs, data.dtype)
        )

    def _observer(
        self, objective: Objective, mean_loss: MeanLoss, checkpoint: Checkpoint | None
    ) -> Any:
        clock = Clock()
        if self.verbose:
            print(Progress.head())

        def observe(n_iter: int, point: Array, value: float, gradient: Array) -> None:
            norm = float(np.abs(gradient).max())
            progress = Progress(
                n_iter, objective.n_evaluations, value, norm, clock.look(), mean_loss.bytes_read
            )
            if checkpoint is not None:
                checkpoint.write(Saved(point, n_iter))
            if self.verbose:
                print(progress.row(), flush=True)
            if self.callback is not None:
                self.callback(progress)

        return observe

    def _checkpoint_of(self, data: Training) -> Checkpoint | None:
        """The file for the coefficients, and by what it knows the fit again."""
        if self.checkpoint is None:
            return None
        problem = {
            "n_rows": data.X.shape[0],
            "n_features": data.X.shape[1],
            "classes": [repr(label) for label in data.classes.tolist()],
            "C": float(self.C),
            "fit_intercept": bool(self.fit_intercept),
            "sum of weights": data.total,
            "means of features": {
                "values": data.means.tolist(),
                "atol": 1e-9 * float(np.abs(data.means).max()),
            },
        }
        return Checkpoint(self.checkpoint, problem)

    def _start(self, n_outputs: int, n_features: int) -> Array:
        """Zeros, or with `warm_start` what was found before."""
        start = np.zeros((n_outputs, n_features + bool(self.fit_intercept)))
        if self.warm_start and hasattr(self, "coef_"):
            before = self.coef_
            if self.fit_intercept:
                before = np.append(before, self.intercept_[:, None], axis=1)
            if before.shape != start.shape:
                raise ValueError(
                    f"with warm_start, coefficients of shape {before.shape} were found before, but "
                    f"this fit's are of shape {start.shape}"
                )
            start[:] = before
        return start

    def decision_function(self, X: Any) -> da.Array:
        """Scores of the classes.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features; the chunks of rows may be of unknown sizes.

        Returns
        -------
        dask.array.Array, shape (n_rows, n_classes), or (n_rows,) for two classes
            Not yet computed; of two classes the second's score.
        """
        return self._of_rows(_predictions.scores, X, len(self._point()))

    def predict_proba(self, X: Any) -> da.Array:
        """Probability of each class.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features; the chunks of rows may be of unknown sizes.

        Returns
        -------
        dask.array.Array, shape (n_rows, n_classes)
            Not yet computed; the classes in the order of `classes_`.
        """
        return self._of_rows(_predictions.probabilities, X, 2)

    def predict_log_proba(self, X: Any) -> da.Array:
        """Logarithm of the probability of each class; finite where the probability is 0.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features; the chunks of rows may be of unknown sizes.

        Returns
        -------
        dask.array.Array, shape (n_rows, n_classes)
            Not yet computed; the classes in the order of `classes_`.
        """
        return self._of_rows(_predictions.log_probabilities, X, 2)

    def predict(self, X: Any) -> da.Array:
        """The most probable label of each row.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features; the chunks of rows may be of unknown sizes.

        Returns
        -------
        dask.array.Array, shape (n_rows,)
            Not yet computed.
        """
        chosen = _predictions.of_rows(
            _predictions.places, self._features(X), self._point(), np.dtype(np.intp), None
        )
        return _predictions.labels(chosen, self.classes_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> da.Array:
        """The share of rows whose label is predicted.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n_rows, n_features)
            Features; chunks of unknown sizes must be those of `y`.
        y : dask.array.Array, dask.dataframe.Series or array_like, shape (n_rows,)
            The labels.
        sample_weight : of the kinds of `y`, optional
            Weight of each row.

        Returns
        -------
        dask.array.Array
            Of no dimension, not yet computed; ``float(score)`` computes it.

        Raises
        ------
        ValueError
            If the rows are not as many; for unknown sizes when it is computed.
        """
        predicted = self.predict(X)
        weights = None
        if sample_weight is not None:
            weights = beside(sample_weight, "sample_weight", predicted)
        return _predictions.accuracy(beside(y, "y", predicted), predicted, weights)

    def _of_rows(self, function: Any, X: Any, n_columns: int) -> da.Array:
        features = self._features(X)
        point = self._point()
        dtype = np.result_type(float_dtype(features.dtype), point)
        columns = None if n_columns == 1 else len(self.classes_)
        return _predictions.of_rows(function, features, point, dtype, columns)

    def _point(self) -> Array:
        """Coefficients and intercepts side by side."""
        check_is_fitted(self)
        return np.column_stack([self.coef_, self.intercept_])

    def _features(self, X: Any) -> da.Array:
        """The rows as a Dask array of the features that there were in the fit."""
        check_is_fitted(self)
        names, known = feature_names(X), getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and names.tolist() != known.tolist():
            raise ValueError(
                "X must have the features that the model was fitted with, in their order: "
                f"{known.tolist()}, got {names.tolist()}"
            )
        features = as_features(X)
        if features.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must have {self.n_features_in_} features, as in the fit, got shape "
                f"{features.shape}"
            )
        return features
