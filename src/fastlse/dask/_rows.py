"""The rows of a loss of Dask arrays: targets and weights, checked now or later; the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from fastlse._problem import Array, backend_for, compute_dtype, unmasked
from fastlse._targets import (
    Options,
    as_class_indices,
    as_sample_weight,
    as_weight,
    check_class_indices,
    check_class_probabilities,
    check_weights,
    raise_no_class,
)

from ._chunks import Axes, align, as_lazy, offsets, on_chunks, pick, tree_sum

CLASSES = -2  # the axis of the class weights, in one chunk

# A row that is ignored, once its target has been checked.
IGNORED = -1


@dataclass(frozen=True)
class Rows:
    """What a loss knows of its rows besides the logits, in the chunks of these.

    Attributes
    ----------
    batch : tuple of int
        The numbers of the axes of rows among those of the logits, or of `x`.
    target : dask.array.Array
        Class indices, `IGNORED` or valid, of int64; or class probabilities.
    weight, sample_weight : dask.array.Array or None
        One number for each class and for each row.
    divisor : dask.array.Array or float
        What the mean divides by, else 1.
    options : Options
        The scalar options, with `IGNORED` as `ignore_index`.
    """

    batch: tuple[int, ...]
    target: da.Array
    weight: da.Array | None
    sample_weight: da.Array | None
    divisor: Any
    options: Options

    @property
    def has_indices(self) -> bool:
        """Whether the target is class indices, not probabilities."""
        return bool(self.target.dtype.kind == "i")

    def operands(self, class_axis: int) -> list[tuple[Any, Axes]]:
        """Target, weight, sample weight and divisor for `on_chunks`."""
        of_target = self.batch if self.has_indices else _with(self.batch, class_axis)
        return [(self.target, of_target), *self.weights, self.divided]

    @property
    def weights(self) -> list[tuple[Any, Axes]]:
        """Weight and sample weight for `on_chunks`."""
        return [
            (self.weight, None if self.weight is None else (CLASSES,)),
            (self.sample_weight, None if self.sample_weight is None else self.batch),
        ]

    @property
    def divided(self) -> tuple[Any, Axes]:
        """The divisor for `on_chunks`."""
        return self.divisor, () if isinstance(self.divisor, da.Array) else None


def _with(batch: tuple[int, ...], class_axis: int) -> tuple[int, ...]:
    return tuple(sorted((*batch, class_axis)))


def rows_of_loss(
    logits: da.Array,
    class_axis: int,
    n_classes: int,
    dtype: np.dtype[Any],
    target: Any,
    weight: Any,
    sample_weight: Any,
    options: Options,
) -> Rows:
    """Check all that can be checked without computing; `logits` may be features.

    Their axes but the class axis are those of the rows.
    """
    batch = tuple(axis for axis in range(logits.ndim) if axis != class_axis)
    chunks = dict(enumerate(logits.chunks))
    shape = tuple(n_classes if axis == class_axis else n for axis, n in enumerate(logits.shape))
    batch_shape = tuple(shape[axis] for axis in batch)
    weights = _as_weights(weight, "weight", (n_classes,))
    if weights is not None:
        weights = weights.rechunk(-1)
    row_weights = _as_weights(sample_weight, "sample_weight", batch_shape)
    if row_weights is not None:
        row_weights = align(row_weights, batch, chunks)

    given = as_lazy(target, "target", "biufc")
    if given.size == 0 and not isinstance(target, (da.Array, np.ndarray)):
        given = given.astype(np.int64)  # an empty list has no dtype of its own
    divisor: Any = 1.0
    if given.dtype.kind == "f":
        check_class_probabilities(given, shape, options.ignore_index)
        given = align(given, _with(batch, class_axis), {**chunks, class_axis: (n_classes,)})
        if options.reduction == "mean":
            divisor = float(prod(batch_shape))
        return Rows(batch, given, weights, row_weights, divisor, options)
    check_class_indices(given, shape, class_axis)
    if not isinstance(target, da.Array):
        _check_now(target, shape, class_axis, options.ignore_index)
    checked = _checked(align(given, batch, chunks), batch, n_classes, options.ignore_index)
    options = replace(options, ignore_index=IGNORED)
    rows = Rows(batch, checked, weights, row_weights, divisor, options)
    if options.reduction != "mean":
        return rows
    sums = on_chunks(
        _sum_of_weights,
        batch,
        (checked, batch),
        *rows.weights,
        dtype=np.float64,
        sizes=dict.fromkeys(batch, 1),
        n_classes=n_classes,
        of_dtype=dtype,
    )
    return replace(rows, divisor=tree_sum(sums, range(len(batch)), np.float64))


def _as_weights(value: Any, name: str, shape: tuple[int, ...]) -> da.Array | None:
    if value is None:
        return None
    array = as_lazy(value, name, "biuf")
    check_weights(array, name, shape)
    return array


def _check_now(target: Any, shape: tuple[int, ...], axis: int, ignore_index: int) -> None:
    """Look at targets that are in memory before any work starts."""
    indices = as_class_indices(target, shape, axis, ignore_index)
    invalid, _ = backend_for(np.dtype(np.float64)).check_target(
        indices.rows, shape[axis], None, None, ignore_index
    )
    if invalid >= 0:
        indices.raise_out_of_range(invalid, shape[axis], ignore_index)


def _checked(
    target: da.Array, batch: tuple[int, ...], n_classes: int, ignore_index: int
) -> da.Array:
    starts = [(offsets(chunks), (axis,)) for axis, chunks in zip(batch, target.chunks, strict=True)]
    return on_chunks(
        _checked_target,
        batch,
        (target, batch),
        *starts,
        dtype=np.int64,
        n_classes=n_classes,
        ignore_index=ignore_index,
    )


def _checked_target(target: Array, *starts: Array, n_classes: int, ignore_index: int) -> Array:
    """A chunk's class indices, `IGNORED` for rows without a loss; an IndexError names the row."""
    given = np.asarray(target)
    kept = given != ignore_index
    mask = unmasked(target)
    if mask is not None:
        kept &= mask
    invalid = kept & ((given < 0) | (given >= n_classes))
    if invalid.any():
        place = np.unravel_index(int(np.argmax(invalid)), given.shape)
        row = tuple(int(i) + int(start[0]) for i, start in zip(place, starts, strict=True))
        raise_no_class(given[place], row, n_classes, ignore_index)
    checked: Array = np.where(kept, given, 0).astype(np.int64)
    checked[~kept] = IGNORED
    return checked


