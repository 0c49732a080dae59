"""Arithmetic of numbers that are held as their logarithms: means and differences."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _threads
from ._backends._blocks import row_blocks
from ._problem import (
    Array,
    Problem,
    as_array,
    backend_for,
    can_write_to,
    cast,
    check_out,
    compute_dtype,
    finish,
    reduction_problem,
    result_dtype,
    unmasked,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result.
LOGMEANEXP_ULP = 3
LOGSUBEXP_ULP = 2
LOG1MEXP_ULP = 2


def logmeanexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the mean of exponentials, ``log(mean(exp(a)))``, without overflow.

    Parameters
    ----------
    a : array_like
        Real numbers of any dtype; see `logsumexp`.
    axis : int, tuple of ints or None, default None
        Axes to average over; None averages over all of them.
    keepdims : bool, default False
        Keep the reduced axes with length one.
    where : array_like of bool, optional
        Elements to include, broadcastable to the shape of `a`; the mean is over those.
    out : ndarray, optional
        Array of the result's shape and dtype to write to.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    scalar or ndarray
        The result, of the input's dtype; `out` if that was given.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers (`where`: of bools), or has the wrong dtype.
    ValueError
        If a shape does not fit, `out` is read-only, or `axis` names an axis twice.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    logsumexp : Without the division.

    Notes
    -----
    Results are within ``LOGMEANEXP_ULP`` ulp of the exact ones; where the maximum and the logarithm
    of ``mean(exp(a - max))`` cancel, that is ulp of the maximum. Not so ``logsumexp(a) - log(n)``,
    which loses the mean of numbers that are nearly equal and nearly 0.

    A row with a NaN gives NaN, else one with +inf gives +inf; all -inf gives -inf; the mean of
    nothing is NaN. No warning is given.

    Examples
    --------
    >>> import fastlse
    >>> print(f"{fastlse.logmeanexp([1000.0, 1000.0]):.1f}")
    1000.0
    >>> print(f"{fastlse.logmeanexp([0.0, 2e-20]):.4e}")
    1.0000e-20
    """
    problem = _real_problem(a, "a", axis, where)
    shape = problem.keepdims_shape if keepdims else problem.kept_shape
    given = check_out(out, shape, problem.dtype)
    threads = _threads.resolve(n_threads, problem.x.size)
    work = np.promote_types(problem.dtype, np.float64)
    result = np.full(problem.n_rows, np.nan, work)
    if problem.x.size:
        backend = backend_for(problem.dtype)
        states = np.empty((3, problem.n_rows), work)
        mask = None if problem.where is None else problem.rows(problem.where)
        rows = problem.rows(problem.x)
        backend.row_states(rows, problem.n_reduced, states, mask, threads)
        n_terms = _numbers_of_terms(problem, mask).astype(work)
        backend.log_sums(states, None, n_terms, result)
        result[n_terms == 0] = np.nan
        _refine_means(rows, problem.n_reduced, mask, states[0], n_terms, result)
    return finish(result.reshape(shape), problem.dtype, given)


