"""The losses' arguments besides the logits: targets, weights and options, checked and typed."""

from __future__ import annotations

import math
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
    """A loss's scalar options; a `softcap` of 0 is none."""

    reduction: str
    ignore_index: int
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float = 0.0


def as_reduction(reduction: object) -> str:
    """One of `REDUCTIONS`."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def as_options(
    reduction: object,
    ignore_index: object,
    label_smoothing: object = 0.0,
    z_loss: object = 0.0,
    softcap: object = None,
) -> Options:
    """Check the scalar options."""
    checked_reduction = as_reduction(reduction)
    index = as_index(ignore_index, "ignore_index", "an int")
    if not _INT64.min <= index <= _INT64.max:
        raise ValueError(f"ignore_index must fit into 64 bits, got {index}")
    smoothing = _as_number(label_smoothing, "label_smoothing", "a number")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {smoothing}")
    z_factor = _as_number(z_loss, "z_loss", "a number")
    if not 0 <= z_factor < math.inf:
        raise ValueError(f"z_loss must be finite and not negative, got {z_factor}")
    cap = 0.0
    if softcap is not None:
        cap = _as_number(softcap, "softcap", "a number or None")
        if not 0 < cap < math.inf:
            raise ValueError(f"softcap must be finite and greater than 0, or None, got {cap}")
    return Options(checked_reduction, index, smoothing, z_factor, cap)


def _as_number(value: object, name: str, expected: str) -> float:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {expected}, got {describe(value)}")
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        return -math.inf if value < 0 else math.inf


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
        raise_no_class(self.given[place], place, n_classes, ignore_index)


def raise_no_class(
    value: object, place: tuple[int, ...], n_classes: int, ignore_index: int
) -> NoReturn:
    """Raise the IndexError for an invalid target in the row of that place."""
    row = place if len(place) > 1 else sum(place)
    raise IndexError(
        f"target must be in [0, {n_classes}) or ignore_index ({ignore_index}), "
        f"got {value} in row {row}"
    )


def as_class_indices(
    target: object, logits_shape: tuple[int, ...], axis: int, ignore_index: int
) -> ClassIndices:
    """Check the target's dtype and shape; its values are the backend's to check."""
    array = as_array(target, "target", "biufc")
    if array.size == 0 and not isinstance(target, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    check_class_indices(array, logits_shape, axis)
    rows = _as_int64(array, ignore_index)
    mask = unmasked(target)
    if mask is not None:
        rows = np.where(mask, rows, ignore_index)
    return ClassIndices(np.ascontiguousarray(rows).reshape(-1), array)


def check_class_indices(array: Any, logits_shape: tuple[int, ...], axis: int) -> None:
    """Check dtype and shape of an array of class indices."""
    batch_shape = logits_shape[:axis] + logits_shape[axis + 1 :]
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


@dataclass(frozen=True, slots=True)
class ClassProbabilities:
    """Class probabilities as they came, of the logits' shape and any floating dtype."""

    given: Array


def as_target(
    target: object, logits_shape: tuple[int, ...], axis: int, ignore_index: int
) -> ClassIndices | ClassProbabilities:
    """Class indices, or class probabilities: a floating array with the logits' shape."""
    array = as_array(target, "target", "biufc")
    no_dtype = array.size == 0 and not isinstance(target, np.ndarray)  # an empty list
    if array.dtype.kind != "f" or (no_dtype and array.shape != logits_shape):
        return as_class_indices(target, logits_shape, axis, ignore_index)
    check_class_probabilities(array, logits_shape, ignore_index)
    mask = unmasked(target)
    return ClassProbabilities(array if mask is None else np.where(mask, array, 0))


def check_class_probabilities(array: Any, logits_shape: tuple[int, ...], ignore_index: int) -> None:
    """Check the shape of an array of class probabilities, and what they leave no meaning."""
    if array.shape != logits_shape:
        raise TypeError(
            "target must be an integer array of class indices, or a floating array of class "
            f"probabilities with the logits' shape {logits_shape}, got dtype {array.dtype} and "
            f"shape {array.shape}"
        )
    if ignore_index >= 0:
        raise ValueError(
            "ignore_index must be negative where the target is class probabilities, of which no "
            f"row is ignored, got {ignore_index}"
        )


def _as_int64(target: Array, ignore_index: int) -> NDArray[np.int64]:
    """`target` as int64; what does not fit becomes an index that is certainly invalid."""
    if target.dtype.kind == "u" and target.dtype.itemsize == 8:
        invalid = -1 if ignore_index != -1 else -2
        return np.where(target > _INT64.max, invalid, target.astype(np.int64))
    return target.astype(np.int64, copy=False)


def as_weight(weight: object, n_classes: int, dtype: np.dtype[Any]) -> Array | None:
    """Class weights as a contiguous array of `dtype`."""
    return _as_weights(weight, "weight", (n_classes,), dtype)


def as_sample_weight(sample_weight: object, shape: tuple[int, ...]) -> Array | None:
    """Row weights as a 1-D contiguous float64 array."""
    array = _as_weights(sample_weight, "sample_weight", shape, np.dtype(np.float64))
    return None if array is None else array.reshape(-1)


_MEANING = {
    "weight": "the number of classes",
    "sample_weight": "the logits' shape less the class axis",
}


def check_weights(array: Any, name: str, shape: tuple[int, ...]) -> None:
    """Check the shape of `weight` or `sample_weight`."""
    if array.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape} ({_MEANING[name]}), got shape {array.shape}"
        )


def _as_weights(
    value: object, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array | None:
    if value is None:
        return None
    array = as_array(value, name, "biuf")
    check_weights(array, name, shape)
    mask = unmasked(value)
    if mask is not None:
        array = np.where(mask, array, 0)
    with np.errstate(all="ignore"):
        return np.require(array, dtype, ["C", "A"])
