"""Losses of logits, and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from . import _backends, _threads
from ._lazy import lazy_version
from ._loss_problem import loss_problem, run
from ._problem import check_out, compute_dtype, finish
from ._sweep import room_like
from ._targets import as_options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result, to which the gap of the difference of two logits adds.
CROSS_ENTROPY_ULP = 3
GRADIENT_ULP = 6
# The capped logits' own error; it counts as a rounding of the logits.
SOFTCAP_ULP = 3


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
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
) -> Any:
    """Cross-entropy of logits against class indices or class probabilities.

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities: one axis of classes and any others. Not complex. float32
        and float64 run on the compiled kernels without a copy, whatever the strides; float16 is
        computed in float32; integers become float64. A masked class counts as -inf.
    target : array_like
        Class indices of any integer dtype, with the shape of `logits` less the class axis, a
        scalar for 1-D logits; a masked one is ignored. Or class probabilities of any floating
        dtype, with the shape of `logits`; a masked one counts as 0. They are taken as they are:
        rows need not sum to 1, zero and negative ones are legal, NaN gives NaN.
    weight : array_like, optional
        Weight of each class.
    axis : int, default -1
        The class axis.
    sample_weight : array_like, optional
        Weight of each row, with the shape of `logits` less the class axis.
    ignore_index : int, default -100
        Rows with this target have no loss. Negative for class probabilities, to which it means
        nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the summed weights of the kept rows, ``weight[target] *
        sample_weight``; for class probabilities by the number of rows, all of them.
    label_smoothing : float, default 0.0
        The share of each target, between 0 and 1, that is spread evenly over all classes.
    z_loss : float, default 0.0
        Adds ``z_loss * logsumexp(logits)**2`` to each row, which keeps logits from drifting; it
        takes part in `sample_weight` but not in `weight`.
    softcap : float, optional
        Takes ``softcap * tanh(logits / softcap)`` for the logits: none is larger than `softcap`.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    loss : scalar or ndarray
        Of the logits' dtype; with "none", an array of the logits' shape less the class axis.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape.
    ValueError
        If a shape or an option is wrong, or `ignore_index` is not negative where the target is
        class probabilities.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy_and_grad : The loss together with its gradient.
    torch.nn.functional.cross_entropy : The same options and values.

    Notes
    -----
    With y the logits, capped or not, K classes, class weights w, smoothing eps, and q the class
    probabilities, or 1 at the target and 0 elsewhere, a row's loss is its sample weight times::

        lse    = logsumexp(y)
        pull_c = w_c * ((1 - eps) * q_c + eps / K)
        loss   = sum_c pull_c * (lse - y_c) + z_loss * lse**2

    Row losses are within ``CROSS_ENTROPY_ULP`` ulp of the exact ones, plus the rounding of
    differences of two logits. That holds for confident rows: their loss is ``log1p`` of the other
    classes' share and never rounds to 0 [1]_. Every option may add:

    - with class probabilities, a `weight` or a `label_smoothing` an ulp each; pulls of both signs
      cancel, and the bound is then relative to the sum of their absolute parts;
    - `z_loss` twice the error of ``lse``, relative to its own part of the loss;
    - `softcap` what the error of the capped logits does, ``SOFTCAP_ULP`` ulp of each: the gap grows
      by so many times the absolute values of the two that are subtracted.

    Rows that are ignored, or whose sample weight is 0, have a loss of exactly 0 even where they
    hold NaN or infinities. With no row kept the mean is NaN and the sum 0. Other rows give NaN if
    they hold NaN or +inf, or only -inf, and +inf if a logit of -inf is pulled: the target's, or
    one whose pull is not 0. With `softcap` infinite logits are finite ones, ``-softcap`` and
    ``softcap``, but a masked class stays one that the row cannot have. Class probabilities over no
    classes have a loss of 0.

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

    Class probabilities, and logits that are kept small:

    >>> print(f"{fastlse.cross_entropy([[2.0, 0.0], [0.0, 0.0]], [[0.9, 0.1], [0.5, 0.5]]):.6f}")
    0.510038
    >>> print(f"{fastlse.cross_entropy([90.0, 0.0], 1, softcap=30.0, z_loss=1e-4):.4f}")
    29.9408
    """
    result = _backends.active.cross_entropy_rows(
        logits,
        target,
        weight,
        axis,
        sample_weight,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        softcap,
        False,
        None,
        n_threads,
        _threads.resolve,
    )
    if result is not None:
        return result[0]
    lazy = lazy_version("cross_entropy", logits, target, weight, sample_weight)
    if lazy is not None:
        return lazy(
            logits,
            target,
            weight,
            axis=axis,
            sample_weight=sample_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            n_threads=n_threads,
        )
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    problem = loss_problem(logits, target, weight, axis, sample_weight, options)
    threads = _threads.resolve(n_threads, problem.logits.size)
    return run(problem, None, threads)


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
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Cross-entropy and its gradient with respect to the logits, in one sweep.

    Parameters
    ----------
    logits, target, weight, axis, sample_weight, ignore_index, label_smoothing, z_loss, softcap
        As for `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the gradient is each row's own, of ``loss[i]`` with respect to its logits.
    n_threads : int, optional
        As for `cross_entropy`.
    out : ndarray, optional
        Array of the logits' shape and dtype to write the gradient to. ``out=logits`` works in
        place.

    Returns
    -------
    loss : scalar or ndarray
        As from `cross_entropy`.
    grad : ndarray
        Of the logits' shape and dtype, its axes in memory as theirs; `out` if that was given.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape, or `out` has the wrong dtype.
    ValueError
        If a shape or an option is wrong, or `ignore_index` is not negative where the target is
        class probabilities, or `out` is read-only.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    cross_entropy : The loss alone.

    Notes
    -----
    In the terms of `cross_entropy`, with p = softmax(y), a row's gradient is its sample weight,
    over the mean's divisor, times::

        (sum_k pull_k + 2 * z_loss * lse) * p_c - pull_c

    and with `softcap` times the derivative of the cap, ``1 - tanh(logits_c / softcap)**2``.

    Without further options, entries are within ``GRADIENT_ULP`` ulp of the exact ones, plus the
    rounding of differences of two logits; the target's is the negated share of the other classes,
    never the difference ``p - 1``, and where the target is class probabilities that goes for the
    class of the largest logit. Smoothing, `z_loss` and class probabilities subtract numbers of
    their own: the accuracy is then relative to the largest of those. Class probabilities, with them
    a `weight` or smoothing, and `z_loss` may add an ulp each; `softcap` widens the gap by
    ``SOFTCAP_ULP`` times the capped logits' absolute values, and by ``SOFTCAP_ULP + 2 *
    abs(logits_c) / softcap`` for its derivative, which is computed from exponentials and keeps its
    digits where the tanh is 1. Entries below the smallest normal number of the computation's dtype
    are +0.

    Rows that are ignored, or whose sample weight is 0, have a gradient of exactly 0, as do rows of
    only -inf, infinite logits under `softcap`, and all rows if the mean's divisor is 0. NaN or, not
    capped, +inf in a kept row gives NaN. Nothing is written to `out` before every argument was
    checked.

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
    result = _backends.active.cross_entropy_rows(
        logits,
        target,
        weight,
        axis,
        sample_weight,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        softcap,
        True,
        out,
        n_threads,
        _threads.resolve,
    )
    if result is not None and result[1] is not None:
        return result[0], result[1]
    lazy = lazy_version("cross_entropy_and_grad", logits, target, weight, sample_weight)
    if lazy is not None:
        pair: tuple[Any, NDArray[Any]] = lazy(
            logits,
            target,
            weight,
            axis=axis,
            sample_weight=sample_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            n_threads=n_threads,
            out=out,
        )
        return pair
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    problem = loss_problem(logits, target, weight, axis, sample_weight, options)
    given = check_out(out, problem.logits.shape, problem.dtype)
    threads = _threads.resolve(n_threads, problem.logits.size)

    if given is not None and problem.can_write_to(given):
        return run(problem, given, threads), given
    grad = room_like(problem.logits, compute_dtype(problem.dtype))
    loss = run(problem, grad, threads)
    return loss, finish(grad, problem.dtype, given)
