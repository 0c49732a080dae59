"""logsumexp, softmax and log_softmax: SciPy's functions, faster and accurate to the last bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _backends, _threads
from ._lazy import lazy_version
from ._problem import (
    Array,
    Problem,
    backend_for,
    can_write_to,
    check_out,
    compute_dtype,
    describe,
    finish,
    reduction_problem,
)
from ._sweep import room_like

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result, to which the gap of the difference of two logits adds.
LOGSUMEXP_ULP = 3
SOFTMAX_ULP = 4
LOG_SOFTMAX_ULP = 3


def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the sum of exponentials, ``log(sum(b * exp(a)))``, without overflow.

    Parameters
    ----------
    a : array_like
        Input of any numeric dtype. float32 and float64 run on the compiled kernels without a
        copy, whatever the strides; float16 is computed in float32; integers and bools become
        float64. A masked array's masked elements are left out.
    axis : int, tuple of ints or None, default None
        Axes to sum over; None sums over all of them.
    b : array_like, optional
        Factors of the exponentials, broadcast with `a`. May be negative. An element with factor 0
        is left out, even if `a` is NaN or infinite there. A Python scalar does not change the
        dtype.
    keepdims : bool, default False
        Keep the reduced axes with length one.
    return_sign : bool, default False
        Also return the sign of the sum, and the logarithm of its absolute value.
    where : array_like of bool, optional
        Elements to include, broadcastable to the input's shape.
    out : ndarray, optional
        Array of the result's shape and dtype to write the logarithm to.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    lse : scalar or ndarray
        The result, of the input's dtype; `out` if that was given.
    sign : scalar or ndarray
        Only with `return_sign`: 1, 0 or -1, NaN where `lse` is; for complex input the phase, a
        number of modulus 1 or 0.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers (`where`: of bools), or has the wrong dtype.
    ValueError
        If a shape does not fit, `out` is read-only, or `axis` names an axis twice.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    logsumexp_and_softmax : The value together with its gradient.
    scipy.special.logsumexp : The same function, slower.

    Notes
    -----
    Results are within ``LOGSUMEXP_ULP`` ulp of the exact ones, plus the rounding of the differences
    of two elements; where the maximum and the logarithm of the sum cancel, within 1 ulp of the
    maximum. That holds for confident rows, whose other elements lie far below the maximum: the
    maximum's own element is left out of the sum, and ``log1p`` takes the rest [1]_.

    A row with a NaN gives NaN, else one with +inf gives +inf; all -inf, an empty sum and exact
    cancellation give -inf with sign 0; a negative sum gives NaN without `return_sign`. No warning
    is given. With `b`, ``log(abs(b))`` is part of the shift, so that factors of any size work.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41(4), 2021,
       doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> print(f"{fastlse.logsumexp([1000.0, 1000.0]):.6f}")
    1000.693147
    >>> fastlse.logsumexp(np.zeros((2, 3, 4)), axis=(0, 2)).shape
    (3,)

    A difference of exponentials, here of 2 and 3:

    >>> lse, sign = fastlse.logsumexp(np.log([2.0, 3.0]), b=[1, -1], return_sign=True)
    >>> print(f"{sign * np.exp(lse):.6f}")
    -1.000000

    What the others add to a dominant element is not lost:

    >>> print(f"{fastlse.logsumexp([0.0, -40.0]):.4e}")
    4.2484e-18
    """
    if b is None and where is None and keepdims is False and not return_sign:
        result = _backends.active.logsumexp_rows(a, axis, out, n_threads, _threads.resolve)
        if result is not None:
            return result

    lazy = lazy_version("logsumexp", a, b, where)
    if lazy is not None:
        options = {"where": where, "out": out, "n_threads": n_threads}
        return lazy(a, axis, b, keepdims, return_sign, **options)

    problem = reduction_problem(a, "a", axis, b, where)
    _reject_objects(problem, "a")
    shape = problem.keepdims_shape if keepdims else problem.kept_shape
    is_complex = problem.dtype.kind == "c"
    dtype = _real(problem.dtype) if is_complex and return_sign else problem.dtype
    given = check_out(out, shape, dtype)
    threads = _threads.resolve(n_threads, problem.x.size)

    lse = np.full(problem.n_rows, -np.inf, compute_dtype(dtype))
    sign = np.zeros(problem.n_rows, problem.x.dtype.newbyteorder("=")) if return_sign else None
    if problem.x.size:
        backend_for(problem.dtype).logsumexp(
            problem.rows(problem.x),
            problem.n_reduced,
            lse,
            None if problem.b is None else problem.rows(problem.b),
            sign,
            None if problem.where is None else problem.rows(problem.where),
            threads,
        )
    log_sum = finish(lse.reshape(shape), dtype, given)
    return log_sum if sign is None else (log_sum, finish(sign.reshape(shape), problem.dtype, None))


