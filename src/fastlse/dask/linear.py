"""Losses of a linear layer over Dask arrays, and their gradients, without its logits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastlse._linear import sums_and_gradients
from fastlse._linear_problem import check_chunk_rows, check_layer, linear_problem
from fastlse._problem import Array, finish, result_dtype
from fastlse._targets import Options, as_options

from ._chunks import (
    as_lazy,
    check_threads,
    on_chunks,
    one_element,
    pick,
    threads_of_a_call,
    tree_sum,
)
from ._rows import Rows, loss_of_chunks, rows_of_loss

if TYPE_CHECKING:
    import dask.array as da

# Axes that neither x nor its rows have; its last axis stands for that of the classes.
CLASSES_OF_LAYER, FEATURES_OF_LAYER = -4, -5


def linear_cross_entropy(
    x: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    chunk_rows: int | None = None,
) -> da.Array:
    """Cross-entropy of a linear layer's logits over a Dask array of features, never gathered.

    Parameters
    ----------
    x : dask.array.Array
        As for `fastlse.linear_cross_entropy`, chunked along rows; its chunks may be CSR matrices.
        Features in several chunks are rechunked into one.
    linear_weight, linear_bias : dask.array.Array or array_like
        As for `fastlse.linear_cross_entropy`; each call of a chunk gets all of them.
    target, sample_weight : dask.array.Array or array_like
        As for `fastlse.linear_cross_entropy`; brought to the chunks of `x`.
    weight : dask.array.Array or array_like, optional
        Weight of each class.
    ignore_index, reduction, label_smoothing, z_loss, softcap
        As for `fastlse.cross_entropy`.
    n_threads, chunk_rows
        As for `fastlse.linear_cross_entropy`, of the call of a chunk. None is one thread, since
        Dask works on as many chunks at once as there are processors, or what was set in the
        worker's process; NumPy's BLAS has a setting of its own.

    Returns
    -------
    dask.array.Array
        The loss, of no dimension, or with "none" of the shape of `x` less its last axis.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value. At once
        for targets in memory, for those of a Dask array when they are computed.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape.
    ValueError
        If a shape or an option is wrong, or chunks are of unknown sizes.

    See Also
    --------
    fastlse.linear_cross_entropy : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Row losses are within ``CROSS_ENTROPY_ULP`` ulp of what the logits have that BLAS computes in
    the dtype of the result. Chunks' losses are added up in float64, as a tree. NaN does what it
    does in NumPy arrays.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import fastlse.dask
    >>> x = da.from_array(np.array([[1.0, 0.0], [0.0, 1.0]]), chunks=(1, 2))
    >>> linear_weight = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> print(f"{fastlse.dask.linear_cross_entropy(x, linear_weight, [0, 1]).compute():.6f}")
    0.410038
    """
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    layer = x, linear_weight, linear_bias
    return _loss(layer, target, weight, sample_weight, options, n_threads, chunk_rows, False)[0]


def linear_cross_entropy_and_grad(
    x: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    chunk_rows: int | None = None,
) -> tuple[da.Array, tuple[da.Array, da.Array, da.Array | None]]:
    """Cross-entropy of a linear layer's logits over a Dask array, and its gradients.

    Parameters
    ----------
    x, linear_weight, target, linear_bias, weight, sample_weight, ignore_index, reduction
        As for `linear_cross_entropy`.
    label_smoothing, z_loss, softcap, n_threads, chunk_rows
        As for `linear_cross_entropy`.

    Returns
    -------
    loss : dask.array.Array
        As from `linear_cross_entropy`.
    (grad_x, grad_weight, grad_bias) : tuple of dask.array.Array
        Of the shapes of `x`, `linear_weight` and `linear_bias`; `grad_x` has the rows' chunks of
        `x`. `grad_bias` is None without `linear_bias`.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value. At once
        for targets in memory, for those of a Dask array when they are computed.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape.
    ValueError
        If a shape or an option is wrong, or chunks are of unknown sizes.

    See Also
    --------
    fastlse.linear_cross_entropy_and_grad : The same of NumPy arrays, and its edge cases.

    Notes
    -----
    Each chunk of `x` is read once; it gives its part of the loss and of the gradients of weight and
    bias, which are added up in float64 as a tree, and its rows of `grad_x`. In float32 a chunk's
    part is within ``LINEAR_GRADIENT_ERROR`` of its largest entry. Compute all results together:
    what they need is then computed once. NaN in a kept row makes `grad_weight` and `grad_bias` NaN.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> import numpy as np
    >>> import fastlse.dask
    >>> x = da.from_array(np.array([[1.0, 0.0], [0.0, 1.0]]), chunks=(1, 2))
    >>> results = fastlse.dask.linear_cross_entropy_and_grad(x, np.zeros((2, 2)), [0, 1])
    >>> loss, (grad_x, grad_weight, grad_bias) = dask.compute(*results)
    >>> print(f"{loss:.6f}")
    0.693147
    >>> grad_weight
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    layer = x, linear_weight, linear_bias
    return _loss(layer, target, weight, sample_weight, options, n_threads, chunk_rows, True)


