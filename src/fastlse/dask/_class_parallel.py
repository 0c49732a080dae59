"""Cross-entropy of logits whose classes are split over chunks.

Every chunk gives, for each of its rows, the state of its classes and the target's logit, -inf where
another chunk has that: four numbers. Merged, they give the row's loss; and each chunk's logits with
the merged states its part of the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlse._problem import Array, compute_dtype
from fastlse._targets import as_sample_weight, as_weight

from ._chunks import offsets, on_chunks, pick, threads_of_a_call, tree_sum
from ._rows import IGNORED, Rows, mean_or_sum
from ._states import STATE, as_state, chunk_states, merge_chunks, state_dtype

if TYPE_CHECKING:
    import dask.array as da


def class_parallel(
    logits: da.Array,
    class_axis: int,
    dtype: np.dtype[Any],
    rows: Rows,
    want_grad: bool,
    n_threads: int | None,
) -> tuple[da.Array, Any]:
    """The loss, and the gradient or None."""
    every, batch = tuple(range(logits.ndim)), rows.batch
    first_class = offsets(logits.chunks[class_axis]), (class_axis,)
    parts = on_chunks(
        _states_and_target_logit,
        (STATE, *every),
        (logits, every),
        (rows.target, batch),
        first_class,
        dtype=state_dtype(dtype),
        sizes={class_axis: 1},
        new={STATE: 4},
        class_axis=class_axis,
        of_dtype=dtype,
        n_threads=n_threads,
    )
    merged = merge_chunks(parts, [class_axis + 1]), (STATE, *batch)
    both = on_chunks(
        _losses_and_scales,
        batch,
        merged,
        (rows.target, batch),
        *rows.weights,
        dtype=state_dtype(dtype),
        of_dtype=dtype,
    )
    losses = pick(both, batch, 0, batch, state_dtype(dtype))
    if rows.options.reduction == "none":
        loss = losses.astype(dtype)
    else:
        sums = on_chunks(
            _sum, batch, (losses, batch), dtype=np.float64, sizes=dict.fromkeys(batch, 1)
        )
        loss = mean_or_sum(tree_sum(sums, range(len(batch)), np.float64), rows, dtype)
    if not want_grad:
        return loss, None
    grad = on_chunks(
        _gradient_of_chunk,
        every,
        (logits, every),
        merged,
        (rows.target, batch),
        (pick(both, batch, 1, batch, np.float64), batch),
        rows.divided,
        first_class,
        dtype=dtype,
        class_axis=class_axis,
        of_dtype=dtype,
        n_threads=n_threads,
    )
    return loss, grad


def _states_and_target_logit(
    logits: Array,
    target: Array,
    first_class: Array,
    class_axis: int,
    of_dtype: np.dtype[Any],
    n_threads: int | None,
) -> Array:
    """The states of a chunk's rows and, in a fourth place, the target's logit."""
    states = chunk_states(logits, None, (class_axis,), of_dtype, n_threads)
    place = np.expand_dims(target - first_class[0], class_axis)
    n_classes = logits.shape[class_axis]
    here = (place >= 0) & (place < n_classes)
    logit = np.full(place.shape, -np.inf, states.dtype)
    if n_classes:
        found = np.ma.filled(
            np.take_along_axis(logits, np.where(here, place, 0), class_axis).astype(states.dtype),
            -np.inf,
        )
        logit[here] = found[here]
    return np.concatenate([states, logit[np.newaxis]])


@np.errstate(all="ignore")
def _losses_and_scales(
    merged: Array,
    target: Array,
    weight: Array | None,
    sample_weight: Array | None,
    of_dtype: np.dtype[Any],
) -> tuple[Array, Array]:
    """Each row's loss, not yet rounded, and what its gradient is multiplied by."""
    state = as_state(merged[:3], merged.dtype)
    losses = np.asarray(state.cross_entropy(merged[3]))
    scales = np.where(target == IGNORED, 0.0, 1.0)
    given = as_sample_weight(sample_weight, np.shape(target))
    if given is not None:
        scales = scales * given.reshape(scales.shape)
    kept = scales != 0
    if weight is not None:
        weights = as_weight(weight, len(weight), compute_dtype(of_dtype))
        assert weights is not None
        of_target = weights[target]
        # A weight of 0 drops the target's class, and what is left of a loss is NaN or nothing.
        is_nan = np.isnan(state.max) | (state.max == np.inf)
        scales = np.where(of_target == 0, np.where(is_nan, np.nan, 0), scales * of_target)
        without = np.where(np.isfinite(state.max), 0, np.nan)
        losses = np.where(of_target == 0, without, losses)
    return np.where(kept, scales * losses, 0), np.where(kept, scales, 0.0)


def _sum(losses: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(losses, keepdims=True, dtype=np.float64))


def _gradient_of_chunk(
    logits: Array,
    merged: Array,
    target: Array,
    scale: Array,
    divisor: float,
    first_class: Array,
    class_axis: int,
    of_dtype: np.dtype[Any],
    n_threads: int | None,
) -> Array:
    """The gradient of some of the classes, by the states of all."""
    state = as_state(merged[:3], of_dtype, class_axis)
    return state.cross_entropy_grad(
        logits,
        target - first_class[0],
        sample_weight=scale * (1 / divisor if divisor else 0.0),
        n_threads=threads_of_a_call(n_threads),
    )
