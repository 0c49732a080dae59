"""Losses of logits, and their gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _backends, _threads
from ._problem import Array, backend_for, can_write_to, check_out, compute_dtype, finish
from ._targets import (
    ClassIndices,
    Options,
    as_class_indices,
    as_logits,
    as_options,
    as_sample_weight,
    as_weight,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result, to which the gap of the difference of two logits adds.
CROSS_ENTROPY_ULP = 3
GRADIENT_ULP = 6


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    n_threads: int | None = None,
) -> Any:
    """Cross-entropy of logits against class indices, ``logsumexp(logits) - logits[target]``.

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities: one axis of classes and any others. Not complex. float32
        and float64 run on the compiled kernels without a copy, whatever the strides; float16 is
        computed in float32; integers become float64. A masked class counts as -inf.
    target : array_like of int
        Class indices of any integer dtype, with the shape of `logits` less the class axis; a
        scalar for 1-D logits. A masked target is ignored.
    weight : array_like, optional
        Weight of each class.
    axis : int, default -1
        The class axis.
    sample_weight : array_like, optional
        Weight of each row, with the shape of `target`.
    ignore_index : int, default -100
        Rows with this target have no loss.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the summed weights of the kept rows, ``weight[target] *
        sample_weight``.
    label_smoothing : float, default 0.0
        The share of each target, between 0 and 1, that is spread evenly over all classes.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    loss : scalar or ndarray
        Of the logits' dtype; with "none", an array of the target's shape.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is not of integers.
    ValueError
        If a shape or an option is wrong.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_and_grad : The loss together with its gradient.
    torch.nn.functional.cross_entropy : The same options and values.

    Notes
    -----
    Row losses are within ``CROSS_ENTROPY_ULP`` ulp of the exact ones, plus the rounding of
    differences of two logits. That holds for confident rows: their loss is ``log1p`` of the other
    classes' share and never rounds to 0 [1]_.

    Rows that are ignored, or whose sample weight is 0, have a loss of exactly 0 even where they
    hold NaN or infinities. With no row kept the mean is NaN and the sum 0. Other rows give NaN if
    they hold NaN or +inf, or only -inf, and +inf if the target's logit alone is -inf.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41(4), 2021,
       doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import fastlse
    >>> print(f"{fastlse.cross_entropy([[2.0, 0.0], [0.0, 0.0]], [0, 1]):.6f}")
    0.410038
    >>> print(f"{fastlse.cross_entropy([40.0, 0.0, 0.0], 0):.4e}")
    8.4967e-18
    """
    if _is_plain(weight, sample_weight, ignore_index, reduction, label_smoothing):
        result = _backends.active.cross_entropy_rows(
            logits, target, axis, False, None, n_threads, _threads.resolve
        )
        if result is not None:
            return result[0]
    options = as_options(reduction, ignore_index, label_smoothing)
    problem = _loss_problem(logits, target, weight, axis, sample_weight, options)
    threads = _threads.resolve(n_threads, problem.logits.size)
    return _run(problem, options, None, threads)


def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    n_threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Cross-entropy and its gradient with respect to the logits, in one sweep.

    Parameters
    ----------
    logits, target, weight, axis, sample_weight, ignore_index, label_smoothing, n_threads
        As for `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the gradient is each row's own, of ``loss[i]`` with respect to its logits.
    out : ndarray, optional
        Array of the logits' shape and dtype to write the gradient to. ``out=logits`` works in
        place.

    Returns
    -------
    loss : scalar or ndarray
        As from `cross_entropy`.
    grad : ndarray
        Of the logits' shape and dtype; `out` if that was given.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is not of integers, or `out` has
        the wrong dtype.
    ValueError
        If a shape or an option is wrong, or `out` is read-only.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy : The loss alone.

    Notes
    -----
    Without smoothing, entries are within ``GRADIENT_ULP`` ulp of the exact ones, plus the rounding
    of differences of two logits; the target's is the negated share of the other classes, never the
    difference ``p - 1``. Smoothing subtracts numbers of its own, to which that accuracy then
    applies. Entries below the smallest normal number of the computation's dtype are +0.

    Rows that are ignored, or whose sample weight is 0, have a gradient of exactly 0, as do rows of
    only -inf, and all rows if the mean's divisor is 0. NaN or +inf in a kept row gives NaN. Nothing
    is written to `out` before every argument was checked.

    Examples
    --------
    >>> import fastlse
    >>> loss, grad = fastlse.cross_entropy_and_grad([[0.0, 0.0], [3.0, 3.0]], [0, 1])
    >>> print(f"{loss:.6f}")
    0.693147
    >>> grad
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    if _is_plain(weight, sample_weight, ignore_index, reduction, label_smoothing):
        result = _backends.active.cross_entropy_rows(
            logits, target, axis, True, out, n_threads, _threads.resolve
        )
        if result is not None and result[1] is not None:
            return result[0], result[1]
    options = as_options(reduction, ignore_index, label_smoothing)
    problem = _loss_problem(logits, target, weight, axis, sample_weight, options)
    given = check_out(out, problem.logits.shape, problem.dtype)
    threads = _threads.resolve(n_threads, problem.logits.size)

    if given is not None and _can_write_to(given, problem):
        return _run(problem, options, given, threads), given
    grad = np.empty(problem.logits.shape, compute_dtype(problem.dtype))
    loss = _run(problem, options, grad, threads)
    return loss, finish(grad, problem.dtype, given)


@dataclass(frozen=True, slots=True)
class _LossProblem:
    """Checked arrays of a loss: logits with the caller's axes, everything else one per row."""

    logits: Array
    axis: int
    target: ClassIndices
    weight: Array | None
    sample_weight: Array | None
    weight_sum: float
    dtype: np.dtype[Any]

    def rows(self, array: Array) -> Array:
        """An array of the logits' shape as rows: a view with the class axis last."""
        if self.axis == array.ndim - 1:
            return array
        batch = [i for i in range(array.ndim) if i != self.axis]
        return array.transpose(*batch, self.axis)

    def kept_rows(self, options: Options) -> Array | None:
        """The rows that count, as indices; None for all of them."""
        kept = self.target.rows != options.ignore_index
        if self.sample_weight is not None:
            kept &= self.sample_weight != 0
        return None if kept.all() else np.flatnonzero(kept)

    def of_rows(self, rows: slice | Array, logits: Array) -> _LossProblem:
        """The loss of some of the rows, given their logits as a matrix."""
        target = ClassIndices(self.target.rows[rows], self.target.given)
        sample_weight = None if self.sample_weight is None else self.sample_weight[rows]
        return replace(self, logits=logits, axis=1, target=target, sample_weight=sample_weight)


