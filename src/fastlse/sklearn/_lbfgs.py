"""SciPy's L-BFGS-B with scikit-learn's stopping rule, what it prints and what it warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize as scipy_minimize
from sklearn.exceptions import ConvergenceWarning

if TYPE_CHECKING:
    from fastlse._problem import Array

    from ._objective import Objective
    from ._variables import Variables

ADVICE = """
You might also want to scale the data as shown in:
    https://scikit-learn.org/stable/modules/preprocessing.html
Please also refer to the documentation for alternative solver options:
    https://scikit-learn.org/stable/modules/linear_model.html#logistic-regression"""

# In other variables than the coefficients, their gradient may happen to be small early on.
# So the last iteration must have lowered the mean loss by no more than this times tol**2 for each
# row of coefficients, too.
LAST_DECREASE = 3.0

FTOL = 64 * np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True)
class Result:
    """Where the optimiser stopped, after how many iterations."""

    point: Array
    n_iter: int


# Given the number of iterations so far, the point, the objective and its gradient.
Observer = Callable[[int, "Array", float, "Array"], None]


def minimize(
    objective: Objective,
    start: Array,
    variables: Variables | None,
    *,
    tol: float,
    max_iter: int,
    resolution: float,
    verbose: bool,
    observe: Observer | None = None,
    n_before: int = 0,
) -> Result:
    """Minimise until no entry of the gradient exceeds `tol`, or warn as scikit-learn does.

    The objective is computed from numbers that are rounded to `resolution` of themselves.
    `observe` is called with the start and after each iteration; None prints a table if `verbose`.
    `n_before` iterations led to the start: they count.
    """
    if verbose and observe is None:
        observe = _print_row
        print("iteration            loss  max |gradient|")
    steps = _Steps(objective, start, variables, tol, observe, n_before)
    # SciPy's own rule is one for the gradient by its own variables.
    gtol = tol if variables is None else 0
    options: Any = {"maxiter": max(0, max_iter - n_before), "maxls": 50, "gtol": gtol, "ftol": FTOL}
    if variables is not None and steps.is_done(steps.start):
        options["maxiter"] = 0
        steps.stopped = True
    callback: Any = steps.after_iteration
    found = scipy_minimize(
        steps.value_and_gradient,
        steps.start,
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options=options,
    )
    n_iter = min(n_before + int(found.nit), max(max_iter, n_before))
    if verbose:
        said = "gradient within tol" if steps.stopped else found.message
        print(f"{n_iter} iterations, {objective.n_evaluations} evaluations: {said}")
    # Among the features' roundings a line search finds nothing better.
    at_rounding = found.status == 2 and steps.last_decrease <= resolution * abs(steps.value)
    if found.status != 0 and not steps.stopped and not at_rounding:
        _warn(n_iter, max_iter, found)
    return Result(steps.point(found.x), n_iter)


class _Steps:
    """The objective in the optimiser's variables, and what is done after each iteration."""

    def __init__(
        self,
        objective: Objective,
        start: Array,
        variables: Variables | None,
        tol: float,
        observe: Observer | None,
        n_before: int,
    ) -> None:
        self.objective, self.variables, self.tol, self.observe = objective, variables, tol, observe
        self.shape = start.shape
        # Feature by feature, as a product with sparse rows wants them.
        self.start = (start if variables is None else variables.variables(start)).ravel("F")
        self.n_iter = n_before
        self.stopped = False
        self.value = self.last_decrease = np.inf
        self._report(self.point(self.start))

    def point(self, x: Array) -> Array:
        """The coefficients that the optimiser's variables stand for."""
        matrix = x.reshape(self.shape, order="F")
        return matrix if self.variables is None else self.variables.coef(matrix)

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        value, gradient = self.objective(self.point(x))
        return value, (
            gradient if self.variables is None else self.variables.gradient(gradient)
        ).ravel("F")

    def is_done(self, x: Array) -> bool:
        """Whether no entry of the gradient by the coefficients exceeds `tol`."""
        return bool(np.abs(self.objective(self.point(x))[1]).max() <= self.tol)

    def after_iteration(self, x: Array) -> None:
        # The point of the last evaluation, which the objective remembers.
        self.n_iter += 1
        point = self.point(x)
        self._report(point)
        before, self.value = self.value, self.objective(point)[0]
        self.last_decrease = before - self.value
        is_small = self.last_decrease <= LAST_DECREASE * self.shape[0] * self.tol**2
        if self.variables is not None and is_small and self.is_done(x):
            self.stopped = True
            raise StopIteration

    def _report(self, point: Array) -> None:
        if self.observe is not None:
            self.observe(self.n_iter, point, *self.objective(point))


def _print_row(n_iter: int, point: Array, value: float, gradient: Array) -> None:  # noqa: ARG001
    print(f"{n_iter:9d}  {value:14.8f}  {np.abs(gradient).max():14.3e}")


def _warn(n_iter: int, max_iter: int, found: Any) -> None:
    message = (
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={found.status}):\n"
        f"{found.message}\n"
    )
    if n_iter == max_iter:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    warnings.warn(message + ADVICE, ConvergenceWarning, stacklevel=5)
