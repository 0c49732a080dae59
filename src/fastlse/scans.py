"""logcumsumexp: the logsumexp of every prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _threads
from ._problem import as_axis, backend_for, compute_dtype, finish, reduction_problem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Error bound in ulp of the exact result. No gap adds; where max and log(sum) cancel, the error is
# within 1 ulp of the maximum.
LOGCUMSUMEXP_ULP = 3


def logcumsumexp(
    x: ArrayLike,
    axis: int,
    *,
    exclusive: bool = False,
    reverse: bool = False,
    n_threads: int | None = None,
) -> Any:
    """Cumulative logsumexp, ``log(cumsum(exp(x)))``, without overflow.

    Parameters
    ----------
    x : array_like
        Real numbers of any dtype; see `logsumexp`. A masked element counts as -inf.
    axis : int
        The axis to go along.
    exclusive : bool, default False
        Leave each element out of its own sum: the first result is -inf.
    reverse : bool, default False
        Begin at the end: every sum is that of the elements from its own on.
    n_threads : int, optional
        The most threads to use, which share the rows; None uses the setting of `set_num_threads`.

    Returns
    -------
    ndarray
        Of the shape of `x` and the dtype that `logsumexp` has.

    Raises
    ------
    TypeError
        If `x` is not an array of real numbers, or `axis` is no int.
    ValueError
        If `x` is a scalar.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    logsumexp : The last of them.
    torch.logcumsumexp : The same function.

    Notes
    -----
    Results are within ``LOGCUMSUMEXP_ULP`` ulp of the exact ones; where a prefix's maximum and the
    logarithm of its sum cancel, within 1 ulp of the maximum. That holds for any length and for
    confident prefixes: every prefix keeps the sum of the others, without its own maximum.

    From a NaN on all results are NaN, from +inf on +inf; they are -inf before the first element
    above it. One row is done by one thread, in order.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlse
    >>> np.exp(fastlse.logcumsumexp(np.log([1.0, 2.0, 3.0]), 0)).round(12)
    array([1., 3., 6.])
    >>> fastlse.logcumsumexp([1000.0, 0.0], 0, exclusive=True)
    array([ -inf, 1000.])
    >>> np.exp(fastlse.logcumsumexp(np.log([1.0, 2.0, 3.0]), 0, reverse=True)).round(12)
    array([6., 5., 3.])
    """
    problem = reduction_problem(x, "x", None)
    if problem.dtype.kind != "f":
        raise TypeError(f"x must be an array of real numbers, got dtype {problem.dtype}")
    if problem.shape == ():
        raise ValueError("x must have an axis to go along, got a scalar")
    along = as_axis(axis, problem.x.ndim)
    values = problem.x
    if problem.where is not None:
        values = np.where(problem.where, values, -np.inf).astype(values.dtype)
    result = np.empty(values.shape, compute_dtype(problem.dtype))
    if values.size:
        rows, out = np.moveaxis(values, along, -1), np.moveaxis(result, along, -1)
        if reverse:
            rows, out = rows[..., ::-1], out[..., ::-1]
        threads = _threads.resolve(n_threads, values.size)
        backend_for(problem.dtype).logcumsumexp(rows, out, bool(exclusive), threads)
    return finish(result, problem.dtype, None)
