"""The demo: train a classifier with fastlse, then compare its speed and its numbers with NumPy's.

It needs SciPy, scikit-learn and threadpoolctl, which scikit-learn brings along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import fastlse

Array = NDArray[Any]
LossAndGradient = Callable[[Array, Array], tuple[Any, Array]]  # of (logits, target), a mean of rows

N_CLASSES = 10
L2_PENALTY = 3e-3
MAX_ITERATIONS = 500  # it converges after about 50
ITERATIONS_PER_LINE = 5
ROUNDS = 15
TOLERANCE = 1e-5  # relative error beyond which a number is marked: fewer than five correct digits


def run(seed: int = 0) -> None:
    """Run the demo and print its report; `seed` decides which images are held out."""
    digits = load_split_digits(seed)
    # Matrices this small gain nothing from BLAS's threads, and the timings would waver with them.
    with threadpool_limits(limits=1, user_api="blas"):
        _print_training(digits, seed)
        _print_speed(digits)
    _print_numbers()


def naive_formula(logits: Array, target: Array) -> tuple[Any, Array]:
    """Cross-entropy and its gradient by the definition: the softmax, then its logarithm."""
    rows = np.arange(len(logits))
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[rows, target]).mean()
    return loss, _usual_gradient(probabilities, rows, target)


def usual_formula(logits: Array, target: Array) -> tuple[Any, Array]:
    """Cross-entropy and its gradient as good NumPy code has them: the maximum is subtracted."""
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted)
    sums = probabilities.sum(axis=1, keepdims=True)
    probabilities /= sums
    loss = (np.log(sums[:, 0]) - shifted[rows, target]).mean()
    return loss, _usual_gradient(probabilities, rows, target)


def _usual_gradient(probabilities: Array, rows: Array, target: Array) -> Array:
    """The gradient of the mean, (p - one_hot(target)) / n_rows, in place: the quickest in NumPy."""
    probabilities[rows, target] -= 1
    probabilities /= len(rows)
    return probabilities


def exact_values(logits: Array, target: int) -> tuple[Decimal, Decimal]:
    """The loss of one row and its gradient at the target, to more than 30 digits.

    With ``rest = sum(exp(x[k] - x[target]))`` over the other classes, the loss is
    ``log(1 + rest)`` and the gradient ``-rest / (1 + rest)``.
    """
    with localcontext(prec=80):  # 1 + rest keeps 30 digits of a rest as small as 1e-50
        exact_logits = [Decimal(float(logit)) for logit in logits]
        target_logit = exact_logits.pop(target)
        rest = sum(((logit - target_logit).exp() for logit in exact_logits), Decimal(0))
        return (1 + rest).ln(), -rest / (1 + rest)


@dataclass(frozen=True)
class Digits:
    """The images, standardised and with a column of ones for the bias, and what they show."""

    train_images: Array
    train_target: Array
    test_images: Array
    test_target: Array


def load_split_digits(seed: int) -> Digits:
    """Hold out a quarter of scikit-learn's handwritten digits, the same share of each digit."""
    bunch = load_digits()
    train, test, train_target, test_target = train_test_split(
        bunch.data, bunch.target, test_size=0.25, stratify=bunch.target, random_state=seed
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1  # pixels that are blank in every image

    def prepared(images: Array) -> Array:
        return np.column_stack([(images - mean) / deviation, np.ones(len(images))])

    return Digits(prepared(train), train_target, prepared(test), test_target)


class Training:
    """Multinomial logistic regression with one of the formulas, and the time that it takes."""

    def __init__(self, digits: Digits, formula: LossAndGradient) -> None:
        self.digits = digits
        self.formula = formula
        self.weights = np.zeros((digits.train_images.shape[1], N_CLASSES))
        self.iterations = 0
        self.seconds = 0.0
        self.formula_seconds = 0.0

    def run(self, show_progress: bool = False) -> Training:
        """Train from zero weights until L-BFGS stops."""
        if show_progress:
            print(f"{'iteration':>9}  {'loss':>9}  {'gradient norm':>13}")
            self._print_line(self.weights.ravel())
        start = perf_counter()
        result = minimize(
            self.objective,
            self.weights.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=self._show_progress if show_progress else None,
            options={"maxiter": MAX_ITERATIONS},
        )
        self.seconds = perf_counter() - start
        self.iterations = result.nit
        self.weights = result.x.reshape(self.weights.shape)
        return self

    def objective(self, flat_weights: Array) -> tuple[float, Array]:
        """The penalised loss and its gradient, as SciPy's optimisers take them."""
        images = self.digits.train_images
        weights = flat_weights.reshape(self.weights.shape)
        logits = images @ weights

        start = perf_counter()
        loss, logits_gradient = self.formula(logits, self.digits.train_target)
        self.formula_seconds += perf_counter() - start

        penalised = weights.copy()
        penalised[-1] = 0  # the bias is free
        gradient = images.T @ logits_gradient + L2_PENALTY * penalised
        return float(loss + 0.5 * L2_PENALTY * np.vdot(penalised, penalised)), gradient.ravel()

    def _show_progress(self, intermediate_result: OptimizeResult) -> None:
        # SciPy passes the loss along by the argument's name.
        self.iterations += 1
        if self.iterations % ITERATIONS_PER_LINE == 0:
            self._print_line(intermediate_result.x)

    def _print_line(self, flat_weights: Array) -> None:
        loss, gradient = self.objective(flat_weights)
        norm = float(np.linalg.norm(gradient))
        print(f"{self.iterations:>9}  {loss:>9.6f}  {norm:>13.1e}", flush=True)

    def accuracy(self) -> float:
        """The share of the held-out images that are recognised."""
        predicted = (self.digits.test_images @ self.weights).argmax(axis=1)
        return float((predicted == self.digits.test_target).mean())


def _print_training(digits: Digits, seed: int) -> None:
    n_train, n_test = len(digits.train_target), len(digits.test_target)
    print(
        f"""\
TRAINING: handwritten digits, {n_train + n_test} images of 8 x 8 pixels

A multinomial logistic regression learns from {n_train} images; {n_test} are held out (seed {seed}).
SciPy's L-BFGS minimises the cross-entropy, which comes with its gradient from
fastlse.cross_entropy_and_grad ({fastlse.backend()} backend), plus an L2 penalty.
"""
    )
    training = Training(digits, fastlse.cross_entropy_and_grad).run(show_progress=True)
    print(f"\nFinished after {training.iterations} iterations.")
    print(f"Held-out accuracy: {training.accuracy():.4f}")


def _print_speed(digits: Digits) -> None:
    print(
        f"""

SPEED: the same training with the usual NumPy formula

Each is trained {ROUNDS} times, in turn with the other; its best time counts. One thread.
""",
        flush=True,
    )
    usual, ours = [], []
    for _ in range(ROUNDS):
        usual.append(Training(digits, usual_formula).run())
        ours.append(Training(digits, fastlse.cross_entropy_and_grad).run())

    print(f"{'':<28}{'usual NumPy':>13}{'fastlse':>13}{'NumPy / fastlse':>18}")
    _print_times("whole training", [run.seconds for run in usual], [run.seconds for run in ours])
    _print_times(
        "its losses and gradients",
        [run.formula_seconds for run in usual],
        [run.formula_seconds for run in ours],
    )
    print(f"{'iterations':<28}{usual[0].iterations:>13}{ours[0].iterations:>13}")
    print(f"{'held-out accuracy':<28}{usual[0].accuracy():>13.4f}{ours[0].accuracy():>13.4f}")
    print("\nThe rest of a training is matrix products and L-BFGS itself, the same on both sides.")


def _print_times(label: str, usual: list[float], ours: list[float]) -> None:
    best, our_best = 1e3 * min(usual), 1e3 * min(ours)
    print(f"{label:<28}{best:>10.2f} ms{our_best:>10.2f} ms{best / our_best:>18.2f}")


@dataclass(frozen=True)
class Row:
    """One row of logits with its target."""

    logits: Array
    target: int

    def label(self) -> str:
        """The logits as text, with their dtype if it is not float64."""
        text = "[" + ", ".join(f"{logit:g}" for logit in self.logits) + "]"
        return text if self.logits.dtype == np.float64 else f"{text} {self.logits.dtype}"

    def computed(self, formula: LossAndGradient) -> tuple[float, float]:
        """The loss and the gradient at the target that a formula gives."""
        with np.errstate(all="ignore"):  # the naive formula overflows; the table shows it
            loss, gradient = formula(self.logits[np.newaxis], np.array([self.target]))
        return float(loss), float(gradient[0, self.target])


MISTAKEN_ROWS = [Row(np.array([10.0**power, 0.0]), 1) for power in range(-4, 4)]
CONFIDENT_ROWS = [
    *(Row(np.array([logit, 0.0, 0.0]), 0) for logit in (10, 20, 30, 40)),
    *(Row(np.array([logit, 0.0, 0.0], np.float32), 0) for logit in (10, 20)),
]
FORMULAS: dict[str, LossAndGradient] = {
    "naive": naive_formula,
    "usual NumPy": usual_formula,
    "fastlse": fastlse.cross_entropy_and_grad,
}


def is_wrong(value: float, exact: Decimal) -> bool:
    """Whether a computed value is infinite, not a number, or too far from the exact one."""
    return not math.isfinite(value) or abs(Decimal(value) - exact) > Decimal(TOLERANCE) * abs(exact)


def _print_numbers() -> None:
    print(
        f"""

NUMBERS: what three formulas make of one row of logits x

naive        p = exp(x) / sum(exp(x)),  loss = -log(p[target]),  gradient at target = p[target] - 1
usual NumPy  the same with x - max(x) in place of x, and loss = log(sum(exp(x))) - x[target]
fastlse      fastlse.cross_entropy_and_grad
exact        Python's decimal module, 80 digits

WRONG marks inf, nan and relative errors above {TOLERANCE:.0e}: fewer than five correct digits.
Rows are float64 unless they say float32.
"""
    )
    _print_table("loss", 0)
    _print_table("gradient at target", 1)
    print(
        """\
Large logits overflow the naive formula. Where the model is sure and right, the loss and the
gradient are the small share of the other classes: both NumPy formulas lose its digits by adding
it to 1 or subtracting p from 1, in the end all of them. fastlse does neither."""
    )


def _print_table(quantity: str, index: int) -> None:
    """Print the losses (index 0) or the gradients (index 1) of all rows."""
    formulas = "".join(f"{name:>13}{'':6}" for name in FORMULAS)
    print(f"{quantity.upper():<20}{'target':>6}{'exact':>13}{formulas}".rstrip())
    for rows in (MISTAKEN_ROWS, CONFIDENT_ROWS):
        for row in rows:
            exact = exact_values(row.logits, row.target)[index]
            cells = [_cell(row.computed(formula)[index], exact) for formula in FORMULAS.values()]
            label = f"{row.label():<20}{row.target:>6}{float(exact):>13.6g}"
            print((label + "".join(cells)).rstrip())
        print()


def _cell(value: float, exact: Decimal) -> str:
    mark = "WRONG" if is_wrong(value, exact) else ""
    return f"{value:>z13.6g} {mark:<5}"
