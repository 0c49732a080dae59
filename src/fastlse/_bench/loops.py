"""Loops over rows for numba, as its users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlse._bench.contenders import library

_known: dict[bool, dict[str, Callable[..., Any]]] = {}


def compiled_loops(parallel: bool) -> dict[str, Callable[..., Any]]:
    """The operations, compiled when they are called first."""
    if parallel not in _known:
        _known[parallel] = _decorated_loops(parallel)
    return _known[parallel]


def _decorated_loops(parallel: bool) -> dict[str, Callable[..., Any]]:
    numba = library("numba")
    prange = numba.prange

    def logsumexp(x: Any, out: Any) -> Any:
        for i in prange(x.shape[0]):
            row_max = x[i, 0]
            for j in range(x.shape[1]):
                row_max = max(row_max, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += np.exp(x[i, j] - row_max)
            out[i] = row_max + np.log(total)
        return out

    def softmax(x: Any, out: Any) -> Any:
        for i in prange(x.shape[0]):
            row_max = x[i, 0]
            for j in range(x.shape[1]):
                row_max = max(row_max, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                out[i, j] = np.exp(x[i, j] - row_max)
                total += out[i, j]
            scale = x.dtype.type(1) / total
            for j in range(x.shape[1]):
                out[i, j] *= scale
        return out

    def log_softmax(x: Any, out: Any) -> Any:
        for i in prange(x.shape[0]):
            row_max = x[i, 0]
            for j in range(x.shape[1]):
                row_max = max(row_max, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += np.exp(x[i, j] - row_max)
            shift = row_max + np.log(total)
            for j in range(x.shape[1]):
                out[i, j] = x[i, j] - shift
        return out

    def cross_entropy_and_grad(x: Any, target: Any, grad: Any, losses: Any) -> Any:
        n_rows = x.shape[0]
        for i in prange(n_rows):
            row_max = x[i, 0]
            for j in range(x.shape[1]):
                row_max = max(row_max, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                grad[i, j] = np.exp(x[i, j] - row_max)
                total += grad[i, j]
            scale = x.dtype.type(1) / (total * x.dtype.type(n_rows))
            for j in range(x.shape[1]):
                grad[i, j] *= scale
            grad[i, target[i]] -= x.dtype.type(1) / x.dtype.type(n_rows)
            losses[i] = row_max + np.log(total) - x[i, target[i]]
        return losses.mean(), grad

    functions = (logsumexp, softmax, log_softmax, cross_entropy_and_grad)
    compiled = numba.njit(fastmath=True, parallel=parallel)
    return {function.__name__: compiled(function) for function in functions}