def logsubexp(x: ArrayLike, y: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logarithm of a difference of exponentials, ``log(exp(x) - exp(y))``, for x >= y.

    Parameters
    ----------
    x, y : array_like
        Real numbers of any dtype, broadcast with each other. A Python scalar does not change the
        dtype. Masked elements count as -inf.
    out : ndarray, optional
        Array of the result's shape and dtype to write to. It may be `x` or `y`.

    Returns
    -------
    scalar or ndarray
        Of the broadcast shape and the promoted dtype; `out` if that was given.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If the shapes do not broadcast, or `out` has the wrong shape or is read-only.

    See Also
    --------
    log1mexp : The case x = 0.
    numpy.logaddexp : The sum of two.

    Notes
    -----
    Results are within ``LOGSUBEXP_ULP`` ulp of the exact ones; where `x` and
    ``log(1 - exp(y - x))`` cancel, that is ulp of `x`. The difference ``y - x`` is not rounded.

    NaN for x < y and for NaN; -inf for equal finite numbers and for two -inf; `x` itself for y =
    -inf; +inf for x = +inf, but NaN for two +inf. No warning is given.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> print(f"{np.exp(fastlse.logsubexp(np.log(3.0), np.log(2.0))):.6f}")
    1.000000
    >>> fastlse.logsubexp([1.0, 1.0, 0.0], [-np.inf, 1.0, 1.0])
    array([  1., -inf,  nan])
    """
    operands = [(x, _masked_to_nothing(x, "x")), (y, _masked_to_nothing(y, "y"))]
    dtype = result_dtype(*operands)
    first, second = (cast(array, compute_dtype(dtype)) for _, array in operands)
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ValueError(
            f"y must be broadcastable with x of shape {first.shape}, got shape {second.shape}"
        ) from None
    return _elementwise("logsubexp", [first, second], shape, dtype, out)


def log1mexp(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logarithm of one minus an exponential, ``log(1 - exp(x))``, for x <= 0.

    Of a log-probability it is the log-probability of the contrary. (Some libraries have the
    function of -x under this name: there the argument is positive.)

    Parameters
    ----------
    x : array_like
        Real numbers, none above 0, of any dtype. Masked elements count as -inf.
    out : ndarray, optional
        Array of the result's shape and dtype to write to. It may be `x`.

    Returns
    -------
    scalar or ndarray
        Of the shape of `x`; `out` if that was given.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If `out` has the wrong shape or is read-only.

    See Also
    --------
    logsubexp : The difference of two exponentials.

    Notes
    -----
    Results are within ``LOG1MEXP_ULP`` ulp of the exact ones, near 0 and far from it [1]_. NaN for
    x > 0 and for NaN, -inf for 0, 0 for -inf; no warning is given.

    References
    ----------
    .. [1] M. Maechler, "Accurately computing log(1 - exp(-|a|))", vignette of the R package Rmpfr,
       2012.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> fastlse.log1mexp(np.log([0.25, 0.5])).round(12)
    array([-0.28768207, -0.69314718])
    >>> print(f"{fastlse.log1mexp(-40.0):.4e} {fastlse.log1mexp(-1e-20):.4f}")
    -4.2484e-18 -46.0517
    """
    array = _masked_to_nothing(x, "x")
    dtype = result_dtype((x, array))
    return _elementwise("log1mexp", [cast(array, compute_dtype(dtype))], array.shape, dtype, out)


def _elementwise(
    name: str,
    operands: list[Array],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    out: NDArray[Any] | None,
) -> Any:
    """Call an elementwise function of the backend on operands of the computation's dtype."""
    given = check_out(out, shape, dtype)
    inputs = [np.atleast_1d(np.broadcast_to(array, shape)) for array in operands]
    if given is not None and given.ndim and all(can_write_to(given, x, []) for x in inputs):
        result = given
    else:
        result = np.empty(shape, compute_dtype(dtype))
    if result.size:
        threads = _threads.resolve(None, result.size)
        getattr(backend_for(dtype), name)(*inputs, np.atleast_1d(result), threads)
    return finish(result, dtype, given)


def _masked_to_nothing(value: object, name: str) -> Array:
    array = as_array(value, name, "biuf")
    mask = unmasked(value)
    return array if mask is None else np.where(mask, array, -np.inf)


def _real_problem(x: object, name: str, axis: object, where: object) -> Problem:
    problem = reduction_problem(x, name, axis, where=where)
    if problem.dtype.kind != "f":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {problem.dtype}")
    return problem


def _numbers_of_terms(problem: Problem, mask: Array | None) -> Array:
    """How many elements each row's mean is over."""
    if mask is None:
        n = prod(problem.x.shape) // max(1, problem.n_rows)
        return np.full(problem.n_rows, n)
    axes = tuple(range(mask.ndim - problem.n_reduced, mask.ndim))
    return np.asarray(np.count_nonzero(mask, axis=axes)).reshape(-1)


@np.errstate(all="ignore")
def _refine_means(
    rows: Array, n_reduced: int, mask: Array | None, row_max: Array, n_terms: Array, result: Array
) -> None:
    """Compute the means again whose elements nearly equal 0, from what they differ by.

    log(mean(exp(d))) = log1p(mean(expm1(d))) is relative to its own size where 1 + rest, divided by
    n, is relative to 1.
    """
    doubtful = (np.abs(row_max) < 1) & (result - row_max > -np.log(2))
    if not doubtful.any():
        return
    for block in row_blocks(rows.shape, n_reduced):
        here = doubtful[block.rows]
        if not here.any():
            continue
        sums = []
        for piece in block.columns:
            values = block.read(rows, piece)[here].astype(result.dtype)
            excess = np.expm1(values - row_max[block.rows][here, None])
            if mask is not None:
                excess[~block.read(mask, piece)[here]] = 0
            sums.append(excess.sum(axis=1))
        excess = np.stack(sums, axis=1).sum(axis=1) / n_terms[block.rows][here]
        result[block.rows][here] = row_max[block.rows][here] + np.log1p(excess)
