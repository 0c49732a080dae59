"""Arrays of pointwise losses: their checks, and the blocks of rows in which they are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod

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
    return array.copy() if any(np.may_share_memory(array, out) for out in outputs) else array


def as_classes(y: Array, n_classes: int) -> Array:
    """Class indices from floating numbers."""
    with np.errstate(invalid="ignore"):  # NaN, which becomes no class
        classes = y.astype(np.int64)
    row, _ = _backends.active.check_target(classes, n_classes, None, None, IGNORE_NONE)
    if row >= 0:
        raise IndexError(f"y_true must be in [0, {n_classes}), got {y[row]} in row {row}")
    if not np.array_equal(classes, y):
        row = int((classes != y).argmax())
        raise ValueError(f"y_true must hold class indices, got {y[row]} in row {row}")
    return classes


def run_blocks(raw: Array, n_threads: int, work: Callable[[Iterator[slice]], None]) -> None:
    """Call `work` with blocks of rows, all of them or, for many, once on each of some threads.

    These are threads of this call alone: a pool would not be there in a forked child.
    """
    n_rows = len(raw)
    size = max(1, BLOCK_ELEMENTS * n_rows // max(1, raw.size))
    threads = _threads.resolve(n_threads, raw.size)
    bounds = [n_rows * i // threads for i in range(threads + 1)]
    spans = [_blocks(*span, size) for span in zip(bounds, bounds[1:], strict=False)]
    if threads == 1:
        _quietly(work, spans[0])
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        futures = [pool.submit(_quietly, work, span) for span in spans[1:]]
        _quietly(work, spans[0])
        for future in futures:
            future.result()


def _blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(stop, first + size))


def _quietly(work: Callable[[Iterator[slice]], None], blocks: Iterator[slice]) -> None:
    with np.errstate(all="ignore"):
        work(blocks)


class Scratch:
    """Room for the numbers of a block of `raw`, in its dtype and laid out in memory as it is.

    Parameters
    ----------
    raw : ndarray
    ndim : int, optional
        1 for one number in each row.
    """

    def __init__(self, raw: Array, ndim: int = 2) -> None:
        self._columns = raw.shape[1:ndim]
        self._by_column = raw.ndim == ndim == 2 and abs(raw.strides[0]) < abs(raw.strides[1])
        self._room = np.empty(0, raw.dtype)

    def of(self, rows: slice) -> Array:
        """The room for these rows; the same memory each time, which the first block allots."""
        shape = (rows.stop - rows.start, *self._columns)
        size = prod(shape)
        if size > self._room.size:
            self._room = np.empty(size, self._room.dtype)
        room = self._room[:size]
        return room.reshape(shape[::-1]).T if self._by_column else room.reshape(shape)


def _as_floats(value: object, name: str) -> Array:
    if not isinstance(value, np.ndarray) or isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(f"{name} must be a numpy.ndarray, got {describe(value)}")
    if value.dtype not in _FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got dtype {value.dtype}")
    return np.asarray(value)


def _of_rows(value: object, name: str, raw: Array) -> Array:
    array = _as_floats(value, name)
    if array.shape != raw.shape[:1]:
        raise ValueError(f"{name} must have shape {raw.shape[:1]}, got shape {array.shape}")
    if array.dtype != raw.dtype:
        raise TypeError(f"{name} must have raw_prediction's dtype {raw.dtype}, got {array.dtype}")
    return array
