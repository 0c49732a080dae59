"""Losses of a linear layer, and their gradients, without its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._lazy import lazy_version
from ._linear import loss_and_gradients
from ._linear_problem import linear_problem
from ._targets import as_options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error of a gradient in float32, relative to its largest entry, where x and the weight have rows of
# independent entries around 0; the tests go to 200,000 rows and to 30,522 classes.
LINEAR_GRADIENT_ERROR = 1e-6


def linear_cross_entropy(
    x: Any,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    chunk_rows: int | None = None,
) -> Any:
    """Cross-entropy of the logits ``x @ linear_weight.T + linear_bias``, never all of them held.

    Parameters
    ----------
    x : array_like or CSR matrix or array, shape (..., n_features)
        Features, one axis of them behind any others; a SciPy CSR matrix has one row for each row.
        Read by blocks of rows, so that a `numpy.memmap` may be larger than memory; a block whose
        dtype is not that of the computation is converted. Not complex.
    linear_weight : array_like, shape (n_classes, n_features)
        The layer's weight, as `torch.nn.Linear` has it.
    target : array_like
        Class indices of any integer dtype, with the shape of `x` less its last axis. Or class
        probabilities of any floating dtype, that shape and an axis of classes; like `x` they are
        read by blocks of rows.
    linear_bias : array_like, shape (n_classes,), optional
        The layer's bias.
    weight : array_like, shape (n_classes,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row, with the shape of `x` less its last axis.
    ignore_index, reduction, label_smoothing, z_loss, softcap
        As for `cross_entropy`.
    n_threads : int, optional
        The most threads that the loss of a block uses; None uses the setting of
        `set_num_threads`. The matrix products use those of NumPy's BLAS.
    chunk_rows : int, optional
        The most rows of a block. None takes as many as the cache holds, and with many classes 512,
        or fewer where the call would hold more than 64 MB. A block's scratch, if less than that, is
        kept for the next call.

    Returns
    -------
    loss : scalar or ndarray
        With "none", an array of the shape of `x` less its last axis. Its dtype is NumPy's promotion
        of `x`, `linear_weight` and `linear_bias`, float64 for integers; float16 is computed in
        float32.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape, or `x` is sparse and not CSR.
    ValueError
        If a shape or an option is wrong, or a CSR matrix is not valid.

    See Also
    --------
    linear_cross_entropy_and_grad : The loss together with the gradients.
    cross_entropy : The same loss from the logits.

    Notes
    -----
    Beside its arguments the call holds one block of logits. NumPy's BLAS computes them in the dtype
    of the result; row losses are within ``CROSS_ENTROPY_ULP`` ulp, plus the rounding of
    differences, of what those logits have, so that the rounding of the products decides the error.
    Blocks of another size may round otherwise. `n_threads` changes no bit; whether BLAS's own
    threads do is BLAS's affair.

    Rows that are ignored, or whose sample weight is 0, are not computed and may hold NaN; their
    loss is 0. With no row kept the mean is NaN and the sum 0. A masked entry of `x`,
    `linear_weight` or `linear_bias` counts as 0.

    An `x`, or class probabilities, of more than two dimensions that is no view of a matrix is
    copied.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> linear_weight = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> print(f"{fastlse.linear_cross_entropy(x, linear_weight, [0, 1]):.6f}")
    0.410038
    """
    lazy = lazy_version(
        "linear_cross_entropy", x, linear_weight, target, linear_bias, weight, sample_weight
    )
    if lazy is not None:
        return lazy(
            x,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=weight,
            sample_weight=sample_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            n_threads=n_threads,
            chunk_rows=chunk_rows,
        )
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    problem = linear_problem(
        x, linear_weight, target, linear_bias, weight, sample_weight, options, chunk_rows
    )
    return loss_and_gradients(problem, (), n_threads)[0]


def linear_cross_entropy_and_grad(
    x: Any,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    n_threads: int | None = None,
    chunk_rows: int | None = None,
) -> tuple[Any, tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]:
    """Cross-entropy of a linear layer's logits and its gradients, never all logits held.

    Parameters
    ----------
    x, linear_weight, target, linear_bias, weight, sample_weight, ignore_index
        As for `linear_cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" a row of `grad_x` is that row's own, of ``loss[i]``, while `grad_weight` and
        `grad_bias`, which all rows share, are sums over the rows, as with "sum".
    label_smoothing, z_loss, softcap, n_threads, chunk_rows
        As for `linear_cross_entropy`.

    Returns
    -------
    loss : scalar or ndarray
        As from `linear_cross_entropy`.
    (grad_x, grad_weight, grad_bias) : tuple of ndarray
        Of the shapes of `x`, `linear_weight` and `linear_bias`, all of the loss's dtype. `grad_x`
        is dense where `x` is sparse; `grad_bias` is None without `linear_bias`.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; it names the row and the value.
    TypeError
        If an argument is not an array of numbers, or `target` is neither of integers nor a
        floating array with the logits' shape, or `x` is sparse and not CSR.
    ValueError
        If a shape or an option is wrong, or a CSR matrix is not valid.

    See Also
    --------
    linear_cross_entropy : The loss alone.
    cross_entropy_and_grad : The same from the logits.

    Notes
    -----
    With ``g`` the gradient of the logits, as `cross_entropy_and_grad` gives it, the gradients are
    ``g @ linear_weight``, ``g.T @ x`` and ``g.sum(axis=0)``. Beside its arguments and results the
    call holds one block of ``g``. Entries of ``g`` are within ``GRADIENT_ULP`` ulp, plus the
    rounding of differences, of what the logits have. Sums over the blocks are kept in float64 where
    that takes up to 16 MB, and with many classes what the targets contribute is added last: in
    float32 the gradients are within ``LINEAR_GRADIENT_ERROR`` of the largest entry.

    Rows that are ignored, or whose sample weight is 0, are not computed: they have an exactly zero
    `grad_x` and no part in the other gradients, even where they hold NaN or infinities. NaN in any
    other row makes `grad_weight` and `grad_bias` NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> linear_weight = np.zeros((2, 2))
    >>> loss, (grad_x, grad_weight, grad_bias) = fastlse.linear_cross_entropy_and_grad(
    ...     x, linear_weight, [0, 1], linear_bias=np.zeros(2)
    ... )
    >>> print(f"{loss:.6f}")
    0.693147
    >>> grad_weight
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    >>> grad_bias
    array([0., 0.])
    """
    lazy = lazy_version(
        "linear_cross_entropy_and_grad",
        x,
        linear_weight,
        target,
        linear_bias,
        weight,
        sample_weight,
    )
    if lazy is not None:
        results: tuple[Any, tuple[Any, Any, Any]] = lazy(
            x,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=weight,
            sample_weight=sample_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            n_threads=n_threads,
            chunk_rows=chunk_rows,
        )
        return results
    options = as_options(reduction, ignore_index, label_smoothing, z_loss, softcap)
    problem = linear_problem(
        x, linear_weight, target, linear_bias, weight, sample_weight, options, chunk_rows
    )
    return loss_and_gradients(problem, ("x", "weight", "bias"), n_threads)
