"""Cross-entropy of Dask arrays, and its gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastlse import _threads
from fastlse._loss_problem import loss_problem, row_losses, run_rows
from fastlse._problem import Array, compute_dtype, finish
from fastlse._targets import Options, as_logits, as_options

from ._chunks import (
    as_lazy,
    check_threads,
    on_chunks,
    one_element,
    pick,
    refuse_out,
    threads_of_a_call,
)
from ._class_parallel import class_parallel
from ._rows import loss_of_chunks, rows_of_loss

if TYPE_CHECKING:
    import dask.array as da


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
) -> da.Array:
    """Cross-entropy of a Dask array of logits.

    Parameters
    ----------
    logits : dask.array.Array
        As for `fastlse.cross_entropy`, chunked along rows, classes or both.
    target, sample_weight : dask.array.Array or array_like
        As for `fastlse.cross_entropy`; brought to the chunks of `logits`.
    weight : dask.array.Array or array_like, optional
        Weight of each class; each call of a chunk gets all of them.
    axis, ignore_index, reduction, label_smoothing, z_loss, softcap
        As for `fastlse.cross_entropy`.
    n_threads : int, optional
        The most threads that the call of a chunk uses. None is one, since Dask works on as many
        chunks at once as there are processors, or what was set in the worker's process.

    Returns
    -------
    dask.array.Array
        The loss, of no dimension, or with "none" of the logits' shape less the class axis.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value. At once
        for targets in memory, for those of a Dask array when they are computed.
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays, or `target`
        is neither of integers nor a floating array with the logits' shape.
    ValueError
        If a shape or an option is wrong, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    fastlse.cross_entropy : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Row losses are within ``CROSS_ENTROPY_ULP`` ulp where the classes are not split, and within
    ``STATE_ULP`` where they are. In that case the loss is *class-parallel*: every chunk gives the
    state of its classes and the target's logit, if that is among them; they are merged as a tree,
    and what goes from chunk to chunk is four numbers for each row, however many classes there are.
    Class weights, which add an ulp, sample weights and `ignore_index` are part of it; with class
    probabilities, `label_smoothing`, `z_loss` or `softcap` the logits are rechunked first, so that
    each chunk holds all classes of its rows.

    Losses are added up in float64, chunk by chunk and then as a tree. The mean's divisor is a sum
    over all targets, which is computed first. NaN and infinities do what they do in NumPy arrays,
    whatever the chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> logits = da.from_array([[2.0, 0.0], [0.0, 0.0]], chunks=1)
    >>> print(f"{fastlse.dask.cross_entropy(logits, [0, 1]).compute():.6f}")
    0.410038
    """
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    return _loss(logits, target, weight, axis, sample_weight, options, n_threads, False)[0]


def cross_entropy_and_grad(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    out: None = None,
) -> tuple[da.Array, da.Array]:
    """Cross-entropy of a Dask array of logits and its gradient.

    Parameters
    ----------
    logits, target, weight, axis, sample_weight, ignore_index, reduction, label_smoothing, z_loss
        As for `cross_entropy`.
    softcap, n_threads
        As for `cross_entropy`.
    out : None
        Refused: a result that is not yet computed has nothing to write.

    Returns
    -------
    loss : dask.array.Array
        As from `cross_entropy`.
    grad : dask.array.Array
        Of the shape, the dtype and the chunks of `logits`; where these had to be rechunked, with
        all classes in one chunk.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value. At once
        for targets in memory, for those of a Dask array when they are computed.
    TypeError
        If an argument is not an array of numbers, or its chunks are not NumPy arrays, or `target`
        is neither of integers nor a floating array with the logits' shape.
    ValueError
        If a shape or an option is wrong, or chunks are of unknown sizes.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    fastlse.cross_entropy_and_grad : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Entries are within ``GRADIENT_ULP`` ulp where the classes are not split, and within
    ``STATE_GRADIENT_ULP`` where they are, as `cross_entropy` says: each chunk then has its part of
    the gradient from its logits and the merged states. The target's entry is the negated share of
    the other classes, those of other chunks included. Compute loss and gradient together: what
    both need is then computed once. NaN does what it does in NumPy arrays.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> import fastlse.dask
    >>> logits = da.from_array([[0.0, 0.0], [3.0, 3.0]], chunks=1)
    >>> loss, grad = dask.compute(*fastlse.dask.cross_entropy_and_grad(logits, [0, 1]))
    >>> print(f"{loss:.6f}")
    0.693147
    >>> grad
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    refuse_out(out)
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    return _loss(logits, target, weight, axis, sample_weight, options, n_threads, True)


def _loss(
    logits: Any,
    target: Any,
    weight: Any,
    axis: int,
    sample_weight: Any,
    options: Options,
    n_threads: int | None,
    want_grad: bool,
) -> tuple[da.Array, Any]:
    """The loss, and the gradient or None."""
    array = as_lazy(logits, "logits", "biuf")
    _, dtype, class_axis = as_logits(one_element(array)[()], axis)
    threads = check_threads(n_threads)
    n_classes = array.shape[class_axis]
    checked = target, weight, sample_weight, options
    rows = rows_of_loss(array, class_axis, n_classes, dtype, *checked)
    is_plain = not (options.label_smoothing or options.z_loss or options.softcap)
    if array.numblocks[class_axis] > 1 and rows.has_indices and is_plain:
        return class_parallel(array, class_axis, dtype, rows, want_grad, threads)
    array = array.rechunk({class_axis: -1})
    every = tuple(range(array.ndim))
    results = on_chunks(
        _loss_of_chunk,
        every,
        (array, every),
        *rows.operands(class_axis),
        dtype=dtype,
        class_axis=class_axis,
        options=rows.options,
        want_grad=want_grad,
        n_threads=threads,
    )
    loss = loss_of_chunks(results, every, rows, dtype)
    return loss, pick(results, every, 1, every, dtype) if want_grad else None


def _loss_of_chunk(
    logits: Array,
    target: Array,
    weight: Array | None,
    sample_weight: Array | None,
    divisor: float,
    class_axis: int,
    options: Options,
    want_grad: bool,
    n_threads: int | None,
) -> tuple[Any, Array | None]:
    """The losses of a chunk of rows or their sum, and their gradient over the divisor."""
    problem = loss_problem(logits, target, weight, class_axis, sample_weight, options)
    problem = replace(problem, divisor=float(divisor))
    losses, grad = row_losses(problem), None
    if want_grad:
        grad = np.empty(problem.logits.shape, compute_dtype(problem.dtype))
    threads = _threads.resolve(threads_of_a_call(n_threads), problem.logits.size)
    total = run_rows(problem, losses, grad, threads)
    if grad is not None:
        grad = finish(grad, problem.dtype, None)
    if losses is not None:
        return finish(losses.reshape(problem.batch_shape), problem.dtype, None), grad
    return np.full((1,) * len(problem.batch_shape), total), grad