def _loss(
    layer: tuple[Any, Any, Any],
    target: Any,
    weight: Any,
    sample_weight: Any,
    options: Options,
    n_threads: int | None,
    chunk_rows: int | None,
    want_grad: bool,
) -> tuple[da.Array, Any]:
    x, linear_weight, linear_bias, dtype = _as_layer(*layer, chunk_rows)
    threads = check_threads(n_threads)
    every, features, n_classes = tuple(range(x.ndim)), x.ndim - 1, linear_weight.shape[0]
    checked = target, weight, sample_weight, options
    rows = rows_of_loss(x, features, n_classes, dtype, *checked)
    of_weight = CLASSES_OF_LAYER, FEATURES_OF_LAYER
    of_target, *others = rows.operands(CLASSES_OF_LAYER)
    if not rows.has_indices:
        of_target = rows.target, (*rows.batch, CLASSES_OF_LAYER)
    results = on_chunks(
        _loss_of_chunk,
        every,
        (x, every),
        (linear_weight, of_weight),
        (linear_bias, None if linear_bias is None else of_weight[:1]),
        of_target,
        *others,
        dtype=dtype,
        options=rows.options,
        want=("x", "weight", "bias") if want_grad else (),
        n_threads=threads,
        chunk_rows=chunk_rows,
    )
    loss = loss_of_chunks(results, every, rows, dtype)
    if not want_grad:
        return loss, None
    grad_x = pick(results, every, 1, every, dtype)
    grad_weight = _sum_of_chunks(results, 2, rows, of_weight, linear_weight, dtype)
    grad_bias = None
    if linear_bias is not None:
        grad_bias = _sum_of_chunks(results, 3, rows, of_weight[:1], linear_bias, dtype)
    return loss, (grad_x, grad_weight, grad_bias)


def _as_layer(
    x: Any, linear_weight: Any, linear_bias: Any, chunk_rows: int | None
) -> tuple[da.Array, da.Array, da.Array | None, np.dtype[Any]]:
    """Features, weight and bias whose shapes fit, only the rows split; the results' dtype."""
    rows = as_lazy(x, "x", "biuf", sparse=True)
    if rows.ndim == 0:
        raise ValueError(f"x must have an axis of features, got a scalar of dtype {rows.dtype}")
    weight = as_lazy(linear_weight, "linear_weight", "biuf").rechunk(-1)
    bias = None
    if linear_bias is not None:
        bias = as_lazy(linear_bias, "linear_bias", "biuf").rechunk(-1)
    check_layer(rows, weight, bias)
    if chunk_rows is not None:
        check_chunk_rows(chunk_rows)
    operands = [one_element(array) for array in (rows, weight, bias) if array is not None]
    dtype = result_dtype(*((array, array) for array in operands))
    if rows.numblocks[-1] > 1:
        rows = rows.rechunk({rows.ndim - 1: -1})
    return rows, weight, bias, dtype


def _sum_of_chunks(
    results: da.Array,
    number: int,
    rows: Rows,
    axes: tuple[int, ...],
    like: da.Array,
    dtype: np.dtype[Any],
) -> da.Array:
    """The sum of what the chunks have as a gradient that all rows share."""
    wide = np.promote_types(dtype, np.float64)
    batch = rows.batch
    parts = pick(
        results,
        range(results.ndim),
        number,
        (*batch, *axes),
        wide,
        sizes=dict.fromkeys(batch, 1),
        new=dict(zip(axes, like.shape, strict=True)),
    )
    return tree_sum(parts, range(len(batch)), wide).astype(dtype)


def _loss_of_chunk(
    x: Any,
    linear_weight: Array,
    linear_bias: Array | None,
    target: Array,
    weight: Array | None,
    sample_weight: Array | None,
    divisor: float,
    options: Options,
    want: tuple[str, ...],
    n_threads: int | None,
    chunk_rows: int | None,
) -> tuple[Any, ...]:
    """A chunk's losses or their sum, its rows' gradient, and its part of the others."""
    problem = linear_problem(
        x, linear_weight, target, linear_bias, weight, sample_weight, options, chunk_rows
    )
    problem = replace(problem, loss=replace(problem.loss, divisor=float(divisor)))
    threads = threads_of_a_call(n_threads)
    total, losses, gradients = sums_and_gradients(problem, want, threads)
    batch_shape = problem.loss.batch_shape
    if losses is None:
        result = np.full((1,) * len(batch_shape), total)
    else:
        result = finish(losses.reshape(batch_shape), problem.dtype, None)
    in_front = (np.newaxis,) * len(batch_shape)
    grad_x, *shared = gradients
    return result, grad_x, *(None if grad is None else grad[in_front] for grad in shared)
