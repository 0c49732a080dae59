"""What the loss of a linear layer takes, checked; and how many rows a block has."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ._loss_problem import LossProblem, loss_problem
from ._problem import Array, as_array, as_index, cast, compute_dtype, result_dtype, unmasked
from ._targets import ClassProbabilities

if TYPE_CHECKING:
    from ._targets import Options

# What a block's logits and features may take of the cache; measured with 10 and 20 classes.
CACHE_BYTES = 2**21

# With many classes a block has this many rows all the same: BLAS goes through the whole weight
# matrix for each block, and so does the sum of its gradients.
MIN_ROWS = 512

# ... but the buffer, and the sum in float64, never take more than this, and a call 64 MB.
MOST_BYTES = 59_000_000

# Up to this size the blocks' gradients of the weight are added up in float64.
WIDE_SUM_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class LinearProblem:
    """A checked loss of a linear layer.

    Attributes
    ----------
    x : ndarray or CSR
        The rows as they came, a matrix.
    shape : tuple of int
        The shape of `x` as it came.
    weight, bias : ndarray
        In the dtype of the computation.
    loss : LossProblem
        The loss of all rows; its logits only stand for their shape, and class probabilities are a
        matrix.
    chunk_rows : int
        The most rows of a block.
    dtype : dtype
        The dtype of the results.
    """

    x: Any
    shape: tuple[int, ...]
    weight: Array
    bias: Array | None
    loss: LossProblem
    chunk_rows: int
    dtype: np.dtype[Any]


def linear_problem(
    x: object,
    linear_weight: object,
    target: object,
    linear_bias: object,
    weight: object,
    sample_weight: object,
    options: Options,
    chunk_rows: object,
) -> LinearProblem:
    """Check everything that the loss of a linear layer takes, the targets' values included."""
    rows, numbers = _as_features(x)
    weights = _as_parameters(linear_weight, "linear_weight")
    operands = [(x, numbers), (linear_weight, weights)]
    bias = None
    if linear_bias is not None:
        bias = _as_parameters(linear_bias, "linear_bias")
        operands.append((linear_bias, bias))
    check_layer(rows, weights, bias)
    dtype = result_dtype(*operands)
    work = compute_dtype(dtype)
    shape = rows.shape
    logits = np.broadcast_to(work.type(0), (*shape[:-1], len(weights)))
    loss = loss_problem(logits, target, weight, -1, sample_weight, options)
    loss = replace(loss, dtype=dtype)
    if len(shape) != 2:
        rows = rows.reshape(prod(shape[:-1]), shape[-1])
        if isinstance(loss.target, ClassProbabilities):
            probabilities = loss.target.given.reshape(prod(shape[:-1]), len(weights))
            loss = replace(loss, target=ClassProbabilities(probabilities))
    return LinearProblem(
        rows,
        shape,
        for_blas(weights, work),
        None if bias is None else cast(bias, work),
        loss,
        as_chunk_rows(chunk_rows, rows, len(weights), work),
        dtype,
    )


def check_layer(x: Any, weight: Any, bias: Any) -> None:
    """Check that the shapes of a layer's arrays fit."""
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(
            f"linear_weight must have shape (n_classes, {x.shape[-1]}) for x of shape "
            f"{x.shape}, got shape {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear_bias must have shape {weight.shape[:1]}, one number for each row of "
            f"linear_weight, got shape {bias.shape}"
        )


def is_sparse(x: object) -> bool:
    """Whether `x` is one of SciPy's sparse arrays: if so, SciPy has been imported."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def _as_features(x: Any) -> tuple[Any, Array]:
    """`x`, and the array of its numbers."""
    if not is_sparse(x):
        array = _as_parameters(x, "x")
        if array.ndim == 0:
            raise ValueError(f"x must have an axis of features, got the scalar {array[()]!r}")
        return array, array
    if x.format != "csr" or x.ndim != 2:
        raise TypeError(
            f"x must be an array or a CSR matrix, got {type(x).__name__} of shape {x.shape}: "
            "pass x.tocsr()"
        )
    try:
        # SciPy's products trust the indices.
        x.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"x must be a valid CSR matrix: {error}") from error
    return x, as_array(x.data, "x", "biuf")


def _as_parameters(value: object, name: str) -> Array:
    """An array of real numbers; a masked one counts as 0."""
    array, mask = as_array(value, name, "biuf"), unmasked(value)
    return array if mask is None else np.where(mask, array, array.dtype.type(0))


def as_chunk_rows(chunk_rows: object, x: Any, n_classes: int, dtype: np.dtype[Any]) -> int:
    """The most rows of a block; without the caller's number, as many as the cache holds."""
    n_rows, n_features = int(x.shape[0]), int(x.shape[1])
    if chunk_rows is not None:
        return min(check_chunk_rows(chunk_rows), max(1, n_rows))
    least = MIN_ROWS
    if is_sparse(x):
        # A block's gradient of the weight is dense: rows enough that their products cost more.
        least = max(least, 4 * n_features * n_rows // max(1, int(x.nnz)))
        n_features = 0
    room = MOST_BYTES
    if sum_dtype(int(x.shape[1]) * n_classes, dtype) != dtype:
        room -= int(x.shape[1]) * n_classes * 8
    row_bytes = max(1, (n_classes + n_features) * dtype.itemsize)
    most = max(1, CACHE_BYTES // row_bytes, min(least, room // row_bytes))
    # Blocks of one size: a last one of few rows would cost nearly as much.
    n_blocks = max(1, -(-n_rows // most))
    rows = -(-n_rows // n_blocks)
    return max(1, rows if rows <= 64 else min(most, -(-rows // 16) * 16))


def check_chunk_rows(chunk_rows: object) -> int:
    """The caller's number of rows."""
    number = as_index(chunk_rows, "chunk_rows", "an integer of at least 1 or None")
    if number < 1:
        raise ValueError(f"chunk_rows must be an integer of at least 1 or None, got {number}")
    return number


def sum_dtype(size: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which so many numbers of the blocks are added up."""
    wide = np.promote_types(dtype, np.float64)
    return wide if size * wide.itemsize <= WIDE_SUM_BYTES else dtype


def for_blas(matrix: Array, dtype: np.dtype[Any]) -> Array:
    """A matrix itself where NumPy hands it to BLAS as it is, else a contiguous copy."""
    (n_rows, n_columns), size = matrix.shape, matrix.itemsize
    by_row, by_column = matrix.strides
    has_runs = (
        matrix.flags.forc
        or (by_column == size and by_row % size == 0 and by_row >= n_columns * size)
        or (by_row == size and by_column % size == 0 and by_column >= n_rows * size)
    )
    if matrix.dtype == dtype and matrix.flags.aligned and has_runs:
        return matrix
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(matrix, dtype)
