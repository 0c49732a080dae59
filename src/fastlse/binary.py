"""The binary loss of logits, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _backends, _threads
from ._problem import (
    Array,
    as_array,
    backend_for,
    broadcast,
    can_write_to,
    cast,
    check_out,
    compute_dtype,
    finish,
    result_dtype,
    unmasked,
)
from ._sweep import in_memory_order, room_like
from ._targets import as_reduction

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result, for targets of 0 and 1 without weights.
BINARY_CROSS_ENTROPY_ULP = 3
BINARY_GRADIENT_ULP = 3


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    pos_weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    n_threads: int | None = None,
) -> Any:
    """Binary cross-entropy of logits, ``-y log(expit(z)) - (1 - y) log(1 - expit(z))``.

    Parameters
    ----------
    logits : array_like
        Log-odds ``z`` of any shape. Not complex. float32 and float64 run on the compiled kernels
        without a copy, whatever the strides; float16 is computed in float32; integers become
        float64.
    target : array_like
        The label ``y`` of each logit, with the logits' shape: 0 and 1, or probabilities, of any
        real dtype. It is taken as it is, outside of [0, 1] too. A dtype other than the logits'
        costs a converted copy.
    weight : array_like, optional
        Factor of each element's loss, broadcast to the logits' shape. An element of weight 0 is
        left out: it counts 0 whatever it holds.
    pos_weight : array_like, optional
        Factor of the first term of each loss, that of ``y``; broadcast to the logits' shape.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, whatever their weights.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    loss : scalar or ndarray
        Of the logits' dtype; with "none", an array of the logits' shape.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers.
    ValueError
        If a shape or an option is wrong.

    See Also
    --------
    binary_cross_entropy_with_logits_and_grad : The loss together with its gradient.
    torch.nn.functional.binary_cross_entropy_with_logits : The same options and values.

    Notes
    -----
    Computed as ``pos_weight y softplus(-z) + (1 - y) softplus(z)``, of which nothing cancels for
    targets in [0, 1]. For targets of 0 and 1 a loss is within ``BINARY_CROSS_ENTROPY_ULP`` ulp of
    the exact one for every logit, down to the smallest subnormal number: that of a confident right
    element is ``exp(-abs(z))`` and not 0. Another target in [0, 1] may add an ulp, as may each of
    the weights.

    A logit of +inf with target 1 and one of -inf with target 0 have loss 0, the opposite +inf; NaN
    gives NaN. The mean of no elements is NaN, their sum 0. An element whose logit or target is
    masked is left out, and the mean does not count it.

    Examples
    --------
    >>> import fastlse
    >>> print(f"{fastlse.binary_cross_entropy_with_logits([2.0, -1.0], [1, 0]):.6f}")
    0.220095
    >>> print(f"{fastlse.binary_cross_entropy_with_logits(40.0, 1):.4e}")
    4.2484e-18
    """
    if _is_plain(weight, pos_weight, reduction, n_threads):
        result = _backends.active.binary_cross_entropy_plain(
            logits, target, False, None, _threads.resolve
        )
        if result is not None:
            return result[0]
    problem = _binary_problem(logits, target, weight, pos_weight, reduction)
    threads = _threads.resolve(n_threads, problem.logits.size)
    return _run(problem, None, threads)


def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    pos_weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    n_threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, Any]:
    """Binary cross-entropy and its gradient with respect to the logits, in one sweep.

    Parameters
    ----------
    logits, target, weight, pos_weight, n_threads
        As for `binary_cross_entropy_with_logits`.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the gradient is each element's own, of ``loss[i]`` with respect to its logit.
    out : ndarray, optional
        Array of the logits' shape and dtype to write the gradient to. ``out=logits`` works in
        place.

    Returns
    -------
    loss : scalar or ndarray
        As from `binary_cross_entropy_with_logits`.
    grad : ndarray or scalar
        Of the logits' shape and dtype; `out` if that was given.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If a shape or an option is wrong, or `out` is read-only.

    See Also
    --------
    binary_cross_entropy_with_logits : The loss alone.

    Notes
    -----
    The gradient is ``(1 - y) expit(z) - pos_weight y expit(-z)``, times the weight and, for a mean,
    over the number of elements. For targets of 0 and 1 it is within ``BINARY_GRADIENT_ULP`` ulp of
    the exact one for every logit, down to the smallest subnormal number: ``-expit(-z)`` for a
    target of 1, never ``expit(z) - 1``. Of another target in [0, 1] it is a difference, within an
    ulp more than that of the larger of the two terms. Each of the weights may add an ulp.

    A logit of +inf with target 1 and one of -inf with target 0 have gradient 0; +inf with target 0
    has 1 and -inf with target 1 has -1, times their weights; NaN gives NaN. Elements that are
    masked or of weight 0 have a gradient of exactly 0. Nothing is written to `out` before every
    argument was checked.

    Examples
    --------
    >>> import fastlse
    >>> loss, grad = fastlse.binary_cross_entropy_with_logits_and_grad([0.0, 0.0], [1, 0])
    >>> print(f"{loss:.6f}")
    0.693147
    >>> grad
    array([-0.25,  0.25])
    """
    if _is_plain(weight, pos_weight, reduction, n_threads):
        result = _backends.active.binary_cross_entropy_plain(
            logits, target, True, out, _threads.resolve
        )
        if result is not None:
            return result
    problem = _binary_problem(logits, target, weight, pos_weight, reduction)
    given = check_out(out, problem.logits.shape, problem.dtype)
    threads = _threads.resolve(n_threads, problem.logits.size)
    into = given
    others = (problem.target, problem.weight, problem.pos_weight)
    if into is None or not can_write_to(into, problem.logits, others):
        into = room_like(problem.logits, compute_dtype(problem.dtype))
    loss = _run(problem, into, threads)
    return loss, finish(into, problem.dtype, given)


@dataclass(frozen=True, slots=True)
class _BinaryProblem:
    """Checked arrays of the logits' shape and, but for the byte order, of their dtype."""

    logits: Array
    target: Array
    weight: Array | None
    pos_weight: Array | None
    reduction: str
    divisor: int  # of the losses' sum and of the gradient
    dtype: np.dtype[Any]


