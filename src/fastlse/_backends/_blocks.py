"""Walking over an array of rows in blocks of bounded size, whatever its strides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Box = tuple[slice, ...]

# Elements worked on at a time: 512 KiB of float64, so that a block and its temporaries stay in L2.
BLOCK_ELEMENTS = 2**16


@dataclass(frozen=True, slots=True)
class Columns:
    """A piece of the reduced axes: the slices that pick it and where it starts along the row."""

    box: Box
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Some whole rows: the slices that pick them, their places, and the pieces to read them in."""

    box: Box
    rows: slice
    columns: list[Columns]

    @property
    def n_rows(self) -> int:
        return int(self.rows.stop - self.rows.start)

    def read(self, x: Array, piece: Columns) -> Array:
        """These rows' piece of `x` as a C-contiguous (rows, columns) array; a view where it can be.

        The layout is part of the result: NumPy sums pairwise, with an error that does not grow
        with the length, only along a contiguous axis.
        """
        values: Array = np.asarray(x[self.box + piece.box], order="C")
        return values.reshape(self.n_rows, piece.stop - piece.start)

    def write(self, out: Array, piece: Columns, values: Array) -> None:
        """Write a (rows, columns) array back to where `read` takes it from."""
        target = out[self.box + piece.box]
        target[...] = values.reshape(target.shape)


def row_blocks(shape: tuple[int, ...], n_reduced: int) -> Iterator[RowBlock]:
    """Split rows of the given shape into blocks of about `BLOCK_ELEMENTS`, in C order of the rows.

    A row longer than that is a block of its own, with its columns in several pieces.
    """
    batch_shape, reduced_shape = shape[:-n_reduced], shape[-n_reduced:]
    columns = [Columns(*piece) for piece in boxes(reduced_shape, BLOCK_ELEMENTS)]
    rows_at_a_time = max(1, BLOCK_ELEMENTS // max(1, prod(reduced_shape)))
    for box, start, stop in boxes(batch_shape, rows_at_a_time):
        yield RowBlock(box, slice(start, stop), columns)


def boxes(shape: tuple[int, ...], limit: int) -> Iterator[tuple[Box, int, int]]:
    """Cut an array's index space, in C order, into boxes of at most `limit` elements.

    Yields the slices of each box and the flat range [start, stop) of the elements in it.
    """
    if not shape:
        yield (), 0, 1
        return
    length, inner = shape[0], prod(shape[1:])
    if inner > limit:
        for i in range(length):
            for box, start, stop in boxes(shape[1:], limit):
                yield (slice(i, i + 1), *box), i * inner + start, i * inner + stop
        return
    whole = (slice(None),) * (len(shape) - 1)
    step = limit // max(1, inner)
    for first in range(0, length, step):
        last = min(first + step, length)
        yield (slice(first, last), *whole), first * inner, last * inner