def softmax(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    *,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Exponentials divided by their sum, ``exp(x) / sum(exp(x))``.

    Parameters
    ----------
    x : array_like
        Input of any numeric dtype; see `logsumexp`.
    axis : int, tuple of ints or None, default None
        Axes along which the result sums to 1; None is all of them.
    where : array_like of bool, optional
        Elements to include, broadcastable to the shape of `x`; the others get 0.
    out : ndarray, optional
        Array of the shape of `x` and the result's dtype to write to. It may be `x`.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    probabilities : ndarray or scalar
        Of the shape of `x`, its axes in memory as those of `x`; `out` if that was given; a scalar
        if `x` is one.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers (`where`: of bools), or has the wrong dtype.
    ValueError
        If a shape does not fit, `out` is read-only, or `axis` names an axis twice.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    log_softmax, logsumexp_and_softmax

    Notes
    -----
    Results are within ``SOFTMAX_ULP`` ulp of the exact ones, plus the rounding of ``x - max(x)``:
    exponentials are divided by their sum, not computed as ``exp(x - logsumexp(x))`` [1]_. Results
    below the smallest normal number of the computation's dtype are +0. A row of only -inf, or with
    a NaN or +inf, gives NaN, without a warning; one with no element included gives 0. An object
    array is computed with its elements' own ``exp`` method.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
       softmax functions", IMA Journal of Numerical Analysis 41(4), 2021,
       doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.softmax([1000.0, 1000.0, 0.0])
    array([0.5, 0.5, 0. ])
    >>> fastlse.softmax([[1.0, 5.0], [1.0, 2.0]], where=[[True, False], [True, False]])
    array([[0.5, 0. ],
           [0.5, 0. ]])
    """
    if where is None:
        result = _backends.active.softmax_rows(x, axis, out, n_threads, _threads.resolve)
        if result is not None:
            return result
    lazy = lazy_version("softmax", x, where)
    if lazy is not None:
        return lazy(x, axis, where=where, out=out, n_threads=n_threads)
    problem = reduction_problem(x, "x", axis, where=where)
    if problem.dtype.kind == "O":
        return _softmax_of_objects(problem, out)
    return _softmax_like("softmax", problem, out, n_threads)


def log_softmax(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    *,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of softmax, ``x - logsumexp(x)``.

    Parameters
    ----------
    x : array_like
        Input of any numeric dtype; see `logsumexp`.
    axis : int, tuple of ints or None, default None
        Axes along which the result's exponentials sum to 1; None is all of them.
    where : array_like of bool, optional
        Elements to include, broadcastable to the shape of `x`; the others get -inf.
    out : ndarray, optional
        Array of the shape of `x` and the result's dtype to write to. It may be `x`.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    log_probabilities : ndarray or scalar
        Of the shape of `x`, its axes in memory as those of `x`; `out` if that was given; a scalar
        if `x` is one.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers (`where`: of bools), or has the wrong dtype.
    ValueError
        If a shape does not fit, `out` is read-only, or `axis` names an axis twice.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    softmax, logsumexp

    Notes
    -----
    Results are within ``LOG_SOFTMAX_ULP`` ulp of the exact ones, plus the rounding of differences
    of two elements. A row of only -inf, or with a NaN or +inf, gives NaN, without a warning; one
    with no element included gives -inf.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    if where is None:
        result = _backends.active.log_softmax_rows(x, axis, out, n_threads, _threads.resolve)
        if result is not None:
            return result
    lazy = lazy_version("log_softmax", x, where)
    if lazy is not None:
        return lazy(x, axis, where=where, out=out, n_threads=n_threads)
    problem = reduction_problem(x, "x", axis, where=where)
    _reject_objects(problem, "x")
    return _softmax_like("log_softmax", problem, out, n_threads)


def logsumexp_and_softmax(
    x: ArrayLike,
    axis: int | tuple[int, ...] | None = -1,
    *,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> tuple[Any, Any]:
    """Compute logsumexp and its gradient, softmax, in one sweep.

    Parameters
    ----------
    x : array_like
        Input of any numeric dtype; see `logsumexp`.
    axis : int, tuple of ints or None, default -1
        Axes to reduce; None is all of them.
    out : ndarray, optional
        Array of the shape of `x` and the result's dtype to write softmax to. It may be `x`.
    n_threads : int, optional
        The most threads to use; None uses the setting of `set_num_threads`.

    Returns
    -------
    lse : scalar or ndarray
        As from `logsumexp`.
    probabilities : ndarray or scalar
        As from `softmax`.

    Raises
    ------
    TypeError
        If an argument is not an array of numbers, or has the wrong dtype.
    ValueError
        If a shape does not fit, `out` is read-only, or `axis` names an axis twice.
    numpy.exceptions.AxisError
        If an axis is out of range.

    See Also
    --------
    logsumexp, softmax

    Notes
    -----
    The bounds and the edge cases are those of `logsumexp` (``LOGSUMEXP_ULP``) and `softmax`
    (``SOFTMAX_ULP``).

    Examples
    --------
    >>> import fastlse
    >>> lse, probabilities = fastlse.logsumexp_and_softmax([[0.0, 0.0], [7.0, 7.0]])
    >>> print(f"{lse[0]:.6f} {lse[1]:.6f}")
    0.693147 7.693147
    >>> probabilities
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    results = _backends.active.logsumexp_and_softmax_rows(x, axis, out, n_threads, _threads.resolve)
    if results is not None:
        return results
    lazy = lazy_version("logsumexp_and_softmax", x)
    if lazy is not None:
        pair: tuple[Any, Any] = lazy(x, axis, out=out, n_threads=n_threads)
        return pair
    problem = reduction_problem(x, "x", axis)
    _reject_objects(problem, "x")
    lse = np.full(problem.n_rows, -np.inf, compute_dtype(problem.dtype))
    probabilities = _softmax_like("softmax", problem, out, n_threads, lse)
    return finish(lse.reshape(problem.kept_shape), problem.dtype, None), probabilities


def _softmax_like(
    operation: Literal["softmax", "log_softmax"],
    problem: Problem,
    out: NDArray[Any] | None,
    n_threads: int | None,
    lse: Array | None = None,
) -> Any:
    """Run softmax or log_softmax into `out`, into a new array, or into one that `out` then gets."""
    given = check_out(out, problem.shape, problem.dtype)
    threads = _threads.resolve(n_threads, problem.x.size)
    if given is not None and can_write_to(given, problem.x, [problem.where]):
        result = given
    else:
        result = room_like(problem.x.reshape(problem.shape), compute_dtype(problem.dtype))
    if problem.x.size:
        rows, out_rows = problem.rows(problem.x), problem.rows(np.atleast_1d(result))
        where = None if problem.where is None else problem.rows(problem.where)
        backend = backend_for(problem.dtype)
        if operation == "softmax":
            backend.softmax(rows, problem.n_reduced, out_rows, lse, where, threads)
        else:
            backend.log_softmax(rows, problem.n_reduced, out_rows, where, threads)
    return finish(result, problem.dtype, given)


def _softmax_of_objects(problem: Problem, out: Array | None) -> Any:
    """Softmax by the elements' own arithmetic, as far as they have one."""
    given = check_out(out, problem.shape, problem.dtype)
    if problem.where is not None:
        raise TypeError("where must be None for an array of objects")
    try:
        terms = np.exp(problem.x - np.max(problem.x, axis=problem.axes, keepdims=True))
        result = terms / np.sum(terms, axis=problem.axes, keepdims=True)
    except TypeError as error:
        raise TypeError(
            f"x must be an array of numbers, got an array of objects: {error}"
        ) from error
    return finish(result.reshape(problem.shape), problem.dtype, given)


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.empty(0, dtype).real.dtype


def _reject_objects(problem: Problem, name: str) -> None:
    if problem.dtype.kind == "O":
        raise TypeError(f"{name} must be an array of numbers, got {describe(problem.x)}")
