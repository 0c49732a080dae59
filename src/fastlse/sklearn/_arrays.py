"""Arrays of pointwise losses: their checks, and the blocks of rows in which they are worked on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from fastlse import _backends, _threads
from fastlse._problem import Array, describe

# A block and two more of its size stay in the second-level cache.
BLOCK_ELEMENTS = 2**15

# A target that no floating number becomes, so that none is ignored.
IGNORE_NONE = -(2**63) + 1

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_inputs(
    y_true: object, raw_prediction: object, sample_weight: object, ndim: int
) -> tuple[Array, Array, Array | None]:
    """The arrays that a loss reads, checked: of one dtype, for the same rows."""
    raw = _as_floats(raw_prediction, "raw_prediction")
    if raw.ndim != ndim:
        raise ValueError(f"raw_prediction must have {ndim} dimensions, got shape {raw.shape}")
    if ndim == 2 and raw.shape[1] == 0:
        raise ValueError(f"raw_prediction must have at least one class, got shape {raw.shape}")
    y = _of_rows(y_true, "y_true", raw)
    weight = None if sample_weight is None else _of_rows(sample_weight, "sample_weight", raw)
    return y, raw, weight


def check_outputs(raw: Array, outputs: dict[str, object]) -> list[Array]:
    """The arrays to write to, checked: of `raw`'s shape, losses one for each row."""
    given = []
    for name, out in outputs.items():
        array = _as_floats(out, name)
        shape = raw.shape[:1] if name == "loss_out" else raw.shape
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}")
        if not array.flags.writeable:
            raise ValueError(f"{name} must be writeable, got a read-only array")
        given.append(array)
    if given[0].dtype != given[-1].dtype:
        names = " and ".join(outputs)
        dtypes = f"{given[0].dtype} and {given[-1].dtype}"
        raise TypeError(f"{names} must have the same dtype, got {dtypes}")
    return given


def apart(array: Array, outputs: list[Array]) -> Array:
    """An input itself, or its copy if an output may overlap it."""
    for out in outputs:
        # Two arrays that own their memory share none of it: the quick answer to the usual case.
        owners = array.base is None and out.base is None and array is not out
        if not owners and np.may_share_memory(array, out):
            return array.copy()
    return array


def as_classes(y: Array, n_classes: int) -> Array:
    """Class indices from floating numbers; NaN becomes one that is no class."""
    classes = y.astype(np.int64)
    row, _ = _backends.active.check_target(classes, n_classes, None, None, IGNORE_NONE)
    if row >= 0:
        raise IndexError(f"y_true must be in [0, {n_classes}), got {y[row]} in row {row}")
    others = classes != y
    if np.count_nonzero(others):  # which costs less than `any`
        row = int(others.argmax())
        raise ValueError(f"y_true must hold class indices, got {y[row]} in row {row}")
    return classes


def run_blocks(raw: Array, n_threads: int, n_rooms: int, work: Callable[..., None]) -> None:
    """Call `work` with each block of rows, as a slice, and rooms of the block's shape and layout.

    Many rows are shared out to threads, which are of this call alone: a pool would not be there in
    a forked child.
    """
    n_rows = len(raw)
    threads = _threads.resolve(n_threads, raw.size)
    if threads == 1:
        _run_span(raw, 0, n_rows, n_rooms, work)
        return
    bounds = [n_rows * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads - 1) as pool:
        futures = [
            pool.submit(np.errstate(all="ignore")(_run_span), raw, *span, n_rooms, work)
            for span in pairwise(bounds[1:])
        ]
        _run_span(raw, 0, bounds[1], n_rooms, work)
        for future in futures:
            future.result()


def _run_span(raw: Array, start: int, stop: int, n_rooms: int, work: Callable[..., None]) -> None:
    size = max(1, BLOCK_ELEMENTS * len(raw) // max(1, raw.size))
    like = raw[start : min(stop, start + size)]
    rooms = [np.empty_like(like) for _ in range(n_rooms)]
    for first in range(start, stop, size):
        rows = slice(first, min(stop, first + size))
        work(rows, *(room[: rows.stop - first] for room in rooms))


def _as_floats(value: object, name: str) -> Array:
    if not isinstance(value, np.ndarray) or isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(f"{name} must be a numpy.ndarray, got {describe(value)}")
    if value.dtype not in _FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got dtype {value.dtype}")
    return value if type(value) is np.ndarray else np.asarray(value)


def _of_rows(value: object, name: str, raw: Array) -> Array:
    array = _as_floats(value, name)
    if array.shape != raw.shape[:1]:
        raise ValueError(f"{name} must have shape {raw.shape[:1]}, got shape {array.shape}")
    if array.dtype != raw.dtype:
        raise TypeError(f"{name} must have raw_prediction's dtype {raw.dtype}, got {array.dtype}")
    return array
