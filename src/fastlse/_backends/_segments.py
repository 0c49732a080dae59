"""Ragged rows in plain NumPy: the segments of one length are the rows of one array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._blocks import BLOCK_ELEMENTS, Array


def by_length(x: Array, indptr: Array) -> Iterator[tuple[Array, Array]]:
    """Some segments of one length, and the places of their elements, a row for each."""
    lengths = np.diff(indptr)
    order = np.argsort(lengths, kind="stable")
    found, starts = np.unique(lengths[order], return_index=True)
    for length, segments in zip(found, np.split(order, starts[1:]), strict=True):
        if length == 0:
            continue
        at_once = max(1, BLOCK_ELEMENTS // (int(length) * max(1, x[..., 0].size)))
        for first in range(0, len(segments), at_once):
            some = segments[first : first + at_once]
            yield some, indptr[some, None] + np.arange(length)