def _sum_of_weights(
    target: Array,
    weight: Array | None,
    sample_weight: Array | None,
    n_classes: int,
    of_dtype: np.dtype[Any],
) -> Array:
    """The summed weights of a chunk's kept rows, one number with as many axes as there were."""
    _, total = backend_for(of_dtype).check_target(
        np.ascontiguousarray(target).reshape(-1),
        n_classes,
        as_weight(weight, n_classes, compute_dtype(of_dtype)),
        as_sample_weight(sample_weight, np.shape(target)),
        IGNORED,
    )
    return np.full((1,) * np.ndim(target), total)


def loss_of_chunks(
    results: da.Array, of_axes: Sequence[int], rows: Rows, dtype: np.dtype[Any]
) -> da.Array:
    """From chunks of which the first result is their rows' losses, or the sum of these."""
    if rows.options.reduction == "none":
        return pick(results, of_axes, 0, rows.batch, dtype)
    sums = pick(results, of_axes, 0, rows.batch, np.float64, sizes=dict.fromkeys(rows.batch, 1))
    return mean_or_sum(tree_sum(sums, range(len(rows.batch)), np.float64), rows, dtype)


def mean_or_sum(total: da.Array, rows: Rows, dtype: np.dtype[Any]) -> da.Array:
    """The sum of all losses over the divisor."""
    return on_chunks(_quotient, (), (total, ()), rows.divided, dtype=dtype, of_dtype=dtype)


def _quotient(total: Any, divisor: Any, of_dtype: np.dtype[Any]) -> Any:
    with np.errstate(all="ignore"):
        return of_dtype.type(np.float64(total) / divisor)
