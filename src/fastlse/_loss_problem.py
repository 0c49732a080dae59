"""A loss's arguments as a checked problem, and how a backend is asked for its loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ._backends._losses import capped, slope_of_cap
from ._backends._rows import flushed, work_dtype
from ._problem import Array, backend_for, can_write_to, cast, finish, unmasked
from ._targets import (
    ClassIndices,
    ClassProbabilities,
    Options,
    as_logits,
    as_sample_weight,
    as_target,
    as_weight,
)


@dataclass(frozen=True, slots=True)
class LossProblem:
    """Checked arrays of a loss.

    Attributes
    ----------
    logits : ndarray
        In the dtype of the computation, with the caller's axes.
    axis : int
        The class axis.
    target : ClassIndices or ClassProbabilities
        Class probabilities have the axes of the logits.
    weight, sample_weight : ndarray or None
        One number for each class and for each row.
    divisor : float
        What the mean divides by.
    options : Options
        The scalar options.
    dtype : dtype
        The result's dtype.
    slope : ndarray or None
        What the gradient is multiplied by, where the logits were capped here.
    """

    logits: Array
    axis: int
    target: ClassIndices | ClassProbabilities
    weight: Array | None
    sample_weight: Array | None
    divisor: float
    options: Options
    dtype: np.dtype[Any]
    slope: Array | None = None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The logits' shape less the class axis."""
        return self.logits.shape[: self.axis] + self.logits.shape[self.axis + 1 :]

    def rows(self, array: Array) -> Array:
        """An array of the logits' shape as rows: a view with the class axis last."""
        if self.axis == array.ndim - 1:
            return array
        batch = [i for i in range(array.ndim) if i != self.axis]
        return array.transpose(*batch, self.axis)

    def kept_rows(self) -> Array | None:
        """The rows that count, as indices; None for all of them."""
        kept = np.ones(prod(self.batch_shape), bool)
        if isinstance(self.target, ClassIndices):
            kept = self.target.rows != self.options.ignore_index
        if self.sample_weight is not None:
            kept &= self.sample_weight != 0
        return None if kept.all() else np.flatnonzero(kept)

    def of_rows(self, rows: slice | Array, logits: Array) -> LossProblem:
        """The loss of some of the rows of a problem of rows, given their logits."""
        target: ClassIndices | ClassProbabilities
        if isinstance(self.target, ClassIndices):
            target = ClassIndices(self.target.rows[rows], self.target.given)
        else:
            target = ClassProbabilities(self.target.given[rows])
        sample_weight = None if self.sample_weight is None else self.sample_weight[rows]
        return replace(self, logits=logits, axis=1, target=target, sample_weight=sample_weight)

    def can_write_to(self, grad: Array) -> bool:
        """Whether a backend may write the gradient here while it reads its input."""
        target = self.target.rows if isinstance(self.target, ClassIndices) else self.target.given
        return can_write_to(grad, self.logits, [target, self.weight, self.sample_weight])


def loss_problem(
    logits: object,
    target: object,
    weight: object,
    axis: object,
    sample_weight: object,
    options: Options,
) -> LossProblem:
    """Check everything that a loss takes, the targets' values included."""
    array, dtype, class_axis = as_logits(logits, axis)
    n_classes = array.shape[class_axis]
    checked = as_target(target, array.shape, class_axis, options.ignore_index)
    weights = as_weight(weight, n_classes, array.dtype.newbyteorder("="))
    batch_shape = array.shape[:class_axis] + array.shape[class_axis + 1 :]
    row_weights = as_sample_weight(sample_weight, batch_shape)
    divisor = float(prod(batch_shape))
    if isinstance(checked, ClassIndices):
        invalid, divisor = backend_for(dtype).check_target(
            checked.rows, n_classes, weights, row_weights, options.ignore_index
        )
        if invalid >= 0:
            checked.raise_out_of_range(invalid, n_classes, options.ignore_index)
    if options.reduction != "mean":
        divisor = 1.0
    problem = LossProblem(array, class_axis, checked, weights, row_weights, divisor, options, dtype)
    mask = unmasked(logits) if options.softcap else None
    return problem if mask is None else _capped_here(problem, mask)


def _capped_here(problem: LossProblem, mask: Array) -> LossProblem:
    """Cap the logits before the backend sees them: a masked one is -inf, which no cap gives."""
    softcap = problem.options.softcap
    with np.errstate(all="ignore"):
        x = problem.logits.astype(work_dtype(problem.logits.dtype), copy=False)
        logits = np.where(mask, capped(x, softcap), -np.inf).astype(problem.logits.dtype)
        slope = slope_of_cap(x, softcap)
    options = replace(problem.options, softcap=0.0)
    return replace(problem, logits=logits, options=options, slope=slope)


def run(problem: LossProblem, grad: Array | None, n_threads: int) -> Any:
    """Compute the loss, and the gradient into `grad`, which may be the logits."""
    losses = row_losses(problem)
    total = run_rows(problem, losses, grad, n_threads)
    return reduced(problem, total, losses)


def row_losses(problem: LossProblem) -> Array | None:
    """Where each row's loss goes, if the caller wants them."""
    if problem.options.reduction != "none":
        return None
    return np.zeros(prod(problem.batch_shape), problem.logits.dtype.newbyteorder("="))


def run_rows(
    problem: LossProblem, losses: Array | None, grad: Array | None, n_threads: int
) -> float:
    """Sum the losses; write each to `losses` and the gradient over the divisor to `grad`."""
    if not problem.logits.size:
        return 0.0
    target, probabilities, options = None, None, problem.options
    if isinstance(problem.target, ClassIndices):
        target = problem.target.rows
    else:
        probabilities = cast(
            problem.rows(problem.target.given), problem.logits.dtype.newbyteorder("=")
        )
    total: float = backend_for(problem.dtype).cross_entropy(
        problem.rows(problem.logits),
        target,
        probabilities,
        losses,
        None if grad is None else problem.rows(grad),
        problem.weight,
        problem.sample_weight,
        options.ignore_index,
        options.label_smoothing,
        options.z_loss,
        options.softcap,
        1 / problem.divisor if problem.divisor else 0.0,
        n_threads,
    )
    if grad is not None and problem.slope is not None:
        with np.errstate(all="ignore"):
            grad[...] = flushed(grad * problem.slope, grad.dtype)
    return total


def reduced(problem: LossProblem, total: float, losses: Array | None) -> Any:
    """The loss as the caller wants it."""
    if losses is not None:
        return finish(losses.reshape(problem.batch_shape), problem.dtype, None)
    with np.errstate(all="ignore"):
        return problem.dtype.type(np.float64(total) / problem.divisor)
