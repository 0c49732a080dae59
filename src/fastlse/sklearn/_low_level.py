"""The pointwise losses that scikit-learn has as extension types, by fastlse's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._pointwise import Binomial, Multinomial

if TYPE_CHECKING:
    from fastlse._problem import Array


# Infinite and NaN logits have results and no warnings.
_quiet = np.errstate(all="ignore")


class _PointwiseLoss:
    """The methods that both losses have."""

    _problem: type[Binomial | Multinomial]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    @_quiet
    def loss(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Array | None,
        loss_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the losses to `loss_out`."""
        problem = self._problem(y_true, raw_prediction, sample_weight, loss_out=loss_out)
        problem.write(loss_out, None, n_threads)

    @_quiet
    def gradient(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Array | None,
        gradient_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the gradient to `gradient_out`."""
        problem = self._problem(y_true, raw_prediction, sample_weight, gradient_out=gradient_out)
        problem.write(None, gradient_out, n_threads)

    @_quiet
    def loss_gradient(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Array | None,
        loss_out: Array,
        gradient_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the losses and the gradient, in one sweep."""
        problem = self._problem(
            y_true, raw_prediction, sample_weight, loss_out=loss_out, gradient_out=gradient_out
        )
        problem.write(loss_out, gradient_out, n_threads)

    @_quiet
    def gradient_hessian(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Array | None,
        gradient_out: Array,
        hessian_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the gradient and the hessian's diagonal, ``p * (1 - p)``."""
        outputs = {"gradient_out": gradient_out, "hessian_out": hessian_out}
        problem = self._problem(y_true, raw_prediction, sample_weight, **outputs)
        problem.write_gradient_hessian(gradient_out, hessian_out, n_threads)


class CyHalfMultinomialLoss(_PointwiseLoss):
    """Half multinomial deviance, pointwise: a drop-in for scikit-learn's extension type.

    For each row ``logsumexp(raw_prediction) - raw_prediction[y_true]``, its gradient, the diagonal
    of its hessian, and the class probabilities. Every method writes to arrays that it is given:

    - ``loss(y_true, raw_prediction, sample_weight, loss_out, n_threads=1)``
    - ``gradient(..., gradient_out, n_threads=1)``
    - ``loss_gradient(..., loss_out, gradient_out, n_threads=1)``
    - ``gradient_hessian(..., gradient_out, hessian_out, n_threads=1)``
    - ``gradient_proba(..., gradient_out, proba_out, n_threads=1)``

    `y_true` are classes 0, 1, ... of shape (n_samples,), `raw_prediction` has shape (n_samples,
    n_classes), `sample_weight` is None or of shape (n_samples,), all three float32 or all float64.
    `loss_out` has shape (n_samples,), the other outputs (n_samples, n_classes), all float32 or all
    float64, whichever the input is; what is computed is so in the input's dtype. Any memory layout
    will do.

    Raises
    ------
    IndexError
        If a target is no class; it names the row and the value.
    TypeError
        If an argument is not an array, or of another dtype.
    ValueError
        If a shape is wrong, a target is no integer, or an output is read-only.

    See Also
    --------
    HalfMultinomialLoss : The loss object for estimators.

    Notes
    -----
    Losses and gradients are those of `fastlse.cross_entropy_and_grad`, with its accuracy for
    confident rows, which scikit-learn's own lack. The hessian is that, too, within
    ``MULTINOMIAL_HESSIAN_ULP`` ulp and three times the gap of softmax's entry, of the target
    whatever its probability and of the other classes up to 1/2; where another class is nearly sure,
    1 - p is a difference, as in scikit-learn. The target's probability is ``exp(-loss)``.

    A row of sample weight 0 gives exactly 0, whatever it holds; probabilities have no weight.
    Nothing is written before every argument was checked.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlse.sklearn import CyHalfMultinomialLoss
    >>> loss_out = np.empty(1)
    >>> CyHalfMultinomialLoss().loss(np.array([0.0]), np.array([[40.0, 0.0]]), None, loss_out)
    >>> print(f"{loss_out[0]:.4e}")
    4.2484e-18
    """

    _problem = Multinomial

    @_quiet
    def gradient_proba(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Array | None,
        gradient_out: Array,
        proba_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the gradient and the class probabilities, which no weight multiplies."""
        outputs = {"gradient_out": gradient_out, "proba_out": proba_out}
        problem = Multinomial(y_true, raw_prediction, sample_weight, **outputs)
        problem.write_gradient_proba(gradient_out, proba_out, n_threads)

    def _test_cy_gradient(
        self, y_true: Array, raw_prediction: Array, sample_weight: Array | None
    ) -> Array:
        """The gradient as an array of its own, for scikit-learn's tests."""
        gradient = np.empty(raw_prediction.shape)
        self.gradient(y_true, raw_prediction, sample_weight, gradient)
        return gradient


class CyHalfBinomialLoss(_PointwiseLoss):
    """Half binomial deviance, pointwise: a drop-in for scikit-learn's extension type.

    For each element ``log(1 + exp(raw_prediction)) - y_true * raw_prediction``, its gradient and
    its hessian. Methods, arguments and errors are those of `CyHalfMultinomialLoss` but for
    ``gradient_proba``; all arrays have shape (n_samples,), and targets are taken as they are: 0 and
    1, or probabilities.

    See Also
    --------
    HalfBinomialLoss : The loss object for estimators.

    Notes
    -----
    Losses and gradients are those of `fastlse.binary_cross_entropy_with_logits_and_grad`, with its
    accuracy for confident elements; the hessian is ``q * (1 - q)`` with ``q =
    expit(-abs(raw_prediction))``, which is never near 1: within ``BINOMIAL_HESSIAN_ULP`` ulp. An
    element of sample weight 0 gives exactly 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlse.sklearn import CyHalfBinomialLoss
    >>> gradient_out, hessian_out = np.empty(2), np.empty(2)
    >>> CyHalfBinomialLoss().gradient_hessian(
    ...     np.array([0.0, 1.0]), np.array([0.0, 40.0]), None, gradient_out, hessian_out
    ... )
    >>> print(f"{gradient_out[1]:.4e} {hessian_out[1]:.4e}")
    -4.2484e-18 4.2484e-18
    """

    _problem = Binomial