def _is_plain(
    weight: object,
    sample_weight: object,
    ignore_index: object,
    reduction: object,
    label_smoothing: object,
) -> bool:
    """Whether every option has its default, as the backends' lane for plain calls requires."""
    return (
        weight is None
        and sample_weight is None
        and type(ignore_index) is int
        and ignore_index == -100
        and type(reduction) is str
        and reduction == "mean"
        and type(label_smoothing) is float
        and label_smoothing == 0.0
    )


def _loss_problem(
    logits: object,
    target: object,
    weight: object,
    axis: object,
    sample_weight: object,
    options: Options,
) -> _LossProblem:
    """Check everything that a loss takes, the targets' values included."""
    array, dtype, class_axis = as_logits(logits, axis)
    n_classes = array.shape[class_axis]
    indices = as_class_indices(target, array.shape, class_axis, options.ignore_index)
    weights = as_weight(weight, n_classes, array.dtype.newbyteorder("="))
    row_weights = as_sample_weight(sample_weight, indices.given.shape)
    invalid, weight_sum = backend_for(dtype).check_target(
        indices.rows, n_classes, weights, row_weights, options.ignore_index
    )
    if invalid >= 0:
        indices.raise_out_of_range(invalid, n_classes, options.ignore_index)
    return _LossProblem(array, class_axis, indices, weights, row_weights, weight_sum, dtype)


def _run(problem: _LossProblem, options: Options, grad: Array | None, n_threads: int) -> Any:
    """Compute the loss, and the gradient into `grad`, which may be the logits."""
    losses = _row_losses(problem, options)
    divisor = _divisor(problem, options)
    total = _run_rows(problem, options, losses, grad, divisor, n_threads)
    return _reduced(problem, total, divisor, losses, problem.dtype)


def _row_losses(problem: _LossProblem, options: Options) -> Array | None:
    """Where each row's loss goes, if the caller wants them."""
    if options.reduction != "none":
        return None
    return np.zeros(problem.target.rows.size, problem.logits.dtype.newbyteorder("="))


def _divisor(problem: _LossProblem, options: Options) -> float:
    """What the sum of the losses is divided by."""
    return problem.weight_sum if options.reduction == "mean" else 1.0


def _run_rows(
    problem: _LossProblem,
    options: Options,
    losses: Array | None,
    grad: Array | None,
    divisor: float,
    n_threads: int,
) -> float:
    """Sum the losses; write each to `losses` and the gradient over the divisor to `grad`."""
    if not problem.logits.size:
        return 0.0
    total: float = backend_for(problem.dtype).cross_entropy(
        problem.rows(problem.logits),
        problem.target.rows,
        losses,
        None if grad is None else problem.rows(grad),
        problem.weight,
        problem.sample_weight,
        options.ignore_index,
        options.label_smoothing,
        1 / divisor if divisor else 0.0,
        n_threads,
    )
    return total


def _reduced(
    problem: _LossProblem, total: float, divisor: float, losses: Array | None, dtype: np.dtype[Any]
) -> Any:
    """The loss as the caller wants it."""
    if losses is not None:
        return finish(losses.reshape(problem.target.given.shape), dtype, None)
    with np.errstate(all="ignore"):
        return dtype.type(np.float64(total) / divisor)


def _can_write_to(grad: Array, problem: _LossProblem) -> bool:
    """Whether a backend may write the gradient here while it reads its input."""
    others = [problem.target.rows, problem.weight, problem.sample_weight]
    return can_write_to(grad, problem.logits, others)
