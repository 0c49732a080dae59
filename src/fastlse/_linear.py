"""The loss of a linear layer's logits, by blocks of rows, of which one is held at a time.

For each block: logits = x @ weight.T + bias into a buffer, the loss with its gradient in place of
the logits, and from the gradient, while the block is in the cache, its part of each result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _threads
from ._linear_problem import MOST_BYTES, LinearProblem, for_blas, is_sparse, sum_dtype
from ._loss_problem import LossProblem, reduced, row_losses, run_rows
from ._targets import ClassIndices

if TYPE_CHECKING:
    from ._problem import Array

# A block's gradient of the weight is computed and added by pieces of this size, in the cache.
# Where other work has the processors, BLAS's threads wait for each other at every product: on a
# busy machine (two threads, 4096 x 384 x 30522) pieces of 3/4 MB took 4 s, those of 4 MB 2 s.
PIECE_BYTES = 2**22

# Below so many classes the buffer holds one class after the other, not one row after the other:
# the kernel across problems and the bias then have long contiguous runs.
FEW_CLASSES = 64


def loss_and_gradients(
    problem: LinearProblem, want: Collection[str], n_threads: int | None
) -> tuple[Any, tuple[Any, Any, Any]]:
    """The loss, and those gradients that `want` names of "x", "weight" and "bias"; else None."""
    total, losses, gradients = sums_and_gradients(problem, want, n_threads)
    return reduced(problem.loss, total, losses), gradients


def sums_and_gradients(
    problem: LinearProblem, want: Collection[str], n_threads: int | None
) -> tuple[float, Array | None, tuple[Any, Any, Any]]:
    """The sum of all losses, each row's if they are wanted, and the gradients."""
    loss = problem.loss
    # A block's threads are awake: a quarter of the work is worth one.
    size = min(loss.logits.size, 4 * problem.chunk_rows * len(problem.weight))
    threads = _threads.resolve(n_threads, size)
    losses, totals = row_losses(loss), []
    kept = loss.kept_rows()
    gradients = _Gradients(problem, want, kept is None)
    with np.errstate(all="ignore"), _logits_buffer(problem) as buffer:
        for rows in _row_blocks(problem, kept):
            x = _block(problem.x, rows, problem.weight.dtype)
            logits = buffer.logits(x)
            block = loss.of_rows(rows, logits)
            block_losses = row_losses(block)
            grad = logits if want else None
            totals.append(run_rows(block, block_losses, grad, threads))
            if losses is not None:
                losses[rows] = block_losses
            if want:
                gradients.add(rows, x, logits, _set_apart(block, logits, x))
        return float(np.sum(totals)), losses, gradients.results()


def _row_blocks(problem: LinearProblem, kept: Array | None) -> Iterator[slice | Array]:
    """Blocks of the kept rows: a slice where they are neighbours, else their indices."""
    n_rows = problem.x.shape[0] if kept is None else len(kept)
    for start in range(0, n_rows, problem.chunk_rows):
        stop = min(n_rows, start + problem.chunk_rows)
        if kept is None:
            yield slice(start, stop)
        elif kept[stop - 1] - kept[start] == stop - 1 - start:
            yield slice(int(kept[start]), int(kept[stop - 1]) + 1)
        else:
            yield kept[start:stop]


def _block(x: Any, rows: slice | Array, dtype: np.dtype[Any]) -> Any:
    """Some rows in the dtype of the computation: a view where that is possible."""
    if isinstance(x, np.ndarray):
        return for_blas(x[rows], dtype)
    block = neighbours(x, rows) if isinstance(rows, slice) else x[rows]
    return block.astype(dtype, copy=False)


def neighbours(x: Any, rows: slice) -> Any:
    """Neighbouring rows of an array or of a CSR matrix, whose own slices are copies, as a view."""
    if isinstance(x, np.ndarray):
        return x[rows]
    entries = slice(x.indptr[rows.start], x.indptr[rows.stop])
    starts = x.indptr[rows.start : rows.stop + 1] - x.indptr[rows.start]
    shape = rows.stop - rows.start, x.shape[1]
    return type(x)((x.data[entries], x.indices[entries], starts), shape=shape)


