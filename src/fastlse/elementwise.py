"""The logistic function and its logarithms, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _backends, _threads
from ._problem import (
    as_array,
    backend_for,
    can_write_to,
    cast,
    check_out,
    compute_dtype,
    finish,
    result_dtype,
    unmasked,
)
from ._sweep import in_memory_order, room_like

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Error bounds in ulp of the exact result, subnormal results included.
EXPIT_ULP = 3
LOG_EXPIT_ULP = 3
SOFTPLUS_ULP = 3


def expit(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logistic function, ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array_like
        Of any shape. Not complex. float32 and float64 run on the compiled kernels without a copy,
        whatever the strides; float16 is computed in float32; integers and bools become float64.
    out : ndarray, optional
        Array of the result's shape and dtype to write to. ``out=x`` works in place.

    Returns
    -------
    ndarray or scalar
        Of the shape and dtype of `x`; `out` if that was given. A masked array gives a masked array
        with the same mask.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If `out` has the wrong shape or is read-only.

    See Also
    --------
    log_expit : Its logarithm.
    scipy.special.expit : The same values.

    Notes
    -----
    Results are within ``EXPIT_ULP`` ulp of the exact ones for every `x`, down to the smallest
    subnormal number: a negative `x` gives ``exp(x) / (1 + exp(x))``. NaN gives NaN, -inf 0, +inf 1.
    A large array is shared out to threads (`set_num_threads`), which changes no bit.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.expit([0.0, 2.0])
    array([0.5       , 0.88079708])
    """
    return _apply("expit", x, out)


def log_expit(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logarithm of the logistic function, ``-log(1 + exp(-x))``.

    Parameters
    ----------
    x : array_like
        Of any shape. Not complex. Treated as by `expit`.
    out : ndarray, optional
        Array of the result's shape and dtype to write to. ``out=x`` works in place.

    Returns
    -------
    ndarray or scalar
        Of the shape and dtype of `x`; `out` if that was given. A masked array gives a masked array
        with the same mask.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If `out` has the wrong shape or is read-only.

    See Also
    --------
    softplus : ``log_expit(x) == -softplus(-x)``.
    scipy.special.log_expit : The same values.

    Notes
    -----
    Results are within ``LOG_EXPIT_ULP`` ulp of the exact ones for every `x`, down to the smallest
    subnormal number: where `x` is large the result is ``-exp(-x)`` and not 0. NaN gives NaN, -inf
    gives -inf, +inf gives -0.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.log_expit([-1000.0, 0.0])
    array([-1.00000000e+03, -6.93147181e-01])
    """
    return _apply("log_expit", x, out)


def softplus(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Softplus, ``log(1 + exp(x))``.

    Parameters
    ----------
    x : array_like
        Of any shape. Not complex. Treated as by `expit`.
    out : ndarray, optional
        Array of the result's shape and dtype to write to. ``out=x`` works in place.

    Returns
    -------
    ndarray or scalar
        Of the shape and dtype of `x`; `out` if that was given. A masked array gives a masked array
        with the same mask.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers, or `out` has the wrong dtype.
    ValueError
        If `out` has the wrong shape or is read-only.

    See Also
    --------
    log_expit : ``softplus(x) == -log_expit(-x)``.
    scipy.special.softplus : The same values.

    Notes
    -----
    Results are within ``SOFTPLUS_ULP`` ulp of the exact ones for every `x`, down to the smallest
    subnormal number: ``max(x, 0) + log1p(exp(-abs(x)))``. NaN gives NaN, -inf 0, +inf +inf.

    Examples
    --------
    >>> import fastlse
    >>> fastlse.softplus([0.0, 1000.0])
    array([6.93147181e-01, 1.00000000e+03])
    """
    return _apply("softplus", x, out)


def _apply(name: str, x: object, out: object) -> Any:
    result = _backends.active.elementwise_plain(name, x, out, _threads.resolve)
    if result is not None:
        return result
    array = as_array(x, "x", "biuf")
    dtype = result_dtype((x, array))
    array = cast(array, compute_dtype(dtype))
    given = check_out(out, array.shape, dtype)
    threads = _threads.resolve(None, array.size)

    into = given
    if into is None or not can_write_to(into, array, ()):
        into = room_like(array, compute_dtype(dtype))
    if array.size:
        backend_for(dtype).elementwise(name, *in_memory_order(array, into), threads)
    result = finish(into, dtype, given)
    mask = unmasked(x)
    return result if mask is None or given is not None else np.ma.MaskedArray(result, ~mask)
