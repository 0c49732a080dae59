"""scikit-learn's estimators on fastlse's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn import linear_model
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastlse._linear_problem import for_blas
from fastlse.elementwise import expit, log_expit
from fastlse.reductions import log_softmax, softmax

from . import _parameters
from ._lbfgs import minimize
from ._objective import Objective, binomial_loss, multinomial_loss
from ._variables import variables_for
from ._weights import row_weights

if TYPE_CHECKING:
    from fastlse._problem import Array


class LogisticRegression(linear_model.LogisticRegression):
    """scikit-learn's `LogisticRegression`, faster: the same parameters, attributes and methods.

    Fits with ``solver="lbfgs"`` (the default) and an L2 penalty or none run on fastlse's kernels,
    and so do `predict_proba` and `predict_log_proba`. All others are left to scikit-learn's own
    code.

    Parameters
    ----------
    penalty, C, l1_ratio, dual, tol, fit_intercept, intercept_scaling, class_weight, random_state, \
solver, max_iter, multi_class, verbose, warm_start, n_jobs
        As `sklearn.linear_model.LogisticRegression` of the installed version has them. With
        `verbose` a fit prints its iterations, the objective and the largest entry of its gradient,
        or why it is left to scikit-learn.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels.
    coef_ : ndarray, shape (n_classes, n_features), or (1, n_features) for two classes
        In the dtype of `X`, float32 or float64.
    intercept_ : ndarray, shape (n_classes,), or (1,) for two classes
        Zeros without `fit_intercept`.
    n_iter_ : ndarray, shape (1,)
        Iterations of the optimiser.
    n_features_in_ : int
        Features of `X`.
    feature_names_in_ : ndarray
        Names of the features, if `X` has them and all are strings.

    See Also
    --------
    fastlse.linear_cross_entropy_and_grad : The loss that is minimised.

    Notes
    -----
    A fit minimises the mean loss of the rows plus ``|coef_|**2 / (2 C n)``, n the number of rows or
    the sum of their weights, with SciPy's L-BFGS-B until no entry of the gradient exceeds `tol`:
    scikit-learn's function and its stopping rule. An array of at least 1000 rows and not too many
    features is fitted in variables in which the features have covariance 1, for fewer iterations;
    the stopping rule is that of the coefficients all the same. Where `tol` leaves the coefficients
    undecided, they may differ from scikit-learn's in the digits that it does not decide.

    The objective is computed by blocks of rows: `X` is read once per evaluation and not copied
    (rows of float32 or float64 in C or Fortran order, CSR, or a `numpy.memmap`), and beside it the
    fit holds a few MB. It runs on the threads of `fastlse.set_num_threads` and of NumPy's BLAS.

    float32 features give float32 coefficients, in scikit-learn 1.6 to 1.8 too, which would copy
    them to float64. Sums over the rows are float64.

    References
    ----------
    .. [1] Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization",
       SIAM J. Sci. Comput. 16 (1995), doi 10.1137/0916069.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastlse.sklearn import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=200).fit(X, y)
    >>> model.predict(X[:2])
    array([0, 0])
    >>> print(f"{model.score(X, y):.2f}")
    0.97
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array_like or sparse, shape (n_rows, n_features)
            Features. Other formats than CSR are converted, and so are other dtypes than float32 and
            float64.
        y : array_like, shape (n_rows,)
            Labels: numbers, strings or bools.
        sample_weight : array_like, shape (n_rows,), optional
            Weight of each row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As scikit-learn has it: for NaN or infinity, fewer than two classes, wrong shapes and
            parameters.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` is reached, or the optimiser finds no better point.
        """
        reason = _parameters.why_not_here(self, X, y, sample_weight)
        if reason is not None:
            if self.verbose:
                print(f"[fastlse] {reason}: this fit is left to scikit-learn's own code")
            super().fit(X, y, sample_weight)
            return self
        _parameters.warn_as_scikit_learn(self)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            accept_large_sparse=True,
        )
        check_classification_targets(y)
        self.classes_, target = _classes_and_indices(y)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data "
                f"contains only one class: {self.classes_[0]!r}"
            )
        weights = row_weights(sample_weight, self.class_weight, X, y, self.classes_, target)
        self._minimise(X if issparse(X) else for_blas(X, X.dtype), target, weights)
        return self

    def _minimise(self, X: Any, target: Array, weights: Array | None) -> None:
        """Set the coefficients to those of the least objective, given checked arrays."""
        n_rows, n_features = X.shape
        n_classes = len(self.classes_)
        n_outputs = 1 if n_classes == 2 else n_classes
        mean_loss = (
            binomial_loss(X, target, weights)
            if n_outputs == 1
            else multinomial_loss(X, target, weights, n_classes)
        )
        total = n_rows if weights is None else float(weights.sum())
        penalty = 1.0 / (_parameters.strength(self) * total)
        if self.verbose:
            print(f"[fastlse] {n_rows} rows, {n_features} features, {n_classes} classes, {X.dtype}")
        result = minimize(
            Objective(mean_loss, penalty, n_features),
            self._start(n_outputs, n_features),
            variables_for(X, weights, n_outputs, penalty, bool(self.fit_intercept)),
            tol=float(self.tol),
            max_iter=int(self.max_iter),
            resolution=float(np.finfo(X.dtype).eps),
            verbose=bool(self.verbose),
        )
        point = result.point.astype(X.dtype)
        self.n_iter_ = np.array([result.n_iter], np.int32)
        self.coef_ = np.ascontiguousarray(point[:, :n_features])
        self.intercept_ = (
            point[:, n_features].copy() if self.fit_intercept else np.zeros(n_outputs, X.dtype)
        )

    def _start(self, n_outputs: int, n_features: int) -> Array:
        """Where the optimiser starts: zeros, or with `warm_start` what was found before."""
        start = np.zeros((n_outputs, n_features + bool(self.fit_intercept)))
        if self.warm_start and hasattr(self, "coef_"):
            before = self.coef_
            if self.fit_intercept:
                before = np.append(before, self.intercept_[:, None], axis=1)
            if before.shape != start.shape:
                raise ValueError(
                    f"Initialization coef is of shape {before.shape}, expected shape {start.shape}"
                )
            start[:] = before
        return start

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class.

        Parameters
        ----------
        X : array_like or sparse, shape (n_rows, n_features)
            Features.

        Returns
        -------
        ndarray, shape (n_rows, n_classes)
            The classes in the order of `classes_`.
        """
        check_is_fitted(self)
        if not self._is_softmax():
            return super().predict_proba(X)
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return softmax(scores, axis=1, out=scores)
        return _both(expit, scores)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of the probability of each class; finite where the probability is 0.

        Parameters
        ----------
        X : array_like or sparse, shape (n_rows, n_features)
            Features.

        Returns
        -------
        ndarray, shape (n_rows, n_classes)
            The classes in the order of `classes_`.
        """
        check_is_fitted(self)
        if not self._is_softmax():
            return super().predict_log_proba(X)
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return log_softmax(scores, axis=1, out=scores)
        return _both(log_expit, scores)

    def _is_softmax(self) -> bool:
        """Whether the probabilities are the softmax of the scores, in NumPy's arrays."""
        coef: object = self.coef_
        return (
            (isinstance(coef, np.ndarray) or issparse(coef))
            and getattr(self, "multi_class", "deprecated") == "deprecated"
            and (self.solver != "liblinear" or len(self.classes_) == 2)
        )


def _both(function: Any, scores: Array) -> Array:
    """A function of the score against the second class, and of that for it, as two columns."""
    result = np.empty((len(scores), 2), scores.dtype)
    function(-scores, out=result[:, 0])
    function(scores, out=result[:, 1])
    return result


def _classes_and_indices(y: Array) -> tuple[Array, Array]:
    """The labels in order, and each row's place among them."""
    if y.dtype.kind in "biuf":
        classes = np.unique(y)
        return classes, np.searchsorted(classes, y)
    classes, indices = np.unique(y, return_inverse=True)
    return classes, indices