class _TargetEntries(NamedTuple):
    """What the gradient of the logits holds at each row's target."""

    classes: Array
    values: Array

    def pieces(self) -> Iterator[tuple[slice, Array, Array]]:
        """Few rows at a time: what they are multiplied with shall take no memory to speak of."""
        for start in range(0, len(self.classes), 64):
            rows = slice(start, start + 64)
            yield rows, self.classes[rows], self.values[rows, None]

    def add_to_rows(self, total: Array, weight: Array) -> None:
        """Add to each row its class's weight, times the entry."""
        for rows, classes, values in self.pieces():
            total[rows] += weight[classes] * values

    def add_to_classes(self, total: Array, x: Array) -> None:
        """Add to each class's row of `total` its rows of `x`, each times its entry."""
        for rows, classes, values in self.pieces():
            order = np.argsort(classes, kind="stable")
            in_order = classes[order]
            starts = np.flatnonzero(np.diff(in_order, prepend=-1))
            terms = (x[rows] * values)[order]
            if len(starts) < len(terms):
                terms = np.add.reduceat(terms, starts)
            total[in_order[starts]] += terms


def _set_apart(block: LossProblem, grad: Array, x: Any) -> _TargetEntries | None:
    """Take the targets' entries out of the gradient where there are many classes.

    Thousands of small numbers added to one large one cost it a digit: in float32, with 30522
    classes, the gradients of x and of the weight are ten times as accurate with the large products
    added last.
    """
    if grad.shape[1] < FEW_CLASSES or is_sparse(x) or not isinstance(block.target, ClassIndices):
        return None
    classes = block.target.rows
    places = np.arange(len(grad)), classes
    values = grad[places]
    grad[places] = 0
    return _TargetEntries(classes, values)


# The last call's scratch, for the next one: on a virtual machine, fresh pages cost several per cent
# of the matrix products.
_kept_scratch: deque[Array] = deque(maxlen=1)


@contextmanager
def _logits_buffer(problem: LinearProblem) -> Iterator[_LogitsBuffer]:
    """A buffer in scratch that outlasts the call; calls side by side have one each."""
    size = 0 if is_sparse(problem.x) else problem.chunk_rows * len(problem.weight)
    n_bytes = size * problem.weight.itemsize
    try:
        scratch = _kept_scratch.pop()
    except IndexError:
        scratch = np.empty(0, np.uint8)
    if scratch.nbytes < n_bytes:
        scratch = np.empty(n_bytes, np.uint8)
    try:
        yield _LogitsBuffer(problem, scratch[:n_bytes].view(problem.weight.dtype))
    finally:
        if scratch.nbytes <= MOST_BYTES:  # and not what a caller's `chunk_rows` asked for
            _kept_scratch.append(scratch)


class _LogitsBuffer:
    """The one buffer of all blocks' logits; SciPy makes an array of its own for each block."""

    def __init__(self, problem: LinearProblem, numbers: Array) -> None:
        self.weight, self.bias = problem.weight, problem.bias
        self.is_sparse = is_sparse(problem.x)
        self.by_class = len(self.weight) < FEW_CLASSES and not self.is_sparse
        # SciPy's product wants its dense factor in C order, or makes a copy each time.
        self.factor = np.ascontiguousarray(self.weight.T) if self.is_sparse else self.weight.T
        self.numbers = numbers

    def logits(self, x: Any) -> Array:
        """The logits of a block, x @ weight.T + bias; valid until the next call."""
        if self.is_sparse:
            logits: Array = x @ self.factor
        else:
            shape = x.shape[0], len(self.weight)
            numbers = self.numbers[: shape[0] * shape[1]]
            logits = numbers.reshape(shape[::-1]).T if self.by_class else numbers.reshape(shape)
            np.matmul(x, self.factor, out=logits)
        if self.bias is not None:
            np.add(logits, self.bias, out=logits)
        return logits