def _is_plain(weight: object, pos_weight: object, reduction: object, n_threads: object) -> bool:
    """Whether every option has its default, as the backends' lane for plain calls requires."""
    return (
        weight is None
        and pos_weight is None
        and n_threads is None
        and type(reduction) is str
        and reduction == "mean"
    )


def _binary_problem(
    logits: object, target: object, weight: object, pos_weight: object, reduction: object
) -> _BinaryProblem:
    """Check everything that the loss takes."""
    checked_reduction = as_reduction(reduction)
    array = as_array(logits, "logits", "biuf")
    dtype = result_dtype((logits, array))
    work = compute_dtype(dtype)
    array = cast(array, work)
    labels = as_array(target, "target", "biuf")
    if labels.shape != array.shape:
        message = f"target must have the logits' shape {array.shape}, got shape {labels.shape}"
        raise ValueError(message)
    weights = _as_factor(weight, "weight", array.shape, work)
    pos_weights = _as_factor(pos_weight, "pos_weight", array.shape, work)
    masks = [mask for mask in (unmasked(logits), unmasked(target)) if mask is not None]
    n_kept = array.size
    if masks:
        kept = np.logical_and.reduce(masks)
        weights = np.where(kept, work.type(1) if weights is None else weights, work.type(0))
        n_kept = int(np.count_nonzero(kept))
    divisor = n_kept if checked_reduction == "mean" else 1
    return _BinaryProblem(
        array, cast(labels, work), weights, pos_weights, checked_reduction, divisor, dtype
    )


def _as_factor(
    value: object, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array | None:
    """A weight as a view of the logits' shape; masked ones are 0."""
    if value is None:
        return None
    array = cast(as_array(value, name, "biuf"), dtype)
    mask = unmasked(value)
    if mask is not None:
        array = np.where(mask, array, dtype.type(0))
    return broadcast(array, name, shape)


def _run(problem: _BinaryProblem, grad: Array | None, n_threads: int) -> Any:
    """Compute the loss, and the gradient into `grad`, which may be the logits."""
    total, losses = 0.0, None
    if problem.reduction == "none":
        losses = room_like(problem.logits, compute_dtype(problem.dtype))
    if problem.logits.size:
        logits, target, loss, slopes, weight, pos_weight = in_memory_order(
            problem.logits, problem.target, losses, grad, problem.weight, problem.pos_weight
        )
        divisor = float(problem.divisor or 1)
        total = backend_for(problem.dtype).binary_cross_entropy(
            logits, target, loss, slopes, weight, pos_weight, divisor, n_threads
        )
    if losses is not None:
        return finish(losses, problem.dtype, None)
    with np.errstate(all="ignore"):
        return problem.dtype.type(np.divide(total, problem.divisor))
