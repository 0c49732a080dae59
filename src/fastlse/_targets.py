"""The losses' arguments besides the logits: targets, weights and options, checked and typed."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ._problem import Array, as_array, as_axis, as_index, cast, compute_dtype, describe, unmasked

if TYPE_CHECKING:
    from numpy.typing import NDArray

REDUCTIONS = ("mean", "sum", "none")

_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class Options:
    """A loss's scalar options."""

    reduction: str
    ignore_index: int
    label_smoothing: float


def as_reduction(reduction: object) -> str:
    """One of `REDUCTIONS`."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def as_options(reduction: object, ignore_index: object, label_smoothing: object) -> Options:
    """Check the scalar options."""
    checked_reduction = as_reduction(reduction)
    index = as_index(ignore_index, "ignore_index", "an int")
    if not _INT64.min <= index <= _INT64.max:
        raise ValueError(f"ignore_index must fit into 64 bits, got {index}")
    if not isinstance(label_smoothing, numbers.Real):
        raise TypeError(f"label_smoothing must be a number, got {describe(label_smoothing)}")
    smoothing = float(label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {smoothing}")
    return Options(checked_reduction, index, smoothing)


def as_logits(
    logits: object, axis: object, name: str = "logits"
) -> tuple[Array, np.dtype[Any], int]:
    """The logits in the computation's dtype, the result's dtype, and the class axis.

    A masked logit is a class that the row cannot have: -inf.
    """
    array = as_array(logits, name, "biuf")
    if array.ndim == 0:
        raise ValueError(f"{name} must have a class axis, got the scalar {describe(array[()])}")
    dtype = np.dtype(np.float64) if array.dtype.kind in "biu" else array.dtype.newbyteorder("=")
    array = cast(array, compute_dtype(dtype))
    mask = unmasked(logits)
    if mask is not None:
        array = np.where(mask, array, -np.inf)
    return array, dtype, as_axis(axis, array.ndim)


@dataclass(frozen=True, slots=True)
class ClassIndices:
    """Checked class indices, one per row.

    Attributes
    ----------
    rows : ndarray of int64
        1-D and contiguous.
    given : ndarray
        As the caller passed them, for messages.
    """

    rows: NDArray[np.int64]
    given: Array

    def raise_out_of_range(self, row: int, n_classes: int, ignore_index: int) -> NoReturn:
        """Raise the IndexError for an invalid target."""
        place = tuple(int(i) for i in np.unravel_index(row, self.given.shape))
        name = place if len(place) > 1 else row
        raise IndexError(
            f"target must be in [0, {n_classes}) or ignore_index ({ignore_index}), "
            f"got {self.given[place]} in row {name}"
        )


def as_class_indices(
    target: object, logits_shape: tuple[int, ...], axis: int, ignore_index: int
) -> ClassIndices:
    """Check the target's dtype and shape; its values are the backend's to check."""
    array = as_array(target, "target", "biufc")
    batch_shape = logits_shape[:axis] + logits_shape[axis + 1 :]
    if array.size == 0 and not isinstance(target, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    if array.dtype.kind == "f" and array.shape == logits_shape:
        raise TypeError(
            "target must be an integer array of class indices: class probabilities (a floating "
            "array with the logits' shape) are not supported yet"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"target must be an integer array of class indices, got dtype {array.dtype} "
            f"and shape {array.shape}"
        )
    if array.shape != batch_shape:
        raise ValueError(
            f"target must have the logits' shape less the class axis, {batch_shape}, "
            f"got shape {array.shape}"
        )
    rows = _as_int64(array, ignore_index)
    mask = unmasked(target)
    if mask is not None:
        rows = np.where(mask, rows, ignore_index)
    return ClassIndices(np.ascontiguousarray(rows).reshape(-1), array)


def _as_int64(target: Array, ignore_index: int) -> NDArray[np.int64]:
    """`target` as int64; what does not fit becomes an index that is certainly invalid."""
    if target.dtype.kind == "u" and target.dtype.itemsize == 8:
        invalid = -1 if ignore_index != -1 else -2
        return np.where(target > _INT64.max, invalid, target.astype(np.int64))
    return target.astype(np.int64, copy=False)


def as_weight(weight: object, n_classes: int, dtype: np.dtype[Any]) -> Array | None:
    """Class weights as a contiguous array of `dtype`."""
    return _as_weights(weight, "weight", (n_classes,), "the number of classes", dtype)


def as_sample_weight(sample_weight: object, shape: tuple[int, ...]) -> Array | None:
    """Row weights as a 1-D contiguous float64 array."""
    meaning = "the logits' shape less the class axis"
    float64 = np.dtype(np.float64)
    array = _as_weights(sample_weight, "sample_weight", shape, meaning, float64)
    return None if array is None else array.reshape(-1)


def _as_weights(
    value: object, name: str, shape: tuple[int, ...], meaning: str, dtype: np.dtype[Any]
) -> Array | None:
    if value is None:
        return None
    array = as_array(value, name, "biuf")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} ({meaning}), got shape {array.shape}")
    mask = unmasked(value)
    if mask is not None:
        array = np.where(mask, array, 0)
    with np.errstate(all="ignore"):
        return np.require(array, dtype, ["C", "A"])