class _Gradients:
    """The gradients that are wanted, to which the blocks add theirs."""

    def __init__(self, problem: LinearProblem, want: Collection[str], all_kept: bool) -> None:
        self.problem = problem
        self.x = self.weight = self.bias = None
        if "x" in want:
            empty = np.empty if all_kept else np.zeros  # rows that are not kept stay zero
            self.x = empty(problem.x.shape, problem.dtype)
        if "weight" in want:
            self.weight = _WeightGradient(problem)
        if "bias" in want and problem.bias is not None:
            self.bias = np.zeros(
                problem.bias.shape, sum_dtype(problem.bias.size, problem.bias.dtype)
            )

    def add(self, rows: slice | Array, x: Any, grad: Array, apart: _TargetEntries | None) -> None:
        """Add a block's gradients, given that of its logits."""
        if self.x is not None:
            self._write_rows(self.x, rows, grad, apart)
        if self.weight is not None:
            self.weight.add(x, grad, apart)
        if self.bias is not None:
            # Few rows at a time where NumPy adds them one after the other, not by pairs.
            step = len(grad) if grad.flags.f_contiguous else 64
            for start in range(0, len(grad), step):
                self.bias += np.add.reduce(grad[start : start + step], axis=0)
            if apart is not None:
                np.add.at(self.bias, *apart)

    def _write_rows(
        self, total: Array, rows: slice | Array, grad: Array, apart: _TargetEntries | None
    ) -> None:
        """Write the gradient of some rows of x."""
        weight = self.problem.weight
        in_place = isinstance(rows, slice) and total.dtype == grad.dtype
        part = np.matmul(grad, weight, out=total[rows] if in_place else None)
        if apart is not None:
            apart.add_to_rows(part, weight)
        if not in_place:
            total[rows] = part

    def results(self) -> tuple[Any, Any, Any]:
        """Gradients of x, weight and bias in the caller's dtype."""
        dtype = self.problem.dtype
        return (
            None if self.x is None else self.x.reshape(self.problem.shape),
            None if self.weight is None else self.weight.result(dtype),
            None if self.bias is None else self.bias.astype(dtype, copy=False),
        )


class _WeightGradient:
    """The sum over all blocks of grad.T @ x.

    The longer of its axes comes first, so that a piece of it is some rows of one matrix product.
    """

    def __init__(self, problem: LinearProblem) -> None:
        shape, dtype = problem.weight.shape, problem.weight.dtype
        self.is_sparse = is_sparse(problem.x)
        self.by_feature = self.is_sparse or shape[1] > shape[0]
        n_rows, n_columns = shape[::-1] if self.by_feature else shape
        self.total = np.zeros((n_rows, n_columns), sum_dtype(n_rows * n_columns, dtype))
        piece = max(1, min(n_rows, PIECE_BYTES // max(1, n_columns * dtype.itemsize)))
        self.part = np.empty((0 if self.is_sparse else piece, n_columns), dtype)
        self.is_zero = True

    def add(self, x: Any, grad: Array, apart: _TargetEntries | None) -> None:
        left, right = (x.T, grad) if self.by_feature else (grad.T, x)
        if self.is_sparse:
            self.total += left @ right
            return
        for start in range(0, len(self.total), len(self.part)):
            total = self.total[start : start + len(self.part)]
            is_first = self.is_zero and total.dtype == self.part.dtype
            part = total if is_first else self.part[: len(total)]
            np.matmul(left[start : start + len(total)], right, out=part)
            if not is_first:
                np.add(total, part, out=total)
        self.is_zero = False
        if apart is not None:
            apart.add_to_classes(self.total.T if self.by_feature else self.total, x)

    def result(self, dtype: np.dtype[Any]) -> Array:
        total = self.total.T if self.by_feature else self.total
        return np.ascontiguousarray(total, dtype)
