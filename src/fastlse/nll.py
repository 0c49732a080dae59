"""The negative log-likelihood of log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._problem import backend_for, finish
from ._targets import as_class_indices, as_logits, as_options, as_sample_weight, as_weight

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Error bound of a row's loss in ulp; log_probs are taken as exact.
NLL_LOSS_ULP = 1


def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Any:
    """Negative log-likelihood of class indices, ``-log_probs[target]``.

    Parameters
    ----------
    log_probs : array_like
        Log-probabilities, such as `log_softmax` gives: one axis of classes and any others. Not
        complex. A masked class counts as -inf.
    target : array_like of int
        Class indices of any integer dtype, with the shape of `log_probs` less the class axis; a
        scalar for 1-D input. A masked target is ignored.
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

    Returns
    -------
    loss : scalar or ndarray
        Of the dtype of `log_probs`; with "none", an array of the target's shape.

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
    cross_entropy : `log_softmax` and this function in one, from the logits, with a gradient.
    torch.nn.functional.nll_loss : The same options and values.

    Notes
    -----
    Row losses are within ``NLL_LOSS_ULP`` ulp of the weighted `log_probs`; sums are pairwise, in
    float64 at least.

    Rows that are ignored, or whose sample weight is 0, have a loss of exactly 0 even where they
    hold NaN or infinities. With no row kept the mean is NaN and the sum 0. In other rows only the
    target's own entry matters: NaN gives NaN, -inf gives +inf.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> logits = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> print(f"{fastlse.nll_loss(fastlse.log_softmax(logits, axis=1), [0, 1]):.6f}")
    0.410038
    >>> print(f"{fastlse.cross_entropy(logits, [0, 1]):.6f}")
    0.410038
    """
    options = as_options(reduction, ignore_index)
    array, dtype, class_axis = as_logits(log_probs, axis, "log_probs")
    n_classes = array.shape[class_axis]
    indices = as_class_indices(target, array.shape, class_axis, options.ignore_index)
    weights = as_weight(weight, n_classes, array.dtype.newbyteorder("="))
    row_weights = as_sample_weight(sample_weight, indices.given.shape)
    invalid, weight_sum = backend_for(dtype).check_target(
        indices.rows, n_classes, weights, row_weights, options.ignore_index
    )
    if invalid >= 0:
        indices.raise_out_of_range(invalid, n_classes, options.ignore_index)

    kept = indices.rows != options.ignore_index
    if row_weights is not None:
        kept &= row_weights != 0
    losses = np.zeros(kept.size, np.promote_types(dtype, np.float64))
    if kept.any():
        classes = np.where(kept, indices.rows, 0)
        with np.errstate(all="ignore"):
            chosen = np.take_along_axis(
                np.moveaxis(array, class_axis, -1), classes.reshape(*indices.given.shape, 1), -1
            )
            scale = -1.0 if weights is None else -weights.astype(losses.dtype)[classes]
            terms = chosen.reshape(-1) * scale
            losses[kept] = (terms if row_weights is None else terms * row_weights)[kept]
    if options.reduction == "none":
        return finish(losses.reshape(indices.given.shape), dtype, None)
    with np.errstate(all="ignore"):
        divisor = weight_sum if options.reduction == "mean" else 1.0
        return dtype.type(losses.sum() / np.float64(divisor))
